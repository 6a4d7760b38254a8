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

__all__ = ["GroupGeometry", "Shape"]


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
        writes, so that each of these lies in one word.
        """
        tile_rows, tile_cols = self.hardware.tile_rows, self.hardware.tile_cols
        slices = 1
        for rows, cols in self._fusions:
            k_width = rows * tile_rows
            slices = lcm(slices, lcm(k_width, cols * tile_cols, self.gather_bytes) // k_width)
        return slices * tile_rows

    @cached_property
    def weight_tiles(self) -> int:
        """Sub-arrays' rows of weights in a word of the weight memory."""
        return max(rows * cols for rows, cols in self._fusions)

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
