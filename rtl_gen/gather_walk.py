"""The walker of a gather unit: reads what the items of its tokens need from the feature buffer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.image_layout import LANE, STAGE, STEP, FieldScope
from rtl_gen.gather_fields import fill_port
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram
from rtl_gen.signatures import feature_port, struct, token_layout

__all__ = ["Walker", "step_bits"]

READS = 8
"""Reads of the feature buffer that may be in flight."""


def step_bits(lanes: int) -> int:
    """Width of a word of the step memory, the dense lane being one more."""
    return STEP.bits + LANE.bits * (lanes + 1)


class Walker(wiring.Component):
    """Walk tokens, their items in order, and the steps of an item in order.

    Asks the feature buffer once a step and hands each lane its piece of the answer. One step a
    cycle, as long as all lanes take their pieces; a token takes 2 cycles more.

    An item's record is ``query_bytes + position * item_bytes`` behind the slot's start.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    token : In(stream of token_layout)
    position : In(stream of POSITION_BITS)
        Positions of the items of listed tokens.
    empty : In(1)
        The stage before has released no items: its token without items may start.
    hold : In(1)
        Take no token.
    stage_entry : In(struct(image_layout.STAGE))
    fill : In(fill_port)
        Of the step memory.
    request, response : Out, In(stream)
        To and from the feature buffer.
    lane : Out(stream of GatherShape.step).array(lanes)
    dense : Out(stream of GatherShape.dense_step)
        At least one piece an item, if need be of no bytes.
    waits_position, waits_features : Out(1)
        No lane holds the walker up, but a position is missing, or the feature buffer is taken.
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        self.depth = shape.gather.max_steps
        self.read_layout = data.StructLayout(
            {
                "start": 1,
                "token": shape.token,
                "position": abi.POSITION_BITS,
                "index": shape.step_bits,
            }
        )
        request = feature_port(shape.hardware).members["request"].signature
        super().__init__(
            {
                "token": In(stream.Signature(token_layout(shape.hardware))),
                "position": In(stream.Signature(abi.POSITION_BITS)),
                "empty": In(1),
                "hold": In(1),
                "stage_entry": In(struct(STAGE)),
                "fill": In(fill_port(step_bits(shape.lanes), self.depth)),
                "request": Out(request),
                "response": In(stream.Signature(8 * shape.read_bytes)),
                "lane": Out(stream.Signature(shape.step)).array(shape.lanes),
                "dense": Out(stream.Signature(shape.dense_step)),
                "waits_position": Out(1),
                "waits_features": Out(1),
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
        self.held_up = Signal()  # by a lane
        self._items(m)
        self._pieces(m, self._steps(m))
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

        # A token is started at the group when it is sure to get its items: a group that serves the
        # stage before, too, may have to work on that first. One without items waits, too: else a
        # query could be over, and its slot another's, before the stage before has done its part.
        empties = Signal(abi.ITEM_BITS)
        nobody = token.items == 0
        ready = Mux(nobody, empties != 0, ~token.listed | self.position.valid)
        m.d.sync += empties.eq(empties + self.empty - (have & ready & nobody & move_found))
        m.d.comb += [
            self.position.ready.eq(have & started & token.listed & move_found),
            self.waits_position.eq(have & ~ready & ~self.held_up),
        ]
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

    def _steps(self, m):
        """Turn an item into reads, step by step."""
        shape = self.shape
        head = Signal(struct(STEP))
        index = Signal(shape.step_bits)
        is_item = self.event_valid & ~self.event_start
        fire = Signal()
        m.submodules.reads = reads = Queue(self.read_layout, depth=READS)
        m.submodules.heads = heads = Ram(
            width=STEP.bits, depth=self.depth, macro_bits=shape.macro_bits
        )
        m.d.comb += [
            heads.write.en.eq(self.fill.en),
            heads.write.addr.eq(self.fill.addr),
            heads.write.data.eq(self.fill.data),
            head.eq(heads.read.data),
            self.request.valid.eq(is_item & reads.i.ready),
            self.request.p.slot.eq(self.event_token.slot),
            self.request.p.address.eq(
                Mux(head.scope == FieldScope.ITEM, self.event_record, 0) + head.address
            ),
            fire.eq(self.request.valid & self.request.ready),
            self.waits_features.eq(self.request.valid & ~fire & ~self.held_up),
            reads.i.valid.eq(fire | (self.event_valid & self.event_start)),
            reads.i.p.start.eq(self.event_start),
            reads.i.p.token.eq(self.event_token),
            reads.i.p.position.eq(self.event_position),
            reads.i.p.index.eq(index),
            self.event_done.eq(
                Mux(self.event_start, reads.i.ready, fire & head.last) & self.event_valid
            ),
        ]
        # The table is read every cycle, at the next step.
        next_index = Signal(shape.step_bits)
        m.d.comb += [next_index.eq(index), heads.read.en.eq(1), heads.read.addr.eq(next_index)]
        m.d.sync += index.eq(next_index)
        with m.If(fire):
            m.d.comb += next_index.eq(Mux(head.last, 0, index + 1))
        return reads.o

    def _pieces(self, m, reads):
        """Give each lane its piece of what was read; the next read follows when all have theirs."""
        shape = self.shape
        width = LANE.bits * (shape.lanes + 1)
        m.submodules.pieces = pieces = Ram(
            width=width, depth=self.depth, macro_bits=shape.macro_bits
        )
        valid, all_have = Signal(), Signal()
        read = Signal(self.read_layout)
        answer = Signal(8 * shape.read_bytes)
        take = ~valid | all_have
        m.d.comb += [
            pieces.write.en.eq(self.fill.en),
            pieces.write.addr.eq(self.fill.addr),
            pieces.write.data.eq(self.fill.data[STEP.bits :]),
            pieces.read.en.eq(take),
            pieces.read.addr.eq(reads.p.index),
            reads.ready.eq(take & (reads.p.start | self.response.valid)),
            self.response.ready.eq(take & reads.valid & ~reads.p.start),
        ]
        with m.If(take):
            m.d.sync += [
                valid.eq(reads.valid & reads.ready),
                read.eq(reads.p),
                answer.eq(self.response.p),
            ]
        wanted, given, gives = (Signal(shape.lanes + 1) for _ in range(3))
        m.d.comb += [
            all_have.eq(valid & ((wanted & ~given & ~gives) == 0)),
            self.held_up.eq(valid & ~all_have),
        ]
        m.d.sync += given.eq(Mux(all_have, 0, given | gives))
        words = data.View(data.ArrayLayout(struct(LANE), shape.lanes + 1), pieces.read.data)
        for number, port in enumerate([*self.lane, self.dense]):
            word = words[number]
            m.d.comb += [
                port.valid.eq(valid & wanted[number] & ~given[number]),
                gives[number].eq(port.valid & port.ready),
                port.p.start.eq(read.start),
                port.p.field.eq(word.field),
                port.p.data.eq(answer.bit_select(word.byte << 3, len(port.p.data))),
            ]
            if number < shape.lanes:
                is_used = self.stage_entry.lanes > number
                m.d.comb += [
                    port.p.slot.eq(read.token.slot),
                    port.p.count.eq(word.count),
                    port.p.first.eq(word.first),
                    port.p.last.eq(word.last),
                ]
            else:
                is_used = 1
                m.d.comb += [
                    port.p.token.eq(read.token),
                    port.p.position.eq(read.position),
                    port.p.count.eq(word.count),
                ]
            m.d.comb += [
                port.p.item_last.eq(word.item_last),
                wanted[number].eq(Mux(read.start, is_used, word.used)),
            ]
