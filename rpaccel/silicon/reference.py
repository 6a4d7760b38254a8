"""Circuits that are synthesised for comparison, or in place of what has no Verilog."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["ReferenceMac", "Selector"]


class ReferenceMac(wiring.Component):
    """A multiply-accumulate unit with the registers of the paper's: operands 16, sums 64 bits.

    A weight passes through while ``control`` is high and is taken when it falls; activation and
    sum advance while it is low.
    """

    def __init__(self):
        super().__init__(
            {
                "control": In(1),
                "a": In(16),
                "w": In(16),
                "n": In(64),
                "e": Out(16),
                "passed": Out(16),
                "s": Out(64),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        own = Signal(16, reset_less=True)
        e, passed, s = (Signal(n, reset_less=True) for n in (16, 16, 64))
        with m.If(self.control):
            m.d.sync += passed.eq(self.w)
        with m.Else():
            product = self.a.as_signed() * own.as_signed()
            m.d.sync += [own.eq(passed), e.eq(self.a), s.eq(self.n.as_signed() + product)]
        m.d.comb += [self.e.eq(e), self.passed.eq(passed), self.s.eq(s)]
        return m


class Selector(wiring.Component):
    """One of ``count`` words of ``width`` bits: a lane's part of the static region's crossbar."""

    def __init__(self, *, count: int, width: int):
        self.count, self.width = count, width
        super().__init__({"i": In(count * width), "chosen": In(ceil_log2(count)), "o": Out(width)})

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        words = [self.i.word_select(n, self.width) for n in range(self.count)]
        for bit in self.chosen:
            odd = [*words[1::2], *([words[-1]] if len(words) % 2 else [])]
            words = [Mux(bit, high, low) for low, high in zip(words[::2], odd, strict=True)]
        m.d.comb += self.o.eq(words[0])
        return m
