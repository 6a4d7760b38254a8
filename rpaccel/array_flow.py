"""A funnel on an array of many groups: queries that follow each other, by cycle model.

Tokens go to groups as :mod:`sw_model.dispatch_cycles` says. The gather unit writes an item a cycle
and has it when it wants it, the filter takes a score a cycle and its survivors leave as
docs/architecture.md says; memory and host are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rpaccel.hardware import HardwareConfig
from sw_model.dispatch_cycles import DispatchCycles, Program

__all__ = ["FILTER", "Flow", "flow"]

FILTER = 15
"""Cycles from the last score of a sub-batch to its first survivor."""
_BEFORE = -100  # cycle in which the setting is chosen


class Flow(NamedTuple):
    """What a flow of queries takes.

    Attributes
    ----------
    sub_batches : int
    macs : float
        Useful multiply-accumulates a cycle when queries follow each other; where groups have
        several parts that share a token's items, those of one part.
    cycles : float
        A query takes when queries follow each other.
    latency : int
        Cycles of a query that comes alone.
    """

    sub_batches: int
    macs: float
    cycles: float
    latency: int


class _Run:
    """Queries of a funnel, ``slots`` of them in flight; see :func:`flow`."""

    def __init__(self, model: DispatchCycles, items: Sequence[Sequence[int]], slots: int) -> None:
        self.model = model
        self.items = items
        self.slots = slots
        self.rows: list[tuple[NDArray[np.int64], int]] = []  # of each pass, and MACs of an item

    def ends(self, queries: int) -> list[int]:
        """Cycle in which each query is over, the first being there in cycle 0."""
        stages, sub_batches = range(len(self.items)), len(self.items[0])
        taken = [0 for _ in stages]  # tokens that were started
        filled = [0 for _ in stages]  # when the gather unit is free again
        released: list[list[int]] = [[] for _ in stages]  # when each token's survivors left
        tokens = queries * sub_batches
        while taken[-1] < tokens:
            offers = {}
            for stage in stages:
                number = taken[stage]
                if number < tokens:
                    known = self._known(stage, number, released)
                    if known is not None:
                        offers[stage] = max(known, filled[stage])
            items = {stage: self.items[stage][taken[stage] % sub_batches] for stage in offers}
            empty = [stage for stage in offers if not items[stage]]
            if empty:  # a sub-batch of which nothing survived
                stage = empty[0]
                released[stage].append(offers[stage])
                taken[stage] += 1
                continue
            # Tokens are started in the order of time, and of stages.
            stage = min(offers, key=lambda s: (self.model.choose(s, offers[s])[1], s))
            count = items[stage]
            done = self.model.run(stage, count, offers[stage], _item_a_cycle(count))
            commands = self.model.programs[stage, done.group].passes
            for command, made in zip(commands, done.token.passes, strict=True):
                self.rows.append((made.rows, command["rows"] * command["cols"]))
            filled[stage] = done.cycle + count + 1
            released[stage].append(done.token.end + FILTER)
            taken[stage] += 1
        return released[-1][sub_batches - 1 :: sub_batches]

    def _known(self, stage: int, number: int, released: Sequence[Sequence[int]]) -> int | None:
        """From when on a token is there; nothing if that is not known yet."""
        if stage:
            before, need = released[stage - 1], number
        else:
            sub_batches = len(self.items[0])
            before, need = released[-1], (number // sub_batches - self.slots + 1) * sub_batches - 1
            if need < 0:
                return 0
        return before[need] if need < len(before) else None


def _item_a_cycle(items: int) -> Callable[[int], np.ndarray]:
    return lambda start: start + 1 + np.arange(items)


def flow(
    hardware: HardwareConfig,
    programs: Mapping[tuple[int, int], Program],
    items: Sequence[Sequence[int]],
    *,
    slots: int,
    setting: int = 0,
    measured: int = 20,
    model: type[DispatchCycles] = DispatchCycles,
) -> Flow:
    """Run queries that follow each other, and one alone.

    Parameters
    ----------
    hardware : HardwareConfig
    programs : mapping of (stage, group) to Program
    items : sequence of sequences of int
        Of each sub-batch of a query, by stage; each stage has as many.
    slots : int
        Queries in flight.
    setting : int
        Of the machine, chosen before the first query.
    measured : int
        Queries that are measured. Before them, and behind, more are run than are in flight.
    model : type
        Of the dispatch.
    """
    changes = [(_BEFORE, setting)] if setting else []
    settled = slots + 1
    run = _Run(model(hardware, programs, changes), items, slots)
    queries = 2 * settled + measured
    ends = run.ends(queries)
    first, last = ends[settled - 1], ends[settled + measured - 1]
    useful = sum(
        macs * int(np.searchsorted(rows, last) - np.searchsorted(rows, first))
        for rows, macs in run.rows
    )
    (latency,) = _Run(model(hardware, programs, changes), items, slots).ends(1)
    rate = useful / (last - first)
    query = sum(macs * len(rows) for rows, macs in run.rows) / queries
    return Flow(len(items[0]), rate, query / rate, latency)
