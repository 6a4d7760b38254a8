"""Performance counters of a unit: events, and states of which there is one in each cycle."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module, Value
from amaranth.lib import data

from rpaccel.counters import Counters, states_of

__all__ = ["COUNTER_STEP_BITS", "attribute", "step_layout"]

COUNTER_STEP_BITS = 16
"""Width of an event counter's increment: what a unit counts in one cycle."""


def step_layout(table: Counters, *, bits: int = COUNTER_STEP_BITS) -> data.StructLayout:
    """Increments of a unit's counters: a bit for each state, ``bits`` for each event."""
    own = states_of(table)
    return data.StructLayout({name: 1 if name in own else bits for name in table})


def attribute(
    m: Module, step: data.View, table: Counters, causes: Mapping[str, object], rest: str
) -> None:
    """Count each cycle for the first of the states that applies, or for ``rest``.

    Parameters
    ----------
    m : Module
    step : View
        Increments; those of the states are driven.
    table : dict
        The unit's counters in :mod:`rpaccel.abi`.
    causes : mapping
        When each state applies, in order of priority.
    rest : str

    Raises
    ------
    ValueError
        ``causes`` and ``rest`` are not all states of the unit.
    """
    if sorted([*causes, rest]) != sorted(states_of(table)):
        raise ValueError(f"states must be {states_of(table)}, not {(*causes, rest)}")
    before: Value | int = 0
    for name, applies in causes.items():
        m.d.comb += step[name].eq(Value.cast(applies).any() & ~Value.cast(before).any())
        before = before | Value.cast(applies).any()
    m.d.comb += step[rest].eq(~Value.cast(before).any())
