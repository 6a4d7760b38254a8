"""What the lanes of a gather unit do, in order: lookups, row segments, hits and misses.

None of it depends on timing (docs/architecture.md, GatherUnit), so it is known before the model of
cycles runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import FieldScope
from sw_model.cycles.programs import Programs
from sw_model.lookahead import LookaheadCache

__all__ = ["OUT", "START", "WAITS", "WORDS", "DrawnHits", "LaneAccess", "StageAccess"]

START = 1
"""Bit of a segment: it begins a token."""
OUT = 2
"""Bit of a segment: it completes a bag, whose words leave the lane."""
WAITS = 4
"""Bit of a segment: it missed the look-ahead cache."""
WORDS = 3
"""Lowest bit of a segment's number of words."""


class DrawnHits(NamedTuple):
    """Hits that are drawn, where there is no trace: a share for each stage, and a seed."""

    rates: tuple[float, ...]
    seed: int


class _Slot(NamedTuple):
    """A slot of a bag as a lane comes to it: where its index is, of which FIELD word."""

    scope: int
    offset: int
    field: dict[str, int]
    last: bool


class LaneAccess:
    """A lane's lookups and segments, token after token.

    Attributes
    ----------
    makes : int8, shape (lookups,)
        Segments that each lookup makes. The start of a token counts as a lookup.
    segments : int32, shape (segments,)
        ``START``, ``OUT`` and ``WAITS``, and from ``WORDS`` on the words that are read.
    missed : int64, shape (misses, 2)
        Of each miss, its memory line, and the segment that must have been read before, -1 if none.
    rows, static : int
        Lookups that read a row, and those of them in the static region.
    """

    def __init__(
        self,
        hardware: HardwareConfig,
        stage: int,
        slots: Sequence[_Slot],
        hits: tuple[float, np.random.Generator] | None,
    ) -> None:
        gather, self._memory = hardware.gather[stage], hardware.memory
        self._slots = slots
        self._hits = hits
        self._cache = LookaheadCache(
            lines=gather.cache_lines, ways=gather.cache_ways, lookahead=gather.lookahead
        )
        self._makes: list[NDArray[np.int8]] = []
        self._segments: list[NDArray[np.int32]] = []
        self._missed: list[tuple[int, int]] = []
        self.rows = self.static = 0

    makes = property(lambda self: np.concatenate(self._makes or [np.empty(0, np.int8)]))
    segments = property(lambda self: np.concatenate(self._segments or [np.empty(0, np.int32)]))
    missed = property(lambda self: np.array(self._missed, np.int64).reshape(-1, 2))

    @property
    def events(self) -> dict[str, int]:
        """Counters, as in :data:`rpaccel.counters.GATHER_COUNTERS`, that time does not change."""
        cache = self._cache
        return {
            "lookups": self.rows,
            "static_hits": self.static,
            "lookahead_hits": cache.hits,
            "misses": cache.misses,
            "evictions": cache.evictions,
        }

    def token(self, query: NDArray[np.uint8], items: NDArray[np.uint8]) -> None:
        """Take a token: the record of its query, and those of its items, (n, bytes)."""
        index = [_index(items if s.scope else query[None], s) for s in self._slots]
        indices = np.stack([np.broadcast_to(i, len(items)) for i in index], axis=1)
        rows, hot, lines = (
            np.array([s.field[name] for s in self._slots]) for name in ("rows", "hot_rows", "lines")
        )
        lines = np.where([s.field["log2_rows"] for s in self._slots], 1, lines)
        last = np.array([s.last for s in self._slots])
        row = indices < rows  # an index that is all ones is none, and beyond each table
        self.rows += int(row.sum())
        self.static += int((row & (indices < hot)).sum())
        makes = np.where(row, lines, last)
        self._makes += [np.ones(1, np.int8), makes.ravel().astype(np.int8)]
        self._cut(indices, row, row & (indices >= hot), makes)

    def _cut(
        self,
        indices: NDArray[np.int64],
        row: NDArray[np.bool_],
        probes: NDArray[np.bool_],
        makes: NDArray[np.int64],
    ) -> None:
        """Cut lookups into segments, and look up those that are not in the static region."""
        items, slots = indices.shape
        times = makes.ravel()
        slot = np.repeat(np.tile(np.arange(slots), items), times)
        part = np.arange(len(slot)) - np.repeat(np.cumsum(times) - times, times)
        length = np.array([s.field["count"] for s in self._slots])[slot]
        in_lines = np.repeat(row.ravel(), times)
        line_bytes = self._memory.line_bytes
        length = np.where(in_lines, np.minimum(length - part * line_bytes, line_bytes), length)
        words = -(-length // self._memory.bus_bytes)
        kind = words << WORDS | np.array([OUT * s.last for s in self._slots])[slot]
        packed = np.array([s.field["log2_rows"] for s in self._slots])[slot]
        index = np.repeat(indices.ravel(), times)
        line = np.array([s.field["line"] for s in self._slots])[slot]
        line = line + np.where(packed, index >> packed, index * times.repeat(times) + part)
        first = self._cache.segments + 1
        start = np.array([START | OUT | 1 << WORDS])
        if self._hits is not None:
            rate, rng = self._hits
            missed = in_lines & (rng.random(len(slot)) >= rate)
            kind = np.where(missed, kind | WAITS, kind)
            lines = rng.integers(0, 1 << 20, int(missed.sum()))
            self._missed += [(line, -1) for line in lines.tolist()]
            self._segments.append(np.concatenate([start, kind]).astype(np.int32))
            return
        for at in np.flatnonzero(np.repeat(probes.ravel(), times)).tolist():
            self._cache.segments = first + at
            found = self._cache.probe(int(line[at]))
            if not found.hit:
                kind[at] |= WAITS
                self._missed.append((found.line, found.waits))
        self._cache.segments = first + len(slot)
        self._segments.append(np.concatenate([start, kind]).astype(np.int32))


def _index(records: NDArray[np.uint8], slot: _Slot) -> NDArray[np.int64]:
    size = slot.field["index_bytes"]
    raw = records[:, slot.offset : slot.offset + size].astype(np.int64)
    return raw @ (1 << 8 * np.arange(size))


class StageAccess:
    """The lanes of a stage's gather unit.

    Parameters
    ----------
    hardware : HardwareConfig
    programs : Programs
    stage : int
    hits : DrawnHits, optional
        By default, hits and misses follow from the rows that are read.

    Attributes
    ----------
    lanes : list of LaneAccess
        Those in use.
    """

    def __init__(
        self,
        hardware: HardwareConfig,
        programs: Programs,
        stage: int,
        hits: DrawnHits | None = None,
    ) -> None:
        drawn = None
        if hits is not None:
            drawn = hits.rates[stage], np.random.default_rng([hits.seed, stage])
        fields = programs.fields(stage)
        self.lanes = []
        for lane in range(programs.stages[stage]["lanes"]):
            slots = []
            for step, pieces in programs.steps(stage):
                piece = pieces[lane]
                if piece["used"]:
                    field = fields[lane][piece["field"]]
                    first = step["address"] + piece["byte"]
                    slots += [
                        _Slot(
                            step["scope"] == FieldScope.ITEM,
                            first + number * field["index_bytes"],
                            field,
                            bool(piece["last"]) and number == piece["count"] - 1,
                        )
                        for number in range(piece["count"])
                    ]
            self.lanes.append(LaneAccess(hardware, stage, slots, drawn))

    def token(self, query: NDArray[np.uint8], items: NDArray[np.uint8]) -> None:
        """See :meth:`LaneAccess.token`."""
        for lane in self.lanes:
            lane.token(query, items)
