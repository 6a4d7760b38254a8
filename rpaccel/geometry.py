"""How a group's sub-arrays can be used: the shapes of its machine, and where bytes lie in each.

Part of the contract: compiler, gateware and golden device agree on it (docs/architecture.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpaccel.hardware import HardwareConfig

__all__ = ["DotShape", "GroupGeometry", "Shape"]


@dataclass(frozen=True)
class Shape:
    """One way to use a group: ``rows x cols`` sub-arrays fused, ``parts`` of these side by side.

    All parts get the same weights; item i of a token is row ``i // parts`` of part ``i % parts``.

    Attributes
    ----------
    index : int
        Number of the shape in ``GroupConfig.shapes``.
    rows, cols : int
        Sub-arrays fused.
    parts : int
    k_width, n_width : int, bytes
        Inputs (a slice) and outputs (a chunk) of a pass, of each item.
    word_bytes : int
        Bytes of one word of a part's activation memory, whole slices and whole chunks.
    """

    index: int
    rows: int
    cols: int
    parts: int
    k_width: int
    n_width: int
    word_bytes: int

    @property
    def slices(self) -> int:
        """Slices in a word."""
        return self.word_bytes // self.k_width

    @property
    def chunks(self) -> int:
        """Chunks in a word."""
        return self.word_bytes // self.n_width

    def item_rows(self, items: int) -> int:
        """Rows that a token of so many items takes in each part: cycles of a pass."""
        return -(-items // self.parts)


@dataclass(frozen=True)
class DotShape:
    """A dot interaction unit: what it multiplies when, and where its results lie.

    The vectors stand in a ring of odd size; rotation s multiplies each one by that ``s`` places
    on, so that rotations 1..``rotations`` meet each pair once. A cycle does ``turns`` rotations of
    ``width`` bytes of each vector.

    Attributes
    ----------
    vectors : int
        Most vectors, the bottom MLP's output included, which is the last one.
    dimension : int, bytes
        Most elements of one.
    macs : int
        Multipliers that it may have, at least one a vector of the ring.
    base : int, bytes
        Where its memory begins in what a gather unit can address.
    """

    vectors: int
    dimension: int
    macs: int
    base: int

    @property
    def ring(self) -> int:
        """Places of the ring; one more than vectors if these are an even number."""
        return self.vectors | 1

    @property
    def rotations(self) -> int:
        """Rotations after which all pairs have met."""
        return self.ring // 2

    @property
    def slices(self) -> int:
        """Cycles for one rotation, as few as the multipliers allow."""
        return -(-self.dimension // min(self.dimension, self.macs // self.ring))

    @property
    def width(self) -> int:
        """Bytes of each vector that are multiplied in a cycle."""
        return -(-self.dimension // self.slices)

    @property
    def steps(self) -> int:
        """Times that ``turns`` rotations are done, as few as the multipliers allow."""
        most = max(1, self.macs // (self.ring * self.dimension))
        return -(-self.rotations // min(most, self.rotations))

    @property
    def turns(self) -> int:
        """Rotations at the same time."""
        return -(-self.rotations // self.steps)

    @property
    def cycles(self) -> int:
        """Cycles an item."""
        return self.steps * self.slices

    @property
    def multipliers(self) -> int:
        """Multipliers that it has: no more than it can use."""
        return self.ring * self.turns * self.width

    @property
    def results(self) -> int:
        """Bytes of an item's results, one a pair of the ring."""
        return self.ring * self.rotations

    def result(self, i: int, j: int) -> int:
        """Byte of the result of two different vectors."""
        apart = (j - i) % self.ring
        first = i if apart <= self.rotations else j
        return (min(apart, self.ring - apart) - 1) * self.ring + first


@dataclass(frozen=True)
class GroupGeometry:
    """The shapes of one group of a machine.

    Parameters
    ----------
    hardware : HardwareConfig
    group : int
    """

    hardware: HardwareConfig
    group: int

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes, in their order."""
        config, hardware = self.hardware.groups[self.group], self.hardware
        return tuple(
            Shape(
                index=index,
                rows=rows,
                cols=cols,
                parts=config.rows // rows * (config.cols // cols),
                k_width=rows * hardware.tile_rows,
                n_width=cols * hardware.tile_cols,
                word_bytes=rows * self.row_bytes,
            )
            for index, (rows, cols) in enumerate(config.fusions)
        )

    @cached_property
    def gather_bytes(self) -> int:
        """Bytes that a gather unit writes at once: the widest chunk of all groups it writes to,
        or ``hardware.gather_bytes`` if that is more.

        Groups that serve a stage together, and those that serve another with one of them, have the
        same.
        """
        groups = self.hardware.groups
        linked, stages = {self.group}, set(groups[self.group].stages)
        for _ in groups:
            linked |= {n for n, group in enumerate(groups) if stages & set(group.stages)}
            stages |= {s for n in linked for s in groups[n].stages}
        widest = max(cols for n in linked for _, cols in groups[n].fusions)
        return max(widest * self.hardware.tile_cols, self.hardware.gather_bytes)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a word that a sub-array keeps: whole slices of ``tile_rows`` bytes.

        In every shape a word is a whole number of slices, of chunks, and of the gather unit's
        writes, so that each of these lies in one word. Groups that share sub-arrays, and those
        that share others with one of them, have the same.
        """
        linked = {self.group}
        while more := {n for g in linked for n in self.hardware.overlapping(g)} - linked:
            linked |= more
        return lcm(*(self.hardware.geometry(n)._own_row_bytes for n in linked))

    @property
    def _own_row_bytes(self) -> int:
        tile_rows, tile_cols = self.hardware.tile_rows, self.hardware.tile_cols
        slices = 1
        for rows, cols in self._fusions:
            k_width = rows * tile_rows
            slices = lcm(slices, lcm(k_width, cols * tile_cols, self.gather_bytes) // k_width)
        return slices * tile_rows

    @property
    def shares(self) -> bool:
        """Whether the group has sub-arrays in common with others."""
        return bool(self.hardware.overlapping(self.group))

    def part(self, shape: Shape, row: int, col: int) -> int:
        """The part that a sub-array works for."""
        cols = self.hardware.groups[self.group].cols // shape.cols
        return row // shape.rows * cols + col // shape.cols

    @property
    def weight_rows(self) -> int:
        """Words of the weight memory."""
        return self.hardware.groups[self.group].weight_rows or self.hardware.weight_rows

    @cached_property
    def weight_tiles(self) -> int:
        """Sub-arrays' rows of weights in a word of the weight memory."""
        return max(rows * cols for rows, cols in self._fusions)

    @cached_property
    def dots(self) -> dict[int, DotShape]:
        """Dot interaction units, by the number of their stage among those of the group."""
        served = self.hardware.groups[self.group].stages
        found = {number: self.hardware.dot_shape(stage) for number, stage in enumerate(served)}
        return {number: shape for number, shape in found.items() if shape is not None}

    @property
    def max_cols(self) -> int:
        """Most sub-arrays side by side that make one chunk."""
        return max(cols for _, cols in self._fusions)

    @property
    def max_parts(self) -> int:
        """Most parts of a shape."""
        return max(shape.parts for shape in self.shapes)

    @property
    def _fusions(self) -> list[tuple[int, int]]:
        return self.hardware.groups[self.group].fusions
