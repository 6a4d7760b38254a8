"""The cycles of a run, one after the other."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import njit

from sw_model.cycles.completer import complete, open_completer
from sw_model.cycles.controller import ADMISSION_IDLE, HANDOVER, admit, fetch, plan
from sw_model.cycles.filter import filter_scores
from sw_model.cycles.group import group
from sw_model.cycles.lanes import dense_lane, lanes
from sw_model.cycles.link import read_port, write_port
from sw_model.cycles.memory import memory
from sw_model.cycles.packer import dispatch, gather_cause, pack
from sw_model.cycles.records import FAR, SOURCES, compiled
from sw_model.cycles.walker import read_features, refill_positions, walk

__all__ = ["kernel"]


@compiled
def _cycle(m, ports, t):
    """One cycle of all units."""
    read_port(m, t)
    admit(m, t)
    plan(m, t)
    fetch(m, t)
    memory(m, t)
    stages = len(m.walker)
    for n in range(stages):
        pack(m, n, t)
    dispatch(m, t)
    for n in range(stages):
        lanes(m, n, t)
        dense_lane(m, n)
    read_features(m, ports)
    for n in range(stages):
        walk(m, n, t)
        if refill_positions(m.walker[n]):
            m.clock[0].moved = 1
        gather_cause(m, n)
    open_completer(m)
    for n in range(stages):
        filter_scores(m, n, t)
    complete(m, t)
    write_port(m, t)
    for n in range(len(m.group)):
        group(m, n, t)


@compiled
def _active(m):
    """Whether a query is in flight."""
    a = m.admission[0]
    return (
        a.state != ADMISSION_IDLE
        or a.used & ~a.released
        or m.planner[0].state != 0
        or m.completer[0].state != 0
        or m.fetcher[0].state == HANDOVER
    )


@cache
def kernel() -> Any:
    """Make the function that runs a machine until all queries are complete.

    It takes the machine, the port of the feature buffer served last, counts of each unit's states,
    and a last cycle; it returns the cycle behind the last one, or -1 if nothing moves any more.
    """
    stamp = SOURCES  # Numba keeps the code by this function's own text, and this

    @njit(_nrt=False, error_model="numpy", cache=True)
    def run(m, ports, counts, last):
        t = m.clock[0].now + (stamp < 0)
        while t <= last:
            m.clock[0].moved = 0
            m.clock[0].wake = FAR
            active = _active(m)
            _cycle(m, ports, t)
            step = 1
            if not m.clock[0].moved:
                if m.clock[0].wake == FAR:
                    return -1
                if m.clock[0].skip:
                    step = m.clock[0].wake - t
            for unit in range(len(m.cause)):
                counts[unit, m.cause[unit]] += step
            m.clock[0].active += step if active else 0
            t += step
            if m.query[len(m.query) - 1].completed < FAR and not _active(m):
                break
        m.clock[0].now = t
        return t

    return run
