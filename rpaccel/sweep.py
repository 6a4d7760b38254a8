"""Quality of a funnel over items a stage, filters and sub-batches, in float and int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, product
from typing import Any

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.quality import KINDS, ScoredQueries, Values, summary
from sw_model.bootstrap import bootstrap_difference
from sw_model.topk import Bins, threshold_entry

__all__ = ["FILTERS", "SUB_BATCHES", "Setting", "settings", "sweep"]

SUB_BATCHES = (1, 2, 4, 8)
FILTERS = ("exact", "bins")


@dataclass(frozen=True)
class Setting:
    """A way to serve a query.

    Attributes
    ----------
    stages : tuple of int
        Stages of the configuration's funnel that rank, by number.
    items : int
        Candidates that the first of them ranks.
    keep : tuple of int
        Items that each of them keeps.
    sub_batches : int
    filters : tuple of str
        One of :data:`FILTERS` for each of these stages but the last, which is exact.
    """

    stages: tuple[int, ...]
    items: int
    keep: tuple[int, ...]
    sub_batches: int = 1
    filters: tuple[str, ...] = ()

    @property
    def sub_batch(self) -> int:
        """Items in a sub-batch of the first stage."""
        return -(-self.items // self.sub_batches)


def configured(config: Config) -> Setting:
    """What a configuration says."""
    funnel = config.funnel
    stages = tuple(range(len(funnel.stages)))
    filters = tuple(config.hardware.filter_of(stage) for stage in stages[:-1])
    # a single stage ranks across its sub-batches
    number = funnel.sub_batches if filters else 1
    return Setting(stages, funnel.items, tuple(funnel.keep), number, filters)


def reference(setting: Setting) -> Setting:
    """The same with exact filters and one sub-batch: what a setting may lose little to."""
    exact = (FILTERS[0],) * len(setting.filters)
    return replace(setting, sub_batches=1, filters=exact)


def settings(config: Config, sub_batches: Sequence[int] = SUB_BATCHES) -> list[Setting]:
    """Each stage alone and every funnel of stages, over items a stage, filters and sub-batches.

    Of three stages these are the whole funnel and those that leave a stage out.

    The first stage ranks all items, a half, a quarter, ... of them, and inner stages keep the
    length of the served list, twice that, four times, ..., less than they get. Filters are all
    exact, or all but the last have bins. What the configuration says is among them.

    Raises
    ------
    ConfigError
        A number of sub-batches is not positive.
    """
    if min(sub_batches, default=0) < 1:
        raise ConfigError(f"sub-batches must be numbers from 1 on, not {list(sub_batches)}")
    funnel = config.funnel
    k = funnel.keep[-1]
    count = len(funnel.stages)
    sizes = [funnel.items]
    while sizes[-1] // 2 > k:
        sizes.append(sizes[-1] // 2)
    found = [Setting((stage,), items, (k,)) for stage in range(count) for items in sizes]
    if count > 1:
        numbers = sorted({1, *sub_batches})
        funnels = [f for n in range(2, count + 1) for f in combinations(range(count), n)]
        for items in sizes:
            choices = [k << i for i in range(items.bit_length()) if k << i < items] or [k]
            for stages in funnels:
                passed = len(stages) - 1
                for inner in combinations_with_replacement(reversed(choices), passed):
                    for kind, number in product(FILTERS, numbers):
                        filters = (kind,) * passed
                        found.append(Setting(stages, items, (*inner, k), number, filters))
        own = configured(config)
        for setting in (reference(own), replace(own, sub_batches=1), own):
            if setting not in found:
                found.append(setting)
    return found


def sweep(
    config: Config,
    scored: ScoredQueries,
    *,
    sub_batches: Sequence[int] = SUB_BATCHES,
    progress: Callable[[list[Setting]], Iterator[Setting]] = iter,
) -> dict[str, Any]:
    """Measure every setting of :func:`settings`.

    Parameters
    ----------
    config : Config
    scored : ScoredQueries
        Of the configuration's funnel.
    sub_batches : sequence of int
    progress : callable
        Goes through the settings and shows how far it is.

    Returns
    -------
    dict
        ``name``, ``queries``, ``k``, ``stages`` (names) and ``settings``: of each, what
        :class:`Setting` says, ``macs`` of a query, whether it is the ``configured`` one, and for
        ``float`` and ``int8`` the metrics of :mod:`rpaccel.quality`, and besides paired
        differences of NDCG as ``mean``, ``low``, ``high``: ``against_last``, to the last stage
        ranking all items alone; ``against_unbatched``, to the same with one sub-batch;
        ``against_exact``, to the same with one sub-batch and exact filters; int8 has
        ``against_float``.
    """
    funnel = config.funnel
    measured: dict[tuple[str, Setting], Values] = {}
    every = settings(config, sub_batches)
    thresholds = [threshold_entry(t) for t in funnel.threshold or [0] * len(funnel.stages)]
    bins = [Bins(config.hardware.bins, threshold) for threshold in thresholds]
    for setting in progress(every):
        for kind in KINDS:
            measured[kind, setting] = scored.values(
                kind,
                setting.stages,
                setting.keep,
                setting.sub_batch,
                items=setting.items,
                filters=[
                    bins[stage] if kind_of == "bins" else None
                    for stage, kind_of in zip(setting.stages, setting.filters, strict=False)
                ],
            )
    last = Setting((len(funnel.stages) - 1,), funnel.items, (funnel.keep[-1],))
    own = configured(config)
    rows = []
    for setting in every:
        row: dict[str, Any] = {
            "stages": [funnel.stages[stage] for stage in setting.stages],
            "items": setting.items,
            "keep": list(setting.keep),
            "sub_batches": setting.sub_batches,
            "macs": _macs(config, setting),
            "filters": list(setting.filters),
            "configured": setting == own,
        }
        unbatched = replace(setting, sub_batches=1)
        for kind in KINDS:
            values = measured[kind, setting]

            def gap(other: Values, values: Values = values) -> dict[str, float]:
                return bootstrap_difference(values["ndcg"], other["ndcg"])._asdict()

            row[kind] = summary({kind: values})[kind]
            row[kind]["against_last"] = gap(measured[kind, last])
            row[kind]["against_unbatched"] = gap(measured[kind, unbatched])
            row[kind]["against_exact"] = gap(measured[kind, reference(setting)])
            if kind == "int8":
                row[kind]["against_float"] = gap(measured["float", setting])
        rows.append(row)
    return {
        "name": config.name,
        "queries": len(scored.relevant),
        "k": funnel.keep[-1],
        "stages": list(funnel.stages),
        "settings": rows,
    }


def _macs(config: Config, setting: Setting) -> int:
    """Multiply-accumulates of a query: those of each stage, for the items it ranks."""
    total = 0
    for stage, items in zip(setting.stages, (setting.items, *setting.keep), strict=False):
        total += items * config.model(stage).macs(config.features)
    return total
