"""What an image fills on-chip memories with, as words of each of them, and where tables lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.image import GeneratedTable, Segment
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
from rpaccel.space import pair_words
from rpaccel.stage_place import GroupMemories, PlacedStage
from sw_model.generated_rows import GeneratedRows

__all__ = ["generated_tables", "segments_of"]


def segments_of(
    config: Config, groups: list[GroupMemories], stages: list[PlacedStage], line: int
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


def generated_tables(stages: list[PlacedStage], line: int) -> list[GeneratedTable]:
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


def _begins(stages: list[PlacedStage], line: int) -> list[list[int]]:
    """First line of each table of each stage: generated ones are behind all that are stored."""
    begins = [[0] * len(stage.placed.tables) for stage in stages]
    for generated in (False, True):
        for stage, found in zip(stages, begins, strict=True):
            for number, table in enumerate(stage.placed.tables):
                if table.generated == generated:
                    found[number] = line
                    line += table.size
    return begins


def _threshold(config: Config, stage: int) -> int:
    """The threshold of a stage's filter as an entry of the CTR table."""
    threshold = config.funnel.threshold
    return abi.ctr_index(65535 * threshold[stage]) if threshold else 0


def _fields(
    config: Config, stage: PlacedStage, begins: Sequence[int]
) -> list[list[dict[str, int]]]:
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
