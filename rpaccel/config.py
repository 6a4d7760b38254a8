"""The configuration: one TOML file describes models, funnel, hardware, host and simulation.

Everything is validated here, once; inside the project a configuration is trusted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

from pydantic import Field, ValidationError, model_validator

from rpaccel.board import BoardConfig
from rpaccel.dataset import DataConfig
from rpaccel.errors import ConfigError
from rpaccel.hardware import HardwareConfig
from rpaccel.models import FeaturesConfig, ModelConfig
from rpaccel.section import (
    MAX_DIMENSION,
    MAX_ITEMS,
    MAX_STAGES,
    Natural,
    Positive,
    Section,
    power_of_two,
)
from rpaccel.simulation import SimulationConfig

__all__ = [
    "Config",
    "FunnelConfig",
    "HostConfig",
    "Way",
    "load",
    "parse",
    "validate",
    "with_stages",
]

S = TypeVar("S", bound=Section)


class Way(TypedDict):
    """How a query passes a funnel: what each stage run keeps, and in which parts.

    ``keep`` has a number for each of stages ``first_stage`` to ``last_stage``; ``sub_batch`` is
    the most items in a sub-batch of the first; stages of ``global_release`` release once.
    """

    keep: Sequence[int]
    first_stage: int
    last_stage: int
    sub_batch: int
    global_release: Collection[int]


class FunnelConfig(Section):
    """Which model ranks at which stage, and how many items each stage keeps.

    ``threshold`` is, for each stage, the CTR (0..1) that a candidate must reach to pass a filter
    with bins; by default all pass. Stages with an exact filter have 0. ``groups`` are, for each
    stage, the groups that get its tokens; by default all that serve it. The driver can change
    them at run time. ``setting`` is the number of one of ``hardware.settings``; the driver can
    change it, too. ``global_release`` names inner stages (from 0) that release once in a query,
    the best of all sub-batches, instead of a share of each.
    """

    stages: Annotated[list[str], Field(min_length=1, max_length=MAX_STAGES)]
    items: Annotated[int, Field(ge=1, le=MAX_ITEMS)]
    keep: list[Positive]
    sub_batches: Positive = 1
    threshold: list[Annotated[float, Field(ge=0, le=1)]] = []
    groups: list[Annotated[list[Natural], Field(min_length=1)]] = []
    setting: Natural = 0
    global_release: list[Natural] = []

    @model_validator(mode="after")
    def _falls(self) -> FunnelConfig:
        if len(self.keep) != len(self.stages):
            raise ValueError(
                f"keep must give a number for each of the {len(self.stages)} stages, "
                f"not {self.keep}"
            )
        if self.threshold and len(self.threshold) != len(self.stages):
            raise ValueError(
                f"threshold must give a CTR for each of the {len(self.stages)} stages, or for "
                f"none, not {self.threshold}"
            )
        for stage in self.global_release:
            if stage >= len(self.stages) - 1:
                raise ValueError(
                    f"global_release names inner stages, 0..{len(self.stages) - 2}, not {stage} "
                    f"(the last stage always releases once)"
                )
        if self.groups and len(self.groups) != len(self.stages):
            raise ValueError(
                f"groups must give a list for each of the {len(self.stages)} stages, or for none, "
                f"not {self.groups}"
            )
        for wide, narrow in zip([self.items, *self.keep], self.keep, strict=False):
            if narrow > wide:
                raise ValueError(f"keep must not grow from stage to stage, but {narrow} > {wide}")
        return self

    @property
    def sub_batch_items(self) -> int:
        """Items in a sub-batch of a full query (the last one may be smaller)."""
        return -(-self.items // self.sub_batches)

    def way(
        self,
        items: int,
        *,
        keep: Sequence[int] | None = None,
        first_stage: int = 0,
        last_stage: int | None = None,
        sub_batch: int | None = None,
        global_release: Collection[int] | None = None,
    ) -> Way:
        """How a query of some items is run; what is not given is the funnel's.

        Parameters
        ----------
        items : int
        keep, first_stage, last_stage, sub_batch, global_release
            See :meth:`rpaccel.driver.Device.submit`.
        """
        last_stage = len(self.stages) - 1 if last_stage is None else last_stage
        if keep is None:
            keep = [min(items, kept) for kept in self.keep[first_stage : last_stage + 1]]
        return Way(
            keep=keep,
            first_stage=first_stage,
            last_stage=last_stage,
            sub_batch=-(-items // self.sub_batches) if sub_batch is None else sub_batch,
            global_release=self.global_release if global_release is None else global_release,
        )


class HostConfig(Section):
    """The host side: ring sizes and time-outs."""

    ring_entries: Annotated[int, Field(ge=2, le=4096)] = 16
    timeout_cycles: Positive = 20_000_000

    @model_validator(mode="after")
    def _ring(self) -> HostConfig:
        power_of_two("ring_entries", self.ring_entries)
        return self


class Config(Section):
    """A whole configuration file."""

    name: str
    data: DataConfig = DataConfig()
    features: FeaturesConfig
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    funnel: FunnelConfig
    hardware: HardwareConfig
    host: HostConfig = HostConfig()
    board: BoardConfig = BoardConfig()
    simulation: SimulationConfig = SimulationConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [m.name for m in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"model names must be distinct, not {names}")
        for stage in self.funnel.stages:
            if stage not in names:
                raise ValueError(f"funnel stage {stage!r} names no model; there are {names}")
        generated = [t.name for t in self.features.tables if t.generated]
        if generated and self.data.source != "random":
            raise ValueError(
                f"tables {generated} are generated, but models of data.source = "
                f'"{self.data.source}" have trained rows; it must be "random"'
            )
        tables = {t.name for t in self.features.tables}
        for model in self.models:
            if isinstance(model.dimensions, dict) and set(model.dimensions) != tables:
                raise ValueError(
                    f"model {model.name!r} gives dimensions for {sorted(model.dimensions)}, "
                    f"but the tables are {sorted(tables)}"
                )
            for table in model.product:
                if table not in tables:
                    raise ValueError(
                        f"model {model.name!r}: product names {table!r}, "
                        f"but the tables are {sorted(tables)}"
                    )
            for table in sorted(tables):
                if not 1 <= model.row_elements(table) <= MAX_DIMENSION:
                    raise ValueError(
                        f"model {model.name!r}: a row of table {table!r} must have "
                        f"1..{MAX_DIMENSION} elements, not {model.row_elements(table)}"
                    )
            for name, (_, inputs) in model.layers(self.features).items():
                if not inputs:
                    raise ValueError(f"model {model.name!r}: layer {name} has no inputs")
            if bool(model.bottom) != bool(self.features.dense):
                raise ValueError(
                    f"model {model.name!r}: bottom = {model.bottom}, but there are "
                    f"{self.features.dense} dense inputs; bottom is empty exactly without them"
                )
            if model.top[-1] != 1:
                raise ValueError(
                    f"model {model.name!r}: the last layer of top must have width 1, "
                    f"not {model.top[-1]}"
                )
        if len(self.funnel.stages) > self.hardware.stages:
            raise ValueError(
                f"the funnel has {len(self.funnel.stages)} stages, the machine "
                f"{self.hardware.stages}"
            )
        last = len(self.funnel.stages) - 1
        if not self.hardware.final(last):
            raise ValueError(
                f"the funnel ends at stage {last}, whose filter in the machine is bins; the last "
                f"stage must be exact or none"
            )
        gets = [self.funnel.items, *self.funnel.keep][last]
        if self.hardware.filter_of(last) == "none" and self.funnel.keep[-1] != gets:
            raise ValueError(
                f"the filter of stage {last} is none, so it keeps all of its {gets} items, not "
                f"keep = {self.funnel.keep[-1]}"
            )
        try:
            self.hardware.dispatch_words(dict(enumerate(self.funnel.groups)))
        except ValueError as error:
            raise ValueError(f"funnel.groups: {error}") from None
        try:
            on = self.hardware.setting(self.funnel.setting)
        except ValueError as error:
            raise ValueError(f"funnel.setting: {error}") from None
        for number, groups in enumerate(self.funnel.groups):
            if not set(groups) & set(on):
                raise ValueError(
                    f"funnel.groups: of the groups of stage {number}, {groups}, none is on in "
                    f"setting {self.funnel.setting}, which has {on}"
                )
        for number, threshold in enumerate(self.funnel.threshold):
            kind = self.hardware.filter_of(number)
            if threshold and kind != "bins":
                raise ValueError(
                    f"stage {number} has threshold {threshold}, but its filter is {kind}; only "
                    f"bins has a threshold"
                )
        return self

    def model(self, stage: int) -> ModelConfig:
        """The model that ranks at a stage."""
        return next(m for m in self.models if m.name == self.funnel.stages[stage])


def parse(values: dict[str, Any], *, origin: str = "configuration") -> Config:
    """Make a configuration of nested dictionaries.

    Raises
    ------
    ConfigError
        Naming every field that is wrong, its value, and what is accepted.
    """
    return validate(Config, values, origin=origin)


def with_stages(config: Config, stages: list[str]) -> Config:
    """Make a configuration whose funnel has other models, one a stage.

    Raises
    ------
    ConfigError
        There is no such model, or there are not as many as stages.
    """
    values = config.model_dump()
    values["funnel"]["stages"] = stages
    return parse(values, origin=config.name)


def validate(schema: type[S], values: object, *, origin: str) -> S:
    """Validate values against a schema; ConfigError names all that does not fit."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = []
        for e in error.errors():
            where = ".".join(str(part) for part in e["loc"]) or "the file"
            shown = "" if isinstance(e["input"], dict | list) else f" (given: {e['input']!r})"
            message = e["msg"].removeprefix("Value error, ")
            if e["type"] == "extra_forbidden":
                message = "unknown key"
            lines.append(f"{where}: {message}{shown}")
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def load(path: str | Path) -> Config:
    """Read and validate a configuration file.

    Raises
    ------
    ConfigError
        The file is missing, is no TOML, or does not fit the schema.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse(values, origin=str(path))
