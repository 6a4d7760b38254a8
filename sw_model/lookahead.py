"""Golden model of the look-ahead cache: which line is where, and what is replaced."""

from __future__ import annotations

from dataclasses import dataclass

from rpaccel import abi

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
    waits : int
        Number of the segment that used the replaced line last, which has to be read before; -1
        without one.
    """

    line: int
    hit: bool
    evicted: int | None = None
    waits: int = -1


@dataclass
class _Kept:
    """A line of a set, and the segment that used it last; visited: it was not the first one."""

    line: int
    used: int
    visited: bool = False


class _Set:
    """Lines of a set, the one inserted first at the front, and the hand of SIEVE."""

    def __init__(self) -> None:
        self.lines: list[_Kept] = []
        self.hand = 0

    def find(self, line: int) -> _Kept | None:
        """The line, if it is there."""
        return next((kept for kept in self.lines if kept.line == line), None)

    def replace(self, recent: list[bool]) -> _Kept:
        """Take out the line that makes room; the hand is where it was."""
        spared = recent if not all(recent) else [False] * len(recent)
        # After one round no line is visited any more; there is one to take in the second.
        while True:
            kept = self.lines[self.hand]
            if not kept.visited and not spared[self.hand]:
                return self.lines.pop(self.hand)
            kept.visited = False
            self.hand = (self.hand + 1) % len(self.lines)


class LookaheadCache:
    """A set-associative cache with SIEVE, as a function of the order of segments.

    Timing decides nothing: a line counts as present from the probe that missed it on. *Recent*
    lines, which one of the last ``lookahead`` segments used, this one included, are spared, since
    these may wait for them still, but not if all of the set are recent.

    Parameters
    ----------
    lines : int
        Lines of the cache.
    ways : int
        Lines of a set; ``lines / ways`` is a power of two.
    lookahead : int
        Segments that wait behind the cache; 0 spares no line.

    Attributes
    ----------
    hits, misses, evictions : int
        Counters, as in :data:`rpaccel.counters.GATHER_COUNTERS`.
    """

    def __init__(self, *, lines: int, ways: int, lookahead: int) -> None:
        if lines % ways:
            raise ValueError(f"lines = {lines} must be a multiple of ways = {ways}")
        self.ways = ways
        self.sets = lines // ways
        self.lookahead = lookahead
        self.flush()
        self.segments = 0
        self.hits = self.misses = self.evictions = 0

    def flush(self) -> None:
        """Forget all lines, as loading an image does; the counters stay."""
        self._sets = [_Set() for _ in range(self.sets)]

    def skip(self, segments: int = 1) -> None:
        """Let segments pass that need no line of memory."""
        self.segments += segments

    def probe(self, line: int) -> Probe:
        """Look a line up for a segment, fetching it on a miss."""
        found = self._sets[line % self.sets]
        evicted, waits = None, -1
        kept = found.find(line)
        if kept is not None:
            kept.used = self.segments
            kept.visited = True
            self.hits += 1
        else:
            self.misses += 1
            if len(found.lines) == self.ways:
                out = found.replace([self._recent(each) for each in found.lines])
                evicted, waits = out.line, out.used
                self.evictions += 1
            found.lines.append(_Kept(line, self.segments))
        self.segments += 1
        return Probe(line, kept is not None, evicted, waits)

    def _recent(self, kept: _Kept) -> bool:
        """Whether one of the last segments used a line, as far as their numbers tell."""
        age = (self.segments - kept.used) % (self.lookahead * abi.SEQUENCE_ROUNDS or 1)
        return age < self.lookahead
