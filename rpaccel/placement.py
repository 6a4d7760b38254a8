"""Static region: which lines of which tables are held on chip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["share_evenly", "share_hottest"]


def share_evenly(available: int, sizes: Sequence[int], units: Sequence[int]) -> list[int]:
    """Share lines evenly over tables; what a small table does not need goes to the others.

    Parameters
    ----------
    available : int
        Lines of the static region.
    sizes : sequence of int
        Lines of each table.
    units : sequence of int
        Lines that a row of each table takes: shares are whole multiples.

    Returns
    -------
    list of int
        Lines of each table, counted from its first (hottest) one.
    """
    shares = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda t: (sizes[t], t))
    for done, t in enumerate(order):
        part = min(sizes[t], available // (len(order) - done))
        shares[t] = part - part % units[t]
        available -= shares[t]
    for t in order:  # what rounding to whole rows left over
        more = min(sizes[t] - shares[t], available)
        more -= more % units[t]
        shares[t] += more
        available -= more
    return shares


def share_hottest(
    available: int, heat: Sequence[NDArray[np.float64]], units: Sequence[int]
) -> list[int]:
    """Give lines to tables by accesses a line, the most accessed first.

    A table's lines are taken in their order; a line counts no more than those before it.

    Parameters
    ----------
    available : int
        Lines of the static region.
    heat : sequence of float64 arrays
        For each table, expected accesses to each of its units.
    units : sequence of int
        Lines of a unit of each table: of a row, or 1 where rows share a line.

    Returns
    -------
    list of int
        Lines of each table.
    """
    falling = [np.minimum.accumulate(h) / u for h, u in zip(heat, units, strict=True)]
    table = np.repeat(np.arange(len(heat)), [len(h) for h in heat])
    order = np.argsort(-np.concatenate(falling), kind="stable")
    shares = [0] * len(heat)
    full = [False] * len(heat)
    for t in table[order].tolist():
        if not available or all(full):
            break
        full[t] = full[t] or units[t] > available
        if not full[t]:
            shares[t] += units[t]
            available -= units[t]
    return shares
