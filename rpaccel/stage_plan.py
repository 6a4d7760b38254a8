"""A stage in a shape of its group: where activations lie, its passes, and the cycles they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.geometry import GroupGeometry, Shape
from rpaccel.image import DotInfo, LayerInfo, ShapeInfo
from rpaccel.space import PlacedLayer, PlacedProduct, Space
from rpaccel.tiling import Tile, passes
from sw_model.group_cycles import GroupCycles
from sw_model.quantised import QuantisedModel

__all__ = ["Plan", "layer_info", "plan", "stage_plans"]


class Plan(NamedTuple):
    """A stage in one of its group's shapes: the passes of each layer, and what they take.

    ``limit`` is what bounds the items of a sub-batch.
    """

    shape: Shape
    space: Space
    layers: list[list[Tile]]
    info: ShapeInfo
    limit: str
    dot: DotInfo | None


def _cycles(
    geometry: GroupGeometry, shape: Shape, layers: Sequence[Sequence[Tile]], items: int
) -> int:
    """Cycles that a sub-batch takes when many follow each other and their inputs are there."""
    model = GroupCycles(geometry)
    program = [tile.command for layer in layers for tile in layer]
    ends = [model.run(program, shape, items).passes[-1].rows[-1] for _ in range(3)]
    return int(ends[2] - ends[1])


def plan(
    config: Config,
    geometry: GroupGeometry,
    shape: Shape,
    stage: int,
    model: QuantisedModel,
    items: int,
    *,
    slices: Iterable[int],
) -> Plan:
    """Place a stage's activations and cut its layers, in one shape.

    Parameters
    ----------
    config : Config
    geometry : GroupGeometry
        Of the stage's group.
    shape : Shape
        One of its shapes.
    stage : int
    model : QuantisedModel
    items : int
        Of a sub-batch for which cycles are predicted.
    slices : iterable of int, bytes
        Widths that inputs are aligned to, so that they lie at the same place in all groups.

    Raises
    ------
    ConfigError
        A layer could overflow, see :func:`rpaccel.tiling.passes`.
    """
    hardware = config.hardware
    depth, rows = hardware.accumulator_depth, hardware.activation_rows
    unit = hardware.dot_unit(stage) if model.dot is not None else None
    dot = hardware.dot_shape(stage) if unit is not None else None
    space = Space.plan(shape, model, config.features.dense, rows // depth, slices=slices, dot=dot)
    layers = passes(shape, space)
    limits = {
        "accumulator_depth": shape.parts * depth,
        "activation_rows": shape.parts * (rows // space.words),
        **({"the items of its dot interaction unit": unit.items} if unit is not None else {}),
    }
    limit = min(limits, key=lambda name: limits[name])
    max_items = limits[limit]
    cycles = 0
    if max_items:
        cycles = _cycles(geometry, shape, layers, min(items, max_items))
    found = None
    if dot is not None and model.dot is not None:
        found = DotInfo(
            vectors=len(model.tables) + bool(model.bottom),
            pairs=len(model.dot.mantissa),
            multipliers=dot.multipliers,
            cycles=max(dot.cycles, -(-dot.results // geometry.gather_bytes)),
        )
        cycles = max(cycles, found.cycles * min(items, max_items))
    info = ShapeInfo(
        rows=shape.rows,
        cols=shape.cols,
        parts=shape.parts,
        k_width=shape.k_width,
        n_width=shape.n_width,
        layers=tuple(map(len, layers)),
        max_items=max_items,
        cycles=cycles,
        fits=items <= max_items,
    )
    return Plan(shape, space, layers, info, limit, found)


def stage_plans(
    config: Config, number: int, model: QuantisedModel, items: int
) -> dict[int, tuple[list[Plan], Plan]]:
    """Plan a stage in all shapes of each group that serves it.

    Parameters
    ----------
    config : Config
    number : int
        Of the stage.
    model : QuantisedModel
    items : int
        Of a sub-batch for which cycles are predicted.

    Returns
    -------
    dict
        By group, all plans and the best one of them.

    Raises
    ------
    ConfigError
        A layer could overflow, or not even one item fits.
    """
    hardware = config.hardware
    geometries = [hardware.geometry(group) for group in hardware.groups_of(number)]
    # Groups that are alike, or one alone, need no common alignment.
    kinds = {geometry.shapes for geometry in geometries}
    slices = {s.k_width for kind in kinds for s in kind} if len(kinds) > 1 else set()
    found: dict[int, tuple[list[Plan], Plan]] = {}
    alike: dict[tuple[object, ...], int] = {}
    for geometry in geometries:
        # Groups that differ in nothing but their place have the same plans.
        what = hardware.groups[geometry.group].model_dump_json(exclude={"at"})
        kind = (what, geometry.shapes, geometry.gather_bytes, geometry.shares)
        first = alike.setdefault(kind, geometry.group)
        if first in found:
            found[geometry.group] = found[first]
            continue
        plans = [
            plan(config, geometry, shape, number, model, items, slices=slices)
            for shape in geometry.shapes
        ]
        best = min(plans, key=lambda p: (not p.info.fits, p.info.cycles, p.info.passes))
        if not best.info.max_items:
            raise ConfigError(
                f"model {model.name!r} takes {best.space.words} activation words an item, but "
                f"hardware.activation_rows = {hardware.activation_rows}"
            )
        found[geometry.group] = plans, best
    return found


def layer_info(shape: Shape, place: PlacedLayer | PlacedProduct, tiles: list[Tile]) -> LayerInfo:
    """Describe a layer by its passes."""
    n_tiles = sum(tile.command["final"] for tile in tiles)
    return LayerInfo(
        name=place.name,
        inputs=place.inputs,
        outputs=place.outputs,
        macs=place.macs,
        k_tiles=len(tiles) // n_tiles,
        n_tiles=n_tiles,
        passes=len(tiles),
        utilisation=place.macs / (len(tiles) * shape.k_width * shape.n_width),
    )
