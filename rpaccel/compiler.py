"""The compiler: quantised models to a memory image with tables, weights and tile programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel import abi
from rpaccel.checks import check_gather, check_model
from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.explain import explain
from rpaccel.hardware import HardwareConfig
from rpaccel.image import (
    GeneratedTable,
    Image,
    MemoryUse,
    ProgramInfo,
    Segment,
    StageInfo,
    TableInfo,
    assemble,
    table_start,
)
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    PASS,
    STAGE,
    Target,
    lane_words,
    pairs_target,
    target_id,
)
from rpaccel.layout import Layout
from rpaccel.space import Space, pair_words
from rpaccel.stage_plan import layer_info, plan
from rpaccel.table_plan import StageTables, plan_tables
from rpaccel.tiling import Tile
from sw_model.generated_rows import GeneratedRows
from sw_model.planner import largest_sub_batches
from sw_model.quantised import QuantisedModel

__all__ = ["compile_image", "explain"]


class _Group:
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


class _Stage(NamedTuple):
    """What is known of a stage once its programs are placed.

    ``entries`` are its ENTRY words by group; inputs lie at the same place in all of these.
    """

    model: QuantisedModel
    info: StageInfo
    space: Space
    placed: StageTables
    entries: dict[int, dict[str, int]]


def compile_image(
    config: Config,
    models: Sequence[QuantisedModel],
    *,
    address: int = 0,
    hotness: Sequence[Mapping[str, ArrayLike]] | None = None,
) -> Image:
    """Compile the models of a funnel for a machine.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    address : int, bytes
        Where in device memory the image will be; line aligned.
    hotness : sequence of mappings, optional
        For each stage, expected accesses to each row of each table, by table name, in a unit that
        is the same for all stages; to rows behind those given there are none. Static macros go to
        the lanes that gain most hits by them, and their lines to those with the most accesses; by
        default lanes, and tables of a lane, share them evenly.

    Returns
    -------
    Image
        Deterministic: the same arguments make the same bytes.

    Raises
    ------
    ConfigError
        A model is not the configuration's, does not fit the machine (naming what is exceeded
        and by how much), or could overflow.
    """
    hardware = config.hardware
    if address % hardware.memory.line_bytes:
        raise ConfigError(
            f"the image address must be a multiple of line_bytes = {hardware.memory.line_bytes}, "
            f"not {address:#x}"
        )
    if len(models) != len(config.funnel.stages):
        raise ConfigError(
            f"the funnel has {len(config.funnel.stages)} stages, but {len(models)} models are given"
        )
    groups = [_Group(hardware, number) for number in range(len(hardware.groups))]
    stages = []
    for number, model in enumerate(models):
        check_model(config, number, model)
        check_gather(config, number, model)
    for number, placed in enumerate(plan_tables(config, models, hotness)):
        stages.append(_stage(config, number, models[number], groups, placed))
    memories = _memories(config, groups, stages)
    over = [f"{m.name} takes {m.used} of {m.available}" for m in memories if m.used > m.available]
    if over:
        raise ConfigError("the models do not fit the machine: " + "; ".join(over))
    return _image(config, groups, stages, memories, address)


def _stage(
    config: Config,
    number: int,
    model: QuantisedModel,
    groups: list[_Group],
    placed: StageTables,
) -> _Stage:
    """Place a stage's activations and passes."""
    hardware = config.hardware
    funnel = config.funnel
    items = largest_sub_batches(funnel.items, funnel.sub_batch_items, funnel.keep)[number]
    serving = hardware.groups_of(number)
    # Groups that are alike, or one alone, need no common alignment.
    kinds = {groups[each].geometry.shapes for each in serving}
    slices = {s.k_width for kind in kinds for s in kind} if len(kinds) > 1 else set()
    entries: dict[int, dict[str, int]] = {}
    programs = []
    for each in serving:
        info, space, program = _program(config, groups[each], number, model, items, slices)
        entries[each] = {
            "program": program,
            "form": info.shape,
            "words": info.words_per_item,
            "cycles": min(info.cycles, (1 << 16) - 1),
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
    return _Stage(model, stage, space, placed, entries)


def _program(
    config: Config,
    group: _Group,
    number: int,
    model: QuantisedModel,
    items: int,
    slices: Iterable[int],
) -> tuple[ProgramInfo, Space, int]:
    """Place a stage's program in a group, in the best of its shapes; its first pass."""
    hardware, geometry = config.hardware, group.geometry
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
    program = len(group.program)
    group.add([tile for layer in best.layers for tile in layer])
    info = ProgramInfo(
        group=geometry.group,
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
    return info, best.space, program


def _memories(config: Config, groups: list[_Group], stages: list[_Stage]) -> list[MemoryUse]:
    """What on-chip memories hold, and how much they could."""
    hardware = config.hardware
    uses = []
    for number, group in enumerate(groups):
        name = f"hardware.groups.{number}"
        uses += [
            MemoryUse(f"{name}: weight_rows", group.weight_rows, group.geometry.weight_rows),
            MemoryUse(f"{name}: param_rows", len(group.params), hardware.param_rows),
            MemoryUse(f"{name}: program_depth", len(group.program), hardware.program_depth),
        ]
    used = sum(t.static_lines for stage in stages for t in stage.info.tables)
    uses.append(MemoryUse("hardware: lines of static_macros", used, hardware.static_lines))
    return uses


def _image(
    config: Config,
    groups: list[_Group],
    stages: list[_Stage],
    memories: list[MemoryUse],
    address: int,
) -> Image:
    """Lay everything out in device memory."""
    hardware = config.hardware
    # Where the tables begin depends on the segments' sizes only, not on the lines in FIELD words.
    start = table_start(hardware, _segments(config, groups, stages, 0))
    line = address // hardware.memory.line_bytes + start
    segments = _segments(config, groups, stages, line)
    tables = [table for stage in stages for table in stage.placed.tables]
    stored = [table.first(table.size) for table in tables if not table.generated]
    generated = _generated(stages, line)
    data, image_id = assemble(hardware, segments, stored, address=address, generated=generated)
    return Image(
        data=data,
        address=address,
        image_id=image_id,
        digest=hardware.digest(),
        line_bytes=hardware.memory.line_bytes,
        stages=tuple(s.info for s in stages),
        memories=tuple(memories),
        generated=tuple(generated),
        settings=tuple(tuple(groups) for groups in hardware.settings),
    )


def _begins(stages: list[_Stage], line: int) -> list[list[int]]:
    """First line of each table of each stage: generated ones are behind all that are stored."""
    begins = [[0] * len(stage.placed.tables) for stage in stages]
    for generated in (False, True):
        for stage, found in zip(stages, begins, strict=True):
            for number, table in enumerate(stage.placed.tables):
                if table.generated == generated:
                    found[number] = line
                    line += table.size
    return begins


def _generated(stages: list[_Stage], line: int) -> list[GeneratedTable]:
    """The tables that are not in the image, as they follow it."""
    return [
        GeneratedTable(
            line=begin,
            lines=table.size,
            key=table.rows.key,
            rows=len(table.rows),
            dimension=table.rows.shape[1],
            log2_rows=table.log2_rows,
            lines_per_row=table.lines_per_row,
        )
        for stage, begins in zip(stages, _begins(stages, line), strict=True)
        for table, begin in zip(stage.placed.tables, begins, strict=True)
        if isinstance(table.rows, GeneratedRows)
    ]


def _segments(
    config: Config, groups: list[_Group], stages: list[_Stage], line: int
) -> list[Segment]:
    """Content of the on-chip memories, the first table being at a line of device memory."""
    hardware = config.hardware
    segments: list[Segment] = []

    def add(kind: Target, index: int, words: NDArray[np.uint8], address: int = 0) -> None:
        if len(words):
            segments.append(Segment(target_id(kind, index), address, words))

    entries: list[dict[str, int]] = [{} for _ in range(hardware.stages)]
    for number, (stage, begins) in enumerate(zip(stages, _begins(stages, line), strict=True)):
        fields = _fields(config, stage, begins)
        entries[number] = {
            "steps": len(stage.placed.gather.steps),
            "lanes": stage.placed.gather.used,
            "query_bytes": config.features.query_bytes,
            "item_bytes": config.features.item_bytes,
            "max_items": stage.info.max_items,
            "threshold": _threshold(config, number),
        }
        gather = hardware.gather[number]
        steps = np.frombuffer(b"".join(stage.placed.gather.steps), np.uint8)
        add(Target.STEPS, number, steps.reshape(len(stage.placed.gather.steps), -1))
        apart = lane_words(gather.max_fields)
        for lane, own in enumerate(fields):
            add(Target.FIELDS, number, _words(FIELD, own), lane * apart)
        placed = stage.placed
        for table, lines, begin in zip(placed.tables, placed.static, placed.begins, strict=True):
            words = table.first(lines).reshape(-1, hardware.memory.bus_bytes)
            add(Target.STATIC, 0, words, begin * hardware.memory.beats)
        unit = hardware.dot_shape(number)
        if stage.model.dot is not None and unit is not None:
            pairs = pair_words(unit, stage.model)
            segments.append(Segment(pairs_target(number), 0, pairs))
    add(Target.STAGES, 0, _words(STAGE, entries))
    for number, group in enumerate(groups):
        served = hardware.groups[number].stages
        own = [stages[s].entries[number] if s < len(stages) else {} for s in served]
        add(Target.ENTRIES, number, _words(ENTRY, own))
        if group.program:
            add(Target.PROGRAM, number, _words(PASS, group.program))
            add(Target.WEIGHTS, number, np.concatenate(group.weights))
            add(Target.PARAMS, number, np.stack(group.params))
    return segments


def _threshold(config: Config, stage: int) -> int:
    """The threshold of a stage's filter as an entry of the CTR table."""
    threshold = config.funnel.threshold
    return abi.ctr_index(65535 * threshold[stage]) if threshold else 0


def _fields(config: Config, stage: _Stage, begins: Sequence[int]) -> list[list[dict[str, int]]]:
    """FIELD words of each lane of a stage; those of the dense lane are the last."""
    tables = []
    for number, table in enumerate(config.features.tables):
        placed, info = stage.placed.tables[number], stage.info.tables[number]
        tables.append(
            {
                "index_bytes": table.index_bits // 8,
                "count": info.dimension,
                "output": stage.space.tables[number],
                "shift": stage.model.tables[number].shift,
                "rows": table.rows,
                "hot_rows": info.hot_rows,
                "static_line": stage.placed.begins[number],
                "line": begins[number],
                "log2_rows": placed.log2_rows,
                "lines": placed.lines_per_row,
            }
        )
    gather = stage.placed.gather
    lanes = [[tables[number] for number in own] for own in gather.lanes]
    return [*lanes, [{"output": stage.space.dense + at} for at in gather.dense]]


def _words(layout: Layout, values: Sequence[Mapping[str, int]]) -> NDArray[np.uint8]:
    """Packed structures, one a row.

    Raises
    ------
    ConfigError
        A value does not fit its field.
    """
    try:
        data = b"".join(layout.pack_int(v).to_bytes(layout.bytes, "little") for v in values)
    except ValueError as error:
        raise ConfigError(f"the models do not fit the ABI: {error}") from None
    return np.frombuffer(data, np.uint8).reshape(len(values), layout.bytes)
