"""The compiler: quantised models to a memory image with tables, weights and tile programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from rpaccel.checks import check_gather, check_model
from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.image import Image, MemoryUse, assemble, table_start
from rpaccel.segments import generated_tables, segments_of
from rpaccel.stage_place import GroupMemories, PlacedStage, place_stage
from rpaccel.table_plan import plan_tables
from sw_model.quantised import QuantisedModel

__all__ = ["compile_image"]


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
    groups = [GroupMemories(hardware, number) for number in range(len(hardware.groups))]
    stages = []
    for number, model in enumerate(models):
        check_model(config, number, model)
        check_gather(config, number, model)
    for number, placed in enumerate(plan_tables(config, models, hotness)):
        stages.append(place_stage(config, number, models[number], groups, placed))
    memories = _memories(config, groups, stages)
    over = [f"{m.name} takes {m.used} of {m.available}" for m in memories if m.used > m.available]
    if over:
        raise ConfigError("the models do not fit the machine: " + "; ".join(over))
    return _image(config, groups, stages, memories, address)


def _memories(
    config: Config, groups: list[GroupMemories], stages: list[PlacedStage]
) -> list[MemoryUse]:
    """What on-chip memories hold, and how much they could."""
    hardware = config.hardware
    uses = [use for group in groups for use in group.uses()]
    used = sum(t.static_lines for stage in stages for t in stage.info.tables)
    uses.append(MemoryUse("hardware: lines of static_macros", used, hardware.static_lines))
    return uses


def _image(
    config: Config,
    groups: list[GroupMemories],
    stages: list[PlacedStage],
    memories: list[MemoryUse],
    address: int,
) -> Image:
    """Lay everything out in device memory."""
    hardware = config.hardware
    # Where the tables begin depends on the segments' sizes only, not on the lines in FIELD words.
    start = table_start(hardware, segments_of(config, groups, stages, 0))
    line = address // hardware.memory.line_bytes + start
    segments = segments_of(config, groups, stages, line)
    tables = [table for stage in stages for table in stage.placed.tables]
    stored = [table.first(table.size) for table in tables if not table.generated]
    generated = generated_tables(stages, line)
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
