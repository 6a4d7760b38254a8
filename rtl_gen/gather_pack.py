"""The packer of a gather unit: collects finished bytes into chunks of the activation memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.signatures import group_input_signature

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Start tokens and write their items' bytes at the group, in order.

    Bytes that follow each other in a chunk are written together, even those of several fields. A
    word of up to ``bus_bytes`` bytes a cycle is taken, but for each further chunk that a word
    touches a cycle more, if the word does not go on where the one before ended or if chunks are
    narrower than the bus. Latency 1 cycle, and that of the bytes that complete the write.

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
        group = shape.hardware.groups_of(shape.stage)[0]
        self.part_layout = data.StructLayout(
            {"chunk": 16, "mask": shape.chunk_bytes, "data": 8 * shape.chunk_bytes}
        )
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
        group = self.group
        width = self.shape.chunk_bytes

        # The word, the place of its first byte, and the part of it that lies in that chunk.
        valid, done = Signal(), Signal()
        word = Signal(self.shape.pooled)
        chunk = Signal(16)
        column = Signal(range(width))
        room = Signal(range(width + 1))
        more = Signal()  # bytes are left for the next chunk
        left = Signal.like(word.count)  # how many
        part = Signal(self.part_layout)
        rest = Signal(self.part_layout)
        m.d.comb += [
            room.eq(width - column),
            more.eq(word.count > room),
            left.eq(word.count - room),
            part.chunk.eq(chunk),
            part.mask.eq(((1 << word.count) - 1) << column),
            part.data.eq(word.data << (column << 3)),
            rest.chunk.eq(chunk + 1),
            rest.mask.eq((1 << left) - 1),
            rest.data.eq(word.data >> (room << 3)),
        ]

        # What waits to be written: bytes of one chunk, maybe the last ones of their item.
        held = Signal(self.part_layout)
        held_valid = Signal()
        held_ends = Signal()
        held_position = Signal(abi.POSITION_BITS)
        merged = Signal(self.part_layout)
        m.d.comb += [
            merged.chunk.eq(chunk),
            merged.mask.eq(part.mask | Mux(held_valid, held.mask, 0)),
            merged.data.eq(
                Cat(
                    Mux(
                        part.mask[lane],
                        part.data.word_select(lane, 8),
                        held.data.word_select(lane, 8),
                    )
                    for lane in range(width)
                )
            ),
        ]

        bytes_valid = valid & ~word.start
        joins = ~held_valid | ((held.chunk == chunk) & ~held_ends)
        complete = more | word.item_last | merged.mask.all()
        write = Signal(self.part_layout)
        m.d.comb += [
            write.eq(Mux(held_ends | ~joins, held, merged)),
            group.write.valid.eq(held_ends | (bytes_valid & (~joins | complete))),
            group.write.p.chunk.eq(write.chunk),
            group.write.p.mask.eq(write.mask),
            group.write.p.data.eq(write.data),
            group.start.valid.eq(valid & word.start & ~held_valid & ~group.item_valid),
            group.start.payload.eq(word.token),
            self.stalled.eq(
                (group.start.valid & ~group.start.ready) | (group.write.valid & ~group.write.ready)
            ),
        ]
        moves = ~group.write.valid | group.write.ready
        item_done = Signal()
        with m.If(held_ends & group.write.ready):
            m.d.comb += item_done.eq(1)
            m.d.sync += [held_valid.eq(0), held_ends.eq(0)]
        with m.If(bytes_valid & moves):
            keep = Signal()  # something stays behind
            m.d.comb += done.eq(1)
            with m.If(~joins):
                m.d.comb += [keep.eq(1), done.eq(~more)]
                m.d.sync += held.eq(part)
            with m.Elif(more):
                m.d.comb += [keep.eq(left <= width), done.eq(keep)]
                m.d.sync += held.eq(rest)
            with m.Else():
                m.d.comb += keep.eq(~complete)
                m.d.sync += held.eq(merged)
                with m.If(word.item_last):
                    m.d.comb += item_done.eq(1)
            m.d.sync += [
                held_valid.eq(keep),
                held_ends.eq(keep & done & word.item_last),
                held_position.eq(word.position),
            ]
        started = group.start.valid & group.start.ready
        with m.If(started):
            m.d.comb += done.eq(1)

        self._take(m, valid, done, word, chunk, column)
        with m.If(bytes_valid & moves & ~done):
            m.d.sync += [
                word.data.eq(word.data >> (room << 3)),
                word.count.eq(left),
                chunk.eq(chunk + 1),
                column.eq(0),
            ]

        item = Signal(abi.ITEM_BITS)
        items = Signal(abi.ITEM_BITS)
        m.d.comb += [
            group.write.p.item.eq(item),
            self.token_done.eq(
                (started & (word.token.items == 0)) | (item_done & (item == items - 1))
            ),
        ]
        m.d.sync += [
            group.item_valid.eq(item_done),
            group.item_position.eq(Mux(held_ends, held_position, word.position)),
        ]
        with m.If(started):
            m.d.sync += [item.eq(0), items.eq(word.token.items)]
        with m.Elif(item_done):
            m.d.sync += item.eq(item + 1)
        return m

    def _take(self, m, valid, done, word, chunk, column):
        """Take the next word and find its place: a division by a constant, exact for 16 bits."""
        width = self.shape.chunk_bytes
        fraction = 16 + ceil_log2(width)
        reciprocal = -(-(1 << fraction) // width)
        quotient = Signal(16)
        m.d.comb += [
            quotient.eq((self.i.p.offset * reciprocal) >> fraction),
            self.i.ready.eq(~valid | done),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid),
                word.eq(self.i.p),
                chunk.eq(quotient),
                column.eq(self.i.p.offset - quotient * width),
            ]
