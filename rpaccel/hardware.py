"""The machine, as the section ``hardware`` of a configuration describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rpaccel.abi import DOT_OFFSET, MAX_GROUPS, SETTING_BITS
from rpaccel.geometry import DotShape, GroupGeometry
from rpaccel.groups import GroupConfig, check_settings
from rpaccel.section import (
    MAX_DIMENSION,
    MAX_ITEMS,
    MAX_STAGES,
    Natural,
    Positive,
    Section,
    power_of_two,
)

__all__ = ["DotConfig", "GatherConfig", "HardwareConfig", "MemoryConfig"]


MAX_ROW_BYTES = 2048
"""Most bytes that a sub-array may keep of a word of the activation memory."""


class GatherConfig(Section):
    """The embedding gather unit of one stage: ``lanes``, each for some of the tables.

    All other numbers are of each lane. ``cache_lines`` are memory lines; ``lookahead`` is how many
    row segments may be resolved ahead of the one being read; ``outstanding`` how many line reads
    may be in flight; ``max_fields`` how many tables it may have. ``max_steps`` is how many reads of
    the feature buffer an item may take.
    """

    lanes: Annotated[int, Field(ge=1, le=32)] = 1
    cache_lines: Positive
    cache_ways: Annotated[int, Field(ge=1, le=16)] = 4
    lookahead: Annotated[int, Field(ge=2, le=4096)] = 64
    outstanding: Annotated[int, Field(ge=1, le=256)] = 16
    max_dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = 64
    max_fields: Annotated[int, Field(ge=1, le=64)] = 16
    max_steps: Annotated[int, Field(ge=1, le=4096)] = 128

    @model_validator(mode="after")
    def _shape(self) -> GatherConfig:
        if self.cache_lines % self.cache_ways:
            raise ValueError(
                f"cache_lines = {self.cache_lines} must be a multiple of "
                f"cache_ways = {self.cache_ways}"
            )
        power_of_two("cache_lines / cache_ways", self.cache_lines // self.cache_ways)
        power_of_two("lookahead", self.lookahead)
        power_of_two("outstanding", self.outstanding)
        return self


class DotConfig(Section):
    """The dot interaction unit of a stage, in each group that serves the stage.

    ``vectors`` and ``dimension`` are the most of a model, the bottom MLP's output being the last
    vector; ``items`` the most of a sub-batch. ``macs`` is how many multipliers it may have, at
    least one a vector, for which an even number of vectors counts as one more.
    """

    stage: Natural
    vectors: Annotated[int, Field(ge=2, le=65)]
    dimension: Annotated[int, Field(ge=1, le=128)]
    items: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 256
    macs: Positive

    @model_validator(mode="after")
    def _least(self) -> DotConfig:
        if self.macs < self.vectors | 1:
            raise ValueError(
                f"macs must be at least {self.vectors | 1} for vectors = {self.vectors}, "
                f"not {self.macs}"
            )
        return self


class MemoryConfig(Section):
    """The device's memory: AXI4 channels, lines interleaved over them."""

    channels: Literal[1, 2, 4] = 1
    bus_bytes: Literal[8, 16, 32, 64] = 16
    line_bytes: Literal[16, 32, 64, 128] = 64
    address_bits: Annotated[int, Field(ge=16, le=40)] = 32

    @model_validator(mode="after")
    def _line(self) -> MemoryConfig:
        if self.line_bytes < self.bus_bytes:
            raise ValueError(
                f"line_bytes = {self.line_bytes} must be at least bus_bytes = {self.bus_bytes}"
            )
        return self

    @property
    def beats(self) -> int:
        """Bus beats in a line."""
        return self.line_bytes // self.bus_bytes

    @property
    def loader_lines(self) -> int:
        """Line reads that the loader has in flight: a beat a cycle for a round trip of 128."""
        return max(16, 128 // self.beats)


class HardwareConfig(Section):
    """The machine. Groups serve stages; every stage has a gather unit and a top-k unit.

    A stage that several groups serve has each of its tokens done by one of them.

    ``static_macros`` are the SRAMs of the static region, of ``macro_lines`` memory lines each; the
    image gives each of them to a lane of some stage.

    ``accumulator_depth`` and ``activation_rows`` are words of each sub-array: accumulators, one an
    item that it works on in a pass, and one token buffer. Of each stage, two token buffers exist.
    ``host_outstanding`` is how many blocks of 64 bytes the host port asks for before the first one
    is there. ``filter`` is the kind of each stage's top-k unit, by default ``exact``; the last
    stage may have ``none``, which releases all its candidates by position, for a host that ranks
    them. ``bins`` is how many a filter with bins has. ``read_bytes`` is how much a gather unit
    reads of an item's features in a cycle, by default ``host_bus_bytes``; ``gather_bytes`` the
    least that it writes in a cycle to the activation memory of a group.
    ``dot`` are the dot interaction units, at most one a stage.
    ``settings`` are the sets of groups that can be on at the same time, of which the driver chooses
    one at run time, by default the first; without any, all groups are always on.
    """

    tile_rows: Annotated[int, Field(ge=2, le=128)] = 8
    tile_cols: Annotated[int, Field(ge=2, le=128)] = 8
    groups: Annotated[list[GroupConfig], Field(min_length=1, max_length=MAX_GROUPS)]
    settings: Annotated[list[list[Natural]], Field(max_length=1 << SETTING_BITS)] = []
    accumulator_depth: Annotated[int, Field(ge=4, le=MAX_ITEMS)] = 256
    activation_rows: Annotated[int, Field(ge=16, le=2**20)] = 4096
    weight_rows: Annotated[int, Field(ge=16, le=2**20)] = 2048
    param_rows: Annotated[int, Field(ge=4, le=2**14)] = 64
    program_depth: Annotated[int, Field(ge=4, le=2**14)] = 256
    topk_depth: list[Annotated[int, Field(ge=1, le=4096)]]
    filter: list[Literal["exact", "bins", "none"]] = []
    bins: Annotated[int, Field(ge=2, le=256)] = 16
    gather: Annotated[list[GatherConfig], Field(min_length=1, max_length=MAX_STAGES)]
    dot: list[DotConfig] = []
    static_macros: Annotated[int, Field(ge=1, le=1024)] = 8
    macro_lines: Annotated[int, Field(ge=1, le=16384)] = 16
    memory: MemoryConfig = MemoryConfig()
    host_bus_bytes: Literal[8, 16, 32, 64] = 16
    host_outstanding: Annotated[int, Field(ge=1, le=1024)] = 8
    feature_bytes: Annotated[int, Field(ge=64, le=2**24)] = 32768
    read_bytes: Literal[8, 16, 32, 64, 128, 256] | None = None
    gather_bytes: Annotated[int, Field(ge=0, le=1024)] = 0
    query_slots: Annotated[int, Field(ge=1, le=16)] = 4
    sram_macro_bits: Annotated[int, Field(ge=0)] = 65536

    @model_validator(mode="after")
    def _consistent(self) -> HardwareConfig:
        for number, group in enumerate(self.groups):
            if len(set(group.stages)) != len(group.stages):
                raise ValueError(
                    f"groups.{number} must name each of its stages once, not {group.stages}"
                )
        served = {s for g in self.groups for s in g.stages}
        if served != set(range(len(self.gather))):
            raise ValueError(
                f"each of the {len(self.gather)} stages (one [[hardware.gather]] each) must be "
                f"served by a group, but the groups serve {sorted(served)}"
            )
        check_settings(self.groups, self.settings, self.stages)
        if len(self.topk_depth) != len(self.gather):
            raise ValueError(
                f"topk_depth must give a depth for each of the {len(self.gather)} stages, "
                f"not {self.topk_depth}"
            )
        if self.filter and len(self.filter) != len(self.gather):
            raise ValueError(
                f"filter must give a kind for each of the {len(self.gather)} stages, or for none, "
                f"not {self.filter}"
            )
        if not self.final(self.stages - 1):
            raise ValueError("the filter of the last stage must be exact or none, not bins")
        for stage in range(self.stages - 1):
            if self.filter_of(stage) == "none":
                raise ValueError(
                    f"filter.{stage} must be exact or bins, not none: only the last stage may "
                    f"release everything"
                )
        power_of_two("bins", self.bins)
        if self.feature_bytes % 64:
            raise ValueError(f"feature_bytes must be a multiple of 64, not {self.feature_bytes}")
        dots = [unit.stage for unit in self.dot]
        if len(set(dots)) != len(dots) or not set(dots) <= served:
            raise ValueError(
                f"dot must name stages 0..{self.stages - 1}, each at most once, not {dots}"
            )
        for number in range(len(self.groups)):
            row = self.geometry(number).row_bytes
            if row > MAX_ROW_BYTES:
                raise ValueError(
                    f"gather_bytes = {self.gather_bytes}: a word of the activation memory takes "
                    f"{row} bytes in each sub-array of group {number}, more than {MAX_ROW_BYTES}: "
                    f"take a multiple of what its shapes read and write"
                )
        if not self.host_bus_bytes <= self.feature_read <= self.feature_bytes:
            raise ValueError(
                f"read_bytes must be host_bus_bytes = {self.host_bus_bytes} to feature_bytes = "
                f"{self.feature_bytes}, not {self.feature_read}"
            )
        return self

    @property
    def stages(self) -> int:
        """Number of stages the machine has."""
        return len(self.gather)

    @property
    def static_lines(self) -> int:
        """Memory lines that the static region holds, all lanes together."""
        return self.static_macros * self.macro_lines

    @property
    def feature_read(self) -> int:
        """Bytes that a read of the feature buffer brings."""
        return self.read_bytes or self.host_bus_bytes

    @property
    def piece_bytes(self) -> int:
        """Most bytes of indices, or of dense inputs, that a lane takes of a read."""
        return min(16, self.feature_read)

    def filter_of(self, stage: int) -> str:
        """Kind of a stage's filter."""
        return self.filter[stage] if self.filter else "exact"

    def final(self, stage: int) -> bool:
        """Whether a query may end at a stage: its filter has no bins."""
        return self.filter_of(stage) != "bins"

    def groups_of(self, stage: int) -> list[int]:
        """Indices of the groups that serve a stage."""
        return [i for i, g in enumerate(self.groups) if stage in g.stages]

    def overlapping(self, group: int) -> list[int]:
        """Other groups that have sub-arrays in common with a group: never on while it is."""
        if not self.settings:
            return []
        mine = self.groups[group].places
        return [n for n, g in enumerate(self.groups) if n != group and mine & g.places]

    def dispatch_words(self, groups: Mapping[int, Collection[int]]) -> list[int]:
        """Values of the DISPATCH registers that let the given groups have a stage's tokens.

        Stages that are missing use all groups that serve them.

        Raises
        ------
        ValueError
            A stage is not there, has no group, or one that does not serve it.
        """
        if not set(groups) <= set(range(self.stages)):
            raise ValueError(f"stages must be 0..{self.stages - 1}, not {sorted(groups)}")
        barred = 0
        for stage, chosen in groups.items():
            serving, mine = self.groups_of(stage), sorted(int(group) for group in chosen)
            if not mine or not set(mine) <= set(serving):
                raise ValueError(
                    f"the groups of stage {stage} must be some of {serving}, not {mine}"
                )
            barred |= sum(1 << 4 * group + stage for group in set(serving) - set(mine))
        return [barred >> 32 * word & 0xFFFFFFFF for word in range(self.group_room // 8)]

    @property
    def group_room(self) -> int:
        """Groups that there is room for in registers and targets."""
        return MAX_GROUPS if len(self.groups) > MAX_GROUPS // 2 else MAX_GROUPS // 2

    def setting(self, number: int) -> list[int]:
        """Groups that are on in a setting; all in number 0 of a machine without settings.

        Raises
        ------
        ValueError
            There is no such setting.
        """
        settings = self.settings or [list(range(len(self.groups)))]
        if not 0 <= number < len(settings):
            raise ValueError(
                f"the setting must be one of 0..{len(settings) - 1}, the machine's, not {number}"
            )
        return settings[number]

    def geometry(self, group: int) -> GroupGeometry:
        """The shapes of a group."""
        return GroupGeometry(self, group)

    def first_alike(self, group: int) -> int:
        """The first group that is the same as this one but for its number and its place."""
        unit, geometry = self.groups[group], self.geometry(group)
        for number, other in enumerate(self.groups[:group]):
            if other.model_copy(update={"at": unit.at}) == unit:
                theirs = self.geometry(number)
                if theirs.shares == geometry.shares and theirs.row_bytes == geometry.row_bytes:
                    return number
        return group

    def dot_unit(self, stage: int) -> DotConfig | None:
        """The dot interaction unit of a stage, if it has one."""
        return next((unit for unit in self.dot if unit.stage == stage), None)

    def dot_shape(self, stage: int) -> DotShape | None:
        """How that unit works."""
        unit = self.dot_unit(stage)
        if unit is None:
            return None
        chunk = self.geometry(self.groups_of(stage)[0]).gather_bytes
        base = -(-DOT_OFFSET // chunk) * chunk
        return DotShape(unit.vectors, unit.dimension, unit.macs, base)

    @property
    def macs(self) -> int:
        """Multiply-accumulate units of the whole array."""
        if self.settings:
            sub_arrays = len(frozenset[tuple[int, int]]().union(*(g.places for g in self.groups)))
        else:
            sub_arrays = sum(g.rows * g.cols for g in self.groups)
        return sub_arrays * self.tile_rows * self.tile_cols

    def digest(self) -> int:
        """64-bit identity of the machine: images carry it, the device checks it."""
        values = self.model_dump(mode="json")
        # A machine without these is the same as before there were any.
        if not self.settings:
            del values["settings"]
        for group in values["groups"]:
            for name in "at", "weight_rows":
                if group[name] is None:
                    del group[name]
        text = json.dumps(values, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
