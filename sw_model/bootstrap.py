"""Confidence intervals of mean qualities, by resampling queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "RESAMPLES", "Interval", "bootstrap", "bootstrap_difference"]

LEVEL = 0.95
RESAMPLES = 4000

_CHUNK = 1 << 22
"""Drawn numbers held at a time."""


class Interval(NamedTuple):
    """A mean over queries and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: NDArray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over queries, with its percentile bootstrap interval (Efron 1979).

    Parameters
    ----------
    values : floats, shape (queries,)
        A quality for each query.
    level : float
        Probability that the interval covers the mean, above 0 and below 1.
    resamples : int
        How often as many queries are drawn, with replacement.
    seed : int
        The same arguments give the same interval.

    Raises
    ------
    ValueError
        ``values`` has another shape or no queries, or ``level`` is out of range.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must have shape (queries,) with queries, not {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, not {level}")
    rng = np.random.default_rng(seed)
    count = len(values)
    means: list[NDArray] = []
    left = resamples
    while left:
        rows = min(left, max(1, _CHUNK // count))
        means.append(values[rng.integers(count, size=(rows, count))].mean(axis=1))
        left -= rows
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_difference(
    values: NDArray,
    others: NDArray,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of ``values - others`` over the same queries, with its interval.

    Queries differ far more from each other than two rankings of one query do: the paired
    difference can be certain where the intervals of the two means overlap.

    Parameters
    ----------
    values, others : floats, shape (queries,)
        Qualities of two rankings, query by query.
    level, resamples, seed
        As for :func:`bootstrap`.

    Raises
    ------
    ValueError
        The shapes differ; see :func:`bootstrap` for others.
    """
    values, others = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if values.shape != others.shape:
        raise ValueError(f"paired values have shapes {values.shape} and {others.shape}")
    return bootstrap(values - others, level=level, resamples=resamples, seed=seed)
