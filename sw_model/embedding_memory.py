"""Functional model of the look-ahead cache, its replacement policies, and the least possible.

Compiled (Numba), for traces of millions of lookups. Time is the order of lookups: a line counts as
present from the lookup that fetched it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Cache", "Counters", "Replacement", "Trace", "least_fetches", "simulate"]


class Replacement(IntEnum):
    """Which line of a set makes room.

    ``FIFO``: the one inserted first. ``LRU``: the one used longest ago. ``CLOCK``: the first in
    the order of ways, from a hand on, that was not used since it was inserted or passed over.
    ``SIEVE`` (Zhang et al., NSDI 2024): likewise, but in the order of insertion, so that what was
    passed over is not moved behind newer lines.
    """

    FIFO = 0
    LRU = 1
    CLOCK = 2
    SIEVE = 3


@dataclass(frozen=True)
class Cache:
    """A set-associative cache behind a queue of lookups that are known before they are read.

    A lookup that finds its line neither in the cache nor fetched for a lookup that is still in the
    queue fetches it, to a landing entry. When the line's last lookup leaves the queue, the cache
    takes it. Lines that queued lookups need are never replaced: where all of a set are needed, the
    new one is turned away. Without a queue this is a common cache.

    Attributes
    ----------
    sets, ways : int
    replacement : Replacement
    lookahead : int
        Lookups in the queue.
    bypass : bool
        Turn lines away, too, that only one lookup used while they were in a landing entry.
    """

    sets: int
    ways: int
    replacement: Replacement
    lookahead: int = 0
    bypass: bool = False


@dataclass(frozen=True)
class Counters:
    """What a cache did behind the warm-up.

    Attributes
    ----------
    lookups, hits : int
        Lines asked for; those that were there, or on their way for an earlier lookup.
    fetched : int
        Lines read from memory.
    prefetched : int
        Of these, for lookups that were not next to be read: the queue was not empty.
    useless : int
        Of these, lines of which no lookup was read before they left; none, as long as the queue is
        read in order.
    evictions, bypassed : int
        Lines replaced by others; lines that the cache did not take.
    landing : int
        Most landing entries in use at once, warm-up included.
    missed : bool, shape (trace,)
        Lookups that fetched, warm-up included.
    """

    lookups: int
    hits: int
    fetched: int
    prefetched: int
    useless: int
    evictions: int
    bypassed: int
    landing: int
    missed: NDArray[np.bool_]


class Trace:
    """A sequence of lines, renumbered so that tables over its lines are small.

    Parameters
    ----------
    lines : integers, shape (n,)
    """

    def __init__(self, lines: NDArray[np.integer]) -> None:
        self.known, self.at = np.unique(lines, return_inverse=True)

    def __len__(self) -> int:
        return len(self.at)


def simulate(trace: Trace, cache: Cache, *, warm: int = 0) -> Counters:
    """Run a trace through a cache that is empty at first; count from lookup ``warm`` on."""
    missed = np.zeros(len(trace), np.bool_)
    prefetched, useless, evictions, bypassed, landing = _run(
        trace.at,
        trace.known % cache.sets,
        (cache.sets, cache.ways),
        int(cache.replacement),
        cache.lookahead,
        cache.bypass,
        warm,
        missed,
    )
    fetched = int(missed[warm:].sum())
    lookups = max(0, len(trace) - warm)
    return Counters(
        lookups,
        lookups - fetched,
        fetched,
        prefetched,
        useless,
        evictions,
        bypassed,
        landing,
        missed,
    )


def least_fetches(trace: Trace, lines: int, *, warm: int = 0, tail: int = 0) -> int:
    """Fewest fetches possible with room for so many lines: MIN with bypass (Belady, 1966).

    Fully associative, with the whole trace known, empty at first. Neither the first ``warm``
    lookups are counted nor the last ``tail``. A lookup hits if its line was kept since the one
    before; kept are the next uses that lie nearest, at most ``lines`` of them at any time.
    """
    return int(_least(trace.at, len(trace.known), lines, warm, len(trace) - tail))


@njit(cache=True)
def _victim(s, tags, used, stamp, hand, pending, replacement):
    """Way to replace in a set, an empty one if there is, -1 if all are needed."""
    ways = tags.shape[1]
    free = 0
    for w in range(ways):
        if tags[s, w] < 0:
            return w
        free += pending[tags[s, w]] == 0
    if free == 0:
        return -1
    if replacement <= 1:
        best = -1
        for w in range(ways):
            if pending[tags[s, w]] == 0 and (best < 0 or stamp[s, w] < stamp[s, best]):
                best = w
        return best
    if replacement == 2:
        w = hand[s]
        while used[s, w] or pending[tags[s, w]]:
            used[s, w] = False
            w = (w + 1) % ways
        hand[s] = (w + 1) % ways
        return w
    # Insertion order is that of stamps; the hand is the stamp behind which the search goes on.
    while True:
        w = -1
        oldest = 0
        for v in range(ways):
            if stamp[s, v] > hand[s] and (w < 0 or stamp[s, v] < stamp[s, w]):
                w = v
            if stamp[s, v] < stamp[s, oldest]:
                oldest = v
        if w < 0:
            w = oldest
        hand[s] = stamp[s, w]
        if not used[s, w] and pending[tags[s, w]] == 0:
            return w
        used[s, w] = False


@njit(cache=True)
def _run(trace, set_of, shape, replacement, lookahead, bypass, warm, missed):
    tags = np.full(shape, -1, np.int64)
    used = np.zeros(shape, np.bool_)
    stamp = np.zeros(shape, np.int64)
    hand = np.zeros(shape[0], np.int64)
    lines = len(set_of)
    way = np.full(lines, -1, np.int64)  # of lines in the cache
    landed = np.zeros(lines, np.int64)  # lookups that lines in landing entries had
    pending = np.zeros(lines, np.int64)  # lookups in the queue
    read = np.ones(lines, np.bool_)  # since it was fetched
    prefetched = useless = evictions = bypassed = landing = most = 0
    for now in range(len(trace) + lookahead):
        if now < len(trace):
            x = trace[now]
            pending[x] += 1
            if way[x] >= 0:
                used[set_of[x], way[x]] = True
                if replacement == 1:
                    stamp[set_of[x], way[x]] = 2 * now + 1
            else:
                if landed[x] == 0:
                    missed[now] = True
                    read[x] = False
                    landing += 1
                    most = max(most, landing)
                    prefetched += now >= warm and lookahead > 0
                landed[x] += 1
        done = now - lookahead
        if done < 0:
            continue
        x = trace[done]
        read[x] = True
        pending[x] -= 1
        if pending[x] or not landed[x]:
            continue
        counts = now >= warm
        s = set_of[x]
        w = -1
        if landed[x] > 1 or not bypass:
            w = _victim(s, tags, used, stamp, hand, pending, replacement)
        landed[x] = 0
        landing -= 1
        if w < 0:
            bypassed += counts
            useless += counts and not read[x]
            continue
        if tags[s, w] >= 0:
            way[tags[s, w]] = -1
            evictions += counts
            useless += counts and not read[tags[s, w]]
        tags[s, w] = x
        way[x] = w
        used[s, w] = False
        stamp[s, w] = 2 * now + 2
    return prefetched, useless, evictions, bypassed, most


@njit(cache=True)
def _least(trace, known, lines, warm, end):
    n = len(trace)
    following = np.full(n, n, np.int64)
    last = np.full(known, n, np.int64)
    for i in range(n - 1, -1, -1):
        following[i] = last[trace[i]]
        last[trace[i]] = i
    # Bits of the next uses that are kept, and of the words that are not zero, level by level.
    words = (n + 63) // 64
    level0 = np.zeros(words, np.uint64)
    level1 = np.zeros((words + 63) // 64, np.uint64)
    level2 = np.zeros((len(level1) + 63) // 64, np.uint64)
    one = np.uint64(1)
    kept = misses = 0
    for i in range(n):
        bit = one << np.uint64(i % 64)
        if level0[i // 64] & bit:
            level0[i // 64] ^= bit
            kept -= 1
        elif warm <= i < end:
            misses += 1
        j = following[i]
        if j == n:
            continue
        level0[j // 64] |= one << np.uint64(j % 64)
        level1[j // 4096] |= one << np.uint64(j // 64 % 64)
        level2[j // 262144] |= one << np.uint64(j // 4096 % 64)
        kept += 1
        if kept > lines:
            _drop_last(level0, level1, level2)
            kept -= 1
    return misses


@njit(cache=True)
def _drop_last(level0, level1, level2):
    """Clear the highest bit. Upper levels may have bits of words that have become zero."""
    one = np.uint64(1)
    c = len(level2) - 1
    while True:
        while level2[c] == 0:
            c -= 1
        b = c * 64 + _top(level2[c])
        if level1[b] == 0:
            level2[c] ^= one << np.uint64(b % 64)
            continue
        a = b * 64 + _top(level1[b])
        if level0[a] == 0:
            level1[b] ^= one << np.uint64(a % 64)
            continue
        level0[a] ^= one << np.uint64(_top(level0[a]))
        return


@njit(cache=True)
def _top(word):
    """Number of the highest bit that is set."""
    n = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(step):
            word >>= np.uint64(step)
            n += step
    return n
