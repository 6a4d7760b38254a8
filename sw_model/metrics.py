"""Ranking quality, with binary relevance: of served lists, and of all scores of a query.

NDCG, hit rate and recall look at a served list, so ties are broken before: as the machine does,
equal scores by position, the lower first (:func:`served`). AUC and log loss have no order to break.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["auc", "constant_ndcg", "discounts", "hit_rate", "log_loss", "ndcg", "recall", "served"]


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


def hit_rate(served: NDArray) -> NDArray[np.float64]:
    """Whether a served list has a relevant item: 1 or 0.

    Parameters
    ----------
    served : bool, shape (..., k)

    Returns
    -------
    float64, shape (...)
    """
    return np.asarray(np.asarray(served, dtype=bool).any(axis=-1), dtype=np.float64)


def served(scores: NDArray, relevant: NDArray, k: int) -> NDArray[np.bool_]:
    """Whether the item at each of the first k ranks is relevant, in the machine's rank order.

    Parameters
    ----------
    scores : integers or floats, shape (..., items)
        The higher the better; equal scores are ordered by position, the lower first.
    relevant : bool, shape (..., items)
    k : int
        At most the number of items.

    Returns
    -------
    bool, shape (..., k)

    Raises
    ------
    ValueError
        The shapes differ, or there are fewer than k items.
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant, dtype=bool)
    _check_labels(scores, relevant)
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"k must be 1..{scores.shape[-1]}, not {k}")
    # float64 holds every int16 logit and float32 score, and has a negative of each
    order = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(relevant, order, axis=-1)


def auc(scores: NDArray, relevant: NDArray) -> NDArray[np.float64]:
    """Area under the ROC curve: how often a relevant item scores above another one.

    A tie counts one half (Mann and Whitney 1947).

    Parameters
    ----------
    scores : integers or floats, shape (..., items)
    relevant : bool, shape (..., items)

    Returns
    -------
    float64, shape (...)

    Raises
    ------
    ValueError
        The shapes differ, or a query has only relevant items or none.
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant, dtype=bool)
    _check_labels(scores, relevant)
    positive = relevant.sum(axis=-1)
    negative = relevant.shape[-1] - positive
    if (positive < 1).any() or (negative < 1).any():
        raise ValueError("AUC needs relevant and other items in each query")
    rows = zip(
        scores.reshape(-1, scores.shape[-1]),
        relevant.reshape(-1, scores.shape[-1]),
        strict=True,
    )
    sums = [_mean_ranks(row)[hits].sum() for row, hits in rows]
    least = positive * (positive + 1) / 2  # sum of the ranks of relevant items that all come last
    return np.asarray((np.reshape(sums, positive.shape) - least) / (positive * negative))


def log_loss(logits: NDArray, relevant: NDArray) -> NDArray[np.float64]:
    """Mean cross entropy of the labels and the logits' sigmoids, in nats.

    Parameters
    ----------
    logits : floats, shape (..., items)
        Real logits: those of the machine divided by 2048.
    relevant : bool, shape (..., items)

    Returns
    -------
    float64, shape (...)

    Raises
    ------
    ValueError
        The shapes differ.
    """
    logits, relevant = np.asarray(logits, dtype=np.float64), np.asarray(relevant, dtype=bool)
    _check_labels(logits, relevant)
    # -log sigmoid(x) = log(1 + exp(-x)), without overflow for any x
    return np.asarray(np.logaddexp(0, np.where(relevant, -logits, logits)).mean(axis=-1))


def _check_labels(scores: NDArray, relevant: NDArray) -> None:
    if scores.shape != relevant.shape:
        raise ValueError(
            f"scores have shape {scores.shape}, so relevant must have it, not {relevant.shape}"
        )


def _mean_ranks(scores: NDArray) -> NDArray[np.float64]:
    """Ranks from 1, the lowest score first; equal scores share the mean of their ranks."""
    _, number, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[number]
