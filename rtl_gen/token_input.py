"""The input side of a group for one stage: starts tokens and takes what the gather unit writes."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.activations import Place
from rtl_gen.ram import Ram

__all__ = ["WRITE_LATENCY", "TokenInput"]

#: Cycles from the acceptance of a write to the cycle in which it is at the memory's port.
WRITE_LATENCY = 2


class TokenInput(wiring.Component):
    """Keep the two token buffers of a stage: filled by the gather unit, one after the other.

    A token is accepted when the buffer that is next in turn is free. A write a cycle is taken,
    except in cycles for which ``reserved`` says that the array will write that buffer when the
    write would get there, ``WRITE_LATENCY`` cycles later.

    Parameters
    ----------
    port : Signature
        See :func:`rtl_gen.signatures.group_input_signature`.
    token : StructLayout
        See :func:`rtl_gen.sequencer.token_layout`.
    stage : int
        Number of the stage among those of the group.
    write : StructLayout
        Of the write port of a token buffer.
    chunks : Place
        Where chunks lie in a token buffer.
    items : int
        Most items of a token.
    macro_bits : int
        See :class:`rtl_gen.ram.Ram`.

    Members
    -------
    i : In(port)
    token : Out(stream.Signature(token))
        Accepted tokens.
    arrived : Out(15).array(2)
        Items of each buffer that have been written.
    reserved : In(2)
    write : Out(write), write_buffer : Out(1)
        What is written in this cycle, to which buffer.
    free : In(2)
        Pulse: a buffer is not needed any more.
    read : In(en, buffer, item)
        Asks for the position of an item.
    position : Out(16)
        It, one cycle later.
    """

    def __init__(self, *, port, token, stage: int, write, chunks: Place, items: int, macro_bits):
        self.stage = stage
        self.chunks = chunks
        self.items = items
        self.macro_bits = macro_bits
        read = {"en": 1, "buffer": 1, "item": abi.ITEM_BITS}
        super().__init__(
            {
                "i": In(port),
                "token": Out(stream.Signature(token)),
                "arrived": Out(abi.ITEM_BITS).array(2),
                "reserved": In(2),
                "write": Out(write),
                "write_buffer": Out(1),
                "free": In(2),
                "read": In(data.StructLayout(read)),
                "position": Out(abi.POSITION_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        current = Signal(init=1)  # buffer that is being filled
        busy = Signal(2)
        items = [Signal(abi.ITEM_BITS, name=f"items_{b}") for b in range(2)]

        start = self.i.start
        available = Signal()
        started = Signal()
        m.d.comb += [
            available.eq(~busy.bit_select(~current, 1)),
            self.token.valid.eq(start.valid & available),
            self.token.p.stage.eq(self.stage),
            self.token.p.buffer.eq(~current),
            self.token.p.slot.eq(start.p.slot),
            self.token.p.query_last.eq(start.p.last),
            self.token.p.items.eq(start.p.items),
            start.ready.eq(available & self.token.ready),
            started.eq(start.valid & start.ready),
        ]
        with m.If(started):
            m.d.sync += current.eq(~current)
        for buffer in range(2):
            with m.If(started & (current != buffer)):
                m.d.sync += [
                    busy[buffer].eq(1),
                    items[buffer].eq(start.p.items),
                    self.arrived[buffer].eq(0),
                ]
            with m.If(self.free[buffer]):
                m.d.sync += busy[buffer].eq(0)

        self._write(m, current, items)
        self._finish(m, current, started)
        return m

    def _write(self, m, current, items):
        """Two stages: find the chunk's bank and row; multiply the row by the items of the token."""
        given = self.i.write
        m.d.comb += given.ready.eq(~self.reserved.bit_select(current, 1))
        bank, row = self.chunks.locate(given.p.chunk)
        found = {
            "en": Signal(),
            "buffer": Signal(),
            "bank": Signal.like(self.write.bank),
            "row": Signal.like(row, name="found_row"),
            "item": Signal(abi.ITEM_BITS),
            "mask": Signal.like(self.write.mask),
            "data": Signal.like(self.write.data),
        }
        m.d.sync += [
            found["en"].eq(given.valid & given.ready),
            found["buffer"].eq(current),
            found["bank"].eq(bank),
            found["row"].eq(row),
            found["item"].eq(given.p.item),
            found["mask"].eq(given.p.mask),
            found["data"].eq(given.p.data),
        ]
        count = Array(items)[found["buffer"]]
        address = found["row"] * count + found["item"]
        m.d.sync += [
            self.write.address.eq(address),
            self.write.next_address.eq(address + count),
            self.write_buffer.eq(found["buffer"]),
        ]
        for name in ("en", "bank", "mask", "data"):
            m.d.sync += self.write[name].eq(found[name])

    def _finish(self, m, current, started):
        """Count finished items once their writes are in the memory, and keep their positions."""
        bits = ceil_log2(self.items)
        m.submodules.positions = positions = Ram(
            width=abi.POSITION_BITS, depth=2 << bits, macro_bits=self.macro_bits
        )
        count = Signal(bits)
        with m.If(self.i.item_valid):
            m.d.sync += count.eq(count + 1)
        with m.If(started):
            m.d.sync += count.eq(0)
        m.d.comb += [
            positions.write.en.eq(self.i.item_valid),
            positions.write.addr.eq(Mux(current, count | (1 << bits), count)),
            positions.write.data.eq(self.i.item_position),
            positions.read.en.eq(self.read.en),
            positions.read.addr.eq(
                Mux(self.read.buffer, self.read.item[:bits] | (1 << bits), self.read.item[:bits])
            ),
            self.position.eq(positions.read.data),
        ]

        # As late as a write that was accepted in the same cycle.
        events = [Signal(2, name=f"finished_{i}") for i in range(WRITE_LATENCY)]
        now = Signal(2)
        m.d.comb += now.eq(self.i.item_valid << current)
        for before, event in zip([now, *events], events):
            m.d.sync += event.eq(before)
        for buffer in range(2):
            with m.If(events[-1][buffer]):
                m.d.sync += self.arrived[buffer].eq(self.arrived[buffer] + 1)
