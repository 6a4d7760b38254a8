"""Small configurations, and odd machines, for tests of the software."""

from typing import Any

from rpaccel.config import Config, parse
from sw_model.criteo_like import TABLES

__all__ = ["criteo_like", "workload"]


def workload(
    *,
    tile: tuple[int, int] = (4, 4),
    groups: list[dict[str, Any]] | None = None,
    dense: tuple[int, int] = (2, 3),
    tables: list[dict[str, Any]] | None = None,
    models: list[dict[str, Any]] | None = None,
    items: int = 40,
    keep: list[int] | None = None,
    sub_batches: int = 3,
    hardware: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
    threshold: list[float] | None = None,
) -> Config:
    """Make a configuration; a funnel of two small models by default."""
    if tables is None:
        tables = [
            {"name": "user", "rows": 30, "scope": "query", "index_bits": 16},
            {"name": "item", "rows": 300, "index_bits": 24},
            {"name": "tags", "rows": 20, "index_bits": 8, "lookups": 3},
        ]
    bottom = sum(dense) > 0
    if models is None:
        models = [
            {"name": "front", "dimensions": 3, "bottom": [5] * bottom, "top": [6, 1]},
            {"name": "back", "dimensions": 9, "bottom": [11, 7] * bottom, "top": [13, 10, 1]},
        ]
    stages = len(models)
    values = {
        "tile_rows": tile[0],
        "tile_cols": tile[1],
        "groups": groups or [{"rows": 2, "cols": 2, "stages": list(range(stages))}],
        "accumulator_depth": 32,
        "activation_rows": 4096,
        "topk_depth": [64] * stages,
        "static_macros": stages,
        "macro_lines": 6,
        "gather": [{"cache_lines": 8, "max_dimension": 512}] * stages,
        "memory": {"line_bytes": 16, "bus_bytes": 8},
        "feature_bytes": 2048,
        "query_slots": 3,
    }
    return parse(
        {
            "name": "test",
            "features": {"dense_query": dense[0], "dense_item": dense[1], "tables": tables},
            "models": models,
            "funnel": {
                "stages": [m["name"] for m in models],
                "items": items,
                "keep": keep or [20, 8][:stages],
                "sub_batches": sub_batches,
                "threshold": threshold or [],
            },
            "hardware": values | (hardware or {}),
            "host": {"ring_entries": 4} | (host or {}),
        }
    )


def criteo_like(folder: Any, **data: Any) -> Config:
    """The same models on a few Criteo-like clicks, weights in a folder."""
    tables = [{"name": f"c{i}", "rows": min(t.rows, 60)} for i, t in enumerate(TABLES)]
    made = workload(tables=tables, dense=(0, 13), items=128, keep=[40, 10])
    periods = {"training": 12_000, "calibration": 1024, "test": 2560}
    given = {"source": "criteo-like", "periods": periods, "weights": str(folder), "seed": 2}
    return Config.model_validate(made.model_dump() | {"data": given | data})
