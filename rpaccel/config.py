"""The configuration: one TOML file describes models, funnel, hardware, host and simulation.

Everything is validated here, once; inside the project a configuration is trusted.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from rpaccel.errors import ConfigError
from rpaccel.hardware import GatherConfig, GroupConfig, HardwareConfig, MemoryConfig
from rpaccel.section import (
    MAX_DIMENSION,
    MAX_ITEMS,
    MAX_STAGES,
    Natural,
    Positive,
    Section,
    power_of_two,
)

__all__ = [
    "SDRAM_BYTES",
    "SDRAM_HZ",
    "BoardConfig",
    "Calibration",
    "Config",
    "DataConfig",
    "DramConfig",
    "FeaturesConfig",
    "FunnelConfig",
    "GatherConfig",
    "GroupConfig",
    "HardwareConfig",
    "HostConfig",
    "MemoryConfig",
    "ModelConfig",
    "PeriodsConfig",
    "Rounding",
    "SimulationConfig",
    "SsdConfig",
    "TableConfig",
    "load",
    "validate",
    "with_stages",
]

S = TypeVar("S", bound=Section)

Calibration = Literal["mse", "min-max", "percentile"]
"""How an int8 tensor gets its scale (``sw_model.calibration``)."""
Rounding = Literal["nearest", "compensated"]
"""How weights and rows are rounded (``sw_model.rounding``)."""


class TableConfig(Section):
    """An embedding feature: a bag of up to ``lookups`` row indices of a table of ``rows`` rows.

    An index of all ones (``2**index_bits - 1``) is an empty slot of the bag. Rows are ordered by
    popularity, row 0 the hottest. ``generated`` rows are a function of table and row in place of
    trained ones (docs/numerics.md), for tables too large to be stored.
    """

    name: str
    rows: Positive
    scope: Literal["item", "query"] = "item"
    index_bits: Literal[8, 16, 24, 32] = 16
    lookups: Annotated[int, Field(ge=1, le=64)] = 1
    generated: bool = False

    @model_validator(mode="after")
    def _fits(self) -> TableConfig:
        if self.rows >= 2**self.index_bits:
            raise ValueError(
                f"table {self.name!r} has {self.rows} rows, but index_bits = {self.index_bits} "
                f"address at most {2**self.index_bits - 1} (all ones is the empty slot)"
            )
        return self

    @property
    def empty_index(self) -> int:
        """The index value that means "no row in this slot"."""
        return 2**self.index_bits - 1

    @property
    def record_bytes(self) -> int:
        """Bytes the bag takes in a feature record."""
        return self.lookups * self.index_bits // 8


class FeaturesConfig(Section):
    """What a query carries: int8 dense inputs and table indices, once a query or for each item."""

    dense_query: Annotated[int, Field(ge=0, le=512)] = 0
    dense_item: Annotated[int, Field(ge=0, le=512)] = 0
    tables: Annotated[list[TableConfig], Field(min_length=1, max_length=62)]

    @model_validator(mode="after")
    def _names(self) -> FeaturesConfig:
        names = [t.name for t in self.tables]
        if len(set(names)) != len(names):
            raise ValueError(f"table names must be distinct, not {names}")
        return self

    @property
    def dense(self) -> int:
        """Width of a model's dense input: the query's dense inputs, then the item's."""
        return self.dense_query + self.dense_item

    @property
    def query_bytes(self) -> int:
        """Bytes of the record sent once a query."""
        return self.dense_query + sum(t.record_bytes for t in self.tables if t.scope == "query")

    @property
    def item_bytes(self) -> int:
        """Bytes of the record sent for each item."""
        return self.dense_item + sum(t.record_bytes for t in self.tables if t.scope == "item")


class ModelConfig(Section):
    """A DLRM: dense inputs through the bottom MLP, joined with embeddings, through the top MLP.

    ``dimensions`` gives each table's embedding dimension: one number for all, or a number for
    each table by name. ``bottom`` and ``top`` are layer widths without the input; the last of
    ``top`` is 1, the logit. ``bottom`` is empty exactly when there are no dense inputs.

    A NeuMF (``kind = "neumf"``) has besides, for the two tables named in ``product``, embeddings
    of ``factors`` elements whose elementwise product goes into the last layer of ``top`` beside
    the outputs of the layer before it (He et al. 2017). ``dimensions = 0`` and ``top = [1]`` make
    a GMF; an MLP without the product is a DLRM.

    With ``interaction = "dot"`` the top MLP takes the dot product of each pair of vectors, which
    are the tables' and the bottom MLP's output, all of one dimension, and then the bottom MLP's
    output itself (Naumov et al. 2019).
    """

    name: str
    kind: Literal["dlrm", "neumf"] = "dlrm"
    dimensions: Natural | dict[str, Natural]
    factors: Natural = 0
    product: list[str] = []
    bottom: list[Positive] = []
    top: Annotated[list[Positive], Field(min_length=1)]
    interaction: Literal["concat", "dot"] = "concat"

    @model_validator(mode="after")
    def _product(self) -> ModelConfig:
        if self.kind == "dlrm" and (self.factors or self.product):
            raise ValueError(
                f"model {self.name!r}: factors = {self.factors} and product = {self.product} need "
                f'kind = "neumf", not "dlrm"'
            )
        if self.kind == "neumf" and not self.factors:
            raise ValueError(
                f'model {self.name!r}: kind = "neumf" needs factors of at least 1, not 0; '
                f"without a product it is a dlrm"
            )
        if self.kind == "neumf" and (len(self.product) != 2 or len(set(self.product)) != 2):
            raise ValueError(
                f"model {self.name!r}: product must name two different tables, not {self.product}"
            )
        return self

    @model_validator(mode="after")
    def _dot(self) -> ModelConfig:
        if self.interaction == "concat":
            return self
        if self.kind != "dlrm":
            raise ValueError(f'model {self.name!r}: interaction = "dot" needs kind = "dlrm"')
        given = self.dimensions
        widths = {*(given.values() if isinstance(given, dict) else [given]), *self.bottom[-1:]}
        if len(widths) != 1 or 0 in widths:
            raise ValueError(
                f'model {self.name!r}: interaction = "dot" needs tables of one dimension, at least '
                f"1, which is also the last width of bottom; dimensions = {self.dimensions} and "
                f"bottom = {self.bottom}"
            )
        return self

    def dimension(self, table: str) -> int:
        """Embedding dimension of a table in this model, without the product's part."""
        return self.dimensions if isinstance(self.dimensions, int) else self.dimensions[table]

    def row_elements(self, table: str) -> int:
        """Elements of a table's row: the product's part, then the embedding."""
        return (self.factors if table in self.product else 0) + self.dimension(table)

    def pairs(self, features: FeaturesConfig) -> int:
        """Pairs of vectors that the dot interaction multiplies; none in a concatenation."""
        vectors = len(features.tables) + bool(self.bottom)
        return vectors * (vectors - 1) // 2 if self.interaction == "dot" else 0

    def macs(self, features: FeaturesConfig) -> int:
        """Multiply-accumulates of an item: the layers' and those of dot products and product."""
        layers = sum(out * width for out, width in self.layers(features).values())
        vector = self.dimension(features.tables[0].name)
        return layers + self.pairs(features) * vector + self.factors

    def layers(self, features: FeaturesConfig) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each layer, by its name: ``bottom.0``, ..., ``top.0``, ..."""
        joined = sum(self.dimension(t.name) for t in features.tables)
        if self.interaction == "dot":
            joined = self.pairs(features)
        found = {}
        width = features.dense
        for part, widths in ("bottom", self.bottom), ("top", self.top):
            if part == "top":
                width = joined + (self.bottom[-1] if self.bottom else 0)
            for i, out in enumerate(widths):
                if part == "top" and i + 1 == len(widths):
                    width += self.factors
                found[f"{part}.{i}"] = (out, width)
                width = out
        return found


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


class PeriodsConfig(Section):
    """Rows of a click log for training, calibration and test, in this order in time."""

    training: Positive
    calibration: Positive
    test: Positive


class DataConfig(Section):
    """Where queries and trained weights come from.

    ``path`` is where data are that do not come with the package: a folder of MovieLens, a file of
    Criteo Kaggle. A click log has ``periods``. Ids of Criteo Kaggle are taken modulo ``hash_size``,
    and those seen fewer than ``threshold`` times in training share a table's last row.
    """

    source: Literal[
        "movielens-latest-small", "movielens-1m", "movielens-20m", "criteo", "criteo-like", "random"
    ] = "random"
    path: str | None = None
    periods: PeriodsConfig | None = None
    threshold: Positive | None = None
    hash_size: Positive | None = None
    weights: str | None = None
    calibration: Calibration = "mse"
    rounding: Rounding = "nearest"
    seed: Natural = 0
    queries: Positive = 16

    @model_validator(mode="after")
    def _needs(self) -> DataConfig:
        read = ("movielens-1m", "movielens-20m", "criteo")
        for key, sources in ("path", read), ("periods", ("criteo", "criteo-like")):
            given = getattr(self, key) is not None
            if given != (self.source in sources):
                verb = "takes no" if given else "needs"
                raise ValueError(f'source = "{self.source}" {verb} data.{key}')
        for key in ("threshold", "hash_size"):
            if getattr(self, key) is not None and self.source != "criteo":
                raise ValueError(f'source = "{self.source}" takes no data.{key}')
        return self


class HostConfig(Section):
    """The host side: ring sizes and time-outs."""

    ring_entries: Annotated[int, Field(ge=2, le=4096)] = 16
    timeout_cycles: Positive = 20_000_000

    @model_validator(mode="after")
    def _ring(self) -> HostConfig:
        power_of_two("ring_entries", self.ring_entries)
        return self


class DramConfig(Section):
    """Banks of each channel of simulated memory; times in cycles of the device clock.

    ``row_bytes`` of a bank are open at a time. The defaults are some 15 ns each, and 48 ns from one
    activation of a bank to the next, at 250 MHz.
    """

    banks: Annotated[int, Field(ge=1, le=256)] = 16
    row_bytes: Annotated[int, Field(ge=64, le=65536)] = 2048
    t_rcd: Annotated[int, Field(ge=0, le=1000)] = 4
    t_rp: Annotated[int, Field(ge=0, le=1000)] = 4
    t_cas: Annotated[int, Field(ge=0, le=1000)] = 4
    t_rc: Annotated[int, Field(ge=0, le=1000)] = 12


class SsdConfig(Section):
    """An SSD behind simulated memory: it holds the memory lines from ``first_line`` on.

    ``latency`` in cycles; ``cycles_per_byte`` is of all channels together, each has its share of
    the bandwidth. The defaults are 20 us and 0.1 GB/s at 250 MHz.
    """

    first_line: Natural
    latency: Annotated[int, Field(ge=0, le=1_000_000)] = 5000
    cycles_per_byte: Annotated[float, Field(ge=0, le=10_000)] = 2.5


SDRAM_BYTES = (2**24, 2**25, 2**26)
"""Sizes of SDRAM chips: four banks of 8,192 rows of 16-bit words."""
SDRAM_HZ = 100_000_000


class BoardConfig(Section):
    """An FPGA board: its clock, its serial line, and its memories.

    ``host_bytes``, on chip, is what rings, features and results lie in; ``memory_bytes`` is what
    the image lies in, on chip or in an SDRAM.
    """

    clock_hz: Annotated[int, Field(ge=1_000_000, le=500_000_000)] = 25_000_000
    baud: Annotated[int, Field(ge=1200)] = 1_000_000
    host_bytes: Annotated[int, Field(ge=1024, le=2**20, multiple_of=64)] = 16384
    memory: Literal["chip", "sdram"] = "chip"
    memory_bytes: Annotated[int, Field(ge=1024, le=2**26, multiple_of=128)] = 131072

    @model_validator(mode="after")
    def _fits(self) -> BoardConfig:
        if self.memory == "sdram" and self.memory_bytes not in SDRAM_BYTES:
            raise ValueError(
                f"memory_bytes must be one of {', '.join(map(str, SDRAM_BYTES))} for an SDRAM, "
                f"not {self.memory_bytes}"
            )
        if self.memory == "sdram" and self.clock_hz > SDRAM_HZ:
            raise ValueError(f"clock_hz must be at most {SDRAM_HZ} with an SDRAM")
        if self.divisor < 4 or abs(self.clock_hz / self.divisor / self.baud - 1) > 0.02:
            raise ValueError(
                f"baud = {self.baud} cannot be made of clock_hz = {self.clock_hz}: it must be the "
                f"clock divided by a whole number of at least 4, to 2 %"
            )
        return self

    @property
    def divisor(self) -> int:
        """Clock cycles in a bit of the serial line."""
        return round(self.clock_hz / self.baud)


class SimulationConfig(Section):
    """Memory and host behaviour in simulation: cycles of the device clock, percentages.

    Memory answers ``memory_latency`` cycles after a request, a beat a channel in ``memory_gap`` + 1
    cycles; with ``memory_reorder`` in any order. With ``dram`` or ``ssd`` the latency is what comes
    on top of theirs, and reordering is by when data are there (the head of ``sim/axi_memory.v``).

    ``host_latency`` is from a read's address to its first data, and from a write's last data to
    its response; ``host_rate`` is how many bytes a cycle go each way, by default what the host bus
    carries.
    """

    memory_latency: Annotated[int, Field(ge=1, le=10_000)] = 40
    memory_gap: Annotated[int, Field(ge=0, le=255)] = 0
    memory_reorder: bool = True
    memory_stall: Annotated[int, Field(ge=0, le=90)] = 0
    dram: DramConfig | None = None
    ssd: SsdConfig | None = None
    host_latency: Annotated[int, Field(ge=1, le=100_000)] = 8
    host_rate: Annotated[float, Field(ge=0.01, le=64)] | None = None
    host_stall: Annotated[int, Field(ge=0, le=90)] = 0
    seed: Positive = 1


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
