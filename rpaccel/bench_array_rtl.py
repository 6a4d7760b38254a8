"""The array's figures in RTL, in whole machines.

``sizes`` is figure 10a: RecPipe's models on monolithic arrays of each size, in the baseline's
machine (``rpaccel/presets/baseline.toml``). ``settings`` are those of
:data:`rpaccel.bench_groups.SETTINGS`, in that of Table 3. Gather units, misses, link and host are
live, every result is compared with the golden model's, and the hardware counts the
multiply-accumulates that are useful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rpaccel.array_report import draw_settings, draw_sizes
from rpaccel.array_targets import targets
from rpaccel.bench_array import MODELS, PAPER
from rpaccel.bench_groups import SETTINGS
from rpaccel.bench_pipeline import (
    TRAINING_QUERIES,
    RtlBench,
    criteo_like_queries,
    prefixed,
    preset,
)
from rpaccel.config import Config, load, parse
from rpaccel.hardware import HardwareConfig
from rpaccel.report import grid
from rpaccel.sub_batches import alternative
from rpaccel.verdicts import verdict_lines

__all__ = ["ITEMS", "PARTS", "bench", "draw", "machine", "setting_machine", "table"]

PARTS = ("sizes", "settings")

ITEMS = {8: 256, 16: 1024, 32: 4096, 64: 4096, 128: 4096}
"""Items of a query by the side of the array: fewer where a query would take millions of cycles."""
SMALL = 32
"""Up to this side the array is slower than a gather unit with few lanes."""
QUERIES = 4
SUB_BATCHES = 16
FIRST, LAST = 2, 8
"""Completions between which settings are measured."""

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


def setting_machine(name: str) -> Config:
    """The machine of Table 3 with other groups, and the funnel on them.

    Parameters
    ----------
    name : str
        Of :data:`rpaccel.bench_groups.SETTINGS`.
    """
    tile, machine, setting, stages = SETTINGS[name]
    values = load(preset("rpaccel")).model_dump()
    hardware, funnel = values["hardware"], values["funnel"]
    items = funnel["items"] // SUB_BATCHES
    hardware |= {"tile_rows": tile[0], "tile_cols": tile[1], **machine}
    hardware |= {"accumulator_depth": items, "activation_rows": 2 * items}
    hardware |= {"weight_rows": 1 << 15, "program_depth": 1024}
    funnel |= {"sub_batches": SUB_BATCHES, "setting": setting}
    if stages:
        on = HardwareConfig.model_validate(hardware).setting(setting)
        funnel["groups"] = [[g for g in stages[stage] if g in on] for stage in sorted(stages)]
    values["name"] = f"table3-{tile[0]}x{tile[1]}"
    return parse(values)


def bench(
    sizes: Sequence[int] = tuple(ITEMS),
    settings: Sequence[str] = tuple(SETTINGS),
    *,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Run all models on arrays of the given sizes, and the funnel in the given settings.

    Returns
    -------
    dict
        ``fixed``: by size and model, items a query, tile bound and cycles a query from the 2nd to
        the 4th completion of queries that follow each other, and the hardware's utilisation.
        ``funnel``: by setting, cycles a query from the 2nd to the 8th completion, those that the
        array's cycle model says, and the hardware's utilisation. ``targets``
        (:func:`rpaccel.array_targets.targets`).
    """
    report: dict[str, Any] = {}
    if sizes:
        report["fixed"] = [_run(t, m, ITEMS[t], say) for t in sizes for m in MODELS]
    if settings:
        report["funnel"] = [_setting(name, say) for name in settings]
    return {"targets": targets(report, "RTL"), **report}


def _setting(name: str, say: Say) -> dict[str, Any]:
    config = setting_machine(name)
    runs = RtlBench(config, partial(prefixed, say, name))
    count = LAST + config.hardware.query_slots
    with runs.device(SUB_BATCHES) as device:
        queries = criteo_like_queries(config, TRAINING_QUERIES, count)
        flow = runs.flow(device, queries, LAST, FIRST)
    model = alternative(config, runs.models, SUB_BATCHES).flow
    assert model is not None, "the device has run it"
    return {
        "setting": name,
        "sub_batches": SUB_BATCHES,
        "cycles": flow["cycles_per_query"],
        "model_cycles": model.cycles,
        "utilisation": flow["utilisation"],
        "compared": runs.compared,
    }


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
    parts = ["\n".join(verdict_lines(report["targets"]))]
    if "fixed" in report:
        header = ["array", "model", "items", "tile bound", "cycles", "over", "utilisation", "paper"]
        rows = [_size_row(row) for row in report["fixed"]]
        parts.append(grid("One array in a whole machine, RTL, back to back", header, rows))
    if "funnel" in report:
        header = ["setting", "cycles a query", "by the array's model", "utilisation", "equal"]
        rows = [
            [
                row["setting"],
                f"{row['cycles']:,.0f}",
                f"{row['model_cycles']:,.0f}",
                f"{row['utilisation']:.1%}",
                f"{row['compared']:,}",
            ]
            for row in report["funnel"]
        ]
        title = f"RecPipe's funnel on 128x128 in {SUB_BATCHES} sub-batches, RTL, back to back"
        parts.append(grid(title, header, rows))
    return "\n\n".join(parts)


def _size_row(row: Mapping[str, Any]) -> list[str]:
    paper = row["paper_utilisation"]
    return [
        f"{row['array']}",
        row["model"],
        f"{row['items']:,}",
        f"{row['bound']:,}",
        f"{row['cycles']:,.0f}",
        f"{row['cycles'] / row['bound'] - 1:.2%}",
        f"{row['utilisation']:.1%}",
        "" if paper is None else f"{paper:.1%}",
    ]


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw utilisation by array size, and by setting (PNG)."""
    from matplotlib.figure import Figure

    parts = [part for part in ("fixed", "funnel") if part in report]
    figure = Figure(figsize=(5 * len(parts), 4), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        if part == "fixed":
            draw_sizes(axes, report[part])
            axes.set_title("One array in a whole machine, RTL")
        else:
            draw_settings(axes, report[part])
            axes.set_title("The funnel on 128x128, RTL", fontsize=10)
    figure.savefig(path, dpi=120)
