"""What tensors of an ONNX graph mean for a DLRM: indices, rows, layers, vectors, products."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray

__all__ = [
    "BATCH", "Dot", "Ids", "Layer", "Output", "Part", "Product", "Products", "Real", "Rows",
    "Stack", "Unmapped", "Value", "Vector",
]  # fmt: skip


@dataclass(frozen=True)
class Ids:
    """Columns of an integer graph input; of ``rank`` 1 it is one column without its axis."""

    name: str
    first: int
    count: int
    rank: int


@dataclass(frozen=True)
class Real:
    """A real-valued graph input of ``width`` columns."""

    name: str
    width: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table by ids: (n, lookups, width) at ``rank`` 3, pooled at rank 2.

    ``lookups`` is 1 behind a sum with ``keepdims``.
    """

    label: str
    table: NDArray
    ids: Ids
    lookups: int
    rank: int

    @property
    def width(self) -> int:
        """Elements of a row."""
        return int(self.table.shape[1])


@dataclass(frozen=True, eq=False)
class Layer:
    """``x @ weight.T + bias`` of a vector; a bias of None is not there (yet)."""

    label: str
    weight: NDArray
    bias: NDArray | None
    inputs: Vector


@dataclass(frozen=True, eq=False)
class Output:
    """What a layer gives, behind a ReLU or not."""

    layer: Layer
    relu: bool = False

    @property
    def width(self) -> int:
        """Outputs of the layer."""
        return int(self.layer.weight.shape[0])


@dataclass(frozen=True, eq=False)
class Product:
    """Elementwise product of two tables' rows."""

    label: str
    factors: tuple[Rows, Rows]

    @property
    def width(self) -> int:
        """Elements of either factor."""
        return self.factors[0].width


@dataclass(frozen=True, eq=False)
class Dot:
    """Dot products of pairs of vectors, by their numbers: (n, pairs), or (pairs, n) if ``turned``.

    ``vectors`` are vectors of one width.
    """

    label: str
    vectors: tuple[Part, ...]
    pairs: tuple[tuple[int, int], ...]
    turned: bool = False

    @property
    def width(self) -> int:
        """Products."""
        return len(self.pairs)


Part = Real | Rows | Output | Product | Dot


@dataclass(frozen=True, eq=False)
class Vector:
    """Parts beside each other: (n, width), or (n,) at ``rank`` 1; ``score`` behind a sigmoid."""

    parts: tuple[Part, ...]
    rank: int = 2
    score: bool = False

    @property
    def width(self) -> int:
        """Elements of all parts."""
        return sum(part.width for part in self.parts)


@dataclass(frozen=True, eq=False)
class Stack:
    """Vectors of one width above each other: (n, vectors, width), or (n, width, vectors)."""

    vectors: tuple[Part, ...]
    turned: bool = False


@dataclass(frozen=True, eq=False)
class Products:
    """Products of all pairs of vectors; ``axes`` names what lies along each axis.

    ``n``: items, ``i`` and ``j``: vectors, ``p``: pairs, i x vectors + j.
    """

    label: str
    vectors: tuple[Part, ...]
    axes: str = "nij"


Value = NDArray | Ids | Rows | Vector | Stack | Products | Dot | None
"""None: not known, because a node before has no counterpart."""

BATCH = -(1 << 40)
"""Stands for the number of items in a shape that a graph computes."""


class Unmapped(Exception):
    """A node has no counterpart; the message says why."""
