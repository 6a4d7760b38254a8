"""The reader of a lane: reads the words of resolved segments from static region and cache."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rtl_gen.gather_fields import field_port
from rtl_gen.gather_layouts import GatherShape, Op
from rtl_gen.lookahead import line_port
from rtl_gen.signatures import fail_layout
from rtl_gen.static_region import static_port

__all__ = ["Reader"]


class Reader(wiring.Component):
    """Turn segments, in order, into words of up to ``lane_bytes`` bytes.

    One word a cycle, also from one segment to the next; a word leaves 1 cycle after its segment is
    there. A poisoned word fails the query of the last token started.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    segment : In(stream of GatherShape.segment)
    line : Out(line_port)
        Reads the line of the segment.
    field : Out(field_port)
    static : Out(static_port)
    o : Out(stream of GatherShape.word)
    fail : Out(stream of fail_layout)
    ready : Out(1)
        A word could be read in this cycle if a segment were there.
    """

    FIELDS = ("output", "shift")

    def __init__(self, shape: GatherShape):
        self.shape = shape
        super().__init__(
            {
                "segment": In(stream.Signature(shape.segment)),
                "line": Out(line_port(shape.hardware)),
                "field": Out(field_port(shape, self.FIELDS)),
                "static": Out(static_port(shape.hardware)),
                "o": Out(stream.Signature(shape.word)),
                "fail": Out(stream.Signature(fail_layout(shape.hardware))),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        segment = self.segment.p
        place = segment.body.place

        # Issue: the next word of the segment is read from RAM.
        issue = Signal()
        word = Signal(shape.count_bits)  # words of the segment read so far
        left = Signal(shape.count_bits)
        last = Signal()
        element = Signal(shape.count_bits)  # first element of the next word in its row
        at = Signal(shape.count_bits)
        is_start = segment.op == Op.START
        m.d.comb += [
            issue.eq(self.segment.valid & self.ready),
            left.eq(segment.length - (word << shape.byte_bits)),
            last.eq(is_start | (left <= shape.bus_bytes)),
            self.segment.ready.eq(self.ready & last),
            at.eq(Mux(segment.row_first & (word == 0), 0, element)),
            self.static.en.eq(issue & (segment.op == Op.STATIC)),
            self.static.addr.eq(place.address + word),
            self.line.en.eq(issue),
            self.line.beat.eq(place.address + word),
            self.field.en.eq(issue),
            self.field.index.eq(segment.field),
        ]
        count = Mux(last, left, shape.bus_bytes)
        with m.If(issue):
            m.d.sync += [word.eq(Mux(last, 0, word + 1)), element.eq(at + count)]

        # The word is at the RAMs' outputs and leaves when it is taken.
        held = Signal(shape.word)  # what is known before the RAMs answer
        op = Signal(Op)
        byte = Signal(shape.byte_bits)
        token_slot = Signal.like(segment.body.slot)
        valid = Signal()
        poisoned = Signal()
        with m.If(self.ready):
            m.d.sync += [
                valid.eq(self.segment.valid),
                op.eq(segment.op),
                byte.eq(place.byte),
                token_slot.eq(segment.body.slot),
                held.start.eq(is_start),
                held.count.eq(count),
                held.offset.eq(at),
                held.row_word.eq(at >> shape.byte_bits),
                held.bag_first.eq(segment.bag_first),
                held.bag_last.eq(segment.bag_last),
                held.item_last.eq(segment.item_last & last & ~is_start),
            ]
        o = self.o.p
        m.d.comb += [
            o.eq(held),
            o.offset.eq(self.field.data.output + held.offset),
            o.shift.eq(self.field.data.shift),
            # A query's failure is on its way before the bytes that are wrong.
            self.o.valid.eq(valid & ~(poisoned & self.fail.valid)),
            self.ready.eq(~valid | (self.o.valid & self.o.ready)),
        ]
        with m.Switch(op):
            with m.Case(Op.STATIC):
                m.d.comb += o.data.eq(self.static.data >> (byte << 3))
            with m.Case(Op.CACHE):
                m.d.comb += [
                    o.data.eq(self.line.data >> (byte << 3)),
                    poisoned.eq(self.line.poison),
                ]

        slot = Signal.like(token_slot)
        failed_slot = Signal.like(slot)
        m.d.comb += [
            self.fail.p.slot.eq(failed_slot),
            self.fail.p.status.eq(abi.Status.MEMORY_ERROR),
        ]
        with m.If(valid & held.start):
            m.d.sync += slot.eq(token_slot)
        with m.If(self.fail.ready):
            m.d.sync += self.fail.valid.eq(0)
        with m.If(self.o.valid & self.o.ready & poisoned):
            m.d.sync += [self.fail.valid.eq(1), failed_slot.eq(slot)]
        return m
