"""Machines of 128x128 that are many groups, and RecPipe's funnel on them by cycle model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from rpaccel.array_flow import Flow, flow
from rpaccel.array_targets import ANY, STATIC
from rpaccel.geometry import Shape
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import MOST_CYCLES
from sw_model.dispatch_cycles import DispatchCycles, Program
from sw_model.group_cycles import GroupCycles

__all__ = ["SETTINGS", "SLOTS", "Setting", "best_flow"]

SLOTS = 4
"""Queries in flight."""


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
    ANY: Setting((32, 32), _SIXTEEN),
    STATIC: Setting((32, 32), _SIXTEEN, stages={0: range(5), 1: range(5, 16)}),
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


def best_flow(
    hardware: HardwareConfig,
    program: Callable[[int, Shape], Sequence[Mapping[str, Any]]],
    sizes: Sequence[int],
    *,
    groups: Mapping[int, Sequence[int]],
    sub_batches: Sequence[int],
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
    setting, model
        See :func:`rpaccel.array_flow.flow`.
    """
    flows = []
    for count in sub_batches:
        items = [size // count for size in sizes]
        made: dict[tuple[int, Shape], Program] = {}
        programs = {}
        for stage in range(len(sizes)):
            for group in groups[stage]:
                geometry = hardware.geometry(group)
                key = stage, (shape := geometry.shapes[0])
                if key not in made:
                    passes, alone = program(stage, shape), GroupCycles(geometry)
                    place = hardware.groups[group].stages.index(stage)
                    runs = [alone.run(passes, shape, items[stage], stage=place) for _ in range(3)]
                    cycles = runs[2].freed - runs[1].freed
                    made[key] = Program(passes, shape, min(cycles, MOST_CYCLES))
                programs[stage, group] = made[key]
        sub_batches_of = [[each] * count for each in items]
        found = flow(hardware, programs, sub_batches_of, slots=SLOTS, setting=setting, model=model)
        flows.append(found)
    return max(flows, key=lambda each: each.macs)
