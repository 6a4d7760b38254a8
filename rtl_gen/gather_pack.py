"""The packer of a gather unit: puts finished bytes into chunks of the activation memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.signatures import group_input_signature

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Start tokens and write their items' bytes at the group, in order.

    A word of up to ``bus_bytes`` bytes takes a write for each chunk it touches: one a cycle while
    words do not cross chunk borders. Latency 1 cycle.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    i : In(stream of GatherShape.pooled)
    group : Out(group_input_signature)
        ``item_valid`` pulses in the cycle after the item's last write was taken, always before the
        next token's start is offered.
    stalled : Out(1)
        The group does not take what it is offered.
    token_done : Out(1)
        Pulses when all of a token is with the group.
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        group = shape.hardware.group_of(shape.stage)
        super().__init__(
            {
                "i": In(stream.Signature(shape.pooled)),
                "group": Out(group_input_signature(shape.hardware, group)),
                "stalled": Out(1),
                "token_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        width = shape.n_width
        group = self.group

        # Chunk and column of the word: a division by a constant, exact for 16 bits.
        fraction = 16 + ceil_log2(width)
        reciprocal = -(-(1 << fraction) // width)
        chunk = Signal(16)
        column = Signal(range(width))
        m.d.comb += [
            chunk.eq((self.i.p.offset * reciprocal) >> fraction),
            column.eq(self.i.p.offset - chunk * width),
        ]

        valid, done = Signal(), Signal()
        word = Signal(shape.pooled)
        at_chunk = Signal.like(chunk)
        at_column = Signal.like(column)
        item = Signal(abi.ITEM_BITS)
        items = Signal(abi.ITEM_BITS)
        room = Signal(range(width + 1))
        more = Signal()  # bytes are left for the next chunk
        m.d.comb += [
            room.eq(width - at_column),
            more.eq(word.count > room),
            self.i.ready.eq(~valid | done),
            group.start.valid.eq(valid & word.start & ~group.item_valid),
            group.start.payload.eq(word.token),
            group.write.valid.eq(valid & ~word.start),
            group.write.p.chunk.eq(at_chunk),
            group.write.p.item.eq(item),
            group.write.p.mask.eq(((1 << word.count) - 1) << at_column),
            group.write.p.data.eq(word.data << (at_column << 3)),
            self.stalled.eq(
                (group.start.valid & ~group.start.ready) | (group.write.valid & ~group.write.ready)
            ),
        ]
        started = group.start.valid & group.start.ready
        written = group.write.valid & group.write.ready
        item_done = written & ~more & word.item_last
        m.d.comb += [
            done.eq(started | (written & ~more)),
            self.token_done.eq(
                Mux(word.start, started & (word.token.items == 0), item_done & (item == items - 1))
            ),
        ]
        m.d.sync += [group.item_valid.eq(item_done), group.item_position.eq(word.position)]
        with m.If(started):
            m.d.sync += [item.eq(0), items.eq(word.token.items)]
        with m.If(item_done):
            m.d.sync += item.eq(item + 1)
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid),
                word.eq(self.i.p),
                at_chunk.eq(chunk),
                at_column.eq(column),
            ]
        with m.Elif(written):
            m.d.sync += [
                word.data.eq(word.data >> (room << 3)),
                word.count.eq(word.count - room),
                at_chunk.eq(at_chunk + 1),
                at_column.eq(0),
            ]
        return m
