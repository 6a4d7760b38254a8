"""Qualities of models on the test period of a click log, query by query, in float."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.progress import progress_bar
from sw_model.click_log import ClickLog
from sw_model.dlrm import FloatModel
from sw_model.metrics import auc, log_loss, ndcg, served
from sw_model.movielens import Split

__all__ = ["METRICS", "measure", "with_test_queries"]

METRICS = ("error", "log_loss", "auc", "ndcg")
"""The error is the share of impressions on the wrong side of a CTR of one half."""


def with_test_queries(config: Config, queries: int) -> Config:
    """Make a configuration whose test period has so many queries; it begins where it did.

    Raises
    ------
    ConfigError
        The data are no click log, or the number is not positive.
    """
    if queries < 1:
        raise ConfigError(f"test queries must be 1 or more, not {queries}")
    if config.data.periods is None:
        raise ConfigError(f"data.source = {config.data.source!r} is no click log")
    periods = config.data.periods.model_copy(update={"test": queries * config.funnel.items})
    data = config.data.model_copy(update={"periods": periods})
    return config.model_copy(update={"data": data})


def measure(
    config: Config, data: ClickLog, models: Mapping[str, FloatModel]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Rank the items of each test query with each model; queries are drawn or read one by one.

    Queries in which everything was clicked have no AUC, and are left out.

    Returns
    -------
    dict of dicts
        By model and by :data:`METRICS`: shape (queries,). NDCG is that of the served list.

    Raises
    ------
    ConfigError
        The test period has no query with a click and an item that was not clicked.
    """
    items, k = config.funnel.items, config.funnel.keep[-1]
    values: dict[str, list[tuple[float, ...]]] = {name: [] for name in models}
    with progress_bar() as bar:
        queries = data.stream(Split.TEST, items=items)
        total = len(data.periods.test) // items
        for query in bar.track(queries, total=total, description="test queries"):
            if query.relevant.all():
                continue
            for name, model in models.items():
                values[name].append(_metrics(model(query.inputs), query.relevant, k))
    if not all(values.values()):
        raise ConfigError(
            f"data.periods.test gives no query of {items} items of which some were clicked"
        )
    return {
        name: dict(zip(METRICS, np.array(each).T, strict=True)) for name, each in values.items()
    }


def _metrics(logits: NDArray[np.float32], relevant: NDArray[np.bool_], k: int) -> tuple[float, ...]:
    best = served(logits, relevant, k)
    return (
        float(((logits > 0) != relevant).mean()),
        float(log_loss(logits, relevant)),
        float(auc(logits, relevant)),
        float(ndcg(best, relevant.sum())),
    )
