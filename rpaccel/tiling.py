"""Tiles: where a stage's activations lie, and the passes that compute its layers.

The activation memory of a group holds, for each item, a run of bytes: inputs written by the gather
unit (pooled tables, dense inputs) and layer outputs. A layer reads slices of ``k_width`` bytes and
writes chunks of ``n_width`` bytes of it; a memory word is whole slices and whole chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.errors import ConfigError
from rpaccel.geometry import DotShape, Shape
from sw_model.quantised import QuantisedLayer, QuantisedModel, QuantisedProduct

__all__ = ["PlacedLayer", "PlacedProduct", "Space", "Tile", "pair_words", "passes"]


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
    words = np.zeros((dot.steps * dot.turns * dot.ring, abi.PAIR.bytes), np.uint8)
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


@dataclass(frozen=True)
class Tile:
    """One pass: its command without addresses, its weights, and its epilogue if it is final.

    Attributes
    ----------
    command : dict
        Fields of ``abi.PASS`` but for ``weights``, ``tile``, ``params`` and ``last``.
    weights : uint8, shape (tile_rows, rows * n_width)
        Rows of weights of all sub-arrays, those of the first row of sub-arrays first.
    params : uint8, shape (m, tile_cols * 8), or None
        Words of the parameter memory, for a final pass: one a column of sub-arrays that is used.
    """

    command: dict[str, int]
    weights: NDArray[np.uint8]
    params: NDArray[np.uint8] | None


class _Written:
    """Which of the writing passes so far made each byte, and which of them have been followed.

    Rows of a pass come after those of the passes before it, so what one of them has waited for is
    there for all behind it.
    """

    def __init__(self, size: int) -> None:
        self._maker = np.zeros(size, np.int64)  # from 1; what the gather unit writes has none
        self._passes = self._followed = 0

    def follow(self, at: NDArray[np.int64]) -> int:
        """PASS.wait_write of the next pass, which reads these bytes."""
        maker = int(self._maker[at].max())
        if maker <= self._followed:
            return 0
        back = min(self._passes + 1 - maker, (1 << abi.FOLLOW_BITS) - 1)
        self._followed = self._passes + 1 - back
        return back

    def write(self, start: int, stop: int) -> None:
        """Bytes that the next pass writes."""
        self._passes += 1
        self._maker[start:stop] = self._passes

    def resume(self) -> None:
        """All passes so far are over."""
        self._followed = self._passes


def passes(shape: Shape, space: Space) -> list[list[Tile]]:
    """Cut a stage into passes.

    Returns
    -------
    list of list of Tile
        Of each layer of ``space``, in their order.

    Raises
    ------
    ConfigError
        A sum of a layer could overflow int32, or a parameter is out of range.
    """
    written = _Written(space.words * shape.word_bytes)
    layers = []
    for place in space.layers:
        if isinstance(place, PlacedProduct):
            layers.append(list(_product_tiles(shape, place, written)))
        else:
            layers.append(list(_layer_tiles(shape, place, written)))
    return layers


def _layer_tiles(shape: Shape, place: PlacedLayer, written: _Written) -> Iterator[Tile]:
    """Cut a layer into passes: for each output chunk, all input slices in ascending order."""
    check(place)
    if place.resumes:
        written.resume()
    k = shape.k_width
    slices = np.unique(place.at // k).tolist()
    for chunk, channels, columns in _chunks(shape, place.target or 0, range(place.outputs)):
        for j in slices:
            taken = np.flatnonzero(place.at // k == j)
            block = np.zeros((k, shape.n_width), np.int8)
            block[place.at[taken] - j * k, columns] = place.layer.weights[channels, taken].T
            command = {
                "rows": len(taken),
                "cols": columns.stop - columns.start,
                "first": j == slices[0],
                "final": j == slices[-1],
                "destination": abi.Destination.SCORE
                if place.target is None
                else abi.Destination.ACTIVATION,
                "relu": place.layer.relu and not place.layer.logit,
                "wait_input": not place.resumes and place.gathered[taken].any(),
                "wait_write": written.follow(place.at[taken]),
            }
            if place.pauses and j == slices[-1]:
                command["vector"] = 1 + chunk - (place.target or 0) // shape.n_width
                command["pause"] = channels.stop == place.outputs
            yield _tile(shape, place.layer, j, chunk, channels, columns, block, command)
        if place.target is not None:
            written.write(place.target + channels.start, place.target + channels.stop)


def _product_tiles(shape: Shape, place: PlacedProduct, written: _Written) -> Iterator[Tile]:
    """Cut a product into passes.

    They bring its factors to their columns: those of the first are accumulated, by which those of
    the second are multiplied, all of a chunk that are in one slice.
    """
    k, (first, second) = shape.k_width, place.sources
    product, elements = place.product, np.arange(place.outputs)
    for j in np.unique((second + elements) // k).tolist():
        here = elements[(second + elements) // k == j]
        run = range(here[0], here[-1] + 1)
        for chunk, channels, columns in _chunks(shape, place.target, run):
            made = elements[channels]
            own = np.arange(columns.start, columns.stop)
            befores = np.unique((first + made) // k).tolist()
            for source, at in [(first, i) for i in befores] + [(second, j)]:
                byte = source + made - at * k
                inside = (byte >= 0) & (byte < k)
                block = np.zeros((k, shape.n_width), np.int8)
                block[byte[inside], own[inside]] = 1
                final = source == second
                command = {
                    "rows": final,  # a multiplication a channel
                    "cols": len(made),
                    "first": source == first and at == befores[0],
                    "final": final,
                    "multiply": final,
                    "destination": abi.Destination.ACTIVATION,
                    "wait_input": True,
                    "wait_write": 0,
                }
                yield _tile(shape, product, at, chunk, channels, columns, block, command)
            written.write(place.target + channels.start, place.target + channels.stop)


def _chunks(shape: Shape, target: int, outputs: range) -> Iterator[tuple[int, slice, slice]]:
    """Chunks that hold a run of outputs: its number, which outputs, in which columns."""
    n = shape.n_width
    start, stop = target + outputs.start, target + outputs.stop
    for chunk in range(start // n, -(-stop // n)):
        low, high = max(start, chunk * n), min(stop, (chunk + 1) * n)
        yield chunk, slice(low - target, high - target), slice(low - chunk * n, high - chunk * n)


def _tile(
    shape: Shape,
    scales: QuantisedLayer | QuantisedProduct,
    source: int,
    chunk: int,
    channels: slice,
    columns: slice,
    block: NDArray[np.int8],
    command: Mapping[str, Any],
) -> Tile:
    """Make a tile of its slice, chunk, channels, columns, weights and what else is known of it."""
    command = {
        **command,
        "source": source // shape.slices,
        "slice": source % shape.slices,
        "target": chunk // shape.chunks,
        "chunk": chunk % shape.chunks,
        "column": columns.start,
        "columns": columns.stop - columns.start,
    }
    return Tile(
        {name: int(value) for name, value in command.items()},
        _weight_words(shape, block),
        _params(shape, scales, channels, columns) if command["final"] else None,
    )


def _weight_words(shape: Shape, block: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Weights (k_width, n_width) as rows: number r has row r of every sub-array."""
    split = block.reshape(shape.rows, shape.k_width // shape.rows, shape.n_width)
    words = split.transpose(1, 0, 2).reshape(split.shape[1], -1)
    return np.ascontiguousarray(words).view(np.uint8)


def _params(
    shape: Shape, layer: QuantisedLayer | QuantisedProduct, channels: slice, columns: slice
) -> NDArray[np.uint8]:
    """One PARAM structure a column of the chunk; columns that are not written are zero."""
    at = {f.name: abi.PARAM.offset(f.name) for f in abi.PARAM}
    word = np.zeros(columns.stop - columns.start, np.uint64)
    if isinstance(layer, QuantisedLayer):
        bias = layer.bias[channels].astype(np.int64) & 0xFFFFFFFF
        word |= bias.astype(np.uint64) << np.uint64(at["bias"])
    word |= layer.mantissa[channels].astype(np.uint64) << np.uint64(at["mantissa"])
    word |= layer.shift[channels].astype(np.uint64) << np.uint64(at["shift"])
    tile_cols = shape.n_width // shape.cols
    words = np.zeros(-(-columns.stop // tile_cols) * tile_cols, "<u8")
    words[columns] = word
    return words.view(np.uint8).reshape(-1, tile_cols * abi.PARAM.bytes)


def check(place: PlacedLayer) -> None:
    """Prove that no sum of a layer overflows int32, and that its parameters are in range.

    Raises
    ------
    ConfigError
        Naming layer and channel.
    """
    layer = place.layer
    bound = np.abs(layer.bias.astype(np.int64))
    bound += 128 * np.abs(layer.weights.astype(np.int64)).sum(axis=1)
    over = np.flatnonzero(bound >= 1 << 31)
    if over.size:
        at = over[0]
        raise ConfigError(
            f"layer {place.name}, channel {at}: |bias| + sum of 128 |weight| is {bound[at]}, "
            f"more than an int32 accumulator is sure to hold ({(1 << 31) - 1})"
        )
    for name, high in (("mantissa", 65535), ("shift", 47)):
        values = getattr(layer, name)
        wrong = np.flatnonzero((values < 0) | (values > high))
        if wrong.size:
            at = wrong[0]
            raise ConfigError(
                f"layer {place.name}, channel {at}: {name} {values[at]} is outside 0..{high}"
            )
