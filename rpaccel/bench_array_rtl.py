"""The array's figures in RTL, in whole machines.

``sizes`` is figure 10a: RecPipe's models on monolithic arrays of each size, in the baseline's
machine (``rpaccel/presets/baseline.toml``). ``funnel`` is RPAccel's funnel where nothing finer than
32x32 exists, in that of Table 3. Gather units, misses, link and host are live, every result is
compared with the golden model's, and the hardware counts the multiply-accumulates that are useful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rpaccel.array_report import draw_sizes
from rpaccel.bench_array import MODELS, PAPER
from rpaccel.bench_pipeline import (
    TRAINING_QUERIES,
    RtlBench,
    criteo_like_queries,
    prefixed,
    preset,
)
from rpaccel.config import Config, load, parse
from rpaccel.report import grid

__all__ = ["ITEMS", "bench", "draw", "machine", "table"]

ITEMS = {8: 256, 16: 1024, 32: 4096, 64: 4096, 128: 4096}
"""Items of a query by the side of the array: fewer where a query would take millions of cycles."""
SMALL = 32
"""Up to this side the array is slower than a gather unit with few lanes."""
QUERIES = 4

Say = Callable[[str], None]


def machine(tile: int, model: str, items: int) -> Config:
    """The baseline with one array of ``tile x tile`` and one stage of a model.

    Parameters
    ----------
    tile : int
    model : str
        Of :data:`rpaccel.bench_array.MODELS`.
    items : int
        Of a query.
    """
    values = load(preset("baseline")).model_dump()
    dimensions, bottom, top = MODELS[model]
    values["name"] = f"array{tile}"
    values["models"] = [
        {"name": model, "dimensions": dimensions, "bottom": list(bottom), "top": list(top)}
    ]
    hardware = values["hardware"]
    size = min(items, hardware["accumulator_depth"])
    values["funnel"] |= {
        "stages": [model],
        "items": items,
        "keep": [items],
        "sub_batches": items // size,
    }
    if tile < 128:
        word = -(-hardware["activation_rows"] * 128 // tile)
        hardware |= {
            "tile_rows": tile,
            "tile_cols": tile,
            "activation_rows": word,
            "weight_rows": 2**16 if tile == 8 else 2**15,
            "program_depth": 8192 if tile == 8 else 2048,
            "param_rows": 256,
            "query_slots": 2,
        }
    if tile <= SMALL:
        for gather in hardware["gather"]:
            gather |= {"lanes": 4, "max_fields": 7, "max_steps": 8}
    return parse(values)


def bench(sizes: Sequence[int] = tuple(ITEMS), *, say: Say = lambda text: None) -> dict[str, Any]:
    """Run all models on arrays of the given sizes.

    Returns
    -------
    dict
        ``arrays``: by size and model, items a query, tile bound and cycles a query from the 2nd to
        the 4th completion of queries that follow each other, and the hardware's utilisation.
    """
    return {"arrays": [_run(t, m, ITEMS[t], say) for t in sizes for m in MODELS]}


def _run(tile: int, model: str, items: int, say: Say) -> dict[str, Any]:
    config = machine(tile, model, items)
    runs = RtlBench(config, partial(prefixed, say, f"{model} on {tile}x{tile}"))
    count = QUERIES + config.hardware.query_slots
    parts = config.funnel.sub_batches
    with runs.device(parts) as device:
        passes = sum(layer.passes for layer in device.image.stages[0].programs[0].layers)
        flow = runs.flow(device, criteo_like_queries(config, TRAINING_QUERIES, count), QUERIES)
    return {
        "array": tile,
        "model": model,
        "items": items,
        "bound": passes * items,
        "cycles": flow["cycles_per_query"],
        "utilisation": flow["utilisation"],
        "compared": runs.compared,
        "paper_utilisation": PAPER.get(tile, {}).get(model),
    }


def table(report: Mapping[str, Any]) -> str:
    """Lay the figures out as text."""
    rows = []
    for row in report["arrays"]:
        paper = row["paper_utilisation"]
        rows.append(
            [
                f"{row['array']}",
                row["model"],
                f"{row['items']:,}",
                f"{row['bound']:,}",
                f"{row['cycles']:,.0f}",
                f"{row['cycles'] / row['bound'] - 1:.2%}",
                f"{row['utilisation']:.1%}",
                "" if paper is None else f"{paper:.1%}",
            ]
        )
    header = ["array", "model", "items", "tile bound", "cycles", "over", "utilisation", "paper"]
    return grid("One array in a whole machine, RTL, back to back", header, rows)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw utilisation by array size (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    draw_sizes(axes, report["arrays"])
    axes.set_title("One array in a whole machine, RTL")
    figure.savefig(path, dpi=120)
