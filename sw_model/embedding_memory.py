"""Functional model of the embedding memory: static region, look-ahead cache, and the least possible.

Compiled (Numba), for traces of millions of lookups. Time is the order of lookups: a line counts as
present from the lookup that fetched it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Admit", "Cache", "Counters", "Replacement", "Trace", "least_fetches", "simulate"]


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


class Admit(IntEnum):
    """Which fetched lines the cache takes when the last of the queued lookups for them is read.

    ``ALWAYS``: all. ``REUSED``: those that more than one queued lookup used. ``GHOST``: these, and
    those that were turned away not long ago, of which a table of tags knows.
    """

    ALWAYS = 0
    REUSED = 1
    GHOST = 2


@dataclass(frozen=True)
class Cache:
    """A set-associative cache behind a queue of lookups that are known before they are read.

    A lookup that finds its line neither in the cache nor fetched for a lookup that is still in the
    queue fetches it, to a landing entry. When the line's last lookup leaves the queue, ``admit``
    decides whether the cache takes it. Lines that queued lookups need are never replaced: where
    all of a set are needed, the new one is turned away. Without a queue this is a common cache.

    Attributes
    ----------
    sets, ways : int
    replacement : Replacement
    admit : Admit
    lookahead : int
        Lookups in the queue.
    ghosts : int
        Tags of lines that were turned away, direct-mapped by line number; of ``GHOST`` only.
    """

    sets: int
    ways: int
    replacement: Replacement
    admit: Admit = Admit.ALWAYS
    lookahead: int = 0
    ghosts: int = 1


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
        Of these, lines that left without having been read.
    evictions, bypassed : int
        Lines replaced by others; lines that the cache did not take.
    landing : int
        Most landing entries in use at once.
    """

    lookups: int
    hits: int
    fetched: int
    prefetched: int
    useless: int
    evictions: int
    bypassed: int
    landing: int


class Trace:
    """A sequence of lines, renumbered so that tables over its lines are small.

    Parameters
    ----------
    lines : int64, shape (n,)
    """

    def __init__(self, lines: NDArray[np.int64]) -> None:
        self.known, self.at = np.unique(lines, return_inverse=True)

    def __len__(self) -> int:
        return len(self.at)


def simulate(trace: Trace, cache: Cache, *, warm: int = 0) -> Counters:
    """Run a trace through a cache that is empty at first; count from lookup ``warm`` on."""
    sets = trace.known % cache.sets
    ghosts = trace.known % cache.ghosts
    counted = _run(
        trace.at,
        sets,
        ghosts,
        cache.sets,
        cache.ways,
        int(cache.replacement),
        int(cache.admit),
        cache.lookahead,
        cache.ghosts,
        warm,
    )
    fetched, prefetched, useless, evictions, bypassed, landing = (int(x) for x in counted)
    lookups = max(0, len(trace) - warm)
    return Counters(
        lookups, lookups - fetched, fetched, prefetched, useless, evictions, bypassed, landing
    )


def least_fetches(trace: Trace, lines: int, *, warm: int = 0) -> int:
    """Fewest fetches possible with room for so many lines: MIN with bypass (Belady, 1966).

    Fully associative, with the whole trace known, empty at first. Counted from lookup ``warm`` on.
    A lookup hits if its line was kept since the one before; kept are the next uses that lie
    nearest, at most ``lines`` of them at any time.
    """
    return int(_least(trace.at, len(trace.known), lines, warm))


@njit(cache=True)
def _victim(s, tags, used, stamp, hand, pending, replacement):  # type: ignore[no-untyped-def]
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
def _run(  # type: ignore[no-untyped-def]
    trace, set_of, ghost_of, sets, ways, replacement, admit, lookahead, ghosts, warm
):
    tags = np.full((sets, ways), -1, np.int64)
    used = np.zeros((sets, ways), np.bool_)
    stamp = np.zeros((sets, ways), np.int64)
    hand = np.zeros(sets, np.int64)
    ghost = np.full(ghosts, -1, np.int64)
    lines = len(set_of)
    way = np.full(lines, -1, np.int64)  # of lines in the cache
    landed = np.zeros(lines, np.int64)  # lookups of lines in landing entries
    pending = np.zeros(lines, np.int64)  # lookups in the queue
    fetched = prefetched = evictions = bypassed = landing = most = 0
    for now in range(len(trace) + lookahead):
        if now < len(trace):
            x = trace[now]
            counts = now >= warm
            pending[x] += 1
            if way[x] >= 0:
                s, w = set_of[x], way[x]
                used[s, w] = True
                if replacement == 1:
                    stamp[s, w] = now + 1
            else:
                if landed[x] == 0:
                    landing += 1
                    most = max(most, landing)
                    fetched += counts
                    prefetched += counts and lookahead > 0
                landed[x] += 1
        done = now - lookahead
        if done < 0:
            continue
        x = trace[done]
        pending[x] -= 1
        if pending[x] or not landed[x]:
            continue
        reused = landed[x] > 1
        landed[x] = 0
        landing -= 1
        takes = admit == 0 or reused
        if not takes and admit == 2:
            takes = ghost[ghost_of[x]] == x
        w = -1
        s = set_of[x]
        if takes:
            w = _victim(s, tags, used, stamp, hand, pending, replacement)
        if w < 0:
            bypassed += now >= warm
            ghost[ghost_of[x]] = x
            continue
        if tags[s, w] >= 0:
            way[tags[s, w]] = -1
            evictions += now >= warm
        tags[s, w] = x
        way[x] = w
        used[s, w] = False
        stamp[s, w] = now + 1
    return fetched, prefetched, 0, evictions, bypassed, most


@njit(cache=True)
def _least(trace, known, lines, warm):  # type: ignore[no-untyped-def]
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
        elif i >= warm:
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
def _drop_last(level0, level1, level2):  # type: ignore[no-untyped-def]
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
def _top(word):  # type: ignore[no-untyped-def]
    """Number of the highest bit that is set."""
    n = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(step):
            word >>= np.uint64(step)
            n += step
    return n
