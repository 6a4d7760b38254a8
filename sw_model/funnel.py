"""Golden model of a whole query: stages, sub-batches, releases, final ranking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.models import FeaturesConfig
from sw_model.gather import bad_indices, pool
from sw_model.group import Scores, score
from sw_model.numerics import logits
from sw_model.planner import Step, plan
from sw_model.quantised import QuantisedModel
from sw_model.query import Query, Ranking
from sw_model.topk import Bins, Filter, filters_of, top_k

__all__ = ["Token", "Trace", "entering", "rank", "rank_query", "rank_scores", "score_items"]

_Ranked = tuple[NDArray[np.int64], NDArray[np.int64]]
_NOTHING: _Ranked = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class Token:
    """One sub-batch in one stage, as the machine saw it.

    Attributes
    ----------
    stage, sub_batch : int
        Number of the stage in the machine, and of the sub-batch in the query.
    positions : int64, shape (n,)
        Items in the order in which they are gathered.
    scores : int64, shape (n,)
        Their logits.
    released : int64, shape (r,)
        Positions released at the end of it, best first.
    lookups, bad_indices : int
        Slots of bags with a row of the table, and with an index beyond it. The bags of the query
        count again for each item: they are looked up again.
    saturations : int
        Logits that were clamped.
    below : int
        Released although they had not passed the threshold of a filter with bins.
    """

    stage: int
    sub_batch: int
    positions: NDArray[np.int64]
    scores: NDArray[np.int64]
    released: NDArray[np.int64]
    lookups: int
    bad_indices: int
    saturations: int
    below: int


@dataclass
class Trace:
    """What happened in a query, token by token in the order of the plan."""

    tokens: list[Token] = field(default_factory=list)

    @property
    def bad_indices(self) -> int:
        """Lookups beyond their table, in all stages."""
        return sum(token.bad_indices for token in self.tokens)

    @property
    def saturations(self) -> int:
        """Logits that were clamped, in all stages."""
        return sum(token.saturations for token in self.tokens)


def score_items(
    model: QuantisedModel,
    features: FeaturesConfig,
    query: Query,
    positions: NDArray[np.int64] | None = None,
) -> Scores:
    """Logits of items of a query.

    Parameters
    ----------
    model : QuantisedModel
    features : FeaturesConfig
    query : Query
    positions : int64, shape (n,), optional
        Items to score; all of them by default.
    """
    if positions is None:
        positions = np.arange(query.items)
    count = len(positions)
    pooled = []
    for table, quantised in zip(features.tables, model.tables, strict=True):
        bags = query.indices[table.name]
        if table.scope == "item":
            bags = bags[positions]
        rows = pool(quantised, bags, empty_index=table.empty_index)
        pooled.append(np.broadcast_to(rows, (count, rows.shape[-1])))
    first = np.broadcast_to(query.dense_query, (count, features.dense_query))
    dense = np.concatenate([first, query.dense_item[positions]], axis=1)
    return score(model, dense, pooled)


def rank(
    models: Sequence[QuantisedModel],
    features: FeaturesConfig,
    query: Query,
    *,
    keep: Sequence[int],
    sub_batch: int,
    first_stage: int = 0,
    last_stage: int | None = None,
    filters: Sequence[Filter] = (),
    global_release: Collection[int] = (),
    trace: Trace | None = None,
) -> Ranking:
    """Rank a query's items through a funnel, as docs/numerics.md defines it.

    Parameters
    ----------
    models : sequence of QuantisedModel
        One a stage of the machine.
    features : FeaturesConfig
    query : Query
        Trusted; indices beyond their table contribute nothing.
    keep : sequence of int
        Items kept by each of the stages run, ``first_stage`` to ``last_stage``.
    sub_batch : int
        Items in a sub-batch of the first stage.
    first_stage, last_stage : int
        By default all stages.
    filters : sequence of Filter
        Filter of each stage of the machine (:func:`sw_model.topk.filters_of`); by default, and
        where it is None, exact.
    global_release : collection of int
        Stages of the machine that release once in a query.
    trace : Trace, optional
        Receives what happened.

    Returns
    -------
    Ranking
        The best ``keep[-1]`` items of the last stage.

    Raises
    ------
    ValueError
        ``keep`` does not give a number for each stage run.
    """
    last_stage = len(models) - 1 if last_stage is None else last_stage
    if len(keep) != last_stage + 1 - first_stage:
        raise ValueError(
            f"keep must give a number for each of stages {first_stage}..{last_stage}, not {keep}"
        )
    scored: Scores

    def scores_of(stage: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        nonlocal scored
        scored = score_items(models[first_stage + stage], features, query, positions)
        return scored.logits.astype(np.int64)

    best = _NOTHING
    used = filters[first_stage:] or [None] * len(keep)
    once = {stage - first_stage for stage in global_release}
    for step, positions, scores, released in _walk(
        query.items, keep, sub_batch, scores_of, used, once
    ):
        best = released
        if trace is not None:
            stage = first_stage + step.stage
            bins = used[step.stage]
            trace.tokens.append(
                Token(
                    stage,
                    step.sub_batch,
                    positions,
                    scores,
                    released[0],
                    *_count_lookups(models[stage], features, query, positions),
                    int(scored.saturated.sum()),
                    int((~bins.passed(released[1])).sum()) if isinstance(bins, Bins) else 0,
                )
            )
    return Ranking(*best)


def rank_query(
    config: Config,
    models: Sequence[QuantisedModel],
    query: Query,
    *,
    trace: Trace | None = None,
    **how: Any,
) -> Ranking:
    """Rank a query's items through the funnel of a configuration.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    query : Query
    trace : Trace, optional
        Receives what happened.
    how
        What is not the funnel's; see :meth:`rpaccel.driver.Device.submit`.

    Returns
    -------
    Ranking
        See :func:`rank`.
    """
    return rank(
        models,
        config.features,
        query,
        filters=filters_of(config),
        trace=trace,
        **config.funnel.way(query.items, **how),
    )


def entering(
    models: Sequence[QuantisedModel],
    features: FeaturesConfig,
    query: Query,
    *,
    keep: Sequence[int],
    sub_batch: int,
    filters: Sequence[Filter] = (),
    global_release: Collection[int] = (),
) -> list[NDArray[np.int64]]:
    """Positions of the items that each stage gets; see :func:`rank`."""
    found: list[list[NDArray[np.int64]]] = [[] for _ in keep]

    def scores_of(stage: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        found[stage].append(positions)
        if stage == len(keep) - 1:  # what it makes of them does not matter
            return np.zeros(len(positions), np.int64)
        return score_items(models[stage], features, query, positions).logits.astype(np.int64)

    used = filters or [None] * len(keep)
    for _ in _walk(query.items, keep, sub_batch, scores_of, used, global_release):
        pass
    return [np.concatenate(positions) for positions in found]


def rank_scores(
    scores: Sequence[NDArray],
    keep: Sequence[int],
    sub_batch: int,
    filters: Sequence[Filter] = (),
    global_release: Collection[int] = (),
) -> NDArray[np.int64]:
    """Send items with given scores through a funnel: what it serves, best first.

    Parameters
    ----------
    scores : sequence of arrays, shape (items,)
        Of all items, by each stage: int16 logits, or real ones as floats.
    keep : sequence of int
        Items kept by each stage.
    sub_batch : int
    filters : sequence of Filter
        See :func:`rank`.
    global_release : collection of int
        Stages that release once.

    Returns
    -------
    int64, shape (keep[-1],)
        Positions.
    """
    # numbers in the order of the scores: the rank order of integers holds for floats, too
    used = filters or [None] * len(keep)
    order = [
        np.unique(s, return_inverse=True)[1].ravel() if bins is None else logits(s)
        for s, bins in zip(scores, used, strict=True)
    ]
    best = _NOTHING
    for step in _walk(
        len(order[0]), keep, sub_batch, lambda stage, at: order[stage][at], used, global_release
    ):
        best = step[-1]
    return best[0]


def _walk(
    items: int,
    keep: Sequence[int],
    sub_batch: int,
    scores_of: Callable[[int, NDArray[np.int64]], NDArray[np.int64]],
    filters: Sequence[Filter],
    global_release: Collection[int],
) -> Iterator[tuple[Step, NDArray[np.int64], NDArray[np.int64], _Ranked]]:
    """Follow a query's plan: each step with its positions, their scores, and what it releases.

    The last one releases the final ranking. Stages are counted from the funnel's first.
    """
    # What was released to each stage by the one before, and has been scored but not released.
    waiting = [np.arange(items), *([_NOTHING[0]] * len(keep))]
    held: list[list[_Ranked]] = [[] for _ in keep]
    for step in plan(items, sub_batch, keep, global_release):
        positions, waiting[step.stage] = np.split(waiting[step.stage], [step.items])
        scores = scores_of(step.stage, positions)
        held[step.stage].append((positions, scores))
        released = _NOTHING
        if step.emit:
            every, theirs = (np.concatenate(part) for part in zip(*held[step.stage], strict=True))
            held[step.stage] = []
            released = top_k(every, theirs, step.count, filters[step.stage])
            waiting[step.stage + 1] = released[0]
        yield step, positions, scores, released


def _count_lookups(
    model: QuantisedModel,
    features: FeaturesConfig,
    query: Query,
    positions: NDArray[np.int64],
) -> tuple[int, int]:
    """Lookups of items that have a row, and that are beyond their table."""
    good = bad = 0
    for table, quantised in zip(features.tables, model.tables, strict=True):
        bags = query.indices[table.name]
        times = len(positions)
        if table.scope == "item":
            bags, times = bags[positions], 1
        beyond = int(bad_indices(quantised, bags, empty_index=table.empty_index).sum())
        good += times * (int((bags != table.empty_index).sum()) - beyond)
        bad += times * beyond
    return good, bad
