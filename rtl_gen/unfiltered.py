"""No filter: every candidate is released, by position, for a host that ranks."""

from __future__ import annotations

from amaranth.hdl import Module, Signal

from rpaccel import abi
from rpaccel.counters import TOPK_COUNTERS
from rtl_gen.filter import FilterPorts
from rtl_gen.states import attribute

__all__ = ["Unfiltered"]


class Unfiltered(FilterPorts):
    """Pass candidates on to ``ranked`` as they come, which is in the order of their positions.

    One score a cycle, latency 1 cycle. Only for a last stage: plans are ``final``, and ``count`` is
    ``candidates``. See :class:`rtl_gen.filter.FilterPorts`.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int
    """

    def elaborate(self, platform):
        m = Module()
        plan, score = self.plan.p, self.i.p
        number = Signal(abi.ITEM_BITS)  # candidates of this emission that were passed on
        take, nothing, move = Signal(), Signal(), Signal()
        ends = Signal()
        m.d.comb += [
            move.eq(~self.ranked.valid | self.ranked.ready),
            self.i.ready.eq(self.plan.valid & move),
            take.eq(self.i.valid & self.i.ready),
            self.plan.ready.eq(take & score.last),
            nothing.eq(plan.emit & (plan.candidates == 0)),
            ends.eq(nothing | (number == plan.candidates - 1)),
            self.saturation.valid.eq(take & score.keep & score.saturated),
            self.saturation.slot.eq(score.slot),
            self.counters.candidates.eq(take & score.keep),
            self.counters.saturations.eq(self.saturation.valid),
            self.counters.released.eq(self.ranked.valid & self.ranked.ready & self.ranked.p.keep),
        ]
        leaves = self.ranked.valid & self.ranked.ready
        causes = {
            "busy": take | (leaves & ~self.i.valid),
            "stall_plan": self.i.valid & ~self.plan.valid,
            "stall_output": self.ranked.valid & ~self.ranked.ready,
            "stall_sorter": 0,
            "stall_sort": 0,
        }
        attribute(m, self.counters, TOPK_COUNTERS, causes, "starved")
        with m.If(move):
            m.d.sync += [
                self.ranked.valid.eq(take & (score.keep | nothing)),
                self.ranked.p.position.eq(score.position),
                self.ranked.p.score.eq(score.score),
                self.ranked.p.keep.eq(score.keep),
                self.ranked.p.last.eq(ends),
                self.ranked.p.slot.eq(score.slot),
            ]
        with m.If(take & score.keep):
            m.d.sync += number.eq(number + 1)
            with m.If(ends):
                m.d.sync += number.eq(0)
        return m
