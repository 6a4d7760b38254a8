"""The compiler: quantised models to a memory image with tables, weights and tile programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel import abi
from rpaccel.checks import check_gather, check_model
from rpaccel.config import Config, HardwareConfig
from rpaccel.errors import ConfigError
from rpaccel.explain import explain
from rpaccel.gather_plan import GatherPlan, plan_gather
from rpaccel.image import (
    GeneratedTable,
    Image,
    MemoryUse,
    ProgramInfo,
    Segment,
    StageInfo,
    TableInfo,
    assemble,
    table_layout,
    table_lines,
    table_start,
)
from rpaccel.placement import share_evenly, share_hottest
from rpaccel.stage_plan import layer_info, plan
from rpaccel.tiling import Space, Tile, pair_words
from sw_model.generated_rows import GeneratedRows
from sw_model.planner import largest_sub_batches
from sw_model.quantised import QuantisedModel

__all__ = ["compile_image", "explain"]


class _Table(NamedTuple):
    """A table's rows, and how they lie in lines of memory."""

    rows: NDArray[np.int8] | GeneratedRows
    line_bytes: int

    @property
    def log2_rows(self) -> int:
        return table_layout(self.rows.shape[1], self.line_bytes)[0]

    @property
    def lines_per_row(self) -> int:
        return table_layout(self.rows.shape[1], self.line_bytes)[1]

    @property
    def size(self) -> int:
        """Lines of all rows."""
        return -(-len(self.rows) >> self.log2_rows) * self.lines_per_row

    @property
    def generated(self) -> bool:
        """It is nowhere as a whole."""
        return isinstance(self.rows, GeneratedRows)

    def first(self, lines: int) -> NDArray[np.uint8]:
        """The first lines, of whole rows."""
        rows = (lines << self.log2_rows) // self.lines_per_row
        return table_lines(self.rows[:rows], self.line_bytes)


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
    ``static`` is where each table begins in the static region of its lane.
    """

    model: QuantisedModel
    info: StageInfo
    space: Space
    tables: list[_Table]
    entries: dict[int, dict[str, int]]
    gather: GatherPlan
    static: list[int]


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
        For each stage, expected accesses to each row of each table, by table name, in any unit;
        to rows behind those given there are none. Lines with the most accesses get the static
        region; by default tables share it evenly.

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
        heat = hotness[number] if hotness is not None else None
        stages.append(_stage(config, number, model, groups, heat))
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
    hotness: Mapping[str, ArrayLike] | None,
) -> _Stage:
    """Place a stage's activations, passes and tables."""
    hardware = config.hardware
    check_gather(config, number, model)
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
    tables = [_Table(t.rows, hardware.memory.line_bytes) for t in model.tables]
    gather = plan_gather(config, number, model)
    available = hardware.gather[number].static_lines
    static, begins = gather.share(
        len(tables), lambda own: _static_lines(available, model, tables, hotness, own)
    )
    stage = StageInfo(
        model=model.name,
        tile_rows=hardware.tile_rows,
        items=items,
        programs=tuple(programs),
        tables=tuple(
            TableInfo(
                name=t.name,
                rows=len(t.rows),
                dimension=t.rows.shape[1],
                lines=placed.size,
                hot_rows=min(len(t.rows), (lines << placed.log2_rows) // placed.lines_per_row),
                static_lines=lines,
            )
            for t, placed, lines in zip(model.tables, tables, static, strict=True)
        ),
    )
    return _Stage(model, stage, space, tables, entries, gather, begins)


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


def _static_lines(
    available: int,
    model: QuantisedModel,
    tables: list[_Table],
    hotness: Mapping[str, ArrayLike] | None,
    own: Sequence[int],
) -> list[int]:
    """Lines of each table of a lane, given by their numbers, in its static region.

    Raises
    ------
    ConfigError
        ``hotness`` does not name each table, or gives numbers for more rows than it has.
    """
    units = [tables[n].lines_per_row for n in own]
    if hotness is None:
        return share_evenly(available, [tables[n].size for n in own], units)
    heat = []
    for number in own:
        table, placed = model.tables[number], tables[number]
        if table.name not in hotness:
            raise ConfigError(f"hotness is not given for {model.name}.{table.name}")
        accesses = np.asarray(hotness[table.name], np.float64)
        if accesses.ndim != 1 or not 1 <= len(accesses) <= len(table.rows):
            raise ConfigError(
                f"hotness of {model.name}.{table.name}: shape must be ({len(table.rows)},) or "
                f"less, not {accesses.shape}"
            )
        first = np.arange(0, len(accesses), 1 << placed.log2_rows)
        heat.append(np.add.reduceat(accesses, first))
    return share_hottest(available, heat, units)


def _memories(config: Config, groups: list[_Group], stages: list[_Stage]) -> list[MemoryUse]:
    """What on-chip memories hold, and how much they could."""
    hardware = config.hardware
    uses = []
    for number, group in enumerate(groups):
        name = f"hardware.groups.{number}"
        uses += [
            MemoryUse(f"{name}: weight_rows", group.weight_rows, hardware.weight_rows),
            MemoryUse(f"{name}: param_rows", len(group.params), hardware.param_rows),
            MemoryUse(f"{name}: program_depth", len(group.program), hardware.program_depth),
        ]
    for number, stage in enumerate(stages):
        used = sum(t.static_lines for t in stage.info.tables)
        gather = hardware.gather[number]
        available = gather.lanes * gather.static_lines
        uses.append(MemoryUse(f"hardware.gather.{number}: static_lines", used, available))
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
    tables = [table for stage in stages for table in stage.tables]
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
    )


def _begins(stages: list[_Stage], line: int) -> list[list[int]]:
    """First line of each table of each stage: generated ones are behind all that are stored."""
    begins = [[0] * len(stage.tables) for stage in stages]
    for generated in (False, True):
        for stage, found in zip(stages, begins, strict=True):
            for number, table in enumerate(stage.tables):
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
        for table, begin in zip(stage.tables, begins, strict=True)
        if isinstance(table.rows, GeneratedRows)
    ]


def _segments(
    config: Config, groups: list[_Group], stages: list[_Stage], line: int
) -> list[Segment]:
    """Content of the on-chip memories, the first table being at a line of device memory."""
    hardware = config.hardware
    segments: list[Segment] = []

    def add(kind: abi.Target, index: int, words: NDArray[np.uint8], address: int = 0) -> None:
        if len(words):
            segments.append(Segment(abi.target_id(kind, index), address, words))

    entries: list[dict[str, int]] = [{} for _ in range(hardware.stages)]
    for number, (stage, begins) in enumerate(zip(stages, _begins(stages, line), strict=True)):
        fields = _fields(config, stage, begins)
        entries[number] = {
            "steps": len(stage.gather.steps),
            "lanes": stage.gather.used,
            "query_bytes": config.features.query_bytes,
            "item_bytes": config.features.item_bytes,
            "max_items": stage.info.max_items,
            "threshold": _threshold(config, number),
        }
        gather = hardware.gather[number]
        steps = np.frombuffer(b"".join(stage.gather.steps), np.uint8)
        add(abi.Target.STEPS, number, steps.reshape(len(stage.gather.steps), -1))
        apart = abi.lane_words(gather.max_fields)
        for lane, own in enumerate(fields):
            add(abi.Target.FIELDS, number, _words(abi.FIELD, own), lane * apart)
        apart = abi.lane_words(gather.static_lines * hardware.memory.beats)
        for lane, tables in enumerate(stage.gather.lanes):
            hot = [stage.tables[t].first(stage.info.tables[t].static_lines) for t in tables]
            if hot:
                words = np.concatenate(hot).reshape(-1, hardware.memory.bus_bytes)
                add(abi.Target.STATIC, number, words, lane * apart)
        unit = hardware.dot_shape(number)
        if stage.model.dot is not None and unit is not None:
            pairs = pair_words(unit, stage.model)
            segments.append(Segment(abi.pairs_target(number), 0, pairs))
    add(abi.Target.STAGES, 0, _words(abi.STAGE, entries))
    for number, group in enumerate(groups):
        served = hardware.groups[number].stages
        own = [stages[s].entries[number] if s < len(stages) else {} for s in served]
        add(abi.Target.ENTRIES, number, _words(abi.ENTRY, own))
        if group.program:
            add(abi.Target.PROGRAM, number, _words(abi.PASS, group.program))
            add(abi.Target.WEIGHTS, number, np.concatenate(group.weights))
            add(abi.Target.PARAMS, number, np.stack(group.params))
    return segments


def _threshold(config: Config, stage: int) -> int:
    """The threshold of a stage's filter as an entry of the CTR table."""
    threshold = config.funnel.threshold
    return abi.ctr_index(65535 * threshold[stage]) if threshold else 0


def _fields(config: Config, stage: _Stage, begins: Sequence[int]) -> list[list[dict[str, int]]]:
    """FIELD words of each lane of a stage; those of the dense lane are the last."""
    tables = []
    for number, table in enumerate(config.features.tables):
        placed, info = stage.tables[number], stage.info.tables[number]
        tables.append(
            {
                "index_bytes": table.index_bits // 8,
                "count": info.dimension,
                "output": stage.space.tables[number],
                "shift": stage.model.tables[number].shift,
                "rows": table.rows,
                "hot_rows": info.hot_rows,
                "static_line": stage.static[number],
                "line": begins[number],
                "log2_rows": placed.log2_rows,
                "lines": placed.lines_per_row,
            }
        )
    lanes = [[tables[number] for number in own] for own in stage.gather.lanes]
    return [*lanes, [{"output": stage.space.dense + at} for at in stage.gather.dense]]


def _words(layout: abi.Layout, values: Sequence[Mapping[str, int]]) -> NDArray[np.uint8]:
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
