"""Static region: which macros a lane gets, and which lines of which tables it holds in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign_macros", "macro_heat", "share_evenly", "share_hottest", "share_macros"]


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
    table, _ = _hottest_first(heat, units)
    shares = [0] * len(heat)
    full = [False] * len(heat)
    for t in table.tolist():
        if not available or all(full):
            break
        full[t] = full[t] or units[t] > available
        if not full[t]:
            shares[t] += units[t]
            available -= units[t]
    return shares


def _hottest_first(
    heat: Sequence[NDArray[np.float64]], units: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tables of units in the order in which they get lines, and accesses a line of each."""
    if not heat:
        return np.zeros(0, np.int64), np.zeros(0)
    falling = np.concatenate(
        [np.minimum.accumulate(h) / u for h, u in zip(heat, units, strict=True)]
    )
    order = np.argsort(-falling, kind="stable")
    return np.repeat(np.arange(len(heat)), [len(h) for h in heat])[order], falling[order]


def macro_heat(
    heat: Sequence[NDArray[np.float64]], units: Sequence[int], macro_lines: int
) -> NDArray[np.float64]:
    """Accesses to each of the macros that a lane's tables would fill, in :func:`share_hottest`.

    Parameters
    ----------
    heat, units
        As there.
    macro_lines : int
        Lines of a macro. A unit counts for the macro that it begins in.
    """
    table, falling = _hottest_first(heat, units)
    lines = np.array(units, np.int64)[table]
    macro = (np.cumsum(lines) - lines) // macro_lines
    return np.asarray(np.bincount(macro, weights=falling * lines), np.float64)


def assign_macros(heat: Sequence[NDArray[Any]], macros: int) -> NDArray[np.int64]:
    """Give SRAM macros to tables, or lanes, each to the one that gains most hits by it.

    A table's lines are held from its first on. A gain is the mean over the next macros that makes
    it largest, so that cold lines before hot ones do not hide these: it is the upper concave hull
    of a table's hits that is climbed, which is the best assignment but for the last macros.

    Parameters
    ----------
    heat : sequence of arrays
        For each table, training accesses to the lines of each of the macros that it would fill.
    macros : int
        Macros there are.

    Returns
    -------
    int64, shape (tables,)
        Macros of each table; none for lines without accesses.
    """
    steps: list[tuple[float, int, int]] = []
    for table, counts in enumerate(heat):
        hits = np.concatenate([[0], np.cumsum(counts)])
        at = 0
        while at + 1 < len(hits):
            means = (hits[at + 1 :] - hits[at]) / np.arange(1, len(hits) - at)
            best = int(np.argmax(means))
            if means[best] == 0:
                break
            steps.append((-float(means[best]), table, best + 1))
            at += best + 1
    given = np.zeros(len(heat), np.int64)
    for _, table, count in sorted(steps):
        taken = min(count, macros)
        given[table] += taken
        macros -= taken
    return given


def share_macros(
    macros: int, sizes: Sequence[int], heat: Sequence[NDArray[np.float64]] | None
) -> list[int]:
    """Macros of each lane.

    Parameters
    ----------
    macros : int
        Macros there are.
    sizes : sequence of int
        Macros that the rows of each lane would fill.
    heat : sequence of float64 arrays, optional
        Accesses to each of these (:func:`macro_heat`), by which macros are given; those that nobody
        gains by, and without it all, are shared evenly.
    """
    given = [0] * len(sizes)
    if heat is not None:
        given = assign_macros([h[:macros] for h in heat], macros).tolist()
    left = [max(0, size - got) for size, got in zip(sizes, given, strict=True)]
    rest = share_evenly(macros - sum(given), left, [1] * len(sizes))
    return [got + more for got, more in zip(given, rest, strict=True)]
