"""What both kinds of filter unit share: ports, plans, and a sorter that keeps the best keys."""

from __future__ import annotations

from abc import ABC, abstractmethod

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import TOPK_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.merge import NUMBER_BITS, MergeSorter
from rtl_gen.queue import Queue
from rtl_gen.signatures import plan_layout, ranked_layout, score_layout, slot_event_layout
from rtl_gen.states import attribute, step_layout

__all__ = ["FilterPorts", "FilterUnit"]

RELEASES = 32
"""Releases that may be on their way through the sorter: two of its lists a level, and some."""


class FilterPorts(wiring.Component):
    """The ports of a stage's filter, of any kind.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int
        Stage of the machine; gives the depth, ``hardware.topk_depth[stage]``. At most that many
        candidates are ever released at once.

    Members
    -------
    i : In(stream.Signature(score_layout))
        Scores. A beat without ``keep`` brings no candidate; ``last`` ends a token.
    plan : In(stream.Signature(plan_layout))
        What to do at the end of each token, in token order.
    ranked : Out(stream.Signature(ranked_layout))
        Final rankings. A count of zero gives one beat, ``last`` without ``keep``.
    survivor : Out(stream.Signature(16))
        Positions for the next stage; nothing for a count of zero.
    empty : Out(1)
        A release of no survivors to the next stage.
    threshold : In(width of STAGE.threshold)
        Of a filter with bins.
    saturation : Out(slot_event_layout)
        Each saturated logit, for the query it belongs to.
    counters : Out(StructLayout)
        Increments of ``counters.TOPK_COUNTERS``.

    Raises
    ------
    ValueError
        The machine has no such stage.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        if not 0 <= stage < hardware.stages:
            raise ValueError(f"Stage must be within 0..{hardware.stages - 1}, not {stage!r}")
        self.hardware = hardware
        self.stage = stage
        self.depth = hardware.topk_depth[stage]
        super().__init__(
            {
                "i": In(stream.Signature(score_layout(hardware))),
                "plan": In(stream.Signature(plan_layout(hardware))),
                "ranked": Out(stream.Signature(ranked_layout(hardware))),
                "survivor": Out(stream.Signature(abi.POSITION_BITS)),
                "empty": Out(1),
                "threshold": In(abi.THRESHOLD_BITS),
                "saturation": Out(slot_event_layout(hardware)),
                "counters": Out(step_layout(TOPK_COUNTERS, bits=1)),
            }
        )


class FilterUnit(FilterPorts, ABC):
    """Keep a stage's best candidates and release them at the end of a token, best first.

    Each candidate has a key; what the key is made of is the kind of the filter. The order of
    arrival decides nothing. At the end of each token one plan is taken. With ``emit``, the best
    ``count`` candidates since the last emission are released, to ``ranked`` if ``final``, else to
    ``survivor``, and the next token starts from empty; without, candidates are kept for the next
    token. All tokens of an emission tell how many candidates it has.

    One score a cycle, also from token to token. The first candidate is offered
    ``NUMBER_BITS + 1`` cycles after the last score was taken, the others follow at one a cycle,
    unless those of the release before are still leaving. Scores wait for the plan of their token,
    and while some 30 releases wait for one that is leaving.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int
    key_bits : int
        Width of :meth:`key`.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int, key_bits: int):
        self.key_bits = key_bits
        super().__init__(hardware=hardware, stage=stage)

    @abstractmethod
    def key(self, m, position, score):
        """The key of a candidate: the higher goes first; never zero; its lowest bits ~position."""

    @abstractmethod
    def score(self, key):
        """The score of a final ranking's candidate."""

    @abstractmethod
    def below(self, key):
        """Whether a candidate has not passed the threshold."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.sorter = sorter = MergeSorter(
            key_bits=self.key_bits, depth=self.depth, macro_bits=self.hardware.sram_macro_bits
        )
        m.submodules.releases = releases = Queue(plan_layout(self.hardware), depth=RELEASES)
        held, taken = self._elaborate_input(m, sorter.i, releases.i)
        left = self._elaborate_output(m, sorter, releases.o)
        causes = {
            "busy": taken | (left & ~held),
            "stall_plan": held & ~self.plan.valid,
            "stall_output": sorter.o.valid & releases.o.valid & ~left,
            "stall_sorter": held,
            "stall_sort": releases.o.valid,
        }
        attribute(m, self.counters, TOPK_COUNTERS, causes, "starved")
        return m

    def _elaborate_input(self, m, keys, release):
        """Number candidates so that the last one of an emission has all ones.

        Returns whether there is a score, and whether it is taken.
        """
        score = Signal(score_layout(self.hardware), reset_less=True)
        held = Signal()
        take = Signal()
        m.d.comb += self.i.ready.eq(~held | take)
        with m.If(self.i.ready):
            m.d.sync += [held.eq(self.i.valid), score.eq(self.i.payload)]

        plan = self.plan.p
        inside = Signal()
        next_number = Signal(NUMBER_BITS)
        # An emission without candidates sends one key of zero through, to keep the order.
        nothing = plan.emit & (plan.candidates == 0)
        push = Signal()
        ends = score.last & plan.emit
        key = self.key(m, score.position, score.score)
        m.d.comb += [
            push.eq(score.keep | nothing),
            take.eq(held & self.plan.valid & (~push | keys.ready) & (~ends | release.ready)),
            self.plan.ready.eq(take & score.last),
            keys.valid.eq(held & self.plan.valid & push & (~ends | release.ready)),
            keys.p.key.eq(Mux(score.keep, key, 0)),
            keys.p.last.eq(1),
            keys.p.number.eq(Mux(inside, next_number, Mux(nothing, -1, -plan.candidates))),
            release.valid.eq(held & self.plan.valid & ends & (~push | keys.ready)),
            release.payload.eq(plan),
            self.saturation.valid.eq(take & score.keep & score.saturated),
            self.saturation.slot.eq(score.slot),
            self.counters.candidates.eq(take & score.keep),
            self.counters.saturations.eq(self.saturation.valid),
        ]
        with m.If(keys.valid & keys.ready):
            m.d.sync += [
                next_number.eq(keys.p.number + 1),
                inside.eq(~keys.p.number.all()),
            ]
        return held, take

    def _elaborate_output(self, m, sorter, release):
        """Release the best, when the plan that says so has been taken; returns when one leaves."""
        key = sorter.o.p.key
        plan = release.p
        keep = plan.count != 0
        position = ~key[: abi.POSITION_BITS]
        leave = Signal()
        below = Signal()
        m.d.comb += [
            sorter.limit.eq(Mux(keep, plan.count, 1)),
            self.ranked.p.position.eq(position),
            self.ranked.p.score.eq(self.score(key)),
            self.ranked.p.keep.eq(keep),
            self.ranked.p.last.eq(sorter.o.p.last),
            self.ranked.p.slot.eq(plan.slot),
            self.ranked.valid.eq(sorter.o.valid & release.valid & plan.final),
            self.survivor.payload.eq(position),
            self.survivor.valid.eq(sorter.o.valid & release.valid & ~plan.final & keep),
            sorter.o.ready.eq(
                release.valid & Mux(plan.final, self.ranked.ready, self.survivor.ready | ~keep)
            ),
            leave.eq(sorter.o.valid & sorter.o.ready),
            self.empty.eq(leave & ~plan.final & ~keep),
            release.ready.eq(leave & sorter.o.p.last),
            self.counters.released.eq(leave & keep),
            below.eq(leave & keep & self.below(key)),
            self.counters.below.eq(below),
            self.counters.short.eq(below & sorter.o.p.last),
        ]
        return leave
