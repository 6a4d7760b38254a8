"""What passes between the parts of a gather unit, made in one place."""

from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.signatures import slot_bits

__all__ = ["GatherShape", "Op"]


class Op(enum.Enum, shape=3):
    """What a segment is."""

    START = 0
    """A token begins; no bytes."""
    ZERO = 1
    """A bag's last slot, which has no row: the bag's bytes, all zero."""
    DENSE = 2
    """Dense inputs, carried in the segment."""
    STATIC = 3
    """A row, or the part of it in one line, in the static region."""
    CACHE = 4
    """The part of a row in one memory line."""


class GatherShape:
    """Sizes and payload layouts of the gather unit of a stage.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int

    Attributes
    ----------
    bus_bytes : int
        Bytes read, pooled and packed at a time.
    dense_bytes : int
        Most dense inputs in a segment.
    token : StructLayout
        What a group is told at a token's start.
    step : StructLayout
        From walker to resolver, one for each read of the feature buffer, and one for each token.
    segment : StructLayout
        From resolver through the look-ahead cache to the reader.
    word : StructLayout
        From reader to pooler: up to ``bus_bytes`` elements of a row, from lane 0 on.
    pooled : StructLayout
        From pooler to packer: up to ``bus_bytes`` finished bytes.
    """

    def __init__(self, hardware: HardwareConfig, stage: int):
        memory = hardware.memory
        gather = hardware.gather[stage]
        self.hardware = hardware
        self.stage = stage
        self.gather = gather
        self.macro_bits = hardware.sram_macro_bits
        self.bus_bytes = memory.bus_bytes
        self.line_bytes = memory.line_bytes
        self.beats = memory.beats
        self.beat_bits = ceil_log2(memory.beats)
        self.byte_bits = ceil_log2(memory.bus_bytes)
        self.static_words = gather.static_lines * memory.beats
        self.host_bytes = hardware.host_bus_bytes
        self.dense_bytes = min(hardware.host_bus_bytes, memory.bus_bytes)
        self.max_fields = gather.max_fields
        self.field_bits = ceil_log2(gather.max_fields)
        self.row_words = -(-gather.max_dimension // memory.bus_bytes)
        self.chunk_bytes = hardware.geometry(hardware.groups_of(stage)[0]).gather_bytes
        self.count_bits = 10
        """Width of a number of bytes made: a FIELD's count."""

        self.token = data.StructLayout(
            {"slot": slot_bits(hardware), "first": 1, "last": 1, "items": abi.ITEM_BITS}
        )
        self.step = data.StructLayout(
            {
                "start": 1,
                "token": self.token,
                "dense": 1,
                "field": self.field_bits,
                "count": 7,  # lookups, or dense inputs, in this read
                "first": 1,  # first and last read of the field
                "last": 1,
                "item_last": 1,  # last field of the item
                "position": abi.POSITION_BITS,
            }
        )
        place = {
            "address": max(ceil_log2(self.static_words), self.beat_bits),  # CACHE: beat of the line
            "byte": self.byte_bits,  # first byte of the row in its first word
        }
        self.segment = data.StructLayout(
            {
                "op": Op,
                "field": self.field_bits,
                "length": self.count_bits,
                "row_first": 1,  # first segment of the row
                "bag_first": 1,  # of the bag's first row: sums start from zero
                "bag_last": 1,  # of the bag's last slot: sums are complete
                "item_last": 1,  # last segment of the item
                "position": abi.POSITION_BITS,
                "body": data.UnionLayout(
                    {
                        "token": self.token,
                        "place": data.StructLayout(place),
                        "dense": 8 * self.dense_bytes,
                    }
                ),
            }
        )
        common = {
            "start": 1,
            "count": ceil_log2(self.bus_bytes + 1),
            "item_last": 1,
            "position": abi.POSITION_BITS,
            "token": self.token,
            "data": 8 * self.bus_bytes,
            "offset": 16,  # of lane 0 in the input space of the activation memory
        }
        self.word = data.StructLayout(
            {
                **common,
                "row_word": ceil_log2(self.row_words),
                "bag_first": 1,
                "bag_last": 1,
                "shift": 4,
            }
        )
        self.pooled = data.StructLayout(common)
