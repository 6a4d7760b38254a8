"""Scores on their way from a group to a top-k unit: rows of items in, an item at a time out."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.ram_queue import RamQueue
from rtl_gen.signatures import score_layout, slot_bits

__all__ = ["ScoreQueue", "score_row_layout"]


def score_row_layout(hardware: HardwareConfig, *, parts: int) -> data.StructLayout:
    """Scores of a row of items, the first ``count`` parts having one; the row may end a token."""
    item = data.StructLayout({"position": abi.POSITION_BITS, "score": 16, "saturated": 1})
    return data.StructLayout(
        {
            "items": data.ArrayLayout(item, parts),
            "count": range(parts + 1),
            "last": 1,
            "slot": slot_bits(hardware),
            "query_last": 1,
        }
    )


class ScoreQueue(wiring.Component):
    """Queue rows of scores; a row without items gives one beat with ``keep`` low.

    Parameters
    ----------
    hardware : HardwareConfig
    parts : int
        Items of a row.
    depth : int
        Rows.

    Members
    -------
    i : In(stream.Signature(score_row_layout(...)))
    o : Out(stream.Signature(score_layout(hardware)))
    left : Out(1)
        A row leaves the queue: there is room for another.
    """

    def __init__(self, *, hardware: HardwareConfig, parts: int, depth: int):
        self.parts = parts
        row = score_row_layout(hardware, parts=parts)
        self.rows = RamQueue(row, depth=depth, macro_bits=hardware.sram_macro_bits)
        super().__init__(
            {
                "i": In(stream.Signature(row)),
                "o": Out(stream.Signature(score_layout(hardware))),
                "left": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = self.rows
        wiring.connect(m, wiring.flipped(self.i), rows.i)
        row = rows.o.p
        part = Signal(range(self.parts))
        end = Signal()
        item = row.items[part]
        m.d.comb += [
            end.eq(part + 1 >= row.count),
            self.o.valid.eq(rows.o.valid),
            self.o.p.position.eq(item.position),
            self.o.p.score.eq(item.score),
            self.o.p.saturated.eq(item.saturated & (row.count != 0)),
            self.o.p.keep.eq(row.count != 0),
            self.o.p.last.eq(row.last & end),
            self.o.p.slot.eq(row.slot),
            self.o.p.query_last.eq(row.query_last),
            rows.o.ready.eq(self.o.ready & end),
            self.left.eq(rows.o.valid & rows.o.ready),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += part.eq(Mux(end, 0, part + 1))
        return m
