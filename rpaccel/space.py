"""Where a stage's activations lie.

The activation memory of a group holds, for each item, a run of bytes: inputs written by the gather
unit (pooled tables, dense inputs) and layer outputs. A layer reads slices of ``k_width`` bytes and
writes chunks of ``n_width`` bytes of it; a memory word is whole slices and whole chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from rpaccel.geometry import DotShape, Shape
from rpaccel.image_layout import PAIR
from sw_model.quantised import QuantisedLayer, QuantisedModel, QuantisedProduct

__all__ = ["PlacedLayer", "PlacedProduct", "Space", "pair_words"]


@dataclass(frozen=True)
class PlacedLayer:
    """A layer in its place: byte offsets of its inputs and outputs in the activation memory.

    ``at`` (int64, shape (K,)) are those of the inputs, ``gathered`` (bool, shape (K,)) tells which
    are written by the gather unit; ``target`` is None for the layer that makes the score.
    ``pauses``: a dot interaction follows, which takes the outputs as its last vector. ``resumes``:
    it was before, so that all inputs are there.
    """

    name: str
    layer: QuantisedLayer
    at: NDArray[np.int64]
    target: int | None
    gathered: NDArray[np.bool_]
    pauses: bool = False
    resumes: bool = False

    @property
    def inputs(self) -> int:
        """Width of the input."""
        return self.layer.weights.shape[1]

    @property
    def outputs(self) -> int:
        """Width of the output."""
        return self.layer.weights.shape[0]

    @property
    def macs(self) -> int:
        """Multiplications of an item."""
        return self.layer.weights.size


@dataclass(frozen=True)
class PlacedProduct:
    """An elementwise product in its place: byte offsets of its first factors and its outputs."""

    name: str
    product: QuantisedProduct
    sources: tuple[int, int]
    target: int

    @property
    def inputs(self) -> int:
        """Bytes read."""
        return 2 * self.outputs

    @property
    def outputs(self) -> int:
        """Products."""
        return len(self.product.mantissa)

    @property
    def macs(self) -> int:
        """Multiplications of an item."""
        return self.outputs


@dataclass(frozen=True)
class _Region:
    """Bytes in use from the writing of layer ``born`` to the reading of layer ``dies``."""

    start: int
    size: int
    born: int
    dies: int


@dataclass(frozen=True)
class Space:
    """The activation memory of a stage.

    Attributes
    ----------
    layers : tuple of PlacedLayer or PlacedProduct
        The product, where there is one, bottom MLP, then top MLP.
    tables : tuple of int
        Byte offset of each table's pooled vector, in the memory of the dot interaction unit from
        its base on.
    dense : int
        Byte offset of the dense inputs.
    words : int
        Words of the activation memory that an item takes.
    """

    layers: tuple[PlacedLayer | PlacedProduct, ...]
    tables: tuple[int, ...]
    dense: int
    words: int

    @classmethod
    def plan(
        cls,
        shape: Shape,
        model: QuantisedModel,
        dense: int,
        words: int,
        *,
        slices: Iterable[int] = (),
        dot: DotShape | None = None,
    ) -> Space:
        """Place a model's activations.

        Parameters
        ----------
        shape : Shape
        model : QuantisedModel
        dense : int
            Number of dense inputs.
        words : int
            Words an item may take without making sub-batches smaller than the accumulators allow.
            Fewest tiles come first; if that takes more words, hidden layers are packed densely, and
            if need be use the bytes of activations that are not read any more.
        slices : iterable of int, bytes
            Slices of other shapes, to which dense inputs are aligned too.
        dot : DotShape, optional
            The unit of a model with a dot interaction.
        """
        align = lcm(shape.k_width, *slices)
        best = None
        for reuse, compact in ((False, False), (False, True), (True, False), (True, True)):
            space = cls._place(shape, model, dense, align, dot, reuse=reuse, compact=compact)
            if best is None or space.words < best.words:
                best = space
            if best.words <= words:
                break
        assert best is not None
        return best

    @classmethod
    def _place(
        cls,
        shape: Shape,
        model: QuantisedModel,
        dense: int,
        align: int,
        dot: DotShape | None,
        *,
        reuse: bool,
        compact: bool,
    ) -> Space:
        bottom = len(model.bottom)
        width = model.bottom[-1].weights.shape[0] if bottom else 0
        if dot is None:
            offsets = np.cumsum([0, *(t.rows.shape[1] for t in model.tables)]).tolist()
            pooled = offsets.pop()
            dense_at = _align(pooled + width, align)
            concat = np.arange(pooled + width)
        else:
            offsets = [dot.base + place * dot.dimension for place in range(len(model.tables))]
            # The last vector begins a chunk: its columns are those of the unit's.
            dense_at = _align(dot.results, align)
            pooled = _align(dense_at + dense if bottom else dot.results, shape.n_width)
            concat = np.array([*_pairs(dot, model), *range(pooled, pooled + width)])
        regions = [_Region(0, pooled if dot is None else dot.results, -1, bottom)]
        if bottom:
            regions += [_Region(pooled, width, -1, bottom), _Region(dense_at, dense, -1, 0)]
        layers: list[PlacedLayer | PlacedProduct] = []
        last = bottom + len(model.top) - 1
        factors = 0
        if model.product is not None:
            factors = len(model.product.mantissa)
            by_name = dict(zip((t.name for t in model.tables), offsets, strict=True))
            first, second = (by_name[name] for name in model.product.tables)
            for part in first, second:
                concat = np.setdiff1d(concat, np.arange(part, part + factors))
            place = _fit(shape, regions, factors, compact=compact)
            regions.append(_Region(place, factors, -1, last))
            layers.append(
                PlacedProduct(f"{model.name}.product", model.product, (first, second), place)
            )
        at, gathered = dense_at + np.arange(dense), np.ones(dense, bool)
        for number, layer in enumerate([*model.bottom, *model.top]):
            part = f"top.{number - bottom}" if number >= bottom else f"bottom.{number}"
            size = layer.weights.shape[0]
            if number == bottom:
                at, gathered = concat, concat < pooled
            if number == last and factors:
                at = np.concatenate([place + np.arange(factors), at])
                gathered = np.concatenate([np.zeros(factors, bool), gathered])
            target: int | None
            if number == last:
                target = None
            elif number == bottom - 1:
                target = pooled
            else:
                live = [r for r in regions if not reuse or r.dies >= number]
                target = _fit(shape, live, size, compact=compact)
                regions.append(_Region(target, size, number, number + 1))
            layers.append(
                PlacedLayer(
                    f"{model.name}.{part}",
                    layer,
                    at,
                    target,
                    gathered,
                    pauses=dot is not None and number == bottom - 1,
                    resumes=dot is not None and number == bottom,
                )
            )
            at, gathered = (target or 0) + np.arange(size), np.zeros(size, bool)
        end = max(
            _align(r.start + r.size, width)
            for r in regions
            for width in (shape.k_width, shape.n_width)
        )
        return cls(tuple(layers), tuple(offsets), dense_at, -(-end // shape.word_bytes))


def _pairs(dot: DotShape, model: QuantisedModel) -> list[int]:
    """Byte of each pair's result among those of a unit."""
    places = [*range(len(model.tables)), *([dot.vectors - 1] if model.bottom else [])]
    return [dot.result(i, j) for n, i in enumerate(places) for j in places[:n]]


def pair_words(dot: DotShape, model: QuantisedModel) -> NDArray[np.uint8]:
    """PAIR structures of a model, one word a step; those of vectors that are not there are zero."""
    assert model.dot is not None
    words = np.zeros((dot.steps * dot.turns * dot.ring, PAIR.bytes), np.uint8)
    at = _pairs(dot, model)
    mantissa, shift = (np.asarray(x, "<u2") for x in (model.dot.mantissa, model.dot.shift))
    words[at, :2] = mantissa[:, None].view(np.uint8)
    words[at, 2] = shift
    return words.reshape(dot.steps, -1)


def _align(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _fit(shape: Shape, live: list[_Region], size: int, *, compact: bool) -> int:
    """Find a place for a layer's outputs: slice aligned, apart from what is still needed.

    The first place, or without ``compact`` the first of those with the fewest chunks.
    """
    k, n = shape.k_width, shape.n_width
    end = _align(max((r.start + r.size for r in live), default=0), k)
    # behind the end, one place for each alignment of slices to chunks
    starts = [
        start
        for start in range(0, end + k * (n // gcd(k, n)), k)
        if all(start + size <= r.start or r.start + r.size <= start for r in live)
    ]
    return starts[0] if compact else min(starts, key=lambda s: -(-(s % n + size) // n))
