"""The resolver of a lane: turns the indices of bags into row segments."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.gather_fields import field_port
from rtl_gen.gather_layouts import GatherShape, Op
from rtl_gen.signatures import fail_layout

__all__ = ["Resolver"]


class Resolver(wiring.Component):
    """Find out where each row lies: in the static region, or in which lines of memory.

    One lookup a cycle, then one segment a cycle for a row of several lines. An empty slot, or one
    with an index beyond the table, takes a cycle and makes nothing, but the last slot of a bag
    makes a segment of zeros. An index beyond the table fails the slot's query.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    step : In(stream of GatherShape.step)
    field : Out(field_port)
    o : Out(stream of {probe, line, payload: GatherShape.segment})
    fail : Out(stream of fail_layout)
        One for each index beyond its table.
    lookup, static_hit, bad_index : Out(1)
        Pulses to count.
    """

    FIELDS = (
        "index_bytes",
        "count",
        "rows",
        "hot_rows",
        "static_line",
        "line",
        "log2_rows",
        "lines",
    )

    def __init__(self, shape: GatherShape):
        self.shape = shape
        self.o_layout = data.StructLayout({"probe": 1, "line": 32, "payload": shape.segment})
        # A segment to be, or all segments of a row; `line` is that of the first, in two summands.
        self.look_layout = data.StructLayout(
            {"segment": shape.segment, "base": 32, "ahead": 32, "byte": 7}
        )
        super().__init__(
            {
                "step": In(stream.Signature(shape.step)),
                "field": Out(field_port(shape, self.FIELDS)),
                "o": Out(stream.Signature(self.o_layout)),
                "fail": Out(stream.Signature(fail_layout(shape.hardware))),
                "lookup": Out(1),
                "static_hit": Out(1),
                "bad_index": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self.look = Signal(self.look_layout)  # made by _lookups, taken apart by _segments
        self.look_valid = Signal()
        self.look_ready = Signal()
        self._lookups(m)
        self._segments(m)
        return m

    def _lookups(self, m):
        """Take one lookup a cycle out of a piece."""
        shape = self.shape
        valid = Signal()
        step = Signal(shape.step)
        answer = Signal(8 * shape.piece_bytes)
        left = Signal(7)
        slot = Signal.like(step.slot)
        failed_slot = Signal.like(slot)
        done = Signal()  # the step's last lookup is consumed

        take = Signal()
        m.d.comb += [
            take.eq(~valid | done),
            self.step.ready.eq(take),
            self.field.en.eq(take),
            self.field.index.eq(self.step.p.field),
        ]

        index, empty = Signal(32), Signal()
        size = self.field.data.index_bytes
        for n in range(1, 5):
            with m.If(size == n):
                m.d.comb += [index.eq(answer[: 8 * n]), empty.eq(answer[: 8 * n].all())]

        is_table = ~step.start
        last_slot = step.last & (left == 1)
        beyond = ~empty & (index >= self.field.data.rows)
        row = ~empty & ~beyond
        fresh = Signal(init=1)  # no row of the bag so far
        makes = ~is_table | row | last_slot
        may = (self.look_ready | ~makes) & (~(is_table & beyond) | ~self.fail.valid)
        consume = Signal()
        m.d.comb += [
            consume.eq(valid & may),
            done.eq(consume & (~is_table | (left == 1))),
            self.bad_index.eq(consume & is_table & beyond),
            self.lookup.eq(consume & is_table & row),
            self.static_hit.eq(self.lookup & (index < self.field.data.hot_rows)),
            self.fail.p.slot.eq(failed_slot),
            self.fail.p.status.eq(abi.Status.BAD_INDEX),
            self.look_valid.eq(consume & makes),
        ]
        with m.If(self.fail.ready):
            m.d.sync += self.fail.valid.eq(0)
        with m.If(self.bad_index):
            m.d.sync += [self.fail.valid.eq(1), failed_slot.eq(slot)]

        self._look(m, step, index, row, last_slot, fresh)
        with m.If(consume):
            m.d.sync += [left.eq(left - 1), answer.eq(_behind(answer, size, shape.piece_bytes))]
            with m.If(is_table):
                m.d.sync += fresh.eq((fresh & ~row) | last_slot)
        with m.If(take):
            m.d.sync += [
                valid.eq(self.step.valid),
                step.eq(self.step.p),
                answer.eq(self.step.p.data),
                left.eq(self.step.p.count),
            ]
            with m.If(self.step.p.start):
                m.d.sync += slot.eq(self.step.p.slot)

    def _look(self, m, step, index, row, last_slot, fresh):
        """Say what the lookup becomes."""
        shape = self.shape
        field = self.field.data
        look = self.look
        segment = look.segment
        m.d.comb += [
            segment.field.eq(step.field),
            segment.row_first.eq(~step.start),
            segment.bag_first.eq(fresh),
            segment.bag_last.eq(last_slot),
            segment.item_last.eq(step.item_last & last_slot),
            segment.length.eq(field.count),
        ]
        with m.If(step.start):
            m.d.comb += [segment.op.eq(Op.START), segment.body.as_value().eq(step.slot)]
        with m.Elif(~row):
            m.d.comb += segment.op.eq(Op.ZERO)
        with m.Else():
            hot = index < field.hot_rows
            line_bits = ceil_log2(shape.line_bytes)
            packed = field.log2_rows != 0
            # (index mod rows of a line) rows of line_bytes / (rows of a line) bytes each
            byte = Signal(line_bits)
            with m.Switch(field.log2_rows):
                for r in range(1, min(line_bits, 7) + 1):
                    with m.Case(r):
                        m.d.comb += byte[line_bits - r :].eq(index[:r])
            m.d.comb += [
                segment.op.eq(Mux(hot, Op.STATIC, Op.CACHE)),
                look.base.eq(Mux(hot, field.static_line, field.line)),
                look.ahead.eq(Mux(packed, index >> field.log2_rows, index * field.lines)),
                look.byte.eq(byte),
            ]

    def _segments(self, m):
        """Cut rows into the parts that lie in one line."""
        shape = self.shape
        valid = Signal()
        look = Signal(self.look_layout)
        segment = look.segment
        in_lines = (segment.op == Op.STATIC) | (segment.op == Op.CACHE)
        more = Signal()  # the row goes on in the next line
        line = Signal(32)
        fire = self.o.valid & self.o.ready
        out = self.o.p.payload
        m.d.comb += [
            more.eq(in_lines & (segment.length > shape.line_bytes)),
            line.eq(look.base + look.ahead),
            self.o.valid.eq(valid),
            self.o.p.probe.eq(segment.op == Op.CACHE),
            self.o.p.line.eq(line),
            out.eq(segment),
            self.look_ready.eq(~valid | (fire & ~more)),
        ]
        beat = look.byte[shape.byte_bits :][: shape.beat_bits]
        with m.If(more):
            m.d.comb += [out.length.eq(shape.line_bytes), out.item_last.eq(0)]
        with m.If(segment.op == Op.STATIC):
            m.d.comb += out.body.place.address.eq(Cat(beat, line))
        with m.If(segment.op == Op.CACHE):
            m.d.comb += out.body.place.address.eq(beat)
        with m.If(in_lines):
            m.d.comb += out.body.place.byte.eq(look.byte)
        with m.If(self.look_ready):
            m.d.sync += [valid.eq(self.look_valid), look.eq(self.look)]
        with m.Elif(fire):
            m.d.sync += [
                look.ahead.eq(look.ahead + 1),
                segment.length.eq(segment.length - shape.line_bytes),
                segment.row_first.eq(0),
            ]


def _behind(answer, size, piece_bytes):
    """The answer behind its first index of ``size`` (1..4) bytes."""
    shifted = [answer[8 * n :] if n < piece_bytes else answer[:0] for n in range(5)]
    return Array(Cat(s)[: 8 * piece_bytes] for s in (*shifted, answer, answer, answer))[size]
