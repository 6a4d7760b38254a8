"""The packer of a gather unit: puts what its lanes make of an item into the activation memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.emit import share
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.signatures import group_input_signature

__all__ = ["Packer"]


class Placer(wiring.Component):
    """Find the place of a lane's words; cut those that lie in several chunks. Latency 1 cycle.

    Parameters
    ----------
    shape : GatherShape
    word : StructLayout
        ``GatherShape.pooled`` or ``GatherShape.dense``.

    Members
    -------
    i : In(stream of word)
    o : Out(stream of {start, ends, empty, chunk, mask, data})
        ``ends``: the lane's last bytes of the item. ``data`` is zero outside of ``mask``.
    word : Out(word)
        That of ``o``; with other data.
    """

    def __init__(self, shape: GatherShape, word: data.StructLayout):
        self.shape = shape
        self.module_name = f"placer_{shape.chunk_bytes}_{word.size}"
        part = {"start": 1, "ends": 1, "empty": 1, "chunk": 16}
        part |= {"mask": shape.chunk_bytes, "data": 8 * shape.chunk_bytes}
        super().__init__(
            {
                "i": In(stream.Signature(word)),
                "o": Out(stream.Signature(data.StructLayout(part))),
                "word": Out(word),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self.shape.chunk_bytes
        word = self.word
        chunk, column = Signal(16), Signal(range(width))
        room = Signal(range(width + 1))
        more = Signal()  # bytes are left for the next chunk
        given = Signal(len(word.data) // 8)  # bytes of the word
        o = self.o.p
        m.d.comb += [
            room.eq(width - column),
            more.eq(~word.start & (word.count > room)),
            o.start.eq(word.start),
            o.ends.eq(word.item_last & ~more),
            o.empty.eq(word.count == 0),
            o.chunk.eq(chunk),
            given.eq(Cat(word.count > number for number in range(len(given)))),
            o.mask.eq(given << column),
            o.data.eq((word.data & Cat(bit.replicate(8) for bit in given)) << (column << 3)),
        ]
        # The place: a division by a constant, exact for 16 bits.
        fraction = 16 + ceil_log2(width)
        reciprocal = -(-(1 << fraction) // width)
        quotient = Signal(16)
        done = self.o.valid & self.o.ready & ~more
        m.d.comb += [
            quotient.eq((self.i.p.offset * reciprocal) >> fraction),
            self.i.ready.eq(~self.o.valid | done),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                word.eq(self.i.p),
                chunk.eq(quotient),
                column.eq(self.i.p.offset - quotient * width),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += [
                word.data.eq(word.data >> (room << 3)),
                word.count.eq(word.count - room),
                chunk.eq(chunk + 1),
                column.eq(0),
            ]
        return m


class Packer(wiring.Component):
    """Start tokens and write their items' bytes at the group, in order.

    The chunk of the first lane that has bytes of the item is written, with the bytes of all lanes
    whose next ones lie in it. A lane brings a word a cycle, one that lies in several chunks a chunk
    a cycle. Latency 1 cycle.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    i : In(stream of GatherShape.pooled).array(lanes)
    dense : In(stream of GatherShape.dense)
        Tells tokens and positions, too.
    lanes : In
        How many of the lanes are in use.
    failing : In(1)
        A failure of a query is on its way: no item is finished.
    group : Out(group_input_signature)
        ``item_valid`` pulses in the cycle after the item's last write was taken, always before the
        next token's start is offered.
    missing : Out(lanes)
        Lanes whose bytes, or whose start, are waited for.
    failed : Out(1)
        An item is not finished because of ``failing``.
    token_done : Out(1)
        Pulses when all of a token is with the group.
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        group = shape.hardware.groups_of(shape.stage)[0]
        super().__init__(
            {
                "i": In(stream.Signature(shape.pooled)).array(shape.lanes),
                "dense": In(stream.Signature(shape.dense)),
                "lanes": In(range(shape.lanes + 1)),
                "failing": In(1),
                "group": Out(group_input_signature(shape.hardware, group)),
                "missing": Out(shape.lanes),
                "failed": Out(1),
                "token_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape, group = self.shape, self.group
        placers = []
        for number, port in enumerate([*self.i, self.dense]):
            last = number == shape.lanes
            placer = Placer(shape, shape.dense if last else shape.pooled)
            m.submodules[f"placer{number}"] = share(placer, platform)
            wiring.connect(m, wiring.flipped(port), placer.i)
            placers.append(placer)
        dense = placers[-1].word
        parts = [placer.o for placer in placers]

        # Lanes that have bytes of the item left, or a start.
        done = Signal(len(parts))
        need = [~done[n] & (self.lanes > n) for n in range(shape.lanes)] + [~done[-1]]
        here = [n & part.valid & ~part.p.start for part, n in zip(parts, need, strict=True)]
        ready, starting, writing, finishing = Signal(), Signal(), Signal(), Signal()
        chunk, some = Signal(16), Signal()
        joins = Signal(len(parts))
        ends = Signal(len(parts))
        m.d.comb += [
            ready.eq(Cat(part.valid | ~n for part, n in zip(parts, need, strict=True)).all()),
            starting.eq(ready & need[-1] & parts[-1].p.start),
            joins.eq(
                Cat(
                    h & ((part.p.chunk == chunk) | part.p.empty)
                    for part, h in zip(parts, here, strict=True)
                )
            ),
            ends.eq(
                Cat(
                    ~n | (join & part.p.ends)
                    for part, n, join in zip(parts, need, joins, strict=True)
                )
            ),
            finishing.eq(ends.all()),
            # A lane never waits for another one to be written, which may wait for its own next
            # piece behind this lane's. What has no bytes waits for what has some.
            writing.eq((some | (ready & ~starting)) & ~(finishing & self.failing)),
        ]
        for part, h in reversed(list(zip(parts, here, strict=True))):
            with m.If(h & ~part.p.empty):
                m.d.comb += [chunk.eq(part.p.chunk), some.eq(1)]

        item, items = Signal(abi.ITEM_BITS), Signal(abi.ITEM_BITS)
        position = Signal(abi.POSITION_BITS)
        started = group.start.valid & group.start.ready
        written = group.write.valid & group.write.ready
        mask, content = 0, 0
        for part, join in zip(parts, joins, strict=True):
            mask |= Mux(join, part.p.mask, 0)
            content |= Mux(join, part.p.data, 0)
            m.d.comb += part.ready.eq(started | (written & join))
        m.d.comb += [
            group.start.valid.eq(starting & ~group.item_valid),
            group.start.payload.eq(dense.token),
            group.write.valid.eq(writing),
            group.write.p.chunk.eq(chunk),
            group.write.p.item.eq(item),
            group.write.p.mask.eq(mask),
            group.write.p.data.eq(content),
            self.missing.eq(Cat(n & ~part.valid for part, n in zip(parts[:-1], need))),
            self.failed.eq((some | (ready & ~starting)) & finishing & self.failing),
            self.token_done.eq(
                (started & (dense.token.items == 0)) | (written & finishing & (item == items - 1))
            ),
        ]
        m.d.sync += group.item_valid.eq(written & finishing)
        with m.If(written):
            m.d.sync += done.eq(Mux(finishing, 0, done | ends))
            with m.If(joins[-1]):
                m.d.sync += position.eq(dense.position)
            with m.If(finishing):
                m.d.sync += [
                    group.item_position.eq(Mux(joins[-1], dense.position, position)),
                    item.eq(item + 1),
                ]
        with m.If(started):
            m.d.sync += [item.eq(0), items.eq(dense.token.items)]
        return m
