"""What passes between the parts of a gather unit, made in one place."""

from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.signatures import slot_bits

__all__ = ["GatherShape", "Op"]


class Op(enum.Enum, shape=2):
    """What a segment is."""

    START = 0
    """A token begins; no bytes."""
    ZERO = 1
    """A bag's last slot, which has no row: the bag's bytes, all zero."""
    STATIC = 2
    """A row, or the part of it in one line, in the static region."""
    CACHE = 3
    """The part of a row in one memory line."""


class GatherShape:
    """Sizes and payload layouts of the gather unit of a stage.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int

    Attributes
    ----------
    lane_bytes : int
        Bytes read, pooled and written at a time by a lane.
    piece_bytes : int
        Most bytes of a record that a lane takes at a time.
    chunk_bytes : int
        Bytes written to a group at a time.
    token : StructLayout
        What a group is told at a token's start.
    step : StructLayout
        What a lane gets of a step; ``start`` alone at a token's start.
    dense_step, dense : StructLayout
        What the dense lane gets of a step, and what it makes of it.
    segment : StructLayout
        From resolver through the look-ahead cache to the reader.
    word : StructLayout
        From reader to pooler: up to ``lane_bytes`` elements of a row, from lane 0 on.
    pooled : StructLayout
        From pooler to packer: up to ``lane_bytes`` finished bytes.
    """

    def __init__(self, hardware: HardwareConfig, stage: int):
        memory = hardware.memory
        gather = hardware.gather[stage]
        self.hardware = hardware
        self.stage = stage
        self.gather = gather
        self.lanes = gather.lanes
        self.macro_bits = hardware.sram_macro_bits
        self.bus_bytes = memory.bus_bytes
        self.lane_bytes = min(memory.bus_bytes, 1 << ceil_log2(gather.max_dimension))
        self.line_bytes = memory.line_bytes
        self.beats = memory.beats
        self.beat_bits = ceil_log2(memory.beats)
        self.byte_bits = ceil_log2(memory.bus_bytes)
        self.static_words = hardware.static_lines * memory.beats
        self.read_bytes = hardware.feature_read
        self.piece_bytes = hardware.piece_bytes
        self.max_fields = gather.max_fields
        self.field_bits = ceil_log2(gather.max_fields)
        self.step_bits = ceil_log2(gather.max_steps)
        self.row_words = -(-gather.max_dimension // memory.bus_bytes)
        self.chunk_bytes = hardware.geometry(hardware.groups_of(stage)[0]).gather_bytes
        self.count_bits = 10
        """Width of a number of bytes made: a FIELD's count."""

        slot = slot_bits(hardware)
        self.token = data.StructLayout(
            {"slot": slot, "first": 1, "last": 1, "items": abi.ITEM_BITS}
        )
        self.step = data.StructLayout(
            {
                "start": 1,
                "slot": slot,
                "field": self.field_bits,
                "count": 7,  # lookups in this piece
                "first": 1,  # first and last piece of the field
                "last": 1,
                "item_last": 1,  # last piece of the lane in the item
                "data": 8 * self.piece_bytes,
            }
        )
        self.dense_step = data.StructLayout(
            {
                "start": 1,
                "token": self.token,
                "position": abi.POSITION_BITS,
                "field": self.field_bits,
                "count": ceil_log2(self.piece_bytes + 1),
                "item_last": 1,
                "data": 8 * self.piece_bytes,
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
                "item_last": 1,  # last segment of the lane in the item
                "body": data.UnionLayout({"slot": slot, "place": data.StructLayout(place)}),
            }
        )
        common = {
            "start": 1,
            "count": ceil_log2(self.lane_bytes + 1),
            "item_last": 1,
            "data": 8 * self.lane_bytes,
            "offset": 16,  # of byte 0 in the input space of the activation memory
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
        self.dense = data.StructLayout(
            {
                **common,
                "count": ceil_log2(self.piece_bytes + 1),
                "data": 8 * self.piece_bytes,
                "token": self.token,
                "position": abi.POSITION_BITS,
            }
        )
