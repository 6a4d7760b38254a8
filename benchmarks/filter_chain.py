"""What the exact filter is compared with: a sorted chain of registers, a comparator a cell."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import TOPK_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.signatures import plan_layout, ranked_layout, score_layout, slot_event_layout

__all__ = ["Chain"]

KEY_BITS = 16 + abi.POSITION_BITS


class Chain(wiring.Component):
    """The ports of :class:`rtl_gen.topk.TopK`; a sorted chain of ``depth`` registers inside.

    One score a cycle; the last of ``count`` candidates leaves ``count + 1`` cycles after the last
    score. An emission holds up scores until the one before has left.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        self.hardware = hardware
        self.stage = stage
        self.depth = hardware.topk_depth[stage]
        super().__init__(
            {
                "i": In(stream.Signature(score_layout(hardware))),
                "plan": In(stream.Signature(plan_layout(hardware))),
                "ranked": Out(stream.Signature(ranked_layout(hardware))),
                "survivor": Out(stream.Signature(abi.POSITION_BITS)),
                "saturation": Out(slot_event_layout(hardware)),
                "counters": Out(data.StructLayout({name: 1 for name in TOPK_COUNTERS})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A score waits here for one cycle, so that its fan-out to all cells starts at a register.
        score = Signal(score_layout(self.hardware), reset_less=True)
        held = Signal()
        take = Signal()
        m.d.comb += self.i.ready.eq(~held | take)
        with m.If(self.i.ready):
            m.d.sync += [held.eq(self.i.valid), score.eq(self.i.payload)]

        insert = Signal()
        pop = Signal()
        close = Signal()
        released = Signal(plan_layout(self.hardware), reset_less=True)
        best, full = self._chain(m, score, insert, pop, close)
        done = self._drain(m, best, released, pop, close)
        ends = score.last & self.plan.p.emit
        m.d.comb += [
            take.eq(held & (~score.last | self.plan.valid) & (~full | pop) & (~ends | done)),
            insert.eq(take & score.keep),
            close.eq(take & ends),
            self.plan.ready.eq(take & score.last),
            self.saturation.valid.eq(insert & score.saturated),
            self.saturation.slot.eq(score.slot),
            self.counters.candidates.eq(insert),
            self.counters.released.eq(pop),
            self.counters.saturations.eq(self.saturation.valid),
        ]
        return m

    def _chain(self, m, score, insert, pop, close):
        """Cells in rank order: those being released, then those being ranked, then unused ones.

        A new key goes before the first ranked cell that it beats; from there on keys move down by
        one. A pop moves all up by one. Both together leave no cell without a place: cell
        ``depth``, which exists between the two only, is as good as unused.

        Returns
        -------
        best, full
            The first key, and whether no cell is unused although some are being released.
        """
        depth = self.depth
        key = Signal(KEY_BITS)
        cells = [Signal(KEY_BITS, name=f"cell{n}", reset_less=True) for n in range(depth)]
        used = Signal(depth)
        leaving = Signal(depth)  # the cells being released
        m.d.comb += key.eq(Cat(~score.position, score.score.as_unsigned() ^ 0x8000))

        # Signals, not expressions: Amaranth writes an expression out again wherever it is used.
        beaten = [Signal(name=f"beaten{n}") for n in range(depth)] + [insert]
        above = [key] + [Signal(KEY_BITS, name=f"above{n}") for n in range(depth)]
        after = [Signal(KEY_BITS, name=f"after{n}") for n in range(depth)] + [above[-1]]
        for n, cell in enumerate(cells):
            m.d.comb += [
                beaten[n].eq(insert & ~leaving[n] & (~used[n] | (key > cell))),
                above[n + 1].eq(Mux(beaten[n], cell, key)),
                after[n].eq(Mux(beaten[n], above[n], cell)),
            ]
            m.d.sync += cell.eq(Mux(pop, after[n + 1], after[n]))

        grown = Signal(depth + 1)
        rest = Signal(depth)
        kept = Signal(depth)
        m.d.comb += [
            grown.eq(Mux(insert, Cat(1, used), used)),
            rest.eq(Mux(pop, grown[1:], grown)),
            kept.eq(rest & Cat(self.plan.p.count > n for n in range(depth))),
        ]
        with m.If(close):
            m.d.sync += [used.eq(kept), leaving.eq(kept)]
        with m.Else():
            m.d.sync += used.eq(rest)
            with m.If(pop):
                m.d.sync += leaving.eq(leaving[1:])
        return cells[0], used[-1] & leaving[0]

    def _drain(self, m, best, released, pop, close):
        """Offer what is released, one candidate a cycle; return whether nothing is left after."""
        busy = Signal()
        advance = Signal()
        position = ~best[: abi.POSITION_BITS]
        keep = released.count != 0
        last = released.count <= 1
        m.d.comb += [
            self.ranked.p.position.eq(position),
            self.ranked.p.score.eq((best[abi.POSITION_BITS :] ^ 0x8000).as_signed()),
            self.ranked.p.keep.eq(keep),
            self.ranked.p.last.eq(last),
            self.ranked.p.slot.eq(released.slot),
            self.ranked.valid.eq(busy & released.final),
            self.survivor.payload.eq(position),
            self.survivor.valid.eq(busy & ~released.final & keep),
            advance.eq(busy & Mux(released.final, self.ranked.ready, self.survivor.ready | ~keep)),
            pop.eq(advance & keep),
        ]
        with m.If(advance):
            m.d.sync += [released.count.eq(released.count - 1), busy.eq(~last)]
        with m.If(close):
            m.d.sync += [released.eq(self.plan.payload), busy.eq(1)]
        return ~busy | (advance & last)
