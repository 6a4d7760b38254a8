"""Golden model of the look-ahead cache: which line is where, and what is replaced."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LookaheadCache", "Probe"]


@dataclass(frozen=True)
class Probe:
    """What one probe decided.

    Attributes
    ----------
    line : int
        The memory line asked for.
    hit : bool
        It is cached or in flight.
    evicted : int or None
        The valid line it replaces.
    """

    line: int
    hit: bool
    evicted: int | None = None


class LookaheadCache:
    """A set-associative cache with true LRU replacement, as a function of the order of probes.

    Timing decides nothing: a line counts as present from the probe that missed it on.

    Parameters
    ----------
    lines : int
        Lines of the cache.
    ways : int
        Lines of a set; ``lines / ways`` is a power of two.

    Attributes
    ----------
    hits, misses, evictions : int
        Counters, as in :data:`rpaccel.abi.GATHER_COUNTERS`.
    """

    def __init__(self, *, lines: int, ways: int) -> None:
        if lines % ways:
            raise ValueError(f"lines = {lines} must be a multiple of ways = {ways}")
        self.ways = ways
        self.sets = lines // ways
        self.flush()
        self.hits = self.misses = self.evictions = 0

    def flush(self) -> None:
        """Forget all lines, as loading an image does; the counters stay."""
        self._sets: list[list[int]] = [[] for _ in range(self.sets)]

    def probe(self, line: int) -> Probe:
        """Look a line up, fetching it on a miss."""
        recent = self._sets[line % self.sets]  # least recently used first
        evicted = None
        hit = line in recent
        if hit:
            recent.remove(line)
            self.hits += 1
        else:
            self.misses += 1
            if len(recent) == self.ways:
                evicted = recent.pop(0)
                self.evictions += 1
        recent.append(line)
        return Probe(line, hit, evicted)
