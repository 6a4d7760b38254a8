"""What a simulation may watch of a machine: signals that nothing in it uses."""

from __future__ import annotations

from amaranth.lib import data

from rpaccel import abi
from rpaccel.counters import states_of, unit_counters
from rpaccel.hardware import HardwareConfig
from rtl_gen.signatures import slot_bits

__all__ = ["TRACE", "controller_trace", "group_trace", "state_layout", "trace_layout"]

TRACE = "rpaccel_trace"
"""Name of the signal in module ``rpaccel``."""


def controller_trace(hardware: HardwareConfig) -> data.StructLayout:
    """A slot given to a query, the completer at work, and slots given back."""
    slot = slot_bits(hardware)
    fields = {"opened": 1, "slot": slot, "query_id": 32, "completing": 1}
    return data.StructLayout(fields | {"released": hardware.query_slots})


def group_trace(hardware: HardwareConfig, group: int) -> data.StructLayout:
    """A token started, by stage; a row of items that enters the array, and whose it is."""
    stages = len(hardware.groups[group].stages)
    bits = max(1, (stages - 1).bit_length())
    return data.StructLayout({"started": stages, "row": 1, "stage": bits, "buffer": 1})


def _stage_trace(hardware: HardwareConfig) -> data.StructLayout:
    """A stage's token taken by its gather unit, its items gathered, scored and released."""
    return data.StructLayout(
        {
            "taken": 1,
            "slot": slot_bits(hardware),
            "items": abi.ITEM_BITS,
            "started": 1,
            "gathered": 1,
            "score": 1,
            "score_last": 1,
            "plan": 1,
            "count": abi.ITEM_BITS,
            "leaves": 1,
        }
    )


def state_layout(hardware: HardwareConfig) -> data.StructLayout:
    """States of all units but the device, a bit each."""
    units = unit_counters(hardware)
    return data.StructLayout(
        {
            unit: data.StructLayout(dict.fromkeys(states_of(table), 1))
            for unit, table in units.items()
            if unit != "device"
        }
    )


def trace_layout(hardware: HardwareConfig) -> data.StructLayout:
    """All of it."""
    return data.StructLayout(
        {
            "controller": controller_trace(hardware),
            "copied": 1,  # a beat of the features of the query whose slot was opened last
            **{f"stage{s}": _stage_trace(hardware) for s in range(hardware.stages)},
            **{f"group{g}": group_trace(hardware, g) for g in range(len(hardware.groups))},
            "states": state_layout(hardware),
        }
    )
