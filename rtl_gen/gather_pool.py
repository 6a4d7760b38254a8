"""The pooler of a gather unit: sums the rows of a bag and requantises the sum."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl_gen.gather_layouts import GatherShape
from rtl_gen.ram import Ram

__all__ = ["Pooler"]

SUM_BITS = 16


class Pooler(wiring.Component):
    """Sum int8 words of a bag's rows lane by lane; the bag's last slot lets the result out.

    ``clamp(rshift_round(sum, shift))`` of docs/numerics.md. One word a cycle, latency 3 cycles.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    i : In(stream of GatherShape.word)
    o : Out(stream of GatherShape.pooled)
        Starts, and the words of last slots.
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        super().__init__(
            {"i": In(stream.Signature(shape.word)), "o": Out(stream.Signature(shape.pooled))}
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        sums_layout = data.ArrayLayout(signed(SUM_BITS), shape.lane_bytes)
        m.submodules.sums = ram = Ram(
            width=sums_layout.size, depth=shape.row_words, macro_bits=shape.macro_bits
        )

        # First step: add the word to the sums read for it.
        valid, done = Signal(), Signal()
        word = Signal(shape.word)
        forward = Signal()
        forwarded = Signal(sums_layout)
        before = Signal(sums_layout)
        after = Signal(sums_layout)
        lets_out = word.start | word.bag_last
        m.d.comb += [
            before.eq(Mux(forward, forwarded, ram.read.data)),
            ram.read.en.eq(self.i.ready),
            ram.read.addr.eq(self.i.p.row_word),
            ram.write.en.eq(done & ~lets_out),
            ram.write.addr.eq(word.row_word),
            ram.write.data.eq(after),
            self.i.ready.eq(~valid | done),
        ]
        for lane in range(shape.lane_bytes):
            added = word.data.word_select(lane, 8).as_signed()
            m.d.comb += after[lane].eq(Mux(word.bag_first, 0, before[lane]) + added)
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid),
                word.eq(self.i.p),
                # The RAM gives the sums from before a write in this very cycle.
                forward.eq(ram.write.en & (self.i.p.row_word == word.row_word)),
                forwarded.eq(after),
            ]

        # Second step: shift, round and clamp.
        total = Signal(sums_layout)
        out = Signal(shape.word)
        out_valid = Signal()
        out_ready = ~out_valid | self.o.ready
        m.d.comb += done.eq(valid & (~lets_out | out_ready))
        with m.If(out_ready):
            m.d.sync += [out_valid.eq(valid & lets_out), out.eq(word), total.eq(after)]
        m.d.comb += self.o.valid.eq(out_valid)
        m.d.comb += [self.o.p[name].eq(out[name]) for name, _ in shape.pooled if name != "data"]
        half = Signal(SUM_BITS)
        m.d.comb += half.eq((1 << out.shift) >> 1)
        lanes = []
        for lane in range(shape.lane_bytes):
            shifted = Signal(signed(SUM_BITS + 1))
            m.d.comb += shifted.eq((total[lane] + half.as_signed()) >> out.shift)
            clamped = Mux(shifted > 127, 127, Mux(shifted < -128, -128, shifted))
            lanes.append(clamped[:8])
        m.d.comb += self.o.p.data.eq(Cat(lanes))
        return m
