"""Ranking quality of a configuration's models on labelled queries, with confidence intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import FunnelConfig
from sw_model.bootstrap import bootstrap, bootstrap_difference
from sw_model.funnel import rank_scores
from sw_model.metrics import constant_ndcg, hit_rate, ndcg, recall
from sw_model.topk import Filter

__all__ = ["KINDS", "METRICS", "ScoredQueries", "differences", "measure", "summary"]

KINDS = ("float", "int8")

METRICS = {
    "ndcg": "NDCG",
    "recall": "recall",
    "hit_rate": "HR",
    "ndcg_constant": "constant-ideal NDCG",
}
"""Title of each metric by its key in a report."""

Values = dict[str, NDArray[np.float64]]
"""A value for each query by metric."""


@dataclass(frozen=True)
class ScoredQueries:
    """Labelled queries with the logits of each of a funnel's models.

    Attributes
    ----------
    relevant : bool, shape (queries, items)
    logits : dict of lists of arrays, shape (queries, items)
        For each of :data:`KINDS`, by stage.
    filters : sequence of Filter
        The filter of each stage, for when another follows it; None where it is exact.
    """

    relevant: NDArray[np.bool_]
    logits: Mapping[str, Sequence[NDArray]]
    filters: Sequence[Filter] = ()

    def values(
        self,
        kind: str,
        stages: Sequence[int],
        keep: Sequence[int],
        sub_batch: int,
        *,
        items: int | None = None,
        filters: Sequence[Filter] | None = None,
        global_release: Collection[int] = (),
    ) -> Values:
        """Qualities of what a funnel serves, query by query.

        Parameters
        ----------
        kind : {"float", "int8"}
        stages : sequence of int
            Whose logits rank, from the first stage of the funnel on.
        keep : sequence of int
            Items kept by each of them.
        sub_batch : int
            Items in a sub-batch of the first.
        items : int, optional
            Rank only so many candidates, the first ones, of each query; relevant ones that are
            not among them count as not served. All of them by default.
        filters : sequence of Filter
            Of each of the stages but the last, in place of :attr:`filters`.
        global_release : collection of int
            See :func:`sw_model.funnel.rank_scores`.
        """
        logits = [self.logits[kind][stage][:, :items] for stage in stages]
        if filters is None and self.filters:
            filters = [self.filters[stage] for stage in stages[:-1]]
        used = () if filters is None else [*filters, None]
        served = np.array(
            [
                relevant[rank_scores(scores, keep, sub_batch, used, global_release)]
                for relevant, *scores in zip(self.relevant, *logits, strict=True)
            ]
        )
        count = self.relevant.sum(axis=1)
        return {
            "ndcg": ndcg(served, count),
            "recall": recall(served, count),
            "hit_rate": hit_rate(served),
            "ndcg_constant": constant_ndcg(served),
        }


def measure(scored: ScoredQueries, funnel: FunnelConfig) -> dict[str, Values]:
    """Each model of a funnel alone and the funnel, float and int8: values by what ranked."""
    found = {}
    items = scored.relevant.shape[1]
    everything = range(len(funnel.stages))
    for kind in KINDS:
        for stage, name in enumerate(funnel.stages):
            found[f"{name} alone, {kind}"] = scored.values(kind, [stage], funnel.keep[-1:], items)
        if len(everything) > 1:
            found[f"funnel, {kind}"] = scored.values(
                kind,
                everything,
                funnel.keep,
                funnel.sub_batch_items,
                global_release=funnel.global_release,
            )
    return dict(sorted(found.items()))


def summary(measured: Mapping[str, Values]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over queries with their confidence intervals.

    Returns
    -------
    dict
        By what ranked and metric: ``mean``, ``low``, ``high``.
    """
    return {
        name: {metric: bootstrap(each)._asdict() for metric, each in values.items()}
        for name, values in measured.items()
    }


def differences(measured: Mapping[str, Values], funnel: FunnelConfig) -> list[dict[str, Any]]:
    """Paired differences of NDCG: int8 against float, and the funnel against its last stage alone.

    Returns
    -------
    list of dict
        ``of``, ``against``, and ``mean``, ``low``, ``high`` of ``of - against``.
    """
    pairs = [(name, name.replace("int8", "float")) for name in measured if "int8" in name]
    if len(funnel.stages) > 1:
        pairs += [(f"funnel, {kind}", f"{funnel.stages[-1]} alone, {kind}") for kind in KINDS]
    return [
        {
            "of": of,
            "against": against,
            **bootstrap_difference(measured[of]["ndcg"], measured[against]["ndcg"])._asdict(),
        }
        for of, against in pairs
    ]
