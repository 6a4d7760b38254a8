"""RecPipe's figure 13: tables grow until they spill to an SSD, and queries with them.

Cycles and lines a query are those of the RTL's records, scaled by tile bounds and by items; what an
SSD adds is a bound. Shares of misses that go to the SSD and numbers of items are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rpaccel.bench_pipeline import CLOCK_HZ, HOST_SECONDS, preset
from rpaccel.config import Config, load
from rpaccel.recorded import Machine, read
from rpaccel.report import grid
from rpaccel.schedule.cheapest import arriving, tile_cycles

__all__ = ["figure13", "text"]

SCALES = (1, 2, 4, 8, 16, 32)
QPS = 500.0
SSD_SECONDS = 20e-6
SHARES, GROWTH = (0.17, 0.28), 3.0
"""Share of the misses that go to the SSD, and items of a query, from the first scale to the last.

Both are taken to grow evenly with the logarithm of the scale.
"""
#: Published p99 in ms of one and two stages, at the first and the last scale.
PUBLISHED = {"one stage": (3.5, 8.7), "two stages": (3.3, 4.4)}


def figure13() -> list[dict[str, Any]]:
    """Compute p99 of the baseline, one stage, and of RPAccel, two, at :data:`QPS`.

    The first stage's items grow, a second one's do not. A query reads as many lines an item as in
    the record. As many SSD accesses are under way as the gather units have tags; of each stage one
    is in nobody's shadow.

    Returns
    -------
    list of dict
        ``machine``, ``scale``, ``items``, ``p99`` (seconds), ``published`` (seconds, or None).
    """
    record = read()
    rows = []
    for machine, name, host in (
        ("one stage", "baseline", record["host_sort_seconds"]),
        ("two stages", "rpaccel", 0.0),
    ):
        made = Machine.of(record[name], 2 * HOST_SECONDS + host)
        ends = SCALES[0], SCALES[-1]
        known = {at: ms / 1e3 for at, ms in zip(ends, PUBLISHED[machine], strict=True)}
        config = load(preset(name))
        for scale in SCALES:
            step = math.log(scale) / math.log(SCALES[-1])
            grown = _grown(made, config, record[name], step)
            rows.append(
                {
                    "machine": machine,
                    "scale": scale,
                    "items": round(config.funnel.items * GROWTH**step),
                    "p99": grown.p99(QPS) if QPS * grown.interval < 1 else None,
                    "published": known.get(scale),
                }
            )
    return rows


def _grown(machine: Machine, config: Config, record: Mapping[str, Any], step: float) -> Machine:
    hardware, funnel = config.hardware, config.funnel
    cycles, factor = tile_cycles(config), GROWTH**step
    share = SHARES[0] + (SHARES[1] - SHARES[0]) * step
    first = cycles[funnel.stages[0]] * funnel.items
    rest = sum(cycles[s] * n for s, n in zip(funnel.stages[1:], funnel.keep, strict=False))
    array = (first * factor + rest) / (first + rest)
    tags = sum(gather.lanes * gather.outstanding for gather in hardware.gather)
    lines = record["measured"]["bytes_per_query"]["memory_read"] / hardware.memory.line_bytes
    ssd = lines * factor * share * SSD_SECONDS / tags
    interval = max(
        machine.interval * array, arriving(config, funnel.items * factor) / CLOCK_HZ, ssd
    )
    alone = machine.alone + (interval - machine.interval) + len(funnel.stages) * SSD_SECONDS
    return replace(machine, interval=interval, alone=alone)


def text(rows: list[dict[str, Any]]) -> str:
    """Lay the figure out."""
    return grid(
        f"Figure 13: p99 in ms at {QPS:g} QPS, modelled, tables that spill to an SSD",
        ["", "tables", "items", "p99", "published"],
        [
            [
                row["machine"],
                f"x{row['scale']}",
                f"{row['items']:,}",
                "-" if row["p99"] is None else f"{row['p99'] * 1e3:.3g}",
                "" if row["published"] is None else f"{row['published'] * 1e3:g}",
            ]
            for row in rows
        ],
    )
