"""The ABI: everything host, image, gateware and golden device must agree on, defined once.

Registers, ring entries, image format, command and descriptor layouts, status codes, counters.
Gateware makes its structures from :class:`Layout`, the host packs and unpacks with the same
objects, and ``docs/abi.md`` is printed from them.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpaccel.config import HardwareConfig

__all__ = [
    "BLOCK_BYTES",
    "CAPABILITIES",
    "COMPLETION",
    "COUNTER_BASE",
    "DESCRIPTOR",
    "DOT_OFFSET",
    "ENTRY",
    "FIELD",
    "IMAGE_HEADER",
    "IMAGE_SEGMENT",
    "LANE",
    "PAIR",
    "PARAM",
    "PASS",
    "REGISTERS",
    "RESULT",
    "SEQUENCE_ROUNDS",
    "STAGE",
    "STEP",
    "Control",
    "Counter",
    "Counters",
    "Destination",
    "DeviceErrorBit",
    "DeviceStatus",
    "Field",
    "FieldScope",
    "Interrupt",
    "Layout",
    "Register",
    "Setting",
    "Status",
    "Target",
    "capability_values",
    "counters",
    "ctr_index",
    "image_block_bytes",
    "lane_words",
    "pairs_target",
    "states",
    "target_id",
    "unit_counters",
]

VERSION_MAJOR = 1
VERSION_MINOR = 0
VERSION = VERSION_MAJOR << 16 | VERSION_MINOR
DEVICE_ID = 0x43415052
"""ASCII "RPAC", little-endian."""
IMAGE_MAGIC = 0x49415052
"""ASCII "RPAI", little-endian."""

BLOCK_BYTES = 64
"""Host transfers are whole blocks of this size, aligned to it."""
ITEM_BITS = 15
"""Width of a number of items, 0..16,384."""
POSITION_BITS = 16
"""Width of an item's position in its query."""
DOT_OFFSET = 1 << 15
"""Bytes from the next multiple of ``gather_bytes`` on that a gather unit writes to are the memory
of the stage's dot interaction unit, not the activation memory."""
STAGE_BITS = 2
GROUP_BITS = 5
"""Width of a group's number in a target, which has a bit more elsewhere."""
MAX_GROUPS = 64
SETTING_BITS = 4
LOGIT_FRACTION_BITS = 11
"""A logit of 1.0 is 2**11: int16 logits span -16..16."""
CTR_BITS = 6
"""CTR is a table of ``logit >> CTR_BITS``: 1,024 entries."""
CTR_INDEX_BITS = 16 - CTR_BITS
"""Width of the number of an entry of the CTR table."""
SEQUENCE_ROUNDS = 64
"""Segments of a lane are numbered modulo so many times its ``lookahead``, a power of two."""
FOLLOW_BITS = 4
"""Width of PASS.wait_write."""
THRESHOLD_BITS = CTR_INDEX_BITS + 1
"""Width of a filter's threshold: an entry of the CTR table, or one behind the last."""


def ctr_index(ctr: float) -> int:
    """First entry of the CTR table that is at least ``ctr`` (65535 is 1.0); 1,024 if none is.

    The table is that of docs/numerics.md.
    """
    entries = 1 << CTR_INDEX_BITS
    for index in range(entries):
        logit = ((index - entries // 2 << CTR_BITS) + (1 << CTR_BITS - 1)) / 2**LOGIT_FRACTION_BITS
        if math.floor(65535 / (1 + math.exp(-logit)) + 0.5) >= ctr:
            return index
    return entries


@dataclass(frozen=True)
class Field:
    """One field of a layout: name, width in bits, two's complement or not, meaning."""

    name: str
    bits: int
    doc: str = ""
    signed: bool = False


class Layout:
    """A packed little-endian structure, first field in the lowest bits.

    Parameters
    ----------
    name : str
    bits : int
        Total width, a multiple of 8; bits behind the last field are reserved and zero.
    fields : Field
    """

    def __init__(self, name: str, bits: int, *fields: Field) -> None:
        self.name = name
        self.bits = bits
        self.fields = fields
        used = sum(f.bits for f in fields)
        if bits % 8 or used > bits:
            raise ValueError(f"Layout {name} has {used} bits of fields in {bits} bits")
        self.reserved_bits = bits - used

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.bits // 8

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def offset(self, name: str) -> int:
        """Bit offset of a field."""
        at = 0
        for field in self.fields:
            if field.name == name:
                return at
            at += field.bits
        raise KeyError(name)

    def pack_int(self, values: Mapping[str, int]) -> int:
        """Pack values into an integer; fields not named are zero.

        Raises
        ------
        KeyError
            A value names no field.
        ValueError
            A value does not fit its field.
        """
        unknown = set(values) - {f.name for f in self.fields}
        if unknown:
            raise KeyError(f"{self.name} has no field {sorted(unknown)}")
        word = at = 0
        for field in self.fields:
            value = int(values.get(field.name, 0))
            low = -(1 << field.bits - 1) if field.signed else 0
            high = (1 << field.bits - field.signed) - 1
            if not low <= value <= high:
                raise ValueError(f"{self.name}.{field.name} takes {low}..{high}, not {value}")
            word |= (value & (1 << field.bits) - 1) << at
            at += field.bits
        return word

    def pack(self, **values: int) -> builtins.bytes:
        """Pack values into bytes; see :meth:`pack_int`."""
        return self.pack_int(values).to_bytes(self.bytes, "little")

    def unpack(self, data: builtins.bytes | int) -> dict[str, int]:
        """Take a packed structure apart, reserved bits as ``"reserved"``."""
        word = data if isinstance(data, int) else int.from_bytes(data[: self.bytes], "little")
        values = {}
        for field in self.fields:
            value = word & (1 << field.bits) - 1
            if field.signed and value >> field.bits - 1:
                value -= 1 << field.bits
            values[field.name] = value
            word >>= field.bits
        values["reserved"] = word & (1 << self.reserved_bits) - 1
        return values


# --- registers (AXI4-Lite, 32 bits each, byte addresses) ---------------------------------------


@dataclass(frozen=True)
class Register:
    """A register: address in bytes, access (``ro``, ``rw``, ``w1c``: write one to clear)."""

    name: str
    address: int
    access: str
    doc: str


REGISTERS = {
    r.name: r
    for r in (
        Register("ID", 0x00, "ro", 'ASCII "RPAC"'),
        Register("VERSION", 0x04, "ro", "ABI version, major << 16 | minor"),
        Register("DIGEST_LO", 0x08, "ro", "machine digest, low half"),
        Register("DIGEST_HI", 0x0C, "ro", "machine digest, high half"),
        Register("CONTROL", 0x10, "rw", "see Control; LOAD reads as zero"),
        Register("STATUS", 0x14, "ro", "see DeviceStatus"),
        Register("ERROR", 0x18, "w1c", "see DeviceErrorBit"),
        Register("IMAGE_ADDRESS_LO", 0x1C, "rw", "byte address of the image in device memory"),
        Register("IMAGE_ADDRESS_HI", 0x20, "rw", "its high half"),
        Register("IMAGE_ID", 0x24, "ro", "identity of the loaded image, 0 without one"),
        Register("IRQ_ENABLE", 0x28, "rw", "see Interrupt"),
        Register("IRQ_STATUS", 0x2C, "w1c", "see Interrupt"),
        Register("SQ_BASE_LO", 0x30, "rw", "submission ring in host memory, 64-byte aligned"),
        Register("SQ_BASE_HI", 0x34, "rw", "its high half"),
        Register("SQ_LOG2", 0x38, "rw", "log2 of the submission ring's entries, 1..12"),
        Register("SQ_TAIL", 0x3C, "rw", "doorbell: entries submitted, modulo 65,536"),
        Register("SQ_HEAD", 0x40, "ro", "entries fetched, modulo 65,536"),
        Register("CQ_BASE_LO", 0x44, "rw", "completion ring in host memory, 64-byte aligned"),
        Register("CQ_BASE_HI", 0x48, "rw", "its high half"),
        Register("CQ_LOG2", 0x4C, "rw", "log2 of the completion ring's entries, 1..12"),
        Register("CQ_TAIL", 0x50, "ro", "entries completed, modulo 65,536"),
        Register("CQ_HEAD", 0x54, "rw", "doorbell: entries consumed, modulo 65,536"),
        Register("DISPATCH_0", 0x58, "rw", "bit 4 * g + s keeps tokens of stage s from group g"),
        Register("DISPATCH_1", 0x5C, "rw", "the same for groups 8..15"),
        Register("DISPATCH_2", 0x60, "rw", "the same for groups 16..23"),
        Register("DISPATCH_3", 0x64, "rw", "the same for groups 24..31"),
        *(
            Register(
                f"DISPATCH_{n}",
                0x58 + 4 * n,
                "rw",
                f"the same for groups {8 * n}..{8 * n + 7}, in a machine of more than 32 groups",
            )
            for n in range(4, 8)
        ),
        Register("SETTING", 0x78, "rw", "see Setting; zero in a machine without settings"),
    )
}

CAPABILITY_BASE = 0x100
COUNTER_BASE = 0x400
REGISTER_SPACE_BITS = 13
"""Room for the counters of a machine of 4 stages, 64 groups and 4 memory channels."""


class Control(IntEnum):
    """Bits of CONTROL."""

    ENABLE = 0
    """Fetch and run submissions. Ring bases and sizes are set before, never during."""
    LOAD = 1
    """Write one: load the image at IMAGE_ADDRESS. Only while idle."""


class DeviceStatus(IntEnum):
    """Bits of STATUS."""

    IMAGE_LOADED = 0
    LOADING = 1
    IDLE = 2
    """No query is in flight and no submission is being fetched."""


class Setting(IntEnum):
    """Bits of SETTING."""

    NUMBER = 0
    """Bits 3:0, which of ``hardware.settings`` is to be; a number that is not there means 0."""
    CHANGING = 31
    """Read-only: groups of the setting wait for others, whose sub-arrays they need, to be empty."""


class DeviceErrorBit(IntEnum):
    """Bits of ERROR; each raises Interrupt.ERROR."""

    IMAGE_MAGIC = 0
    IMAGE_VERSION = 1
    IMAGE_DIGEST = 2
    """The image is for another machine."""
    IMAGE_MEMORY = 3
    """A memory read failed while an image was loaded, or a segment names no target."""
    RING_OVERRUN = 4
    """SQ_TAIL ran more than the ring's size ahead of SQ_HEAD: the doorbell was ignored."""
    HOST_READ = 5
    """A submission could not be read from host memory; it was skipped."""
    HOST_WRITE = 6
    """A result or completion could not be written to host memory."""
    LOAD_BUSY = 7
    """LOAD was written while the device was not idle; it was ignored."""


class Interrupt(IntEnum):
    """Bits of IRQ_ENABLE and IRQ_STATUS."""

    COMPLETION = 0
    LOADED = 1
    """An image was loaded, or its loading failed."""
    ERROR = 2


# --- rings ------------------------------------------------------------------------------------


class Status(IntEnum):
    """Status of a completed query."""

    OK = 0
    BAD_DESCRIPTOR = 1
    """Reserved bits set, unknown version, unaligned address, stages out of order or range, or a
    last stage whose filter is not exact."""
    BAD_IMAGE = 2
    """No image is loaded, the descriptor names another one, or it has not all of the stages."""
    BAD_ITEMS = 3
    """Zero items, more than the machine takes, or features larger than a query slot."""
    BAD_KEEP = 4
    """A stage keeps zero items, more than it gets, or more than ``topk_depth``."""
    BAD_SUB_BATCH = 5
    """Sub-batch size zero, or a sub-batch that may be larger than a stage's ``max_items``.

    The bound is min(sub_batch, items) for the first stage and, for the next one, ceil(keep * bound
    / items) of the stage before (its keep, bound and items): no release is larger."""
    BAD_INDEX = 6
    """An index beyond its table."""
    MEMORY_ERROR = 7
    """Device memory answered a read with an error."""
    HOST_ERROR = 8
    """Host memory answered the read of the features, or a write of the results, with an error."""


DESCRIPTOR = Layout(
    "descriptor",
    512,
    Field("version", 8, "VERSION_MAJOR"),
    Field("first_stage", 4, "stage that ranks all items"),
    Field("last_stage", 4, "stage whose ranking is the result"),
    Field("global_release", 4, "bit s: stage s releases once, the best of all sub-batches"),
    Field("reserved0", 12, "zero"),
    Field("query_id", 32, "returned with the completion"),
    Field("features", 64, "host address of the query record and the item records, 64-byte aligned"),
    Field("results", 64, "host address of the results, 64-byte aligned, whole blocks are written"),
    Field("items", 16, "number of items, 1..max"),
    Field("sub_batch", 16, "items in a sub-batch of the first stage"),
    Field("keep0", 16, "items stage 0 keeps"),
    Field("keep1", 16, "items stage 1 keeps"),
    Field("keep2", 16, "items stage 2 keeps"),
    Field("keep3", 16, "items stage 3 keeps"),
    Field("image_id", 32, "identity of the image the query is for"),
)
"""A submission ring entry."""

COMPLETION = Layout(
    "completion",
    512,
    Field("sequence", 32, "number of this completion since reset, from 1: tells new from old"),
    Field("query_id", 32, "from the descriptor"),
    Field("status", 16, "see Status"),
    Field("count", 16, "results written"),
    Field("cycles", 32, "device cycles from the fetched descriptor to this completion"),
    Field("bad_indices", 32, "indices beyond their table, each lookup counted"),
    Field("saturations", 32, "logits clamped to int16, all stages"),
)
"""A completion ring entry."""

RESULT = Layout(
    "result",
    32,
    Field("position", 16, "position of the item in the query"),
    Field("score", 16, "its logit", signed=True),
)

# --- image ------------------------------------------------------------------------------------


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

# --- capabilities and counters ----------------------------------------------------------------

CAPABILITIES = (
    "stages",
    "groups",
    "tile_rows",
    "tile_cols",
    "macs",
    "max_items",
    "query_slots",
    "feature_bytes",
    "memory_channels",
    "memory_bus_bytes",
    "memory_line_bytes",
    "host_bus_bytes",
)
"""Read-only words at CAPABILITY_BASE, in this order."""


def capability_values(hardware: HardwareConfig) -> dict[str, int]:
    """Values of the capability words of a machine."""
    return {
        "stages": hardware.stages,
        "groups": len(hardware.groups),
        "tile_rows": hardware.tile_rows,
        "tile_cols": hardware.tile_cols,
        "macs": hardware.macs,
        "max_items": 16_384,
        "query_slots": hardware.query_slots,
        "feature_bytes": hardware.feature_bytes,
        "memory_channels": hardware.memory.channels,
        "memory_bus_bytes": hardware.memory.bus_bytes,
        "memory_line_bytes": hardware.memory.line_bytes,
        "host_bus_bytes": hardware.host_bus_bytes,
    }


@dataclass(frozen=True)
class Counter:
    """A performance counter: 48 bits at ``address`` (low word, then high word)."""

    name: str
    address: int
    unit: str
    doc: str


Counters = dict[str, tuple[str, str]]
"""Counters of a unit by name: what they count, and what that means.

Those in cycles are the unit's *states*: in each cycle exactly one of them advances, so that they
add up to ``device.cycles`` (only the device's own are not states).
"""

HOST_READ_COUNTERS: Counters = {
    "busy": ("cycles", "a beat came"),
    "stall_device": ("cycles", "a beat was there, but whoever asked for it did not take it"),
    "stall_host": ("cycles", "host memory owed an answer to an address, or did not take one"),
    "starved": ("cycles", "nothing was asked for"),
}
HOST_WRITE_COUNTERS: Counters = {
    "busy": ("cycles", "a beat went"),
    "stall_host": ("cycles", "host memory did not take a beat, or owed a response"),
    "stall_device": ("cycles", "the data of a write that was begun were not there"),
    "starved": ("cycles", "nothing was to be written"),
}
FETCHER_COUNTERS: Counters = {
    "busy": ("cycles", "a descriptor was asked for, arrived or was handed over"),
    "stall_host": ("cycles", "waited for the host port, or for host memory"),
    "stall_admission": ("cycles", "a descriptor waited for the one before to be admitted"),
    "starved": ("cycles", "the submission ring was empty, or ENABLE was off"),
}
ADMISSION_COUNTERS: Counters = {
    "busy": ("cycles", "a query was validated or planned, or a beat of its features copied"),
    "stall_divider": ("cycles", "the planner used the divider"),
    "stall_slot": ("cycles", "no query slot was free"),
    "stall_host": ("cycles", "waited for the host port, or for features from host memory"),
    "stall_completer": ("cycles", "a refused query waited to be completed"),
    "starved": ("cycles", "no descriptor"),
}
PLANNER_COUNTERS: Counters = {
    "busy": ("cycles", "a query was cut into tokens"),
    "stall_divider": ("cycles", "admission used the divider"),
    "stall_tokens": ("cycles", "a stage's token queue was full"),
    "stall_plans": ("cycles", "a stage's queue of release plans was full"),
    "starved": ("cycles", "no query"),
}
COMPLETER_COUNTERS: Counters = {
    "busy": ("cycles", "results or a completion were made or written"),
    "stall_ring": ("cycles", "the completion ring was full"),
    "stall_host": ("cycles", "waited for the host port, or for a response of host memory"),
    "stall_filter": ("cycles", "the rest of a final ranking had not left its top-k unit"),
    "starved": ("cycles", "no query to complete"),
}
MEMORY_COUNTERS: Counters = {
    "busy": ("cycles", "a beat came"),
    "stall_clients": ("cycles", "a beat was there, but its client took one of another channel"),
    "stall_memory": ("cycles", "memory owed an answer to an address, or did not take one"),
    "starved": ("cycles", "nothing was asked for"),
}
GATHER_COUNTERS: Counters = {
    "items": ("items", "items gathered"),
    "lookups": ("rows", "lookups of rows: empty slots and bad indices not counted"),
    "static_hits": ("rows", "lookups in the static region"),
    "lookahead_hits": ("lines", "line probes that found the line cached or in flight"),
    "misses": ("lines", "line probes that fetched the line"),
    "evictions": ("lines", "valid lines replaced"),
    "bad_indices": ("rows", "indices beyond their table"),
    "busy": ("cycles", "a token was started at a group, or bytes were written to it"),
    "stall_start": ("cycles", "no group of the stage had a free token buffer"),
    "stall_write": ("cycles", "the activation memory took a result of the array instead"),
    "stall_fail": ("cycles", "a failure had to be delivered before the item"),
    "stall_memory": ("cycles", "a lane whose bytes were to be written next waited for memory"),
    "stall_features": ("cycles", "no lane read a row, and the feature buffer served other stages"),
    "stall_positions": ("cycles", "no lane read a row, and the stage before had released no item"),
    "stall_lanes": ("cycles", "walker and lanes were at work on what comes next"),
    "stall_flush": ("cycles", "the look-ahead caches were being emptied"),
    "starved": ("cycles", "no token"),
}
DISPATCHER_COUNTERS: Counters = {
    "busy": ("cycles", "a score was passed on"),
    "stall_filter": ("cycles", "the top-k unit did not take a score"),
    "stall_order": ("cycles", "groups had scores, but not the one with the oldest token"),
    "stall_groups": ("cycles", "groups had tokens, but no scores"),
    "starved": ("cycles", "no group had a token"),
}
GROUP_COUNTERS: Counters = {
    "busy": ("cycles", "cycles with an item entering the array"),
    "macs": ("MACs", "useful multiply-accumulates: valid rows x valid columns"),
    "stall_gap": ("cycles", "a pass of one row was in the way, or too many passes were"),
    "stall_input": ("cycles", "a pass waited for the gather unit"),
    "stall_write": ("cycles", "a pass waited for a previous pass's results"),
    "stall_scores": ("cycles", "a scoring pass waited for room in the queue of scores"),
    "stall_weights": ("cycles", "a pass waited for its weights"),
    "stall_shape": ("cycles", "a pass in another shape waited for those before it to be over"),
    "stall_program": ("cycles", "a token's next pass was being read"),
    "starved": ("cycles", "no token"),
    "passes": ("passes", "passes started"),
}
TOPK_COUNTERS: Counters = {
    "candidates": ("items", "scores taken"),
    "released": ("items", "items released"),
    "saturations": ("items", "logits clamped to int16"),
    "short": ("releases", "sub-batches of which fewer passed the threshold than were released"),
    "below": ("items", "items released that had not passed the threshold"),
    "busy": ("cycles", "a score was taken, or an item released while none waited"),
    "stall_plan": ("cycles", "a score waited for the release plan of its token"),
    "stall_output": ("cycles", "an item to be released was not taken"),
    "stall_sorter": ("cycles", "a score waited for room behind releases that were leaving"),
    "stall_sort": ("cycles", "the last scores of a release were on their way through the sorter"),
    "starved": ("cycles", "no score"),
}
DEVICE_COUNTERS: Counters = {
    "cycles": ("cycles", "clock cycles since reset"),
    "active": ("cycles", "cycles with at least one query in flight"),
    "queries": ("queries", "queries completed with status OK"),
    "failed": ("queries", "queries completed with another status"),
    "host_read_bytes": ("bytes", "read from host memory"),
    "host_write_bytes": ("bytes", "written to host memory"),
    "memory_read_bytes": ("bytes", "read from device memory, all channels"),
}


def unit_counters(hardware: HardwareConfig) -> dict[str, Counters]:
    """Counters of each unit of a machine, in the order of their addresses.

    A stage that one group serves has no dispatcher.
    """
    units = {
        "device": DEVICE_COUNTERS,
        "host_read": HOST_READ_COUNTERS,
        "host_write": HOST_WRITE_COUNTERS,
        "fetcher": FETCHER_COUNTERS,
        "admission": ADMISSION_COUNTERS,
        "planner": PLANNER_COUNTERS,
        "completer": COMPLETER_COUNTERS,
    }
    units |= {f"memory{channel}": MEMORY_COUNTERS for channel in range(hardware.memory.channels)}
    for stage in range(hardware.stages):
        units |= {f"gather{stage}": GATHER_COUNTERS, f"topk{stage}": TOPK_COUNTERS}
        if len(hardware.groups_of(stage)) > 1:
            units[f"dispatcher{stage}"] = DISPATCHER_COUNTERS
    units |= {f"group{group}": GROUP_COUNTERS for group in range(len(hardware.groups))}
    return units


def states(table: Counters) -> tuple[str, ...]:
    """Names of a unit's states among its counters."""
    return tuple(name for name, (counted, _) in table.items() if counted == "cycles")


def counters(hardware: HardwareConfig) -> dict[str, Counter]:
    """All counters of a machine by name, such as ``"device.cycles"`` or ``"gather0.misses"``."""
    names = [
        (f"{unit}.{name}", counted, doc)
        for unit, table in unit_counters(hardware).items()
        for name, (counted, doc) in table.items()
    ]
    return {
        name: Counter(name, COUNTER_BASE + 8 * i, counted, doc)
        for i, (name, counted, doc) in enumerate(names)
    }
