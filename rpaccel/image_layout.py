"""The memory image: its blocks, the on-chip memories that it fills, and the words of these."""

from __future__ import annotations

from enum import IntEnum

from rpaccel.abi import BLOCK_BYTES, THRESHOLD_BITS
from rpaccel.layout import Field, Layout

__all__ = [
    "ENTRY",
    "FIELD",
    "FOLLOW_BITS",
    "GROUP_BITS",
    "IMAGE_HEADER",
    "IMAGE_MAGIC",
    "IMAGE_SEGMENT",
    "LANE",
    "MOST_CYCLES",
    "PAIR",
    "PARAM",
    "PASS",
    "STAGE",
    "STEP",
    "Destination",
    "FieldScope",
    "Target",
    "image_block_bytes",
    "lane_words",
    "pairs_target",
    "target_id",
]

IMAGE_MAGIC = 0x49415052
"""ASCII "RPAI", little-endian."""
GROUP_BITS = 5
"""Width of a group's number in a target, which has a bit more elsewhere."""
FOLLOW_BITS = 4
"""Width of PASS.wait_write."""


class Target(IntEnum):
    """Kinds of on-chip memory an image segment fills; see :func:`target_id`."""

    STAGES = 0
    """Stage table (index 0): one STAGE word a stage. Index 1 + s: requantisation of the dot
    interaction of stage s, a word of ``ring * turns`` PAIR structures for each step of an item."""
    FIELDS = 1
    """FIELD words of a stage; those of lane l begin at ``l * lane_words(max_fields)``."""
    STATIC = 2
    """Static region (index 0): words of ``memory.bus_bytes``, macro by macro."""
    PROGRAM = 3
    """PASS words of a group."""
    WEIGHTS = 4
    """Weight rows of a group: words of ``weight_tiles * tile_cols`` bytes, int8."""
    PARAMS = 5
    """Epilogue parameters of a group: words of ``tile_cols`` PARAM structures."""
    ENTRIES = 6
    """ENTRY words of a group, one for each stage that it serves, in their order."""
    STEPS = 7
    """Steps of a stage: words of a STEP and a LANE for each lane, the dense lane's the last."""


def target_id(kind: Target, index: int) -> int:
    """Identity of an on-chip memory: bits 7:5 kind, 8 and 4:0 stage or group index."""
    upper, lower = divmod(index, 1 << GROUP_BITS)
    return upper << 8 | kind << GROUP_BITS | lower


def pairs_target(stage: int) -> int:
    """Identity of the memory that holds the PAIR structures of a stage."""
    return target_id(Target.STAGES, 1 + stage)


def lane_words(words: int) -> int:
    """Distance of what belongs to a lane and to the next, in words of a target."""
    return 1 << (words - 1).bit_length()


IMAGE_HEADER = Layout(
    "image_header",
    512,
    Field("magic", 32, "IMAGE_MAGIC"),
    Field("version", 32, "VERSION"),
    Field("digest", 64, "digest of the machine the image is for"),
    Field("image_id", 32, "identity of the image, not zero"),
    Field("segments", 32, "number of segments"),
)
"""First block of an image; the segments' blocks follow it."""

IMAGE_SEGMENT = Layout(
    "image_segment",
    512,
    Field("target", 8, "bits 7:0 of the target"),
    Field("upper", 1, "its bit 8"),
    Field("reserved0", 23, "zero"),
    Field("address", 32, "first word of the target"),
    Field("words", 32, "number of target words"),
    Field("line", 32, "first memory line of the data, relative to the image's start"),
)
"""One segment. Its data is a run of target words, each padded to whole ``bus_bytes`` beats."""


def image_block_bytes(line_bytes: int) -> int:
    """Distance of image header and segment blocks: a block, or a line if that is larger."""
    return max(BLOCK_BYTES, line_bytes)


STAGE = Layout(
    "stage",
    128,
    Field("steps", 13, "number of steps that an item takes, 0: the stage is not there"),
    Field("lanes", 6, "lanes that have tables, from lane 0 on"),
    Field("query_bytes", 16, "bytes of the query record (same in each stage)"),
    Field("item_bytes", 16, "bytes of an item record (same in each stage)"),
    Field("max_items", 16, "largest sub-batch that each of its groups takes"),
    Field(
        "threshold",
        THRESHOLD_BITS,
        "entry of the CTR table from which on candidates pass a filter with bins, 0..1024",
    ),
)
"""A stage of an image."""

ENTRY = Layout(
    "entry",
    64,
    Field("program", 16, "first PASS of the stage's program in this group"),
    Field("form", 4, "which of the group's shapes the program is for"),
    Field("words", 16, "words of the activation memory that an item takes"),
    Field("cycles", 16, "predicted cycles of a sub-batch, for the choice between groups"),
    Field("dimension", 8, "elements of each vector of the dot interaction, 0: there is none"),
    Field("bottom", 1, "its last vector comes from the passes before it"),
)
MOST_CYCLES = (1 << 16) - 1
"""Most predicted cycles of a sub-batch that an ENTRY can say."""
"""A stage in a group that serves it."""


class FieldScope(IntEnum):
    """Which record a step reads."""

    QUERY = 0
    ITEM = 1


FIELD = Layout(
    "field",
    256,
    Field("index_bytes", 3, "bytes of an index, 1..4"),
    Field("count", 10, "bytes made: the embedding dimension (1..512)"),
    Field("output", 16, "byte offset in the stage's input space of the activation memory"),
    Field("shift", 4, "right shift of the pooled sum"),
    Field("rows", 32, "rows of the table"),
    Field("hot_rows", 32, "rows in the static region: indices below this"),
    Field("static_line", 24, "first line of the table in the static region, all macros counted"),
    Field("line", 32, "first line of the table in device memory (absolute)"),
    Field("log2_rows", 3, "log2 of rows in a line (row stride line_bytes >> log2_rows)"),
    Field("lines", 6, "lines a row takes, 1 where rows share a line"),
)
"""A table of a lane; of a piece of dense inputs, in the dense lane, only ``output`` counts."""

STEP = Layout(
    "step",
    32,
    Field("address", 16, "byte offset in the record"),
    Field("scope", 1, "FieldScope"),
    Field("last", 1, "last step of an item"),
)
"""One read of the feature buffer for an item, from which each lane takes at most one piece."""

LANE = Layout(
    "lane",
    32,
    Field("used", 1, "the lane takes a piece"),
    Field("first", 1, "first piece of its field"),
    Field("last", 1, "last piece of its field"),
    Field("item_last", 1, "last piece of the lane in the item"),
    Field("field", 6, "FIELD word of the lane"),
    Field("count", 7, "lookups in the piece, or dense inputs"),
    Field("byte", 8, "where the piece begins in what was read"),
)
"""What a lane takes of a step."""


class Destination(IntEnum):
    """Where a pass's outputs go."""

    ACTIVATION = 0
    SCORE = 1


PASS = Layout(
    "pass",
    256,
    Field("weights", 20, "first weight row of the tile"),
    Field("tile", 8, "which of the tiles in the weight words"),
    Field("source", 16, "word of the activation memory that is read"),
    Field("slice", 8, "which slice of that word"),
    Field("rows", 16, "multiplications of a column that are of use, for the utilisation counter"),
    Field("cols", 16, "valid outputs of the tile (for the utilisation counter)"),
    Field("first", 1, "first K tile: accumulate from zero"),
    Field("final", 1, "last K tile: requantise and write"),
    Field("multiply", 1, "multiply what was accumulated, an int8, by the sum of this tile"),
    Field("destination", 1, "Destination"),
    Field("relu", 1, "clamp below at zero"),
    Field("target", 16, "word of the activation memory that is written"),
    Field("chunk", 8, "which chunk of that word"),
    Field("column", 16, "first column written"),
    Field("columns", 16, "number of columns written (1 where the destination is SCORE)"),
    Field("params", 14, "epilogue parameters of the first column of sub-arrays"),
    Field("wait_input", 1, "reads bytes written by the gather unit: follow its items"),
    Field("wait_write", FOLLOW_BITS, "follow the writing pass so many before it; 0: none"),
    Field("last", 1, "last pass of the program"),
    Field("vector", 8, "chunk of the dot interaction's last vector that is made, from 1; 0: none"),
    Field("pause", 1, "last pass before the dot interaction"),
)
"""A tile command: stream the items of a token through one tile of weights."""

PARAM = Layout(
    "param",
    64,
    Field("bias", 32, "int32, in units of the accumulator", signed=True),
    Field("mantissa", 16, "multiplier"),
    Field("shift", 6, "right shift after the multiplication, 0..47"),
)
"""Epilogue parameters of one output channel."""

PAIR = Layout(
    "pair",
    24,
    Field("mantissa", 16, "multiplier"),
    Field("shift", 6, "right shift after the multiplication, 0..47"),
)
"""Requantisation of one product of the dot interaction."""
