"""Tables of the gather units: steps, lanes, and where what they make of an item lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rpaccel.image_layout import FieldScope

if TYPE_CHECKING:
    from sw_model.cycles.machine import Work

__all__ = ["GatherTables", "Row", "table"]

Row = dict[str, Any]


def table(dtype: np.dtype[Any], rows: Sequence[Mapping[str, Any]], **rest: int) -> Any:
    """Records of a type from values of some of their fields; ``rest``: those that all have."""
    made = np.zeros(len(rows), dtype)
    for name, value in rest.items():
        made[name] = value
    for number, row in enumerate(rows):
        for name, value in row.items():
            made[name][number] = value
    return made


class GatherTables:
    """What the gather units of all stages, one behind the other, have to know.

    Parameters
    ----------
    work : Work
    units : sequence of int
        Number of each stage's unit among all units with states.

    Attributes
    ----------
    walkers, steps, pieces, lanes, packers, dense, words, parts : list
        Rows of the tables of these names (:class:`sw_model.cycles.arrays.Machine`).
    """

    def __init__(self, work: Work, units: Sequence[int]) -> None:
        self._work, self._units = work, units
        self._hardware, self._programs = work.hardware, work.programs
        self.walkers: list[Row] = []
        self.steps: list[Row] = []
        self.pieces: list[list[int]] = []
        self.lanes: list[Row] = []
        self.packers: list[Row] = []
        self.dense: list[Row] = []
        self.words: list[Row] = []
        self.parts: list[Row] = []
        self._walkers()
        self._steps()
        self._lanes()

    def _walkers(self) -> None:
        lane = step = 0
        for stage, words in enumerate(self._programs.stages):
            self.walkers.append(
                {
                    "steps": step,
                    "lanes": words["lanes"],
                    "lane": lane,
                    "query_bytes": words["query_bytes"],
                    "item_bytes": words["item_bytes"],
                    "read_bytes": self._hardware.feature_read,
                    "bus_bytes": self._hardware.host_bus_bytes,
                    "tokens": self._work.token_first[stage],
                }
            )
            lane += words["lanes"]
            step += words["steps"]

    def _steps(self) -> None:
        most = max(words["lanes"] for words in self._programs.stages)
        for stage in range(self._hardware.stages):
            for step, lanes_ in self._programs.steps(stage):
                item = step["scope"] == FieldScope.ITEM
                self.steps.append({"address": step["address"], "item": item, "last": step["last"]})
                own = [p["count"] if p["used"] else 0 for p in lanes_[:-1]]
                own = (own + [0] * most)[:most]
                self.pieces.append([*own, lanes_[-1]["used"]])

    def _lanes(self) -> None:
        makes = segment = 0
        missing = 1
        for stage, gather in enumerate(self._hardware.gather):
            used = self._programs.stages[stage]["lanes"]
            self.packers.append(
                {
                    "tokens": self._work.token_first[stage],
                    "lane": len(self.lanes),
                    "lanes": used,
                    "unit": self._units[stage],
                }
            )
            for number, access in enumerate(self._work.access[stage]):
                words, end = self._placed(stage, number)
                self.lanes.append(
                    {
                        "stage": stage,
                        "makes": makes,
                        "segment": segment,
                        "missing": missing,
                        "words": words,
                        "words_end": end,
                        "lookahead": gather.lookahead,
                        "outstanding": gather.outstanding,
                    }
                )
                makes += len(access.makes)
                segment += len(access.segments)
                missing += len(access.missed)
            words, end = self._placed(stage, gather.lanes)
            row = {"words": words, "words_end": end, "depth": gather.lookahead}
            self.dense.append(row | {"tokens": self._work.token_first[stage]})

    def _placed(self, stage: int, lane: int) -> tuple[int, int]:
        """Words that a lane makes of an item, in parts that lie in one chunk: first and end."""
        begin = len(self.words)
        if not self._programs.stages[stage]["steps"]:
            return begin, begin
        bus = self._hardware.memory.bus_bytes
        is_dense = lane == self._hardware.gather[stage].lanes
        fields = self._programs.fields(stage)[lane]
        pieces = [p[lane] for _, p in self._programs.steps(stage) if p[lane]["used"]]
        for piece in pieces:
            if is_dense:
                at = fields[piece["field"]]["output"] if fields else 0
                self._word(stage, at, piece["count"], bool(piece["item_last"]))
            elif piece["last"]:
                field = fields[piece["field"]]
                for first in range(0, field["count"], bus):
                    size = min(bus, field["count"] - first)
                    ends = first + size == field["count"] and bool(piece["item_last"])
                    self._word(stage, field["output"] + first, size, ends)
        return begin, len(self.words)

    def _word(self, stage: int, at: int, size: int, ends: bool) -> None:
        chunk = self._hardware.geometry(self._hardware.groups_of(stage)[0]).gather_bytes
        chunks = range(at // chunk, (at + max(1, size) - 1) // chunk + 1)
        self.words.append({"part": len(self.parts), "parts": len(chunks)})
        for number in chunks:
            last = number == chunks[-1] and ends
            self.parts.append({"chunk": number, "ends": last, "empty": size == 0})
