"""A queue for many stream payloads, kept in a RAM."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl_gen.ram import MACRO_BITS, Ram

__all__ = ["RamQueue"]


class RamQueue(wiring.Component):
    """First-in first-out queue between two streams.

    A payload leaves at the earliest two cycles after it entered; one a cycle goes in and out.
    :class:`rtl_gen.queue.Queue` is for a few entries.

    Parameters
    ----------
    shape : shape-castable
        Shape of the payload.
    depth : int, at least 2
        Entries; one more fits while the output is held up.
    macro_bits : int
        Size in bits above which the RAM is a macro.

    Members
    -------
    i, o : In, Out(stream.Signature(shape))
        Where payloads enter and leave.

    Raises
    ------
    TypeError
        If ``depth`` is not an integer of 2 or more.
    """

    def __init__(self, shape, *, depth, macro_bits=MACRO_BITS):
        if not isinstance(depth, int) or depth < 2:
            raise TypeError(f"Depth must be an integer of 2 or more, not {depth!r}")
        self.depth = depth
        self.macro_bits = macro_bits
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(
            width=len(Value.cast(self.i.p)), depth=self.depth, macro_bits=self.macro_bits
        )
        stored = Signal(range(self.depth + 1))  # in the RAM, not yet read
        take = Signal()
        m.d.comb += [
            self.i.ready.eq(stored != self.depth),
            take.eq(self.i.valid & self.i.ready),
            ram.write.en.eq(take),
            ram.write.data.eq(self.i.payload),
            ram.read.en.eq((stored != 0) & (~self.o.valid | self.o.ready)),
            Value.cast(self.o.p).eq(ram.read.data),
        ]
        m.d.sync += stored.eq(stored + take - ram.read.en)
        for port, step in (ram.write, take), (ram.read, ram.read.en):
            with m.If(step):
                m.d.sync += port.addr.eq(port.addr + 1)
                with m.If(port.addr == self.depth - 1):
                    m.d.sync += port.addr.eq(0)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(ram.read.en)
        return m
