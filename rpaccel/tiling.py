"""Tiles: the passes that compute a stage's layers, in the space of :mod:`rpaccel.space`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError
from rpaccel.geometry import Shape
from rpaccel.image_layout import FOLLOW_BITS, PARAM, Destination
from rpaccel.space import PlacedLayer, PlacedProduct, Space
from sw_model.quantised import QuantisedLayer, QuantisedProduct

__all__ = ["Tile", "passes"]


@dataclass(frozen=True)
class Tile:
    """One pass: its command without addresses, its weights, and its epilogue if it is final.

    Attributes
    ----------
    command : dict
        Fields of ``image_layout.PASS`` but for ``weights``, ``tile``, ``params`` and ``last``.
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
        back = min(self._passes + 1 - maker, (1 << FOLLOW_BITS) - 1)
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
                "destination": Destination.SCORE
                if place.target is None
                else Destination.ACTIVATION,
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
                    "destination": Destination.ACTIVATION,
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
    at = {f.name: PARAM.offset(f.name) for f in PARAM}
    word = np.zeros(columns.stop - columns.start, np.uint64)
    if isinstance(layer, QuantisedLayer):
        bias = layer.bias[channels].astype(np.int64) & 0xFFFFFFFF
        word |= bias.astype(np.uint64) << np.uint64(at["bias"])
    word |= layer.mantissa[channels].astype(np.uint64) << np.uint64(at["mantissa"])
    word |= layer.shift[channels].astype(np.uint64) << np.uint64(at["shift"])
    tile_cols = shape.n_width // shape.cols
    words = np.zeros(-(-columns.stop // tile_cols) * tile_cols, "<u8")
    words[columns] = word
    return words.view(np.uint8).reshape(-1, tile_cols * PARAM.bytes)


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
