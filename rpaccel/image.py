"""The memory image: what device memory holds, with what the host needs to know about it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.errors import ConfigError, DataError
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import IMAGE_HEADER, IMAGE_MAGIC, IMAGE_SEGMENT, image_block_bytes

__all__ = [
    "DotInfo",
    "GeneratedTable",
    "Image",
    "LayerInfo",
    "MemoryUse",
    "ProgramInfo",
    "Segment",
    "ShapeInfo",
    "StageInfo",
    "TableInfo",
    "assemble",
    "channel_data",
    "table_layout",
    "table_lines",
    "table_start",
]

_TRAILER = b"RPACCEL-IMAGE-1\n"


@dataclass(frozen=True)
class Segment:
    """Words for one on-chip memory: target (``image_layout.target_id``), first word, and the words.

    ``words`` is uint8 of shape (number of words, bytes of a word).
    """

    target: int
    address: int
    words: NDArray[np.uint8]


@dataclass(frozen=True)
class LayerInfo:
    """What the compiler made of one layer, or of a product.

    ``macs`` are useful multiplications of an item, ``utilisation`` is an upper bound (0..1).
    """

    name: str
    inputs: int
    outputs: int
    macs: int
    k_tiles: int
    n_tiles: int
    passes: int
    utilisation: float


@dataclass(frozen=True)
class TableInfo:
    """Where a table lies: lines in device memory, rows and lines in the static region."""

    name: str
    rows: int
    dimension: int
    lines: int
    hot_rows: int
    static_lines: int


@dataclass(frozen=True)
class MemoryUse:
    """Words used of the words an on-chip memory has."""

    name: str
    used: int
    available: int


@dataclass(frozen=True)
class ShapeInfo:
    """What a stage would take in one of its group's shapes; ``fits`` tells if its memories do.

    ``layers`` are passes of each layer.
    """

    rows: int
    cols: int
    parts: int
    k_width: int
    n_width: int
    layers: tuple[int, ...]
    max_items: int
    cycles: int
    fits: bool

    @property
    def passes(self) -> int:
        """Passes of all layers."""
        return sum(self.layers)


@dataclass(frozen=True)
class DotInfo:
    """A dot interaction on its unit: ``cycles`` an item, of which the array sees nothing."""

    vectors: int
    pairs: int
    multipliers: int
    cycles: int


@dataclass(frozen=True)
class ProgramInfo:
    """A stage's program in a group.

    ``options`` are the group's shapes, ``shape`` the one that was chosen of them. ``max_items`` is
    the largest sub-batch, ``limit`` names what sets it.
    """

    group: int
    shape: int
    options: tuple[ShapeInfo, ...]
    max_items: int
    limit: str
    words_per_item: int
    cycles: int
    layers: tuple[LayerInfo, ...]
    dot: DotInfo | None = None


@dataclass(frozen=True)
class StageInfo:
    """What the host needs to know about a stage of an image, and what ``explain`` shows.

    ``items`` is the largest sub-batch of the configuration's funnel, for which cycles are
    predicted. ``programs`` are those of the groups that serve the stage, in their order; ``macros``
    how many static macros each lane of the gather unit has.
    """

    model: str
    tile_rows: int
    items: int
    programs: tuple[ProgramInfo, ...]
    macros: tuple[int, ...]
    tables: tuple[TableInfo, ...]

    @property
    def narrowest(self) -> ProgramInfo:
        """The program that takes the smallest sub-batches."""
        return min(self.programs, key=lambda program: program.max_items)

    @property
    def max_items(self) -> int:
        """Largest sub-batch: any of the groups may get it."""
        return self.narrowest.max_items


@dataclass(frozen=True)
class GeneratedTable:
    """A table that is not in an image: from which memory line on it lies, and what is there.

    ``key``, ``rows`` and ``dimension`` are those of docs/numerics.md; ``line`` is absolute.
    ``log2_rows`` and ``lines_per_row`` as of :func:`table_layout`.
    """

    line: int
    lines: int
    key: int
    rows: int
    dimension: int
    log2_rows: int
    lines_per_row: int


@dataclass(frozen=True)
class Image:
    """A compiled memory image.

    Attributes
    ----------
    data : bytes
        Content of device memory from byte ``address`` on.
    address : int
        Line aligned.
    image_id : int
        Checksum of the content, never 0.
    digest : int
        Digest of the machine it is for.
    line_bytes : int
    stages : tuple of StageInfo
    memories : tuple of MemoryUse
    generated : tuple of GeneratedTable
        Behind ``data``, what device memory must answer without having it.
    settings : tuple of tuple of int
        The machine's settings: groups that are on at the same time.
    """

    data: bytes
    address: int
    image_id: int
    digest: int
    line_bytes: int
    stages: tuple[StageInfo, ...]
    memories: tuple[MemoryUse, ...]
    generated: tuple[GeneratedTable, ...] = ()
    settings: tuple[tuple[int, ...], ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the image: the bytes for device memory, then a description of them."""
        about = {f: v for f, v in asdict(self).items() if f != "data"} | {"bytes": len(self.data)}
        text = json.dumps(about, sort_keys=True).encode()
        Path(path).write_bytes(self.data + text + len(text).to_bytes(4, "little") + _TRAILER)

    @classmethod
    def load(cls, path: str | Path) -> Image:
        """Read an image written by :meth:`save`.

        Raises
        ------
        DataError
            The file is missing, truncated, or not an image.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        try:
            if not content.endswith(_TRAILER):
                raise ValueError("its end is missing")
            end = len(content) - len(_TRAILER) - 4
            size = int.from_bytes(content[end : end + 4], "little")
            about = json.loads(content[end - size : end])
            data = content[: end - size]
            about["generated"] = tuple(GeneratedTable(**t) for t in about["generated"])
            identity = _identity(data, about["generated"])
            if len(data) != about.pop("bytes") or identity != about["image_id"]:
                raise ValueError("its checksum is wrong")
            about["stages"] = tuple(_stage(s) for s in about["stages"])
            about["memories"] = tuple(MemoryUse(**m) for m in about["memories"])
            about["settings"] = tuple(tuple(groups) for groups in about["settings"])
            return cls(data, **about)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not an image: {error}") from None


def _stage(values: dict[str, Any]) -> StageInfo:
    programs = tuple(_program(v) for v in values.pop("programs"))
    tables = tuple(TableInfo(**v) for v in values.pop("tables"))
    macros = tuple(values.pop("macros"))
    return StageInfo(**values, programs=programs, macros=macros, tables=tables)


def _program(values: dict[str, Any]) -> ProgramInfo:
    options = tuple(ShapeInfo(**v | {"layers": tuple(v["layers"])}) for v in values.pop("options"))
    layers = tuple(LayerInfo(**v) for v in values.pop("layers"))
    dot = values.pop("dot")
    return ProgramInfo(
        **values, options=options, layers=layers, dot=DotInfo(**dot) if dot is not None else None
    )


def _identity(data: bytes, generated: Sequence[GeneratedTable]) -> int:
    """Checksum of image content, its own field in the header taken as zero."""
    at = IMAGE_HEADER.offset("image_id") // 8
    beyond = json.dumps([asdict(table) for table in generated]) if generated else ""
    return zlib.crc32(data[:at] + bytes(4) + data[at + 4 :] + beyond.encode()) or 1


def table_layout(dimension: int, line_bytes: int) -> tuple[int, int]:
    """How rows of a dimension lie in memory lines.

    Returns
    -------
    log2_rows : int
        log2 of the rows that share a line.
    lines_per_row : int
        1 where rows share a line.
    """
    lines_per_row = -(-dimension // line_bytes)
    log2_rows = 0
    while lines_per_row == 1 and dimension << log2_rows + 1 <= line_bytes:
        log2_rows += 1
    return log2_rows, lines_per_row


def table_lines(rows: NDArray[np.int8], line_bytes: int) -> NDArray[np.uint8]:
    """Lay rows out in memory lines, uint8 of shape (lines, line_bytes)."""
    count, dimension = rows.shape
    log2_rows, lines_per_row = table_layout(dimension, line_bytes)
    stride = lines_per_row * line_bytes >> log2_rows
    per_line = 1 << log2_rows
    padded = np.zeros((-(-count // per_line) * per_line, stride), np.uint8)
    padded[:count, :dimension] = rows.view(np.uint8)
    return padded.reshape(-1, line_bytes)


def _padded(hardware: HardwareConfig, segment: Segment) -> bytes:
    """A segment's data: words padded to whole beats, all of them to whole lines."""
    bus_bytes, line_bytes = hardware.memory.bus_bytes, hardware.memory.line_bytes
    words, size = segment.words.shape
    padded = np.zeros((words, -(-size // bus_bytes) * bus_bytes), np.uint8)
    padded[:, :size] = segment.words
    data = padded.tobytes()
    return data + bytes(-len(data) % line_bytes)


def _data_start(hardware: HardwareConfig, segments: int) -> int:
    """First line behind the header and the blocks of so many segments."""
    line_bytes = hardware.memory.line_bytes
    return (1 + segments) * image_block_bytes(line_bytes) // line_bytes  # blocks are lines


def table_start(hardware: HardwareConfig, segments: Sequence[Segment]) -> int:
    """First line of the tables, relative to the image: behind all segments' data."""
    sizes = (len(_padded(hardware, segment)) for segment in segments)
    return _data_start(hardware, len(segments)) + sum(sizes) // hardware.memory.line_bytes


def assemble(
    hardware: HardwareConfig,
    segments: Sequence[Segment],
    tables: Sequence[NDArray[np.uint8]],
    *,
    address: int,
    generated: Sequence[GeneratedTable] = (),
) -> tuple[bytes, int]:
    """Put header, segment blocks, segments' data and tables together.

    Parameters
    ----------
    hardware : HardwareConfig
    segments : sequence of Segment
    tables : sequence of uint8, shape (lines, line_bytes)
        In order from :func:`table_start` on.
    address : int
        Byte address of the image in device memory.
    generated : sequence of GeneratedTable
        What follows in device memory.

    Returns
    -------
    data : bytes
    image_id : int

    Raises
    ------
    ConfigError
        Device memory is too small.
    """
    line_bytes = hardware.memory.line_bytes
    block = image_block_bytes(line_bytes)
    line = _data_start(hardware, len(segments))
    blocks, body = [], []
    for segment in segments:
        words = len(segment.words)
        upper, target = divmod(segment.target, 256)
        values = {"target": target, "upper": upper, "address": segment.address, "words": words}
        blocks.append(IMAGE_SEGMENT.pack(**values, line=line).ljust(block, b"\0"))
        body.append(_padded(hardware, segment))
        line += len(body[-1]) // line_bytes
    header = {
        "magic": IMAGE_MAGIC,
        "version": abi.VERSION,
        "digest": hardware.digest(),
        "segments": len(segments),
    }
    rest = b"".join([*blocks, *body, *(t.tobytes() for t in tables)])
    limit = hardware.memory.channels << hardware.memory.address_bits
    size = block + len(rest) + sum(table.lines for table in generated) * line_bytes
    if address + size > limit:
        raise ConfigError(
            f"the image takes {size} bytes of device memory from {address:#x} on, "
            f"but hardware.memory has {limit}"
        )
    image_id = _identity(IMAGE_HEADER.pack(**header).ljust(block, b"\0") + rest, generated)
    return IMAGE_HEADER.pack(**header, image_id=image_id).ljust(block, b"\0") + rest, image_id


def channel_data(hardware: HardwareConfig, memory: bytes) -> list[bytes]:
    """Split device memory into what each channel holds, lines dealt out in turn."""
    line_bytes, channels = hardware.memory.line_bytes, hardware.memory.channels
    stride = line_bytes * channels
    lines = np.frombuffer(memory + bytes(-len(memory) % stride), np.uint8)
    lines = lines.reshape(-1, channels, line_bytes)
    return [lines[:, channel].tobytes() for channel in range(channels)]
