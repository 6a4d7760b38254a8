"""Accesses to rows of embedding tables: what static regions are filled by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from sw_model.funnel import entering
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.topk import filters_of

__all__ = ["accesses"]


def accesses(
    config: Config, models: Sequence[QuantisedModel], queries: Iterable[Query]
) -> list[dict[str, NDArray[np.int64]]]:
    """Count the accesses of each stage, to the items that the stages before it let through.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    queries : iterable of Query

    Returns
    -------
    list of dict
        For each stage, by table name: accesses to each row, up to the last row with any.
    """
    features, funnel = config.features, config.funnel
    seen: list[dict[str, list[NDArray[np.int64]]]] = [
        {table.name: [] for table in features.tables} for _ in funnel.stages
    ]
    for query in queries:
        stages = entering(
            models,
            features,
            query,
            keep=funnel.keep,
            sub_batch=funnel.sub_batch_items,
            filters=filters_of(config),
            global_release=funnel.global_release,
        )
        for rows, positions in zip(seen, stages, strict=True):
            for table in features.tables:
                bags = query.indices[table.name]
                if table.scope == "item":
                    bags = bags[positions]
                else:  # looked up again for each item
                    bags = np.tile(bags, len(positions))
                rows[table.name].append(bags[bags < table.rows])
    return [
        {name: np.bincount(np.concatenate(rows), minlength=1) for name, rows in stage.items()}
        for stage in seen
    ]
