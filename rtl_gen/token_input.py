"""The input side of a group for one stage: starts tokens and takes what the gather unit writes."""

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rtl_gen.divider import divide
from rtl_gen.group_layouts import entry_layout
from rtl_gen.ram import Ram

__all__ = ["WRITE_LATENCY", "TokenInput", "fill_layout"]

#: Cycles from the acceptance of a write to the cycle in which it is at the memory's port.
WRITE_LATENCY = 1


def fill_layout(geometry: GroupGeometry) -> data.StructLayout:
    """What the gather unit writes in a cycle: to which buffer, part, word and place in it."""
    return data.StructLayout(
        {
            "en": 1,
            "form": entry_layout(geometry)["form"].shape,
            "buffer": 1,
            "part": range(geometry.max_parts),
            "address": ceil_log2(geometry.hardware.activation_rows),
            "place": max(ceil_log2(s.word_bytes // geometry.gather_bytes) for s in geometry.shapes),
            "mask": geometry.gather_bytes,
            "data": 8 * geometry.gather_bytes,
        }
    )


class TokenInput(wiring.Component):
    """Keep the two token buffers of a stage: filled by the gather unit, one after the other.

    A token is accepted when the buffer that is next in turn is free. A write a cycle is taken,
    except in cycles for which ``reserved`` says that the array will write that buffer when the
    write would get there, ``WRITE_LATENCY`` cycles later.

    Parameters
    ----------
    geometry : GroupGeometry
    port : Signature
        See :func:`rtl_gen.signatures.group_input_signature`.
    token : StructLayout
        See :func:`rtl_gen.group_layouts.token_layout`.
    stage : int
        Number of the stage among those of the group.

    Members
    -------
    i : In(port)
        Items come in order, each with at least one write.
    entry : In(entry_layout(...))
        Of the stage.
    token : Out(stream.Signature(token))
        Accepted tokens.
    arrived : Out(15).array(2)
        Rows of items of each buffer that have been written in all parts.
    reserved : In(2)
    fill : Out(fill_layout(...))
        What is written in this cycle.
    free : In(2)
        Pulse: a buffer is not needed any more.
    read : In(en, buffer, row)
        Asks for the positions of a row of items.
    positions : Out(16).array(parts)
        They, one cycle later.
    """

    def __init__(self, geometry: GroupGeometry, *, port, token, stage: int):
        self.geometry = geometry
        self.stage = stage
        self.parts = geometry.max_parts
        self.rows = geometry.hardware.accumulator_depth
        read = {"en": 1, "buffer": 1, "row": abi.ITEM_BITS}
        super().__init__(
            {
                "i": In(port),
                "entry": In(entry_layout(geometry)),
                "token": Out(stream.Signature(token)),
                "arrived": Out(abi.ITEM_BITS).array(2),
                "reserved": In(2),
                "fill": Out(fill_layout(geometry)),
                "free": In(2),
                "read": In(data.StructLayout(read)),
                "positions": Out(abi.POSITION_BITS).array(self.parts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        current = Signal(init=1)  # buffer that is being filled
        busy = Signal(2)

        start = self.i.start
        available = Signal()
        started = Signal()
        items = start.p.items
        before = (items - 1)[: abi.ITEM_BITS]  # items before the last; a token may have none
        m.d.comb += [
            available.eq(~busy.bit_select(~current, 1)),
            self.token.valid.eq(start.valid & available),
            self.token.p.stage.eq(self.stage),
            self.token.p.buffer.eq(~current),
            self.token.p.slot.eq(start.p.slot),
            self.token.p.query_last.eq(start.p.last),
            self.token.p.items.eq(items),
            self.token.p.rows.eq(self._by_shape(lambda s: divide(before, s.parts)[0]) + 1),
            self.token.p.rest.eq(self._by_shape(lambda s: divide(before, s.parts)[1]) + 1),
            start.ready.eq(available & self.token.ready),
            started.eq(start.valid & start.ready),
        ]
        with m.If(started):
            m.d.sync += current.eq(~current)
        for buffer in range(2):
            with m.If(started & (current != buffer)):
                m.d.sync += [busy[buffer].eq(1), self.arrived[buffer].eq(0)]
            with m.If(self.free[buffer]):
                m.d.sync += busy[buffer].eq(0)

        last_part = Signal(range(self.parts))
        m.d.comb += last_part.eq(self._by_shape(lambda s: s.parts - 1))
        self._write(m, current, started, last_part)
        self._finish(m, current, started, last_part)
        return m

    def _by_shape(self, value) -> Value:
        """Choose what ``value`` gives for the shape of the stage."""
        return Array(value(shape) for shape in self.geometry.shapes)[self.entry.form]

    def _write(self, m, current, started, last_part):
        """Send each item to its part, and its bytes to their place in a word."""
        given = self.i.write
        ratios = [s.word_bytes // self.geometry.gather_bytes for s in self.geometry.shapes]
        part = Signal(range(self.parts))
        base = Signal.like(self.fill.address)  # first word of the row
        odd = Signal()  # lowest bit of the item seen last
        here, row = Signal.like(part), Signal.like(base)
        taken = given.valid & given.ready
        m.d.comb += [
            given.ready.eq(~self.reserved.bit_select(current, 1)),
            here.eq(part),
            row.eq(base),
        ]
        with m.If(given.p.item[0] != odd):
            m.d.comb += here.eq(Mux(part == last_part, 0, part + 1))
            with m.If(part == last_part):
                m.d.comb += row.eq(base + self.entry.words)
        places = [divide(given.p.chunk, ratio) for ratio in ratios]
        word, place = (Array(each)[self.entry.form] for each in zip(*places))
        m.d.sync += [
            self.fill.en.eq(taken),
            self.fill.form.eq(self.entry.form),
            self.fill.buffer.eq(current),
            self.fill.part.eq(here),
            self.fill.address.eq(row + word),
            self.fill.place.eq(place),
            self.fill.mask.eq(given.p.mask),
            self.fill.data.eq(given.p.data),
        ]
        with m.If(taken):
            m.d.sync += [part.eq(here), base.eq(row), odd.eq(given.p.item[0])]
        with m.If(started):
            m.d.sync += [part.eq(0), base.eq(0), odd.eq(0)]

    def _finish(self, m, current, started, last_part):
        """Count rows that are finished once their writes are in the memory; keep positions."""
        bits = ceil_log2(self.rows)
        m.submodules.positions = positions = Ram(
            width=abi.POSITION_BITS * self.parts,
            depth=2 << bits,
            granularity=abi.POSITION_BITS,
            macro_bits=self.geometry.hardware.sram_macro_bits,
        )
        part = Signal(range(self.parts))
        row = Signal(bits)
        left = Signal(abi.ITEM_BITS)
        complete = Signal()
        m.d.comb += complete.eq(self.i.item_valid & ((part == last_part) | (left == 1)))
        with m.If(self.i.item_valid):
            m.d.sync += [left.eq(left - 1), part.eq(part + 1)]
            with m.If(complete):
                m.d.sync += [part.eq(0), row.eq(row + 1)]
        with m.If(started):
            m.d.sync += [left.eq(self.i.start.p.items), part.eq(0), row.eq(0)]
        m.d.comb += [
            positions.write.en.eq(self.i.item_valid << part),
            positions.write.addr.eq(Mux(current, row | (1 << bits), row)),
            positions.write.data.eq(self.i.item_position.replicate(self.parts)),
            positions.read.en.eq(self.read.en),
            positions.read.addr.eq(
                Mux(self.read.buffer, self.read.row[:bits] | (1 << bits), self.read.row[:bits])
            ),
        ]
        for number, position in enumerate(self.positions):
            m.d.comb += position.eq(positions.read.data.word_select(number, abi.POSITION_BITS))

        # As late as a write that was accepted in the same cycle.
        finished = Signal(2)
        m.d.sync += finished.eq(complete << current)
        for buffer in range(2):
            with m.If(finished[buffer]):
                m.d.sync += self.arrived[buffer].eq(self.arrived[buffer] + 1)
