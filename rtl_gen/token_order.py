"""Which token runs next in a group that has dot interactions: a program in two runs."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rtl_gen.group_layouts import entry_layout, resumed_layout
from rtl_gen.queue import Queue

__all__ = ["TokenOrder"]


class TokenOrder(wiring.Component):
    """Give the walker its tokens, those with a dot interaction twice: before it and after it.

    A token of a stage with a unit runs up to its interaction and then makes room for others. It
    goes on when the unit is done with it and there is room for all of its scores, so that it never
    waits again. In this order: tokens before their interaction whose items are all there; tokens
    after it; tokens of other stages, as they come; and, if none waits for a unit, tokens whose
    items are still to come.

    Parameters
    ----------
    geometry : GroupGeometry
    token : StructLayout
        See :func:`rtl_gen.group_layouts.token_layout`.
    rooms : sequence of int
        Rows of scores that there is room for, of each stage with a unit.

    Members
    -------
    i : In(stream.Signature(token))
        Tokens whose programs run in one go, as they are started.
    dot : In(stream.Signature(token)).array(n)
        The others, of each of the n stages with a unit.
    entry : In(entry_layout(...)).array(stages)
    arrived : In(15).array(n, 2)
        Rows of each token buffer that the gather unit has finished.
    done, left : In(n)
        A unit is done with a token; a row of scores has left the group.
    paused : In(1), resume : In(resumed_layout(...))
        See :class:`rtl_gen.sequencer.ProgramWalker`.
    o : Out(stream.Signature(resumed_layout(...)))
        The choice may change until it is taken.
    """

    def __init__(self, geometry: GroupGeometry, *, token, rooms):
        self.geometry = geometry
        self.token = token
        self.rooms = list(rooms)
        self.stages = list(geometry.dots)
        count = len(self.stages)
        stages = len(geometry.hardware.groups[geometry.group].stages)
        resumed = resumed_layout(token)
        super().__init__(
            {
                "i": In(stream.Signature(token)),
                "dot": In(stream.Signature(token)).array(count),
                "entry": In(entry_layout(geometry)).array(stages),
                "arrived": In(abi.ITEM_BITS).array(count, 2),
                "done": In(count),
                "left": In(count),
                "paused": In(1),
                "resume": In(resumed),
                "o": Out(stream.Signature(resumed)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pairs = [self._stage(m, number) for number in range(len(self.stages))]
        befores, afters = zip(*pairs, strict=True)
        none_waits = ~Cat(after.valid for _, after in afters).any()
        offers = [(before.valid & complete, before) for complete, before in befores]
        offers += [(after.valid & may, after) for may, after in afters]
        other = stream.Signature(resumed_layout(self.token)).create(path=("other",))
        entry = Array(each.program for each in self.entry)[self.i.p.stage]
        m.d.comb += [
            other.p.token.eq(self.i.p),
            other.p.counter.eq(entry),
            self.i.ready.eq(other.ready),
        ]
        offers.append((self.i.valid, other))
        offers += [(before.valid & none_waits, before) for _, before in befores]
        taken = Const(0)
        for offered, stream_ in offers:
            with m.If(offered & ~taken):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.eq(stream_.p),
                    stream_.ready.eq(self.o.ready),
                ]
            taken = taken | offered
        return m

    def _stage(self, m, number):
        """The tokens of a stage with a unit: those before their interaction, those after it.

        Each is a stream, with what it waits for.
        """
        stage, room = self.stages[number], self.rooms[number]
        resumed = resumed_layout(self.token)
        m.submodules[f"started_{number}"] = started = Queue(self.token, depth=2)
        m.submodules[f"waiting_{number}"] = waiting = Queue(resumed, depth=2)
        wiring.connect(m, wiring.flipped(self.dot[number]), started.i)
        entry, token = self.entry[stage], started.o.p

        before = stream.Signature(resumed).create(path=(f"before_{number}",))
        inside = Signal(name=f"inside_{number}")  # a token is being walked before its interaction
        runs, mine = Signal(name=f"runs_{number}"), Signal(name=f"mine_{number}")
        m.d.comb += [
            # Without a bottom MLP, or items, there is nothing to run before.
            runs.eq(entry.bottom & (token.items != 0)),
            mine.eq(self.paused & (self.resume.token.stage == stage)),
            before.valid.eq(started.o.valid & runs),
            before.p.token.eq(token),
            before.p.counter.eq(entry.program),
            started.o.ready.eq(Mux(runs, before.ready, ~inside)),
            waiting.i.valid.eq(mine | (started.o.valid & ~runs & ~inside)),
            waiting.i.p.eq(Mux(mine, self.resume, before.p)),
        ]
        taken = before.valid & before.ready
        m.d.sync += inside.eq((inside | taken) & ~mine)

        finished = Signal(2, name=f"finished_{number}")  # by the unit, and not gone on
        promised = Signal(range(room + 1), name=f"promised_{number}")  # rows of scores
        head = waiting.o.p.token
        rows = Signal.like(promised, name=f"rows_{number}")
        some = head.items != 0
        goes_on = waiting.o.valid & waiting.o.ready
        with_dot = entry.dimension != 0
        m.d.comb += rows.eq(Mux(some, head.rows, 1))
        m.d.sync += [
            finished.eq(finished + self.done[number] - (goes_on & some)),
            promised.eq(promised + Mux(goes_on, rows, 0) - (self.left[number] & with_dot)),
        ]
        complete = Array(self.arrived[number])[token.buffer] == token.rows
        may = (~some | (finished != 0)) & (promised + rows <= room)
        return (complete, before), (may, waiting.o)
