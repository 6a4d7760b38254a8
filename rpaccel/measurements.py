"""What counters say of a run: cycles, traffic, rates of embedding rows, utilisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rpaccel.config import Config
from rpaccel.errors import MismatchError
from rpaccel.states import shares

__all__ = ["demand_traffic", "measurements"]


def measurements(config: Config, counts: Mapping[str, int], cycles: list[int]) -> dict[str, Any]:
    """Turn counter differences over a run into what a report says of hardware.

    Rates are of embedding rows: ``static_rate`` of lookups; the others share the rest as the
    line probes do.
    """
    hardware, stages = config.hardware, config.funnel.stages
    queries = len(cycles)
    active = counts["device.active"]
    report: dict[str, Any] = {
        "cycles": {
            "total": active,
            "per_query": active / queries,
            "latency": float(np.mean(cycles)),
            "latencies": cycles,
        },
        "bytes_per_query": {
            "host_read": counts["device.host_read_bytes"] / queries,
            "host_write": counts["device.host_write_bytes"] / queries,
            "memory_read": counts["device.memory_read_bytes"] / queries,
        },
        "stages": {},
        "groups": {},
        "states": {"cycles": counts["device.cycles"], "units": shares(hardware, counts)},
        "counters": dict(counts),
    }
    for number, name in enumerate(stages):
        unit = {
            key.partition(".")[2]: value
            for key, value in counts.items()
            if key.startswith(f"gather{number}.")
        }
        static = unit["static_hits"] / max(1, unit["lookups"])
        hit = unit["lookahead_hits"] / max(1, unit["lookahead_hits"] + unit["misses"])
        report["stages"][f"{number} {name}"] = unit | {
            "static_rate": static,
            "lookahead_rate": (1 - static) * hit,
            "miss_rate": (1 - static) * (1 - hit),
        }
    useful = 0
    for number, group in enumerate(hardware.groups):
        size = group.rows * group.cols * hardware.tile_rows * hardware.tile_cols
        macs = counts[f"group{number}.macs"]
        useful += macs
        report["groups"][f"{number} ({group.rows}x{group.cols} sub-arrays)"] = {
            "size": size,
            "macs": macs,
            "utilisation": macs / (size * active),
            "busy": counts[f"group{number}.busy"] / active,
        }
    report["utilisation"] = useful / (hardware.macs * active)
    return report


def demand_traffic(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """A run on real data must exercise every way a row can come."""
    for name, unit in stages.items():
        for counter in ("static_hits", "lookahead_hits", "misses", "evictions"):
            if not unit[counter]:
                raise MismatchError(
                    f"stage {name}: {counter} is zero, so this run shows nothing of it"
                )
