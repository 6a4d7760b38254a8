"""Tables of quality: what each funnel serves, measured on labelled queries or published."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.quality import ScoredQueries
from rpaccel.schedule.profiles import Kind, read_json
from rpaccel.section import Positive, Section
from sw_model.bootstrap import bootstrap, bootstrap_difference

__all__ = ["Funnel", "Qualities", "Rated", "funnels", "measure", "measured", "sizes"]

Value = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Funnel = tuple[tuple[str, ...], tuple[int, ...]]
"""Models of the stages, and items that each of them ranks."""


class Rated(Section):
    """A funnel and its quality: of int8 models, or of float ones.

    ``low`` and ``high`` bound the mean over queries, where that is known; ``change_low`` is the
    lower bound of the mean difference to the reference, query by query, as a share of its mean.
    """

    stages: Annotated[list[str], Field(min_length=1)]
    items: list[Positive]
    int8: bool = False
    mean: Value
    low: Value | None = None
    high: Value | None = None
    change_low: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _falls(self) -> Rated:
        if len(self.items) != len(self.stages) or sorted(self.items, reverse=True) != self.items:
            raise ValueError(
                f"items must be one number a stage, none larger than the one before, for "
                f"{self.stages}, not {self.items}"
            )
        return self

    @property
    def funnel(self) -> Funnel:
        """What is rated."""
        return tuple(self.stages), tuple(self.items)


class Qualities(Section):
    """Qualities of funnels on the same queries. Others are relative to ``reference``'s."""

    name: str
    kind: Kind
    metric: str
    source: Annotated[str, Field(min_length=1)]
    serves: Positive
    notes: list[str] = []
    reference: Rated
    rows: Annotated[list[Rated], Field(min_length=1)]

    @model_validator(mode="after")
    def _relative(self) -> Qualities:
        if not self.reference.mean:
            raise ValueError("reference: mean must be above 0, for others are relative to it")
        return self

    @classmethod
    def load(cls, name: str) -> Qualities:
        """Read a table: a file (``.json``), or one that comes with the package.

        Raises
        ------
        ConfigError
            It cannot be read or is no table of quality.
        """
        return read_json(cls, name, "qualities")

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        path.write_text(json.dumps(self.model_dump(), indent=1) + "\n")

    def rated(self, *, int8: bool) -> dict[Funnel, Rated]:
        """Rows of one arithmetic; of float models where there are none of int8 ones."""
        known = {row.funnel: row for row in self.rows if not row.int8}
        return known | {row.funnel: row for row in self.rows if row.int8} if int8 else known


def funnels(config: Config) -> list[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """All funnels of some of a configuration's stages, in their order.

    The first stage ranks all items, a half, a quarter, ... of them, as long as these are more than
    are served; each next one the length of the served list, twice that, four times, ..., fewer
    than the one before.

    Returns
    -------
    list of tuples
        Numbers of the stages, items of the first, and what each of them keeps.
    """
    funnel = config.funnel
    k = funnel.keep[-1]
    sizes = [funnel.items]
    while sizes[-1] // 2 > k:
        sizes.append(sizes[-1] // 2)
    found = []
    for count in range(1, len(funnel.stages) + 1):
        for stages in combinations(range(len(funnel.stages)), count):
            for items in sizes:
                choices = [k << n for n in range(items.bit_length()) if k << n < items]
                for kept in combinations_with_replacement(reversed(choices), count - 1):
                    if len(set(kept)) == len(kept):
                        found.append((stages, items, (*kept, k)))
    return found


def sizes(config: Config) -> list[int]:
    """Numbers of items that models of a configuration's funnels rank or keep, ascending."""
    return sorted({n for _, items, keep in funnels(config) for n in (items, *keep)})


def measure(config: Config, scored: ScoredQueries) -> Qualities:
    """Rate all funnels of a configuration's stages on labelled queries, in all their arithmetics.

    Filters are exact, and the sub-batches those of the configuration, on every platform.
    """
    names, k = config.funnel.stages, config.funnel.keep[-1]

    last = [len(names) - 1]
    reference = scored.values("float", last, [k], config.funnel.items)["ndcg"]

    def rate(kind: str, stages: Sequence[int], items: int, keep: Sequence[int]) -> Rated:
        batch = -(-items // config.funnel.sub_batches) if len(stages) > 1 else items
        values = scored.values(
            kind, stages, keep, batch, items=items, filters=[None] * (len(stages) - 1)
        )["ndcg"]
        interval = bootstrap(values)
        change = bootstrap_difference(values, reference).low / max(reference.mean(), 1e-12)
        return Rated(
            stages=[names[stage] for stage in stages],
            items=[items, *keep[:-1]],
            int8=kind == "int8",
            **interval._asdict(),
            change_low=float(change),
        )

    rows = [rate(kind, *funnel) for funnel in funnels(config) for kind in scored.logits]
    return Qualities(
        name=config.name,
        kind="measured",
        metric=f"NDCG@{k}",
        source=f"{len(scored.relevant)} labelled queries of {config.data.source}",
        serves=k,
        notes=[f"exact filters, {config.funnel.sub_batches} sub-batches"],
        reference=rate("float", last, config.funnel.items, [k]),
        rows=rows,
    )


def measured(config: Config, cache: Path) -> Qualities:
    """Give the table of a configuration: measured once, then from a file.

    Parameters
    ----------
    config : Config
    cache : Path
        Folder of tables, by what they were made of: data, models, funnel and weights.

    Raises
    ------
    ConfigError
        The configuration's data have no labels.
    """
    if config.data.source == "random":
        raise ConfigError(
            "data.source = 'random' has no labels, so there is no quality: give a table of it "
            "(--qualities)"
        )
    from sw_model.movielens import WEIGHTS

    values = config.model_dump(include={"name", "data", "features", "models", "funnel"})
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in config.funnel.stages:
        path = Path(config.data.weights or WEIGHTS) / f"{name}.safetensors"
        if path.exists():
            digest.update(path.read_bytes())
    path = cache / f"quality-{digest.hexdigest()[:16]}.json"
    if path.exists():
        return Qualities.load(str(path))
    from rpaccel.workflow import Workflow

    logging.getLogger(__name__).info("measuring quality, which is kept in %s", path)
    scored = Workflow(config).scored
    assert scored is not None
    table = measure(config, scored)
    cache.mkdir(parents=True, exist_ok=True)
    table.save(path)
    return table
