"""What the array takes for RecPipe's models at the size of the paper's Table 3, in cycles.

Cycles are those of :mod:`sw_model.group_cycles`, which agrees with the gateware on every row of
every pass (tests/test_sw_model_group_cycles.py). Inputs are in the activation memory and the filter
takes a score a cycle: neither gather unit nor memory is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_dot import UNITS, dot_flow
from rpaccel.bench_groups import SETTINGS, flow
from rpaccel.geometry import DotShape, GroupGeometry, Shape
from rpaccel.hardware import HardwareConfig
from rpaccel.space import Space
from rpaccel.tiling import passes
from sw_model.dispatch_cycles import DispatchCycles
from sw_model.group_cycles import GroupCycles
from sw_model.quantised import QuantisedDot, QuantisedLayer, QuantisedModel, QuantisedTable

__all__ = [
    "MODELS",
    "PAPER",
    "PASS_ITEMS",
    "bench",
    "draw",
    "draw_sizes",
    "layer_programs",
    "shared",
    "table",
]

MACS = 128 * 128
ITEMS, SURVIVORS = 4096, 512
TABLES, DENSE = 26, 13
PASS_ITEMS = 512  # accumulators of a sub-array
WORDS = 1 << 16  # of an activation memory: not what limits here

#: Embedding dimension, bottom MLP and top MLP of the paper's models for Criteo (its Table 1).
MODELS = {
    "RM-small": (4, (64, 4), (64, 1)),
    "RM-med": (16, (64, 16), (64, 1)),
    "RM-large": (32, (512, 256, 128, 64, 32), (96, 1)),
}
#: Utilisation in the paper's figure 10a, from its artifact's SCALE-Sim run, by array size.
PAPER = {
    128: {"RM-small": 0.126, "RM-med": 0.263, "RM-large": 0.771},
    64: {"RM-small": 0.396, "RM-med": 0.725, "RM-large": 0.860},
    32: {"RM-small": 0.607, "RM-med": 0.876, "RM-large": 0.983},
    16: {"RM-small": 0.788, "RM-med": 0.963, "RM-large": 0.989},
}


def _layers(inputs: int, widths: Sequence[int], *, logits: bool) -> list[QuantisedLayer]:
    layers = []
    for number, width in enumerate(widths):
        logit = logits and number == len(widths) - 1
        zeros = np.zeros(width, np.int32)
        weights = np.zeros((width, inputs), np.int8)
        layers.append(QuantisedLayer(weights, zeros, zeros, zeros, relu=not logit, logit=logit))
        inputs = width
    return layers


def _model(name: str, *, dot: bool = False) -> QuantisedModel:
    """One of the paper's models; cycles do not depend on its weights."""
    dimension, bottom, top = MODELS[name]
    row = np.zeros((1, dimension), np.int8)
    pairs = np.zeros(TABLES * (TABLES + 1) // 2, np.int32)
    joined = len(pairs) if dot else TABLES * dimension
    return QuantisedModel(
        name,
        [QuantisedTable(f"t{number}", row) for number in range(TABLES)],
        _layers(DENSE, bottom, logits=False),
        _layers(joined + bottom[-1], top, logits=True),
        dot=QuantisedDot(pairs, pairs) if dot else None,
    )


def _macs(model: QuantisedModel) -> int:
    return sum(layer.weights.size for layer in [*model.bottom, *model.top])


def _group(tile: int, rows: int, cols: int, shapes: list[list[int]] | None) -> GroupGeometry:
    """A group of ``rows x cols`` tiles that serves two stages."""
    groups = [{"rows": rows, "cols": cols, "shapes": shapes, "stages": [0, 1]}]
    return _hardware((tile, tile), groups).geometry(0)


def _hardware(tile: tuple[int, int], groups: list[dict[str, Any]], **values: Any) -> HardwareConfig:
    """A machine of two stages with what limits none of them."""
    gather = {"cache_lines": 4}
    return HardwareConfig.model_validate(
        {
            "tile_rows": tile[0],
            "tile_cols": tile[1],
            "groups": groups,
            "gather": [gather, gather],
            "topk_depth": [SURVIVORS, 64],
            "accumulator_depth": PASS_ITEMS,
            "activation_rows": WORDS,
            **values,
        }
    )


def _program(
    shape: Shape, model: QuantisedModel, dot: DotShape | None = None
) -> list[Mapping[str, int]]:
    space = Space.plan(shape, model, DENSE, WORDS // PASS_ITEMS, dot=dot)
    return [tile.command for layer in passes(shape, space) for tile in layer]


def layer_programs(
    tile: int, name: str
) -> tuple[GroupGeometry, list[tuple[int, int, list[Mapping[str, int]]]]]:
    """One array of ``tile x tile``, and each layer of a model: inputs, outputs, its passes."""
    geometry, model = _group(tile, 1, 1, None), _model(name)
    (shape,) = geometry.shapes
    space = Space.plan(shape, model, DENSE, WORDS // PASS_ITEMS)
    found: list[tuple[int, int, list[Mapping[str, int]]]] = []
    for layer, made in zip([*model.bottom, *model.top], passes(shape, space), strict=True):
        outputs, inputs = layer.weights.shape
        found.append((inputs, outputs, [each.command for each in made]))
    return geometry, found


def _fixed(tile: int, name: str) -> dict[str, Any]:
    """4,096 items through one array of ``tile x tile``, in sub-batches as large as it takes."""
    geometry, model = _group(tile, 1, 1, None), _model(name)
    shape = geometry.shapes[0]
    program = _program(shape, model)
    group = GroupCycles(geometry)
    for _ in range(ITEMS // PASS_ITEMS):
        done = group.run(program, shape, PASS_ITEMS)
    bound = len(program) * ITEMS
    return {
        "array": tile,
        "model": name,
        "tiles": len(program),
        "bound": bound,
        "cycles": done.end,
        "over_bound": done.end / bound - 1,
        "utilisation": _macs(model) * ITEMS / (tile * tile * done.end),
        "paper_utilisation": PAPER.get(tile, {}).get(name),
    }


def _funnel(
    name: str,
    groups: Sequence[tuple[GroupGeometry, Mapping[int, int]]],
    *,
    queries: int = 8,
) -> dict[str, Any]:
    """RM-small on 4,096 items, then RM-large on 512, from the 2nd to the 8th of its queries.

    ``groups`` are geometries, each with the shape that it has for each of its stages. Groups work
    at the same time; the slowest sets the pace.
    """
    models, items = (_model("RM-small"), _model("RM-large")), (ITEMS, SURVIVORS)
    cycles = 0.0
    for geometry, uses in groups:
        runs = []
        for stage, use in sorted(uses.items()):
            shape = geometry.shapes[use]
            runs.append((_program(shape, models[stage]), shape, items[stage], stage))
        group = GroupCycles(geometry)
        ends = []
        for _ in range(queries):
            for program, shape, count, stage in runs:
                done = group.run(program, shape, count, stage=stage)
            ends.append(done.end)
        cycles = max(cycles, (ends[7] - ends[1]) / 6)
    useful = sum(_macs(model) * count for model, count in zip(models, items, strict=True))
    return {"setting": name, "cycles": cycles, "utilisation": useful / (MACS * cycles)}


def _dot_funnel(name: str, concat: float) -> dict[str, Any]:
    """The same with dot interaction, 64 tiles of 16x16 of which the back end fuses fours.

    ``concat`` is what the funnel takes with concat interaction.
    """
    group = {"rows": 8, "cols": 8, "shapes": [[1, 1], [2, 2]], "stages": [0, 1]}
    # In the 14,172 cycles of a query the unit of the front end takes 4,096 x 3, the gather unit's
    # writes to the same memory included only if two of the unit's are enough.
    machine = _hardware((16, 16), [group], gather_bytes=256, dot=list(UNITS))
    models = [_model(model, dot=True) for model in ("RM-small", "RM-large")]
    geometry = machine.geometry(0)
    programs = {
        stage: (_program(shape, model, geometry.dots[stage]), shape)
        for stage, (model, shape) in enumerate(zip(models, geometry.shapes, strict=True))
    }
    items = (ITEMS, SURVIVORS)
    bound = sum(
        len(program) * shape.item_rows(count)
        for (program, shape), count in zip(programs.values(), items, strict=True)
    )
    ends = dot_flow(geometry, programs, items, queries=12)
    cycles = (ends[7] - ends[1]) / 6
    useful = sum(_macs(model) * count for model, count in zip(models, items, strict=True))
    return {
        "setting": name,
        "multipliers": [shape.multipliers for shape in geometry.dots.values()],
        "tile_bound": bound,
        "cycles": cycles,
        "utilisation": useful / (MACS * cycles),
        "concat_cycles": concat,
        "over_concat": cycles / concat,
    }


def shared(name: str, model: type[DispatchCycles] = DispatchCycles) -> dict[str, Any]:
    """RM-small on 4,096 items, then RM-large on 512, each sub-batch on one of many groups.

    Parameters
    ----------
    name : str
        Of :data:`SETTINGS`.
    model : type
        Of the dispatch.
    """
    tile, machine, setting, stages = SETTINGS[name]
    hardware = _hardware(tile, **machine)
    on = hardware.setting(setting)
    models, items = (_model("RM-small"), _model("RM-large")), (ITEMS, SURVIVORS)
    best = flow(
        hardware,
        lambda stage, shape: _program(shape, models[stage]),
        items,
        groups={s: [g for g in stages.get(s, on) if g in on] for s in range(2)},
        setting=setting,
        sub_batches=(4, 8, 16, 32),
        model=model,
    )
    useful = sum(_macs(model) * count for model, count in zip(models, items, strict=True))
    return {
        "setting": name,
        "sub_batches": best.sub_batches,
        "cycles": useful / best.macs,
        "utilisation": best.macs / MACS,
        "latency": best.latency,
    }


def bench(settings: Sequence[str] = tuple(SETTINGS)) -> dict[str, Any]:
    """Compute all figures, and those of the named settings; all take minutes.

    Returns
    -------
    dict
        ``fixed``: one array of each size; ``funnel``: two stages in steady state, ``dot``
        with dot interaction; ``alone``: 512
        items of RM-large on the whole array, nothing else. Cycles; utilisation is useful
        multiply-accumulates by those that the array could have done. ``groups``: two stages in
        steady state, in the best of several numbers of sub-batches, each of which one group does.
    """
    fused = _group(16, 8, 8, [[1, 1], [2, 2]])
    coarse = _group(32, 4, 4, [[1, 1]])
    front, back = _group(32, 1, 5, [[1, 1]]), _group(32, 1, 11, [[1, 1]])
    large, shape = _model("RM-large"), fused.shapes[1]
    alone = GroupCycles(fused).run(_program(shape, large), shape, SURVIVORS)
    name = "64 of 16x16, in fours for the back end"
    funnel = _funnel(name, [(fused, {0: 0, 1: 1})])
    return {
        "fixed": [_fixed(tile, name) for tile in (8, 16, 32, 64, 128) for name in MODELS],
        "funnel": [
            funnel,
            _funnel("16 of 32x32, shared by the stages", [(coarse, {0: 0, 1: 0})]),
            _funnel("16 of 32x32, 5 for the front end", [(front, {0: 0}), (back, {1: 0})]),
        ],
        "dot": _dot_funnel(name, funnel["cycles"]),
        "groups": [shared(name) for name in settings],
        "alone": {
            "cycles": alone.end,
            "utilisation": _macs(large) * SURVIVORS / (MACS * alone.end),
        },
    }


def table(report: Mapping[str, Any]) -> str:
    """Lay the figures out as Markdown tables."""
    dot = report["dot"]
    lines = [
        f"One array, {ITEMS} items, concat interaction:",
        "",
        "| array | model | tiles | tile bound | cycles | over | utilisation | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["fixed"]:
        paper = row["paper_utilisation"]
        lines.append(
            f"| {row['array']} | {row['model']} | {row['tiles']} | {row['bound']:,} "
            f"| {row['cycles']:,} | {row['over_bound']:.2%} | {row['utilisation']:.1%} "
            f"| {'' if paper is None else f'{paper:.1%}'} |"
        )
    lines += [
        "",
        f"RM-small {ITEMS} -> RM-large {SURVIVORS} on 128x128, steady state:",
        "",
        "| setting | cycles a query | utilisation |",
        "|---|---|---|",
        *(
            f"| {row['setting']} | {row['cycles']:,.0f} | {row['utilisation']:.1%} |"
            for row in report["funnel"]
        ),
        "",
        "The same with dot interaction:",
        "",
        "| setting | multipliers of the units | tile bound | cycles a query | utilisation "
        "| with concat | over it |",
        "|---|---|---|---|---|---|---|",
        f"| {dot['setting']} | {' + '.join(map(str, dot['multipliers']))} "
        f"| {dot['tile_bound']:,} | {dot['cycles']:,.0f} | {dot['utilisation']:.1%} "
        f"| {dot['concat_cycles']:,.0f} | {dot['over_concat']:.3f} |",
        "",
        "With concat, each sub-batch on one group, four queries in flight:",
        "",
        "| setting | sub-batches | cycles a query | utilisation | cycles of a query alone |",
        "|---|---|---|---|---|",
        *(
            f"| {row['setting']} | {row['sub_batches']} | {row['cycles']:,.0f} "
            f"| {row['utilisation']:.1%} | {row['latency']:,} |"
            for row in report["groups"]
        ),
        "",
        f"RM-large on {SURVIVORS} items alone, 64 of 16x16 in fours: "
        f"{report['alone']['cycles']:,} cycles, {report['alone']['utilisation']:.1%}.",
    ]
    return "\n".join(lines)


def draw_sizes(axes: Any, arrays: Sequence[Mapping[str, Any]]) -> None:
    """Draw utilisation by array size beside the paper's figure 10a.

    Parameters
    ----------
    axes : matplotlib axes
    arrays : sequence of mappings
        ``array``, ``model``, ``utilisation`` and ``paper_utilisation``, None where there is none.
    """
    for name, colour in zip(MODELS, ("C0", "C1", "C2"), strict=True):
        rows = [row for row in arrays if row["model"] == name]
        sizes = [str(row["array"]) for row in rows]
        axes.plot(sizes, [row["utilisation"] for row in rows], "o-", color=colour, label=name)
        known = [row for row in rows if row["paper_utilisation"] is not None]
        axes.plot(
            [str(row["array"]) for row in known],
            [row["paper_utilisation"] for row in known],
            "x--",
            color=colour,
            alpha=0.6,
            label=f"{name}, paper",
        )
    axes.set(xlabel="array (rows = columns)", ylabel="utilisation", ylim=(0, 1.02))
    axes.legend(fontsize=8)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw utilisation by array size, as the paper's figure 10a does, and of the funnel (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_sizes(left, report["fixed"])
    left.set_title(f"One array, {ITEMS} items")
    rows = [*report["funnel"], *report["groups"]]
    bars = right.barh([row["setting"] for row in rows], [row["utilisation"] for row in rows])
    right.bar_label(bars, [f"{row['cycles']:,.0f} cycles" for row in rows], label_type="center")
    right.set(xlim=(0, 1), xlabel="utilisation")
    right.set_title(f"RM-small {ITEMS} -> RM-large {SURVIVORS}, 128x128", fontsize=10)
    figure.savefig(path, dpi=120)
