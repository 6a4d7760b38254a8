"""Ranking quality: NDCG and recall of the served list, with binary relevance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["constant_ndcg", "discounts", "ndcg", "recall"]


def discounts(k: int) -> NDArray[np.float64]:
    """Weight of each of the first ``k`` ranks: ``1 / log2(rank + 1)``, ranks counted from 1."""
    return 1 / np.log2(np.arange(2, k + 2))


def _check(served: NDArray, relevant: NDArray) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    served, relevant = np.asarray(served, dtype=bool), np.asarray(relevant, dtype=np.int64)
    if served.shape[:-1] != relevant.shape:
        raise ValueError(
            f"served has shape {served.shape}, so relevant must have shape {served.shape[:-1]}, "
            f"not {relevant.shape}"
        )
    if (relevant < 1).any():
        raise ValueError("a query without relevant items has no quality")
    return served, relevant


def ndcg(served: NDArray, relevant: NDArray) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain at k against each query's own ideal order.

    ``DCG / IDCG``, the gain of a relevant item being 1 and the ideal order having all relevant
    items (at most k) first (Järvelin and Kekäläinen 2002).

    Parameters
    ----------
    served : bool, shape (..., k)
        Whether the item at each rank, best first, is relevant.
    relevant : int, shape (...)
        Number of relevant items among all candidates of the query, at least 1.

    Returns
    -------
    float64, shape (...)

    Raises
    ------
    ValueError
        The shapes do not fit, or a query has no relevant item.
    """
    served, relevant = _check(served, relevant)
    weights = discounts(served.shape[-1])
    ideal = np.cumsum(weights)[np.minimum(relevant, len(weights)) - 1]
    return np.asarray(served @ weights / ideal)


def constant_ndcg(served: NDArray) -> NDArray[np.float64]:
    """RecPipe's NDCG: the ideal is always k relevant items, so it is a discounted precision.

    Parameters
    ----------
    served : bool, shape (..., k)

    Returns
    -------
    float64, shape (...)
    """
    weights = discounts(np.shape(served)[-1])
    return np.asarray(np.asarray(served, dtype=bool) @ weights / weights.sum())


def recall(served: NDArray, relevant: NDArray) -> NDArray[np.float64]:
    """Share of a query's relevant items that were served; see :func:`ndcg` for the arguments."""
    served, relevant = _check(served, relevant)
    return np.asarray(served.sum(axis=-1) / relevant)
