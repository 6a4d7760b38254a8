"""The blocks that a machine's area and energy are told by, and how busy each is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from rpaccel.hardware import HardwareConfig

__all__ = ["BLOCKS", "block_of", "duty", "kind_of"]

Counts = Mapping[str, float]
Duty = Callable[[HardwareConfig, Counts], float]


def _macs(hardware: HardwareConfig, counts: Counts) -> float:
    """Useful multiply-accumulates of a multiplier, in all cycles."""
    groups = range(len(hardware.groups))
    return sum(counts[f"group{n}.macs"] for n in groups) / hardware.macs


def _lookups(stage: int) -> Duty:
    """Of a lane of a stage."""
    return lambda hardware, counts: counts[f"gather{stage}.lookups"] / hardware.gather[stage].lanes


def _not_static(counts: Counts, stage: int) -> float:
    """Lookups of a stage that go to the look-ahead caches."""
    return counts[f"gather{stage}.lookups"] - counts[f"gather{stage}.static_hits"]


def _probes(stage: int) -> Duty:
    """Of a lane's look-ahead cache."""
    return lambda hardware, counts: _not_static(counts, stage) / hardware.gather[stage].lanes


def _items(stage: int) -> Duty:
    return lambda hardware, counts: counts[f"gather{stage}.items"]


def _static(hardware: HardwareConfig, counts: Counts) -> float:
    return sum(counts[f"gather{s}.static_hits"] for s in range(hardware.stages))


def _all_items(hardware: HardwareConfig, counts: Counts) -> float:
    return sum(counts[f"gather{s}.items"] for s in range(hardware.stages))


def _memory(hardware: HardwareConfig, counts: Counts) -> float:
    lookups = sum(_not_static(counts, stage) for stage in range(hardware.stages))
    return lookups / hardware.memory.channels


def _host(hardware: HardwareConfig, counts: Counts) -> float:
    return counts["device.host_read_bytes"] / hardware.host_bus_bytes


def _always(hardware: HardwareConfig, counts: Counts) -> float:
    return counts["device.cycles"]


_STAGE = r"(\d+)"
_RULES: tuple[tuple[str, str, Callable[[int], Duty]], ...] = (
    (r"array\.group\d+\.cells\.cell\w*\.macs", "multiply-accumulate units", lambda s: _macs),
    (
        r"array\.group\d+\.cells\.cell\w*\.epilogue",
        "accumulators and epilogues",
        lambda s: _macs,
    ),
    (r"array\.group\d+\.cells\.cell\w*\.buffer", "token buffers", lambda s: _macs),
    (r"array\.group\d+\.cells\.cell", "edges of sub-arrays", lambda s: _macs),
    (
        r"array\.group\d+\.cells\.(weights|params)",
        "weight and parameter memories",
        lambda s: _macs,
    ),
    (r"array\.group\d+\.cells", "wires between sub-arrays", lambda s: _macs),
    (r"array", "sequencers and dispatch", lambda s: _macs),
    (
        rf"gather{_STAGE}\.lane\w*\.cache",
        "look-ahead caches",
        _probes,
    ),
    (rf"gather{_STAGE}\.lane", "gather lanes", _lookups),
    (rf"gather{_STAGE}", "walkers and packers", _items),
    (r"static", "static region", lambda s: _static),
    (rf"topk{_STAGE}", "filters", _items),
    (rf"survivors{_STAGE}", "filters", lambda s: _items(s + 1)),
    (r"features", "feature buffer", lambda s: _all_items),
    (r"host", "host port and controller", lambda s: _host),
    (r"controller", "host port and controller", lambda s: _host),
    (r"memory", "memory ports and loader", lambda s: _memory),
    (r"loader", "memory ports and loader", lambda s: _always),
    (r"registers", "registers and counters", lambda s: _always),
    (r"", "wires at the top", lambda s: _always),
)
"""Path of an instance, its block, and what that block's work is measured by; the first applies."""

BLOCKS = tuple(dict.fromkeys(block for _, block, _ in _RULES))


def _rule(path: tuple[str, ...]) -> tuple[str, Callable[[int], Duty], int]:
    joined = ".".join(path)
    for pattern, block, work in _RULES:
        match = re.match(pattern, joined)
        if match is not None:
            stages = [int(group) for group in match.groups() if group and group.isdigit()]
            return block, work, stages[0] if stages else 0
    raise AssertionError(path)


def block_of(path: tuple[str, ...]) -> str:
    """The block of an instance."""
    return _rule(path)[0]


def kind_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """What instances that do the same have in common, also in a smaller machine.

    The first name keeps its number, which is that of a stage.
    """
    return (*path[:1], *(re.sub(r"\d+|\$", "", name) for name in path[1:]))


def duty(path: tuple[str, ...], hardware: HardwareConfig, counts: Counts) -> float:
    """How much work the block of an instance did, by its counters.

    Parameters
    ----------
    path : tuple of str
    hardware : HardwareConfig
    counts : mapping
        What counters advanced by; only the ratio to that of another machine means anything.
    """
    _, work, stage = _rule(path)
    return work(stage)(hardware, counts)
