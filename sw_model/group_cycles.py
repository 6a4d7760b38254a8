"""Cycle model of a group: when each row of items of each pass enters the array.

Walks the programs that the gateware runs, without any arithmetic. Its constants are those of the
structure in docs/architecture.md: nothing is fitted. Cycles are counted from any common origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.geometry import GroupGeometry, Shape

__all__ = ["GroupCycles", "PassCycles", "TokenCycles", "latency"]

_READ, _EPILOGUE = 2, 5
_WALK, _WALK_START = 4, 1  # cycles of the program walker a pass, and more for a token's first
_SCORE_LATENCY = 2  # of the score queue, from a row's results to its first score
_SCORE_SPARE = 4  # rows of scores for which there is room beyond those on their way


def latency(tile_rows: int, shape: Shape) -> int:
    """Cycles from the issue of a row of items to its results in the activation memory."""
    return _READ + shape.rows * (tile_rows + 1) + shape.cols - 1 + _EPILOGUE


@dataclass(frozen=True)
class PassCycles:
    """One pass of one token.

    Attributes
    ----------
    loads : int
        Cycle in which the loading of its weights was begun.
    rows : int64, shape (m,)
        Cycle in which each row of items entered the array.
    """

    loads: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class TokenCycles:
    """One token: its passes, when its buffer was freed, when its last score was taken."""

    passes: tuple[PassCycles, ...]
    freed: int
    end: int


@dataclass
class GroupCycles:
    """The state of a group between tokens.

    Parameters
    ----------
    geometry : GroupGeometry
        Of the group.
    idle : int
        Cycle from which on the walker can take a token.
    """

    geometry: GroupGeometry
    idle: int = -1
    _passes: list[tuple[PassCycles, Shape]] = field(default_factory=list)
    _shape: int = 0
    _scores: dict[int, list[int]] = field(default_factory=dict)

    @property
    def _tile_rows(self) -> int:
        return self.geometry.hardware.tile_rows

    def run(
        self,
        program: Sequence[Mapping[str, int]],
        shape: Shape,
        items: int,
        *,
        stage: int = 0,
        started: int = 0,
        arrived: ArrayLike | None = None,
        turn: int = -1,
    ) -> TokenCycles:
        """Run the next token.

        Parameters
        ----------
        program : sequence of mappings
            ``image_layout.PASS`` values of the token's stage.
        shape : Shape
        items : int, positive
        stage : int
            Number of the stage among those of the group.
        started : int
            Cycle in which the gather unit started the token.
        arrived : int, shape (items,), optional
            Cycle in which each item was finished by the gather unit; all there by default.
        turn : int
            Cycle in which the last score was taken of the stage's token before, of another group:
            the scores of this one follow.

        Returns
        -------
        TokenCycles
        """
        m = shape.item_rows(items)
        inputs = np.full(m, -1, np.int64)
        if arrived is not None:
            last = np.minimum(np.arange(1, m + 1) * shape.parts, items) - 1
            # An item is in the memory, and counted, two cycles after it was finished.
            inputs = np.asarray(arrived, np.int64)[last] + 2
        # A started token leaves its queue a cycle later.
        taken = max(started + 1, self.idle)
        made = self.walk(program, shape, items, taken=taken, inputs=inputs, stage=stage, turn=turn)
        freed = int(made[-1].rows[-1]) + latency(self._tile_rows, shape)
        return TokenCycles(tuple(made), freed, self._scores[stage][-1])

    def walk(
        self,
        program: Sequence[Mapping[str, int]],
        shape: Shape,
        items: int,
        *,
        taken: int,
        inputs: NDArray[np.int64],
        stage: int = 0,
        turn: int = -1,
    ) -> list[PassCycles]:
        """Run passes of a token.

        Parameters
        ----------
        program, shape, items, stage, turn
            See :meth:`run`.
        taken : int
            Cycle in which the walker takes the token, not before ``idle``.
        inputs : int, shape (rows,)
            Cycle from which on each row of inputs is there.
        """
        m = shape.item_rows(items)
        delay = latency(self._tile_rows, shape)
        walked = taken + _WALK_START  # the walker idles for a cycle
        written: list[NDArray[np.int64]] = []  # of the token's writing passes
        made: list[PassCycles] = []
        for command in program:
            sent = self._send(walked + _WALK - 1)
            walked = sent + 1
            loads = self._load(sent + 1, shape)
            bound = np.full(m, loads + 1, np.int64)
            if self._passes:
                before = self._passes[-1][0].rows
                bound[0] = max(bound[0], before[-1] + (2 if len(before) == 1 else 1))
            if command["wait_input"]:
                bound = np.maximum(bound, inputs)
            if 0 < command["wait_write"] <= len(written):
                bound = np.maximum(bound, written[-command["wait_write"]] + delay + 1)
            if command["final"] and command["destination"]:
                rows = self._scored(stage, bound, shape, items, delay, turn)
            else:
                rows = _in_turn(bound)
                if command["final"]:
                    written.append(rows)
            done = PassCycles(loads, rows)
            self._passes = [*self._passes[-1:], (done, shape)]
            made.append(done)
        self.idle = walked
        return made

    def scores(self, stage: int) -> list[int]:
        """Cycles in which the latest rows of a stage's scores left."""
        return self._scores[stage]

    def score_rows(self, stage: int) -> int:
        """Rows of a stage's scores that there is room for."""
        room = max(latency(self._tile_rows, s) for s in self.geometry.shapes) + _SCORE_SPARE
        if self.geometry.max_parts > 1 or self._shares(stage) or stage in self.geometry.dots:
            room += self.geometry.hardware.accumulator_depth
        return room

    def _shares(self, stage: int) -> bool:
        """Whether other groups serve a stage, too."""
        hardware = self.geometry.hardware
        return len(hardware.groups_of(hardware.groups[self.geometry.group].stages[stage])) > 1

    def _send(self, earliest: int) -> int:
        """Cycle in which the walker hands a pass over: two may wait to be loaded."""
        if len(self._passes) < 2:
            return earliest
        return max(earliest, self._passes[-2][0].loads + 1)

    def _load(self, earliest: int, shape: Shape) -> int:
        """Cycle in which the loading of a pass's weights is begun."""
        loads = earliest
        if self._passes:
            before, used = self._passes[-1]
            loads = max(loads, before.loads + self._tile_rows)
            if shape.index != self._shape:
                # The last pass leaves the array; then the shape changes.
                loads = max(loads, int(before.rows[-1]) + latency(self._tile_rows, used) + 2)
        elif shape.index != self._shape:
            loads += 1
        if len(self._passes) >= 2:
            before, used = self._passes[-2]
            # Its set of weights is free again when the last column is done with it.
            loads = max(loads, int(before.rows[-1]) + max(0, used.cols - 2) + 1)
        self._shape = shape.index
        return loads

    def _scored(
        self,
        stage: int,
        bound: NDArray[np.int64],
        shape: Shape,
        items: int,
        delay: int,
        turn: int,
    ) -> NDArray[np.int64]:
        """Rows of a pass that makes scores: of each row one score a cycle leaves."""
        left = self._scores.setdefault(stage, [])
        room = self.score_rows(stage)
        rows = np.empty_like(bound)
        now = -1
        for number, earliest in enumerate(bound.tolist()):
            now = max(now + 1, earliest)
            if len(left) >= room:
                now = max(now, left[-room] + 1)
            rows[number] = now
            count = min(shape.parts, items - number * shape.parts)
            first = max(now + delay + _SCORE_LATENCY, turn + 1)
            left.append(max(left[-1] + 1 if left else first, first) + count - 1)
        del left[:-room]
        return rows


def _in_turn(bound: NDArray[np.int64]) -> NDArray[np.int64]:
    """Earliest cycles not before ``bound``, one row a cycle, in order."""
    number = np.arange(len(bound))
    return number + np.maximum.accumulate(bound - number)
