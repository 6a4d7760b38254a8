"""When lines are there: access times of a stage's gather unit, from what its cache fetched.

A walker resolves an item a cycle, at most so many items ahead of the reader and no item before it
is known, and asks for the lines that are missing. Memory takes a few requests a cycle and answers
each a fixed number of cycles later. The reader takes an item a cycle, in order, as soon as its
lines are there. Nothing behind the gather unit makes it wait: this hides least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["AccessTimes", "Memory", "access_times"]


@dataclass(frozen=True)
class Memory:
    """Cycles from a request to its line, and requests a cycle."""

    latency: int = 100
    requests: int = 4


@dataclass(frozen=True)
class AccessTimes:
    """Of the lookups of the items from the first counted one on.

    Attributes
    ----------
    cycles : int
        Sum over lookups: 1 for a line that is there when the reader comes to the item, else the
        cycles from then on until it is.
    missed_cycles : int
        Of these, of the lookups that fetched.
    """

    cycles: int
    missed_cycles: int


def access_times(
    lines: NDArray[np.int64],
    missed: NDArray[np.bool_],
    items: NDArray[np.int64],
    known_with: NDArray[np.int64],
    *,
    ahead: int,
    memory: Memory = Memory(),
    first: int = 0,
) -> AccessTimes:
    """Follow a stage's lookups in time.

    Parameters
    ----------
    lines : int64, shape (n,)
        Numbers from 0 on of the lines that are not in the static region.
    missed : bool, shape (n,)
        Lookups that fetch.
    items : int64, shape (n,)
        Running number of the item of each lookup, ascending.
    known_with : int64, shape (items,)
        For each item, the first item of the batch that becomes known with it. A batch becomes
        known when the reader is done with the one before.
    ahead : int
        Items that the walker may be ahead of the reader; 0 asks when the reader comes.
    memory : Memory
    first : int
        Item to count from.
    """
    size = int(lines.max()) + 1 if len(lines) else 0
    at = np.searchsorted(items, np.arange(len(known_with) + 1))
    cycles, missed_cycles = _follow(
        lines, missed, at, known_with, ahead, memory.latency, memory.requests, size, first
    )
    return AccessTimes(int(cycles), int(missed_cycles))


@njit(cache=True)
def _follow(lines, missed, at, known_with, ahead, latency, requests, size, first):
    count = len(at) - 1
    there = np.zeros(size, np.int64)
    done = np.zeros(count + 1, np.int64)  # [k]: cycle from which the reader may take item k
    walked = 0  # cycle of the walker's next item
    slot = 0  # next request, in parts of a cycle
    resolved = 0
    cycles = missed_cycles = 0
    for k in range(count):
        while resolved < count and resolved <= k + ahead:
            if known_with[resolved] > k:
                break
            # The place in the queue is free, and the item known, when an earlier item was read.
            start = done[known_with[resolved]]
            if resolved >= ahead:
                start = max(start, done[resolved - ahead])
            walked = max(walked, start)
            for i in range(at[resolved], at[resolved + 1]):
                if missed[i]:
                    slot = max(slot, walked * requests) + 1
                    there[lines[i]] = (slot - 1) // requests + latency
            walked += 1
            resolved += 1
        come = done[k]
        ready = come
        for i in range(at[k], at[k + 1]):
            wait = max(1, there[lines[i]] - come)
            ready = max(ready, there[lines[i]])
            if k >= first:
                cycles += wait
                if missed[i]:
                    missed_cycles += wait
        done[k + 1] = ready + 1
    return cycles, missed_cycles
