"""Where the cycles of a machine's units went: shares of their states in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpaccel.counters import states_of, unit_counters
from rpaccel.errors import DeviceError
from rpaccel.hardware import HardwareConfig

__all__ = ["shares", "state_rows"]


def shares(hardware: HardwareConfig, counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Shares of each unit's states in the cycles between two readings of all counters.

    Parameters
    ----------
    hardware : HardwareConfig
    counts : mapping
        What each counter advanced by.

    Returns
    -------
    dict
        By unit, then by state; those of a unit add up to 1.

    Raises
    ------
    DeviceError
        A unit's states do not add up to the cycles: this is no machine that counts them.
    """
    cycles = counts["device.cycles"]
    found = {}
    for unit, table in unit_counters(hardware).items():
        if unit == "device":
            continue
        own = {state: counts[f"{unit}.{state}"] for state in states_of(table)}
        if sum(own.values()) != cycles:
            raise DeviceError(
                f"the states of {unit} add up to {sum(own.values())} cycles, not {cycles}"
            )
        found[unit] = {state: count / max(1, cycles) for state, count in own.items()}
    return found


def state_rows(units: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a table: unit, busy, stalled, starved, and what it was stalled by, most first."""
    rows = []
    for unit, states in units.items():
        stalls = {
            name.removeprefix("stall_"): share
            for name, share in states.items()
            if name.startswith("stall_")
        }
        most = sorted(stalls.items(), key=lambda item: -item[1])
        causes = [f"{name} {share:.1%}" for name, share in most if share >= 0.0005]
        columns = (states["busy"], sum(stalls.values()), states["starved"])
        rows.append([unit, *(f"{share:.1%}" for share in columns), ", ".join(causes)])
    return rows
