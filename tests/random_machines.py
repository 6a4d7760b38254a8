"""Random machines, and random workloads for a machine, as configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rpaccel.config import Config, parse

__all__ = ["random_dots", "random_hardware", "random_settings", "random_workload"]


def _power(rng: np.random.Generator, low: int, high: int) -> int:
    return 1 << int(rng.integers(low, high + 1))


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def random_hardware(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a machine: tiles 4..16, square and not, 1..2 stages, on one to three groups."""
    stages = _between(rng, 1, 2)
    both = list(range(stages))
    served = {
        1: [[both], [both, both], [[0], [0], [0]]],
        2: [[both], [[0], [1]], [both, [1, 0]], [[0], both, [1]], [both, [0], [0]]],
    }[stages]
    served = served[int(rng.integers(len(served)))]

    def group(stages: list[int]) -> dict[str, Any]:
        rows, cols = _between(rng, 1, 2), _between(rng, 1, 2)
        fusions = [[r, c] for r in {1, rows} for c in {1, cols}]
        shapes = [fusions[i] for i in rng.permutation(len(fusions))[: _between(rng, 1, 3)]]
        return {"rows": rows, "cols": cols, "shapes": shapes, "stages": stages}

    bus = _power(rng, 3, 5)
    host_bus, cols = _power(rng, 3, 6), _between(rng, 4, 16)
    return {
        "tile_rows": _between(rng, 4, 16),
        "tile_cols": cols,
        "groups": [group(s) for s in served],
        "accumulator_depth": _between(rng, 16, 128),
        "activation_rows": _between(rng, 3000, 8000),
        "weight_rows": 32768,
        "param_rows": 2048,
        "program_depth": 8192,
        "topk_depth": [300] * stages,
        "gather": [
            {
                "cache_lines": (ways := _between(rng, 1, 4)) * _power(rng, 0, 4),
                "cache_ways": ways,
                "lookahead": _power(rng, 1, 6),
                "outstanding": _power(rng, 0, 4),
                "max_dimension": 64,
                "max_fields": 12,
                "lanes": _between(rng, 1, 2),
            }
            for _ in range(stages)
        ],
        "static_macros": _between(rng, 1, 12),
        "macro_lines": _between(rng, 1, 20),
        "memory": {
            "channels": _power(rng, 0, 2),
            "bus_bytes": bus,
            "line_bytes": max(16, bus * _power(rng, 0, 2)),
            "address_bits": 32,
        },
        "host_bus_bytes": host_bus,
        "read_bytes": host_bus << _between(rng, 0, 2),
        "gather_bytes": cols * int(rng.choice([0, 1, 2, 4])),
        "feature_bytes": 32768,
        "query_slots": _between(rng, 1, 4),
        "sram_macro_bits": 16384 if rng.random() < 0.5 else 1 << 20,
        "filter": [str(rng.choice(["bins", "exact"])) for _ in range(stages - 1)] + ["exact"],
        "bins": _power(rng, 1, 6),
    }


def _tiers(rng: np.random.Generator) -> dict[str, Any]:
    """Banks of DRAM, an SSD that holds the end of most images, both, or none."""
    tiers: dict[str, Any] = {}
    if rng.random() < 0.4:
        tiers["dram"] = {"banks": _power(rng, 0, 4), "row_bytes": 64 * _power(rng, 0, 5)}
    if rng.random() < 0.3:
        rate = float(rng.random())
        line = _between(rng, 0, 4000)
        tiers["ssd"] = {"first_line": line, "latency": 300, "cycles_per_byte": rate}
    return tiers


def random_dots(rng: np.random.Generator, hardware: dict[str, Any]) -> dict[str, Any]:
    """Give some stages of a machine a dot interaction unit."""
    stages = len(hardware["gather"])
    chosen = rng.permutation(stages)[: _between(rng, 1, stages)].tolist()
    units = []
    for stage in chosen:
        vectors, dimension = _between(rng, 3, 9), _between(rng, 1, 32)
        ring = vectors | 1
        most = ring * int(rng.choice([2, dimension, ring // 2 * dimension]))
        units.append(
            {
                "stage": stage,
                "vectors": vectors,
                "dimension": dimension,
                "macs": _between(rng, ring, max(ring, most)),
                "items": _between(rng, 16, 300),
            }
        )
    return {**hardware, "dot": units}


def random_settings(rng: np.random.Generator, hardware: dict[str, Any]) -> dict[str, Any]:
    """Give a machine the groups of two or three ways to cut its array into rectangles."""
    stages = len(hardware["gather"])
    size = _between(rng, 1, 3), _between(rng, 2, 3)
    groups: list[dict[str, Any]] = []
    settings = []
    for _ in range(_between(rng, 2, 3)):
        pieces = list(_cut(rng, 0, 0, *size))
        served = [[int(s) for s in rng.permutation(stages)[: _between(rng, 1, 2)]] for _ in pieces]
        if set().union(*served) != set(range(stages)):
            served[0] = list(range(stages))
        chosen = []
        for (row, col, rows, cols), own in zip(pieces, served, strict=True):
            fusions = [[r, c] for r in {1, rows} for c in {1, cols}]
            shapes = [fusions[i] for i in rng.permutation(len(fusions))[: _between(rng, 1, 2)]]
            group = {"at": [row, col], "rows": rows, "cols": cols, "stages": own, "shapes": shapes}
            group["weight_rows"] = 65536 // (rows * cols)
            alike = [n for n, g in enumerate(groups) if {**g, "shapes": shapes} == group]
            if not alike:
                groups.append(group)
            chosen.append(alike[0] if alike else len(groups) - 1)
        settings.append(chosen)
    return {**hardware, "groups": groups, "settings": settings}


def _cut(
    rng: np.random.Generator, row: int, col: int, rows: int, cols: int
) -> Iterator[tuple[int, int, int, int]]:
    """Cut a rectangle into some."""
    if rows > 1 and rng.random() < 0.5:
        at = _between(rng, 1, rows - 1)
        yield from _cut(rng, row, col, at, cols)
        yield from _cut(rng, row + at, col, rows - at, cols)
    elif cols > 1 and rng.random() < 0.7:
        at = _between(rng, 1, cols - 1)
        yield from _cut(rng, row, col, rows, at)
        yield from _cut(rng, row, col + at, rows, cols - at)
    else:
        yield row, col, rows, cols


def random_workload(rng: np.random.Generator, hardware: dict[str, Any]) -> Config:
    """Draw features, models and a funnel for a machine (they may be too large for it)."""
    dense = _between(rng, 0, 8)
    dense_query = _between(rng, 0, dense)
    tables = []
    for number in range(_between(rng, 1, 8)):
        generated = bool(rng.random() < 0.2)
        rows = _between(rng, 1, 10_000_000 if generated else 400)
        fitting = [bits for bits in (8, 16, 24, 32) if rows < 2**bits - 1]
        bits = int(rng.choice(fitting))
        tables.append(
            {
                "name": f"t{number}",
                "rows": rows,
                "scope": str(rng.choice(["item", "item", "query"])),
                "index_bits": bits,
                "lookups": _between(rng, 1, 4),
                "generated": generated,
            }
        )

    def widths() -> list[int]:
        return [_between(rng, 1, 100) for _ in range(_between(rng, 1, 4))]

    def product() -> dict[str, Any]:
        if len(tables) < 2 or rng.random() < 0.6:
            return {}
        names = rng.permutation([t["name"] for t in tables])[:2].tolist()
        return {"kind": "neumf", "factors": _between(rng, 1, 32), "product": names}

    stages = len(hardware["gather"])
    models = [
        {
            "name": f"m{stage}",
            "dimensions": {t["name"]: _between(rng, 1, 32) for t in tables},
            "bottom": widths() if dense else [],
            "top": [*widths()[: _between(rng, 0, 4)], 1],
            **product(),
        }
        for stage in range(stages)
    ]
    for unit in hardware.get("dot", []):
        vectors = len(tables) + (dense > 0)
        if 2 <= vectors <= unit["vectors"] and rng.random() < 0.8:
            model = models[unit["stage"]]
            dimension = _between(rng, 1, unit["dimension"])
            bottom = [*model["bottom"][:-1], dimension] if dense else []
            models[unit["stage"]] = {
                "name": model["name"],
                "interaction": "dot",
                "dimensions": dimension,
                "bottom": bottom,
                "top": model["top"],
            }
    items = _between(rng, 1, 300)
    keep, left = [], items
    for _ in range(stages):
        left = _between(rng, 1, left)
        keep.append(left)
    return parse(
        {
            "name": "random",
            "features": {
                "dense_query": dense_query,
                "dense_item": dense - dense_query,
                "tables": tables,
            },
            "models": models,
            "funnel": {
                "stages": [m["name"] for m in models],
                "items": items,
                "keep": keep,
                "sub_batches": _between(rng, 1, 8),
                "threshold": [
                    round(float(rng.random()), 3) if kind == "bins" else 0
                    for kind in hardware["filter"]
                ],
            },
            "hardware": hardware,
            "simulation": {
                "memory_latency": _between(rng, 1, 100),
                "memory_gap": _between(rng, 0, 3),
                "memory_reorder": bool(rng.random() < 0.7),
                "memory_stall": int(rng.choice([0, 20, 60])),
                "host_stall": int(rng.choice([0, 20, 50])),
                "seed": _between(rng, 1, 1000),
                **_tiers(rng),
            },
        }
    )
