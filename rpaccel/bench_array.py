"""What the array takes for RecPipe's models at the size of the paper's Table 3, in cycles.

Cycles are those of :mod:`sw_model.group_cycles`, which agrees with the gateware on every row of
every pass (tests/test_sw_model_group_cycles.py). Inputs are in the activation memory and the filter
takes a score a cycle: neither gather unit nor memory is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rpaccel.array_targets import FUSED, SHARED, STATIC, targets
from rpaccel.bench_dot import UNITS, dot_flow
from rpaccel.bench_groups import SETTINGS, best_flow
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
    "layer_programs",
    "shared",
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
        "items": ITEMS,
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
    best = best_flow(
        hardware,
        lambda stage, shape: _program(shape, models[stage]),
        items,
        groups={s: [g for g in stages.get(s, on) if g in on] for s in range(2)},
        setting=setting,
        sub_batches=(4, 8, 16, 32),
        model=model,
    )
    return {
        "setting": name,
        "sub_batches": best.sub_batches,
        "cycles": best.cycles,
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
        ``targets`` (:func:`rpaccel.array_targets.targets`).
    """
    fused = _group(16, 8, 8, [[1, 1], [2, 2]])
    coarse = _group(32, 4, 4, [[1, 1]])
    front, back = _group(32, 1, 5, [[1, 1]]), _group(32, 1, 11, [[1, 1]])
    large, shape = _model("RM-large"), fused.shapes[1]
    alone = GroupCycles(fused).run(_program(shape, large), shape, SURVIVORS)
    funnel = _funnel(FUSED, [(fused, {0: 0, 1: 1})])
    report = {
        "fixed": [_fixed(tile, name) for tile in (8, 16, 32, 64, 128) for name in MODELS],
        "funnel": [
            funnel,
            _funnel(SHARED, [(coarse, {0: 0, 1: 0})]),
            _funnel(STATIC, [(front, {0: 0}), (back, {1: 0})]),
        ],
        "dot": _dot_funnel(FUSED, funnel["cycles"]),
        "groups": [shared(name) for name in settings],
        "alone": {
            "items": SURVIVORS,
            "cycles": alone.end,
            "utilisation": _macs(large) * SURVIVORS / (MACS * alone.end),
        },
    }
    return {"targets": targets(report, "cycle model"), **report}
