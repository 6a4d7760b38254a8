"""Rounding that compensates errors: each value makes up for those rounded before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compensated"]

DAMPING = 0.01
"""Added to the metric's diagonal, relative to its mean: keeps directions hardly seen in bounds."""


def compensated(
    values: NDArray[np.float64], metric: NDArray[np.float64], low: int, high: int
) -> NDArray[np.int64]:
    """Round rows so that the errors e keep ``e @ metric @ e`` small (GPTQ, Frantar et al. 2022).

    Elements are rounded one after the other, those that weigh most first; what an element lost is
    taken off the ones still to be rounded as far as they can replace it. Without correlations
    this is rounding to the nearest.

    Parameters
    ----------
    values : float64, shape (n, width)
        In steps.
    metric : float64, shape (width, width)
        Symmetric, of no negative eigenvalues; such as the second moments of a layer's inputs,
        where rows are the layer's weights.
    low, high : int
        Ends of the range.

    Returns
    -------
    int64, shape (n, width)
    """
    width = values.shape[1]
    damping = DAMPING * metric.trace() / width
    if damping == 0:
        damping = 1.0  # nothing counts: the nearest
    order = np.argsort(-np.diag(metric), kind="stable")
    damped = metric[np.ix_(order, order)] + damping * np.eye(width)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = values[:, order]
    rounded = np.empty(values.shape, np.int64)
    for i, column in enumerate(order):
        rounded[:, column] = np.clip(np.floor(left[:, i] + 0.5), low, high)
        lost = (left[:, i] - rounded[:, column]) / factor[i, i]
        left[:, i + 1 :] -= np.outer(lost, factor[i, i + 1 :])
    return rounded
