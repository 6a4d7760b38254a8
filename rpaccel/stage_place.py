"""A stage in the memories of the groups that serve it: its programs, weights and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.hardware import HardwareConfig
from rpaccel.image import MemoryUse, ProgramInfo, StageInfo, TableInfo
from rpaccel.image_layout import MOST_CYCLES
from rpaccel.space import Space
from rpaccel.stage_plan import Plan, layer_info, stage_plans
from rpaccel.table_plan import StageTables
from rpaccel.tiling import Tile
from sw_model.planner import largest_sub_batches
from sw_model.quantised import QuantisedModel

__all__ = ["GroupMemories", "PlacedStage", "place_stage"]


class GroupMemories:
    """Memories of one group, filled stage by stage."""

    def __init__(self, hardware: HardwareConfig, number: int) -> None:
        self.hardware = hardware
        self.geometry = hardware.geometry(number)
        self.program: list[dict[str, int]] = []
        self.weights: list[NDArray[np.uint8]] = []
        self.params: list[NDArray[np.uint8]] = []

    @property
    def weight_rows(self) -> int:
        """Words of the weight memory in use."""
        return len(self.weights) * self.hardware.tile_rows

    def uses(self) -> list[MemoryUse]:
        """What the memories hold, and how much they could."""
        name = f"hardware.groups.{self.geometry.group}"
        hardware = self.hardware
        return [
            MemoryUse(f"{name}: weight_rows", self.weight_rows, self.geometry.weight_rows),
            MemoryUse(f"{name}: param_rows", len(self.params), hardware.param_rows),
            MemoryUse(f"{name}: program_depth", len(self.program), hardware.program_depth),
        ]

    def add(self, tiles: Sequence[Tile]) -> None:
        """Append the program of a stage: passes with their weights and parameters."""
        width = self.geometry.weight_tiles * self.hardware.tile_cols
        lane = width
        for tile in tiles:
            size = tile.weights.shape[1]
            if lane + size > width:
                self.weights.append(np.zeros((self.hardware.tile_rows, width), np.uint8))
                lane = 0
            self.weights[-1][:, lane : lane + size] = tile.weights
            address = self.weight_rows - self.hardware.tile_rows
            place = {"weights": address, "tile": lane // size, "params": len(self.params)}
            self.program.append({**tile.command, **place})
            lane += size
            if tile.params is not None:
                self.params += list(tile.params)
        self.program[-1]["last"] = 1


class PlacedStage(NamedTuple):
    """What is known of a stage once its programs are placed.

    ``entries`` are its ENTRY words by group; inputs lie at the same place in all of these.
    """

    model: QuantisedModel
    info: StageInfo
    space: Space
    placed: StageTables
    entries: dict[int, dict[str, int]]


def place_stage(
    config: Config,
    number: int,
    model: QuantisedModel,
    groups: list[GroupMemories],
    placed: StageTables,
) -> PlacedStage:
    """Place a stage's activations and passes."""
    hardware = config.hardware
    funnel = config.funnel
    items = largest_sub_batches(funnel.items, funnel.sub_batch_items, funnel.keep)[number]
    entries: dict[int, dict[str, int]] = {}
    programs = []
    for each, (plans, best) in stage_plans(config, number, model, items).items():
        space = best.space
        info, program = _program(groups[each], plans, best)
        entries[each] = {
            "program": program,
            "form": info.shape,
            "words": info.words_per_item,
            "cycles": min(info.cycles, MOST_CYCLES),
            "dimension": model.tables[0].rows.shape[1] if model.dot is not None else 0,
            "bottom": model.dot is not None and bool(model.bottom),
        }
        programs.append(info)
    stage = StageInfo(
        model=model.name,
        tile_rows=hardware.tile_rows,
        items=items,
        programs=tuple(programs),
        macros=tuple(placed.macros),
        tables=tuple(
            TableInfo(
                name=t.name,
                rows=len(t.rows),
                dimension=t.rows.shape[1],
                lines=table.size,
                hot_rows=table.rows_in(lines),
                static_lines=lines,
            )
            for t, table, lines in zip(model.tables, placed.tables, placed.static, strict=True)
        ),
    )
    return PlacedStage(model, stage, space, placed, entries)


def _program(group: GroupMemories, plans: Sequence[Plan], best: Plan) -> tuple[ProgramInfo, int]:
    """Add a stage's program to a group's memories; its first pass."""
    program = len(group.program)
    group.add([tile for layer in best.layers for tile in layer])
    info = ProgramInfo(
        group=group.geometry.group,
        shape=best.shape.index,
        options=tuple(each.info for each in plans),
        max_items=best.info.max_items,
        limit=best.limit,
        words_per_item=best.space.words,
        cycles=best.info.cycles,
        layers=tuple(
            layer_info(best.shape, place, passes)
            for place, passes in zip(best.space.layers, best.layers, strict=True)
        ),
        dot=best.dot,
    )
    return info, program
