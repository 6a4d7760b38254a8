"""Golden model of the top-k unit: rank order, and what is released after which token."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["releases", "top_k"]

Ranked = tuple[NDArray[np.int64], NDArray[np.int64]]


def top_k(positions: ArrayLike, scores: ArrayLike, k: int) -> Ranked:
    """Rank candidates and keep the best ``k``: higher score first, ties to the lower position.

    Parameters
    ----------
    positions, scores : int, shape (n,)
        Candidates in any order; positions are distinct.
    k : int, 0..n

    Returns
    -------
    positions, scores : int64, shape (k,)

    Raises
    ------
    ValueError
        The shapes differ, or ``k`` is not within 0..n.
    """
    p, s = (np.asarray(values, dtype=np.int64) for values in (positions, scores))
    if p.shape != s.shape or p.ndim != 1:
        raise ValueError(f"positions have shape {p.shape} but scores have shape {s.shape}")
    if not 0 <= k <= p.size:
        raise ValueError(f"k must be within 0..{p.size}, not {k}")
    order = np.lexsort((p, -s))[:k]
    return p[order], s[order]


def releases(
    tokens: Iterable[tuple[ArrayLike, ArrayLike]], counts: Iterable[int | None]
) -> list[Ranked]:
    """Rank tokens as they come and release candidates after those that say so.

    Parameters
    ----------
    tokens : pairs of int arrays of shape (n,)
        Positions and scores of each token.
    counts : int or None, one a token
        How many of the candidates since the last release are released after the token; the others
        are dropped. ``None`` releases nothing and keeps the candidates for the next token.

    Returns
    -------
    list of (positions, scores)
        One entry for each count that is not ``None``, best candidate first.
    """
    released: list[Ranked] = []
    held: list[tuple[NDArray, NDArray]] = []
    for (positions, scores), count in zip(tokens, counts, strict=True):
        held.append((np.asarray(positions, np.int64), np.asarray(scores, np.int64)))
        if count is not None:
            p, s = (np.concatenate(part) for part in zip(*held, strict=True))
            released.append(top_k(p, s, count))
            held = []
    return released
