"""Golden model of the top-k units: exact and with bins, and what is released after which token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.config import Config
from rpaccel.hardware import HardwareConfig
from sw_model.numerics import ctr, ctr_entry, ctr_table

__all__ = [
    "Bins",
    "Filter",
    "Unfiltered",
    "filters_of",
    "machine_filters",
    "releases",
    "threshold_entry",
    "top_k",
]

Ranked = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Bins:
    """A filter with bins, as docs/numerics.md defines it.

    Attributes
    ----------
    bins : int
        A power of two.
    threshold : int, 0..1024
        Entry of the CTR table from which on candidates pass.
    """

    bins: int
    threshold: int

    def passed(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Whether logits pass the threshold."""
        return ctr_entry(scores) >= self.threshold

    def classes(self, scores: ArrayLike) -> NDArray[np.int64]:
        """What logits are ordered by: 1 + bin where the threshold is passed, else 0."""
        bins = ctr(scores).astype(np.int64) * self.bins >> 16
        return np.where(self.passed(scores), 1 + bins, 0)


@dataclass(frozen=True)
class Unfiltered:
    """No filter: all candidates are released, by position."""

    def classes(self, scores: ArrayLike) -> NDArray[np.int64]:
        """One class for all logits."""
        return np.zeros(np.shape(scores), np.int64)


Filter = Bins | Unfiltered | None
"""How a stage orders its candidates; None is by score."""


def threshold_entry(threshold: float) -> int:
    """First entry of the CTR table that reaches a CTR (0..1), 1024 if none does."""
    return int(np.searchsorted(ctr_table(), 65535 * threshold))


def filters_of(config: Config) -> list[Filter]:
    """Filters of a funnel's stages; None where it is exact."""
    thresholds = config.funnel.threshold or [0] * len(config.funnel.stages)
    return machine_filters(config.hardware, [threshold_entry(t) for t in thresholds])


def machine_filters(hardware: HardwareConfig, thresholds: Iterable[int]) -> list[Filter]:
    """Filters of a machine's stages, given their thresholds; None where it is exact."""
    made: dict[str, Callable[[int], Filter]] = {
        "exact": lambda _: None,
        "bins": lambda threshold: Bins(hardware.bins, threshold),
        "none": lambda _: Unfiltered(),
    }
    return [
        made[hardware.filter_of(stage)](threshold) for stage, threshold in enumerate(thresholds)
    ]


def top_k(positions: ArrayLike, scores: ArrayLike, k: int, bins: Filter = None) -> Ranked:
    """Rank candidates and keep the best ``k``: higher score first, ties to the lower position.

    Parameters
    ----------
    positions, scores : int, shape (n,)
        Candidates in any order; positions are distinct.
    k : int, 0..n
    bins : Filter
        Order by its classes instead of scores.

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
    order = np.lexsort((p, -(s if bins is None else bins.classes(s))))[:k]
    return p[order], s[order]


def releases(
    tokens: Iterable[tuple[ArrayLike, ArrayLike]],
    counts: Iterable[int | None],
    bins: Filter = None,
) -> list[Ranked]:
    """Rank tokens as they come and release candidates after those that say so.

    Parameters
    ----------
    tokens : pairs of int arrays of shape (n,)
        Positions and scores of each token.
    counts : int or None, one a token
        How many of the candidates since the last release are released after the token; the others
        are dropped. ``None`` releases nothing and keeps the candidates for the next token.
    bins : Filter
        See :func:`top_k`.

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
            released.append(top_k(p, s, count, bins))
            held = []
    return released
