"""RecPipe's funnel on an array of many groups: queries that follow each other, by cycle model.

Tokens go to groups as :mod:`sw_model.dispatch_cycles` says. The gather unit writes an item a cycle
and has it when it wants it, the filter takes a score a cycle and its survivors leave as
docs/architecture.md says; memory and host are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rpaccel.geometry import Shape
from rpaccel.hardware import HardwareConfig
from sw_model.dispatch_cycles import DispatchCycles, Program
from sw_model.group_cycles import GroupCycles

__all__ = ["SETTINGS", "Flow", "Setting", "flow"]

_FILTER = 15  # cycles from the last score of a sub-batch to its first survivor
_BEFORE = -100  # cycle in which the setting is chosen
_SETTLED, _MEASURED = 5, 20  # queries before the measurement, and in it


class Setting(NamedTuple):
    """A machine that can be the paper's, and how its groups are used.

    Attributes
    ----------
    tile : (int, int)
    machine : mapping
        ``groups``, and ``settings`` if there are any.
    setting : int
        Number of the setting.
    stages : mapping
        For a stage, the groups that get its tokens, of those that are on; by default all.
    """

    tile: tuple[int, int]
    machine: Mapping[str, Any]
    setting: int = 0
    stages: Mapping[int, Sequence[int]] = MappingProxyType({})


def _joined() -> dict[str, Any]:
    """128x128 that is (8,2), (8,8) or (8,16) by its setting, of sub-arrays of 32x16.

    The left half is 8 groups of 32x32 in each of them; the right half is 2 of 64x64, 8 of 32x32,
    or 16 of 32x16.
    """
    halves = [(1, 2, 0), (2, 4, 4), (1, 2, 4), (1, 1, 4)]
    groups: list[dict[str, Any]] = []
    kinds = []
    for rows, cols, begin in halves:
        places = [[r, c] for r in range(0, 4, rows) for c in range(begin, begin + 4, cols)]
        kinds.append(list(range(len(groups), len(groups) + len(places))))
        groups += [{"at": at, "rows": rows, "cols": cols, "stages": [0, 1]} for at in places]
    front, *backs = kinds
    return {"groups": groups, "settings": [front + back for back in backs]}


_SIXTEEN = {"groups": [{"stages": [0, 1]} for _ in range(16)]}
_JOINED = _joined()
#: The paper's machines, and two that it does not have.
SETTINGS = {
    "16 of 32x32, any stage": Setting((32, 32), _SIXTEEN),
    "16 of 32x32, 5 for the front end": Setting(
        (32, 32), _SIXTEEN, stages={0: range(5), 1: range(5, 16)}
    ),
    **{
        f"{name}, {use}": Setting(
            (32, 16),
            _JOINED,
            number,
            {0: range(8), 1: range(8, len(_JOINED["groups"]))} if use == "a stage each" else {},
        )
        for number, name in enumerate(("(8,2)", "(8,8)", "(8,16)"))
        for use in ("a stage each", "any stage")
    },
}


class Flow(NamedTuple):
    """What a flow of queries takes.

    Attributes
    ----------
    sub_batches : int
    macs : float
        Useful multiply-accumulates a cycle, when queries follow each other.
    latency : int
        Cycles of a query that comes alone.
    """

    sub_batches: int
    macs: float
    latency: int


class _Run:
    """Queries of a funnel, of a number of sub-batches each, ``slots`` of them in flight."""

    def __init__(
        self,
        model: DispatchCycles,
        sizes: Sequence[int],
        slots: int,
    ) -> None:
        self.model = model
        self.sizes = sizes
        self.slots = slots
        self.rows: list[tuple[NDArray[np.int64], int]] = []  # of each pass, and MACs of an item

    def ends(self, queries: int, sub_batches: int) -> list[int]:
        """Cycle in which each query is over, the first being there in cycle 0."""
        stages = range(len(self.sizes))
        taken = [0 for _ in stages]  # tokens that were started
        filled = [0 for _ in stages]  # when the gather unit is free again
        released: list[list[int]] = [[] for _ in stages]  # when each token's survivors left
        tokens = queries * sub_batches
        while taken[-1] < tokens:
            offers = {}
            for stage in stages:
                number = taken[stage]
                if number < tokens:
                    known = self._known(stage, number, sub_batches, released)
                    if known is not None:
                        offers[stage] = max(known, filled[stage])
            # Tokens are started in the order of time, and of stages.
            stage = min(offers, key=lambda s: (self.model.choose(s, offers[s])[1], s))
            items = self.sizes[stage] // sub_batches
            done = self.model.run(stage, items, offers[stage], _item_a_cycle(items))
            commands = self.model.programs[stage, done.group].passes
            for command, made in zip(commands, done.token.passes, strict=True):
                self.rows.append((made.rows, command["rows"] * command["cols"]))
            filled[stage] = done.cycle + items + 1
            released[stage].append(done.token.end + _FILTER)
            taken[stage] += 1
        return released[-1][sub_batches - 1 :: sub_batches]

    def _known(
        self, stage: int, number: int, sub_batches: int, released: Sequence[Sequence[int]]
    ) -> int | None:
        """From when on a token is there; nothing if that is not known yet."""
        if stage:
            before, need = released[stage - 1], number
        else:
            before, need = released[-1], (number // sub_batches - self.slots + 1) * sub_batches - 1
            if need < 0:
                return 0
        return before[need] if need < len(before) else None


def _item_a_cycle(items: int) -> Callable[[int], np.ndarray]:
    return lambda start: start + 1 + np.arange(items)


def flow(
    hardware: HardwareConfig,
    program: Callable[[int, Shape], Sequence[Mapping[str, Any]]],
    sizes: Sequence[int],
    *,
    groups: Mapping[int, Sequence[int]],
    sub_batches: Sequence[int],
    slots: int = 4,
    setting: int = 0,
    model: type[DispatchCycles] = DispatchCycles,
) -> Flow:
    """Find the number of sub-batches with which the array is used best.

    Parameters
    ----------
    hardware : HardwareConfig
        Groups of one shape each, all sub-arrays fused.
    program : callable
        Passes of a stage's model in a shape.
    sizes : sequence of int
        Items that each stage ranks.
    groups : mapping
        Groups that get a stage's tokens.
    sub_batches : sequence of int
        Numbers to try.
    slots : int
        Queries in flight.
    setting : int
        Of the machine, chosen before the first query.
    model : type
        Of the dispatch.

    Returns
    -------
    Flow
    """
    flows = []
    for count in sub_batches:
        made: dict[tuple[int, Shape], Program] = {}
        programs = {}
        for stage, size in enumerate(sizes):
            for group in groups[stage]:
                geometry = hardware.geometry(group)
                key = stage, (shape := geometry.shapes[0])
                if key not in made:
                    passes, alone = program(stage, shape), GroupCycles(geometry)
                    place = hardware.groups[group].stages.index(stage)
                    runs = [alone.run(passes, shape, size // count, stage=place) for _ in range(3)]
                    cycles = runs[2].freed - runs[1].freed
                    made[key] = Program(passes, shape, min(cycles, (1 << 16) - 1))
                programs[stage, group] = made[key]
        changes = [(_BEFORE, setting)] if setting else []
        run = _Run(model(hardware, programs, changes), sizes, slots)
        ends = run.ends(2 * _SETTLED + _MEASURED, count)
        first, last = ends[_SETTLED - 1], ends[_SETTLED + _MEASURED - 1]
        useful = sum(
            macs * int(np.searchsorted(rows, last) - np.searchsorted(rows, first))
            for rows, macs in run.rows
        )
        (latency,) = _Run(model(hardware, programs, changes), sizes, slots).ends(1, count)
        flows.append(Flow(count, useful / (last - first), latency))
    return max(flows, key=lambda each: each.macs)
