"""The performance counters: what each unit of the device counts, and where that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpaccel.hardware import HardwareConfig

__all__ = [
    "COUNTER_BASE",
    "Counter",
    "Counters",
    "counters_of",
    "states_of",
    "unit_counters",
]

COUNTER_BASE = 0x400
"""Address of the first counter, behind the registers."""


@dataclass(frozen=True)
class Counter:
    """A performance counter: 48 bits at ``address`` (low word, then high word)."""

    name: str
    address: int
    unit: str
    doc: str


Counters = dict[str, tuple[str, str]]
"""Counters of a unit by name: what they count, and what that means.

Those in cycles are the unit's *states*: in each cycle exactly one of them advances, so that they
add up to ``device.cycles`` (only the device's own are not states).
"""

HOST_READ_COUNTERS: Counters = {
    "busy": ("cycles", "a beat came"),
    "stall_device": ("cycles", "a beat was there, but whoever asked for it did not take it"),
    "stall_host": ("cycles", "host memory owed an answer to an address, or did not take one"),
    "starved": ("cycles", "nothing was asked for"),
}
HOST_WRITE_COUNTERS: Counters = {
    "busy": ("cycles", "a beat went"),
    "stall_host": ("cycles", "host memory did not take a beat, or owed a response"),
    "stall_device": ("cycles", "the data of a write that was begun were not there"),
    "starved": ("cycles", "nothing was to be written"),
}
FETCHER_COUNTERS: Counters = {
    "busy": ("cycles", "a descriptor was asked for, arrived or was handed over"),
    "stall_host": ("cycles", "waited for the host port, or for host memory"),
    "stall_admission": ("cycles", "a descriptor waited for the one before to be admitted"),
    "starved": ("cycles", "the submission ring was empty, or ENABLE was off"),
}
ADMISSION_COUNTERS: Counters = {
    "busy": ("cycles", "a query was validated or planned, or a beat of its features copied"),
    "stall_divider": ("cycles", "the planner used the divider"),
    "stall_slot": ("cycles", "no query slot was free"),
    "stall_host": ("cycles", "waited for the host port, or for features from host memory"),
    "stall_completer": ("cycles", "a refused query waited to be completed"),
    "starved": ("cycles", "no descriptor"),
}
PLANNER_COUNTERS: Counters = {
    "busy": ("cycles", "a query was cut into tokens"),
    "stall_divider": ("cycles", "admission used the divider"),
    "stall_tokens": ("cycles", "a stage's token queue was full"),
    "stall_plans": ("cycles", "a stage's queue of release plans was full"),
    "starved": ("cycles", "no query"),
}
COMPLETER_COUNTERS: Counters = {
    "busy": ("cycles", "results or a completion were made or written"),
    "stall_ring": ("cycles", "the completion ring was full"),
    "stall_host": ("cycles", "waited for the host port, or for a response of host memory"),
    "stall_filter": ("cycles", "the rest of a final ranking had not left its top-k unit"),
    "starved": ("cycles", "no query to complete"),
}
MEMORY_COUNTERS: Counters = {
    "busy": ("cycles", "a beat came"),
    "stall_clients": ("cycles", "a beat was there, but its client took one of another channel"),
    "stall_memory": ("cycles", "memory owed an answer to an address, or did not take one"),
    "starved": ("cycles", "nothing was asked for"),
}
GATHER_COUNTERS: Counters = {
    "items": ("items", "items gathered"),
    "lookups": ("rows", "lookups of rows: empty slots and bad indices not counted"),
    "static_hits": ("rows", "lookups in the static region"),
    "lookahead_hits": ("lines", "line probes that found the line cached or in flight"),
    "misses": ("lines", "line probes that fetched the line"),
    "evictions": ("lines", "valid lines replaced"),
    "bad_indices": ("rows", "indices beyond their table"),
    "busy": ("cycles", "a token was started at a group, or bytes were written to it"),
    "stall_start": ("cycles", "no group of the stage had a free token buffer"),
    "stall_write": ("cycles", "the activation memory took a result of the array instead"),
    "stall_fail": ("cycles", "a failure had to be delivered before the item"),
    "stall_memory": ("cycles", "a lane whose bytes were to be written next waited for memory"),
    "stall_features": ("cycles", "no lane read a row, and the feature buffer served other stages"),
    "stall_positions": ("cycles", "no lane read a row, and the stage before had released no item"),
    "stall_lanes": ("cycles", "walker and lanes were at work on what comes next"),
    "stall_flush": ("cycles", "the look-ahead caches were being emptied"),
    "starved": ("cycles", "no token"),
}
DISPATCHER_COUNTERS: Counters = {
    "busy": ("cycles", "a score was passed on"),
    "stall_filter": ("cycles", "the top-k unit did not take a score"),
    "stall_order": ("cycles", "groups had scores, but not the one with the oldest token"),
    "stall_groups": ("cycles", "groups had tokens, but no scores"),
    "starved": ("cycles", "no group had a token"),
}
GROUP_COUNTERS: Counters = {
    "busy": ("cycles", "cycles with an item entering the array"),
    "macs": ("MACs", "useful multiply-accumulates: valid rows x valid columns"),
    "stall_gap": ("cycles", "a pass of one row was in the way, or too many passes were"),
    "stall_input": ("cycles", "a pass waited for the gather unit"),
    "stall_write": ("cycles", "a pass waited for a previous pass's results"),
    "stall_scores": ("cycles", "a scoring pass waited for room in the queue of scores"),
    "stall_weights": ("cycles", "a pass waited for its weights"),
    "stall_shape": ("cycles", "a pass in another shape waited for those before it to be over"),
    "stall_program": ("cycles", "a token's next pass was being read"),
    "starved": ("cycles", "no token"),
    "passes": ("passes", "passes started"),
}
TOPK_COUNTERS: Counters = {
    "candidates": ("items", "scores taken"),
    "released": ("items", "items released"),
    "saturations": ("items", "logits clamped to int16"),
    "short": ("releases", "sub-batches of which fewer passed the threshold than were released"),
    "below": ("items", "items released that had not passed the threshold"),
    "busy": ("cycles", "a score was taken, or an item released while none waited"),
    "stall_plan": ("cycles", "a score waited for the release plan of its token"),
    "stall_output": ("cycles", "an item to be released was not taken"),
    "stall_sorter": ("cycles", "a score waited for room behind releases that were leaving"),
    "stall_sort": ("cycles", "the last scores of a release were on their way through the sorter"),
    "starved": ("cycles", "no score"),
}
DEVICE_COUNTERS: Counters = {
    "cycles": ("cycles", "clock cycles since reset"),
    "active": ("cycles", "cycles with at least one query in flight"),
    "queries": ("queries", "queries completed with status OK"),
    "failed": ("queries", "queries completed with another status"),
    "host_read_bytes": ("bytes", "read from host memory"),
    "host_write_bytes": ("bytes", "written to host memory"),
    "memory_read_bytes": ("bytes", "read from device memory, all channels"),
}


def unit_counters(hardware: HardwareConfig) -> dict[str, Counters]:
    """Counters of each unit of a machine, in the order of their addresses.

    A stage that one group serves has no dispatcher.
    """
    units = {
        "device": DEVICE_COUNTERS,
        "host_read": HOST_READ_COUNTERS,
        "host_write": HOST_WRITE_COUNTERS,
        "fetcher": FETCHER_COUNTERS,
        "admission": ADMISSION_COUNTERS,
        "planner": PLANNER_COUNTERS,
        "completer": COMPLETER_COUNTERS,
    }
    units |= {f"memory{channel}": MEMORY_COUNTERS for channel in range(hardware.memory.channels)}
    for stage in range(hardware.stages):
        units |= {f"gather{stage}": GATHER_COUNTERS, f"topk{stage}": TOPK_COUNTERS}
        if len(hardware.groups_of(stage)) > 1:
            units[f"dispatcher{stage}"] = DISPATCHER_COUNTERS
    units |= {f"group{group}": GROUP_COUNTERS for group in range(len(hardware.groups))}
    return units


def states_of(table: Counters) -> tuple[str, ...]:
    """Names of a unit's states among its counters."""
    return tuple(name for name, (counted, _) in table.items() if counted == "cycles")


def counters_of(hardware: HardwareConfig) -> dict[str, Counter]:
    """All counters of a machine by name, such as ``"device.cycles"`` or ``"gather0.misses"``."""
    names = [
        (f"{unit}.{name}", counted, doc)
        for unit, table in unit_counters(hardware).items()
        for name, (counted, doc) in table.items()
    ]
    return {
        name: Counter(name, COUNTER_BASE + 8 * i, counted, doc)
        for i, (name, counted, doc) in enumerate(names)
    }
