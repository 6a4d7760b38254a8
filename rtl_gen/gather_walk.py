"""The walker of a gather unit: reads what the items of its tokens need from the feature buffer."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rtl_gen.gather_fields import field_port
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.queue import Queue
from rtl_gen.signatures import feature_port, struct, token_layout

__all__ = ["Walker"]

READS = 8
"""Reads of the feature buffer that may be in flight."""


class Walker(wiring.Component):
    """Walk tokens, their items in order, and the stage's fields in order.

    Asks the feature buffer once for each piece of a field: as many whole indices, or dense inputs,
    as one answer of ``host_bus_bytes`` holds. One request a cycle; a token takes 2 cycles more.

    An item's record is ``query_bytes + position * item_bytes`` behind the slot's start.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    token : In(stream of token_layout)
    position : In(stream of POSITION_BITS)
        Positions of the items of listed tokens.
    hold : In(1)
        Take no token.
    stage_entry : In(struct(abi.STAGE))
    field : Out(field_port)
    request : Out(stream)
        To the feature buffer.
    step : Out(stream of GatherShape.step)
        What the answers are for: one in front of each token's, one for each answer, in order.
    """

    FIELDS = ("kind", "scope", "index_bytes", "lookups", "offset", "count")

    def __init__(self, shape: GatherShape):
        self.shape = shape
        request = feature_port(shape.hardware).members["request"].signature
        super().__init__(
            {
                "token": In(stream.Signature(token_layout(shape.hardware))),
                "position": In(stream.Signature(abi.POSITION_BITS)),
                "hold": In(1),
                "stage_entry": In(struct(abi.STAGE)),
                "field": Out(field_port(shape, self.FIELDS)),
                "request": Out(request),
                "step": Out(stream.Signature(shape.step)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # An event: the start of a token, or an item whose record lies at `record`.
        self.event_valid = Signal()
        self.event_start = Signal()
        self.event_token = Signal(self.shape.token)
        self.event_position = Signal(abi.POSITION_BITS)
        self.event_record = Signal(len(self.request.p.address))
        self.event_done = Signal()
        self._items(m)
        self._fields(m)
        return m

    def _items(self, m):
        """Turn tokens into events, in two steps: find the position, multiply."""
        have = Signal()
        started = Signal()
        token = Signal.like(self.token.p)
        index = Signal(abi.ITEM_BITS)

        found = Signal()
        found_start = Signal()
        found_token = Signal(self.shape.token)
        position = Signal(abi.POSITION_BITS)
        move_event = ~self.event_valid | self.event_done
        move_found = ~found | move_event

        m.d.comb += self.token.ready.eq(~have & ~self.hold)
        with m.If(self.token.valid & self.token.ready):
            m.d.sync += [have.eq(1), started.eq(0), token.eq(self.token.p), index.eq(0)]

        known = ~token.listed | self.position.valid
        # A token is started at the group when it is sure to get its items: a group that serves the
        # stage before, too, may have to work on that first.
        ready = known | (~started & (token.items == 0))
        m.d.comb += self.position.ready.eq(have & started & token.listed & move_found)
        with m.If(move_found):
            m.d.sync += [
                found.eq(have & ready),
                found_start.eq(~started),
                position.eq(Mux(token.listed, self.position.p, token.base + index)),
            ]
            m.d.sync += [found_token[n].eq(token[n]) for n, _ in self.shape.token]
            with m.If(have & ready & ~started):
                m.d.sync += [started.eq(1), have.eq(token.items != 0)]
            with m.Elif(have & ready):
                m.d.sync += [index.eq(index + 1), have.eq(index != token.items - 1)]

        with m.If(move_event):
            m.d.sync += [
                self.event_valid.eq(found),
                self.event_start.eq(found_start),
                self.event_token.eq(found_token),
                self.event_position.eq(position),
                self.event_record.eq(
                    self.stage_entry.query_bytes + position * self.stage_entry.item_bytes
                ),
            ]

    def _fields(self, m):
        """Turn an item into reads, field by field."""
        shape = self.shape
        field = self.field.data
        index = Signal(shape.field_bits)
        done = Signal(shape.count_bits)  # units of the field asked for: lookups or dense inputs
        ahead = Signal(shape.count_bits)  # the same in bytes

        # An answer holds so many whole indices of 0 (not used) .. 4 bytes.
        whole = [0, *(shape.host_bytes // size for size in (1, 2, 3, 4)), 0, 0, 0]
        most = Signal(7)
        span = Signal(7)
        with m.If(field.kind == abi.FieldKind.DENSE):
            m.d.comb += [most.eq(shape.dense_bytes), span.eq(shape.dense_bytes)]
        with m.Else():
            spans = [n * size for size, n in enumerate(whole)]
            m.d.comb += [
                most.eq(Array(Const(n, 7) for n in whole)[field.index_bytes]),
                span.eq(Array(Const(n, 7) for n in spans)[field.index_bytes]),
            ]
        units = Mux(field.kind == abi.FieldKind.DENSE, field.count, field.lookups)
        left = Signal(shape.count_bits)
        last = Signal()
        field_last = Signal()
        m.d.comb += [
            left.eq(units - done),
            last.eq(left <= most),
            field_last.eq(index + 1 == self.stage_entry.fields),
        ]

        m.submodules.steps = steps = Queue(shape.step, depth=READS)
        is_item = self.event_valid & ~self.event_start
        fire = Signal()
        m.d.comb += [
            self.request.valid.eq(is_item & steps.i.ready),
            self.request.p.slot.eq(self.event_token.slot),
            self.request.p.address.eq(
                Mux(field.scope == abi.FieldScope.ITEM, self.event_record, 0) + field.offset + ahead
            ),
            fire.eq(self.request.valid & self.request.ready),
            steps.i.valid.eq(fire | (self.event_valid & self.event_start)),
            steps.i.p.start.eq(self.event_start),
            steps.i.p.token.eq(self.event_token),
            steps.i.p.dense.eq(field.kind == abi.FieldKind.DENSE),
            steps.i.p.field.eq(index),
            steps.i.p.count.eq(Mux(last, left, most)),
            steps.i.p.first.eq(done == 0),
            steps.i.p.last.eq(last),
            steps.i.p.item_last.eq(field_last),
            steps.i.p.position.eq(self.event_position),
            self.event_done.eq(
                Mux(self.event_start, steps.i.ready, fire & last & field_last) & self.event_valid
            ),
        ]
        wiring.connect(m, steps.o, wiring.flipped(self.step))

        # The table is read every cycle, at the field of the next one.
        next_index = Signal(shape.field_bits)
        m.d.comb += [next_index.eq(index), self.field.en.eq(1), self.field.index.eq(next_index)]
        m.d.sync += index.eq(next_index)
        with m.If(fire):
            m.d.sync += [done.eq(done + most), ahead.eq(ahead + span)]
            with m.If(last):
                m.d.sync += [done.eq(0), ahead.eq(0)]
                m.d.comb += next_index.eq(Mux(field_last, 0, index + 1))
