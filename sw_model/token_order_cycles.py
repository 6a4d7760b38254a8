"""Cycle model of a group with dot interactions: which token runs when, and when its rows enter.

Walks the rules of docs/architecture.md ("Two runs"), on the cycle models of group and units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.geometry import GroupGeometry, Shape
from sw_model.dot_cycles import DotCycles
from sw_model.group_cycles import GroupCycles, PassCycles, TokenCycles, latency

__all__ = ["OrderedToken", "TokenOrderCycles"]


@dataclass
class OrderedToken:
    """A token with items, on its way.

    Attributes
    ----------
    stage : int
        Number of the stage among those of the group.
    items, started : int
    arrived : int, shape (items,)
        Cycle in which each item was finished by the gather unit.
    done : int
        Cycle of the unit's last write, once that is known.
    cycles : TokenCycles or None
        Once it has run to its end.
    """

    stage: int
    items: int
    started: int
    arrived: NDArray[np.int64]
    done: int = -1
    cycles: TokenCycles | None = None
    passes: tuple[PassCycles, ...] = ()
    _since: int = -1  # when the order has known it, before or after its interaction


@dataclass
class _Stage:
    """A stage: its program, where that pauses, its unit, and its tokens in their order."""

    program: Sequence[Mapping[str, int]]
    shape: Shape
    pause: int  # passes before the interaction
    unit: DotCycles | None
    starts: list[OrderedToken] = field(default_factory=list)
    waits: list[OrderedToken] = field(default_factory=list)
    taken: int = -1  # cycle in which the last one left ``starts``
    promised: list[int] = field(default_factory=list)  # when rows of scores leave


class TokenOrderCycles:
    """A group between runs. Tokens have items.

    Parameters
    ----------
    geometry : GroupGeometry
    programs : mapping of int to (sequence of mappings, Shape)
        ``image_layout.PASS`` values and shape of each stage, by its number among those of the
        group.
    dots : collection of int
        Stages whose model has a dot interaction.

    Attributes
    ----------
    runs : list of list of PassCycles
        Passes in the order in which they ran.
    """

    def __init__(
        self,
        geometry: GroupGeometry,
        programs: Mapping[int, tuple[Sequence[Mapping[str, int]], Shape]],
        dots: Sequence[int],
    ) -> None:
        self.geometry = geometry
        self.group = GroupCycles(geometry)
        self.runs: list[list[PassCycles]] = []
        self._stages = {}
        for stage, (program, shape) in programs.items():
            unit = None
            if stage in dots:
                dot = geometry.dots[stage]
                unit = DotCycles(dot, -(-dot.results // geometry.gather_bytes))
            pause = next((n + 1 for n, c in enumerate(program) if c.get("pause")), 0)
            self._stages[stage] = _Stage(program, shape, pause, unit)

    def offer(
        self, stage: int, items: int, started: int, arrived: ArrayLike | None = None
    ) -> OrderedToken:
        """Tell of a token; of all stages in the order of their start."""
        here = self._stages[stage]
        finished = np.full(items, started) if arrived is None else np.asarray(arrived, np.int64)
        token = OrderedToken(stage, items, started, finished)
        token._since = started + 1
        if here.unit is not None and not here.pause:
            token._since = started + 2
            there = np.maximum(self._rows(token) + 2, started + 1)
            token.done = here.unit.run(np.repeat(there, here.shape.parts)[:items])
            here.waits.append(token)
        else:
            here.starts.append(token)
        return token

    def _rows(self, token: OrderedToken) -> NDArray[np.int64]:
        """Cycle in which each row of items was finished."""
        shape = self._stages[token.stage].shape
        last = np.arange(1, shape.item_rows(token.items) + 1) * shape.parts
        return np.maximum.accumulate(token.arrived)[np.minimum(last, token.items) - 1]

    def step(self) -> OrderedToken | None:
        """Run the next part of a program; None if there is none."""
        now = self.group.idle
        if not any(s.starts or s.waits for s in self._stages.values()):
            return None
        while True:
            found = next(self._offers(now), None)
            if found is not None:
                break
            now += 1
        stage, after = found
        self._run(self._stages[stage], now, after)
        return self._last

    def _offers(self, now: int) -> Iterator[tuple[int, bool]]:
        """What may run, the first choice first: a stage, and whether after its interaction."""
        with_dot = {n: s for n, s in self._stages.items() if s.unit is not None}
        known = [n for n, s in with_dot.items() if s.starts and self._known(s) <= now]
        for number in known:
            token = with_dot[number].starts[0]
            if token.arrived.max() + 2 <= now:
                yield number, False
        waits = [n for n, s in with_dot.items() if s.waits and s.waits[0]._since <= now]
        for number in waits:
            token = with_dot[number].waits[0]
            if token.done + 1 <= now and self._room(with_dot[number], token, now):
                yield number, True
        others = [
            (s.starts[0].started, n)
            for n, s in self._stages.items()
            if s.unit is None and s.starts and s.starts[0]._since <= now
        ]
        for _, number in sorted(others):
            yield number, False
        if not waits:
            for number in known:
                yield number, False

    def _known(self, stage: _Stage) -> int:
        return max(stage.starts[0]._since, stage.taken + 1)

    def _room(self, stage: _Stage, token: OrderedToken, now: int) -> bool:
        """Whether there is room for all scores of a token."""
        left = stage.promised
        while left and left[0] < now:
            left.pop(0)
        rows = stage.shape.item_rows(token.items)
        return len(left) + rows <= self.group.score_rows(token.stage)

    def _run(self, stage: _Stage, now: int, after: bool) -> None:
        """Run a part of a program that the walker takes in a cycle."""
        token = (stage.waits if after else stage.starts).pop(0)
        whole = stage.unit is None
        part = slice(None) if whole else slice(stage.pause, None) if after else slice(stage.pause)
        inputs = self._rows(token) + 2
        made = self.group.walk(
            stage.program[part],
            stage.shape,
            token.items,
            taken=now,
            inputs=inputs,
            stage=token.stage,
        )
        self.runs.append(made)
        token.passes = (*token.passes, *made)
        self._last = token
        delay = latency(self.geometry.hardware.tile_rows, stage.shape)
        if not after:
            stage.taken = now
        if whole or after:
            left = self.group.scores(token.stage)
            rows = stage.shape.item_rows(token.items)
            stage.promised += left[-rows:]
            freed = int(token.passes[-1].rows[-1]) + delay
            token.cycles = TokenCycles(token.passes, freed, left[-1])
            return
        assert stage.unit is not None
        writing = [
            p.rows
            for p, c in zip(token.passes, stage.program[: stage.pause], strict=True)
            if c["final"]
        ]
        there = np.maximum(token.passes[-1].rows + delay + 1, inputs)
        busy = frozenset((np.concatenate(writing) + delay - 1).tolist())
        token.done = stage.unit.run(np.repeat(there, stage.shape.parts)[: token.items], busy)
        token._since = self.group.idle
        stage.waits.append(token)
