"""Shares a stage's tokens out to the groups that serve it, and brings back their scores."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rpaccel.counters import DISPATCHER_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.group import LOAD_BITS
from rtl_gen.queue import Queue
from rtl_gen.signatures import group_input_signature, score_layout
from rtl_gen.states import attribute, step_layout

__all__ = ["Dispatcher"]


class Dispatcher(wiring.Component):
    """Give each token of a stage to one group, and pass on scores in the order of the tokens.

    The group is that of those with a free token buffer which would be done first: it has the least
    sum of the predicted cycles of its tokens and of this one; of several, the first. The choice is
    made anew in each cycle until the token is started, so a group that becomes free gets the oldest
    token that waits. It is registered, so of a token that starts in a cycle it knows two later.
    A stage that one group serves is wired to it.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int

    Members
    -------
    i : In(group_input_signature(hardware, ...))
        From the gather unit.
    group : Out(group_input_signature(hardware, ...)).array(n)
        To the n groups that serve the stage, in their order.
    load_cycles, cost : In(LOAD_BITS).array(n), In(16).array(n)
        Of these groups.
    barred : In(n)
        Groups that get no token, unless this is all of them.
    given : In(stream.Signature(score_layout(hardware))).array(n)
        Scores from the groups.
    scores : Out(stream.Signature(score_layout(hardware)))
        To the top-k unit.
    counters : Out(StructLayout)
        Increments of ``counters.DISPATCHER_COUNTERS``; none for a stage that one group serves.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        groups = hardware.groups_of(stage)
        self.groups = len(groups)
        port = group_input_signature(hardware, groups[0])
        scores = stream.Signature(score_layout(hardware))
        super().__init__(
            {
                "i": In(port),
                "group": Out(port).array(self.groups),
                "load_cycles": In(LOAD_BITS).array(self.groups),
                "cost": In(16).array(self.groups),
                "barred": In(self.groups),
                "given": In(scores).array(self.groups),
                "scores": Out(scores),
                "counters": Out(step_layout(DISPATCHER_COUNTERS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self.groups == 1:
            connect(m, flipped(self.i), flipped(self.group[0]))
            connect(m, flipped(self.given[0]), flipped(self.scores))
            return m
        m.submodules.order = order = Queue(ceil_log2(self.groups), depth=4 * self.groups)
        self._start(m, order, self._choice(m))
        self._collect(m, order)
        return m

    def _choice(self, m):
        """The best group of those that can start a token, and whether there is one."""
        may = Signal(self.groups)
        m.d.comb += may.eq(Mux(self.barred.all(), ~0, ~self.barred))
        ready = Cat(port.start.ready for port in self.group) & may
        ends = []
        for number, (load, cost) in enumerate(zip(self.load_cycles, self.cost)):
            end = Signal(LOAD_BITS + 1, name=f"end_{number}")
            m.d.comb += end.eq(load + cost)
            ends.append((ready[number], end, number))
        while len(ends) > 1:  # a tree of the better of two
            pairs, rest = zip(ends[::2], ends[1::2]), ends[len(ends) & ~1 :]
            ends = [self._better(m, *pair) for pair in pairs] + rest
        found, _, best = ends[0]
        return found, best

    def _better(self, m, one, other):
        bits = ceil_log2(self.groups)
        found, end, best = Signal(), Signal(LOAD_BITS + 1), Signal(bits)
        second = other[0] & (~one[0] | (other[1] < one[1]))
        m.d.comb += [
            found.eq(one[0] | other[0]),
            end.eq(Mux(second, other[1], one[1])),
            best.eq(Mux(second, other[2], one[2])),
        ]
        return found, end, best

    def _start(self, m, order, choice):
        """Start tokens, and send what belongs to them after them."""
        found, best = choice
        chosen, chosen_valid = Signal.like(order.i.p), Signal()
        current = Signal.like(chosen)  # whose token is being filled
        start = self.i.start
        may_start, started = Signal(), Signal()
        readies = Array(port.start.ready for port in self.group)
        m.d.comb += [
            may_start.eq(chosen_valid & order.i.ready),
            start.ready.eq(may_start & readies[chosen]),
            started.eq(start.valid & start.ready),
            order.i.valid.eq(started),
            order.i.p.eq(chosen),
            self.i.write.ready.eq(Array(port.write.ready for port in self.group)[current]),
        ]
        m.d.sync += [
            chosen.eq(best),
            chosen_valid.eq(found),
        ]
        with m.If(started):
            m.d.sync += current.eq(chosen)
        for number, port in enumerate(self.group):
            m.d.comb += [
                port.start.p.eq(start.p),
                port.start.valid.eq(start.valid & may_start & (chosen == number)),
                port.write.p.eq(self.i.write.p),
                port.write.valid.eq(self.i.write.valid & (current == number)),
                port.item_valid.eq(self.i.item_valid & (current == number)),
                port.item_position.eq(self.i.item_position),
            ]

    def _collect(self, m, order):
        """Pass on the scores of the oldest token."""
        for number, given in enumerate(self.given):
            with m.If(order.o.valid & (order.o.p == number)):
                m.d.comb += [
                    self.scores.p.eq(given.p),
                    self.scores.valid.eq(given.valid),
                    given.ready.eq(self.scores.ready),
                    order.o.ready.eq(given.valid & self.scores.ready & given.p.last),
                ]
        causes = {
            "busy": self.scores.valid & self.scores.ready,
            "stall_filter": self.scores.valid,
            "stall_order": Cat(given.valid for given in self.given),
            "stall_groups": order.o.valid,
        }
        attribute(m, self.counters, DISPATCHER_COUNTERS, causes, "starved")
