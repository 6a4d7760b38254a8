"""A group: sub-arrays that work on one token at a time, their sequencer, and what it needs."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from rpaccel.counters import GROUP_COUNTERS
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import ENTRY, PASS, Target, target_id
from rtl_gen.cells import Cells, cells_latency
from rtl_gen.dot_input import DotInput
from rtl_gen.group_layouts import entry_layout, pass_layout, token_layout
from rtl_gen.load_port import LoadPort
from rtl_gen.loaded_ram import LoadedRam
from rtl_gen.queue import Queue
from rtl_gen.score_queue import ScoreQueue
from rtl_gen.sequencer import Issuer, ProgramWalker
from rtl_gen.shared_cells import cell_ports
from rtl_gen.signatures import (
    counter_layout,
    group_input_signature,
    load_bus_layout,
    score_layout,
    slot_bits,
    struct,
)
from rtl_gen.states import attribute
from rtl_gen.token_input import TokenInput
from rtl_gen.token_order import TokenOrder
from rtl_gen.trace import group_trace

__all__ = ["LOAD_BITS", "Group"]

LOAD_BITS = 20
"""Width of the predicted cycles of all tokens in a group: two of each of four stages."""


class Group(wiring.Component):
    """Run the programs of its stages' tokens on the shapes that its sub-arrays can take.

    A row of items a cycle, one in each part, goes through one tile of weights, while the weights of
    the next are loaded. A pass of n rows takes max(n, tile_rows) cycles, unless it waits for the
    gather unit, for the results of the pass before, or for the top-k unit. Results are in the
    activation memory ``latency[shape]`` cycles after the row was issued.

    Parameters
    ----------
    hardware : HardwareConfig
    group : int
        Which of the machine's groups.

    Members
    -------
    load : In(load_bus_layout(hardware))
        Fills entries, program, weights and parameters.
    number : In
        What tells the group's targets on the load bus from those of group 0; constant, and by
        default that of the group. It is all in which groups that are alike differ.
    i : In(group_input_signature(hardware, group)).array(n)
        From the gather unit of each of the n stages that the group serves, in their order.
    scores : Out(stream.Signature(score_layout(hardware))).array(n)
        To the top-k unit of each stage.
    load_cycles : Out(LOAD_BITS)
        Predicted cycles of all tokens that were started and are not over.
    cost : Out(16).array(n)
        Predicted cycles of a token of each stage.
    counters : Out(StructLayout)
        Increments of :data:`rpaccel.counters.GROUP_COUNTERS`.
    watched : Out(group_trace(hardware, group))
    cell_0_0 and so on : Out(cell_port(...)), idle : Out(1)
        In a group that shares its cells with others: the cells, and whether it has no token, so
        that it does not need them.
    """

    def __init__(self, *, hardware: HardwareConfig, group: int):
        self.hardware = hardware
        self.group = group
        self.geometry = geometry = hardware.geometry(group)
        self.module_name = f"group_{hardware.first_alike(group)}"
        self.stages = len(hardware.groups[group].stages)
        self.latency = [cells_latency(hardware, shape) for shape in geometry.shapes]
        self.token = token_layout(geometry, slot=slot_bits(hardware))
        self.work = pass_layout(geometry, slot=slot_bits(hardware))
        bus = load_bus_layout(hardware)
        super().__init__(
            {
                "load": In(bus),
                "number": In(bus["target"].shape, init=target_id(Target(0), group)),
                "i": In(group_input_signature(hardware, group)).array(self.stages),
                "scores": Out(stream.Signature(score_layout(hardware))).array(self.stages),
                "load_cycles": Out(LOAD_BITS),
                "cost": Out(16).array(self.stages),
                "counters": Out(counter_layout(hardware)[f"group{group}"].shape),
                "watched": Out(group_trace(hardware, group)),
                **(cell_ports(geometry) and {**cell_ports(geometry), "idle": Out(1)}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self.bus = Signal.like(self.load)
        m.d.comb += [self.bus.eq(self.load), self.bus.target.eq(self.load.target ^ self.number)]
        self._entries(m)
        inputs = self._inputs(m)
        walker = self._walker(m, inputs)
        issuer = self._issuer(m, walker, inputs)
        m.submodules.cells = cells = Cells(self.geometry, work=self.work)
        m.d.comb += [
            cells.bus.eq(self.bus),
            cells.shape.eq(issuer.shape),
            cells.load.eq(issuer.load),
            cells.issue.eq(issuer.issue),
            cells.work.eq(issuer.o),
            *(cells.fill[stage].eq(unit.fill) for stage, unit in enumerate(inputs)),
        ]
        self._finish(m, issuer, walker, cells, inputs)
        self._states(m, issuer)
        starts = [unit.i.start for unit in inputs]
        m.d.comb += [
            *(self.watched.started[n].eq(s.valid & s.ready) for n, s in enumerate(starts)),
            self.watched.row.eq(issuer.issue.valid),
            self.watched.stage.eq(issuer.o.token.stage),
            self.watched.buffer.eq(issuer.o.token.buffer),
        ]
        self._load(m, inputs)
        if self.geometry.shares:
            self._share(m, cells, inputs)
        return m

    def _entries(self, m):
        """Keep what the image says of each stage."""
        layout = entry_layout(self.geometry)
        self.entry = [Signal(layout, name=f"entry_{n}") for n in range(self.stages)]
        m.submodules.entry_port = port = LoadPort(
            hardware=self.hardware,
            target=target_id(Target.ENTRIES, 0),
            width=ENTRY.bits,
            depth=self.stages,
        )
        m.d.comb += port.bus.eq(self.bus)
        word = data.View(struct(ENTRY), port.data)
        for number, (entry, cost) in enumerate(zip(self.entry, self.cost)):
            m.d.comb += cost.eq(entry.cycles)
            with m.If(port.en & (port.addr == number)):
                m.d.sync += [entry[name].eq(word[name]) for name, _ in layout]

    def _inputs(self, m):
        inputs = []
        for stage in range(self.stages):
            port = group_input_signature(self.hardware, self.group)
            given = {"port": port, "token": self.token, "stage": stage}
            if stage in self.geometry.dots:
                unit = DotInput(self.geometry, work=self.work, **given)
                m.d.comb += unit.bus.eq(self.load)
            else:
                unit = TokenInput(self.geometry, **given)
            m.submodules[f"input_{stage}"] = unit
            connect(m, wiring.flipped(self.i[stage]), unit.i)
            m.d.comb += unit.entry.eq(self.entry[stage])
            inputs.append(unit)
        return inputs

    def _walker(self, m, inputs):
        """Tokens in the order of their start, and the walker of their programs."""
        m.submodules.tokens = tokens = Queue(self.token, depth=2 * self.stages)
        taken = Const(0)
        for unit in inputs:
            with m.If(unit.token.valid & ~taken):
                m.d.comb += [tokens.i.valid.eq(1), tokens.i.p.eq(unit.token.p)]
            m.d.comb += unit.token.ready.eq(tokens.i.ready & ~taken)
            taken = taken | unit.token.valid

        m.submodules.walker = walker = ProgramWalker(
            self.geometry, token=self.token, work=self.work
        )
        m.submodules.program = program = LoadedRam(
            hardware=self.hardware,
            target=target_id(Target.PROGRAM, 0),
            width=PASS.bits,
            depth=self.hardware.program_depth,
        )
        if self.geometry.dots:
            self._order(m, tokens, walker, inputs)
        else:
            connect(m, tokens.o, walker.tokens)
        m.d.comb += [
            program.bus.eq(self.bus),
            program.read[0].en.eq(walker.memory.en),
            program.read[0].addr.eq(walker.memory.addr),
            walker.memory.data.eq(program.read[0].data),
            *(own.eq(given) for own, given in zip(walker.entry, self.entry)),
        ]
        return walker

    def _order(self, m, tokens, walker, inputs):
        """Let tokens with a dot interaction run in two parts."""
        dots = list(self.geometry.dots)
        m.submodules.order = self.order = order = TokenOrder(
            self.geometry, token=self.token, rooms=[self._score_rows(stage) for stage in dots]
        )
        connect(m, tokens.o, order.i)
        connect(m, order.o, walker.tokens)
        m.d.comb += [
            order.paused.eq(walker.paused),
            order.resume.eq(walker.resume),
            *(own.eq(given) for own, given in zip(order.entry, self.entry)),
        ]
        for number, stage in enumerate(dots):
            unit = inputs[stage]
            connect(m, unit.dot, order.dot[number])
            m.d.comb += [
                order.done[number].eq(unit.done),
                *(order.arrived[number][b].eq(unit.arrived[b]) for b in range(2)),
            ]

    def _issuer(self, m, walker, inputs):
        m.submodules.passes = passes = Queue(self.work, depth=2)
        m.submodules.issuer = issuer = Issuer(self.geometry, work=self.work)
        connect(m, walker.o, passes.i)
        connect(m, passes.o, issuer.i)
        self.coming = walker.busy | passes.o.valid
        for unit, arrived in zip(inputs, issuer.arrived):
            m.d.comb += [arrived[b].eq(unit.arrived[b]) for b in range(2)]
        m.d.comb += [
            self.counters.passes.eq(issuer.issue.valid & issuer.issue.start),
        ]
        with m.If(issuer.issue.valid):
            m.d.comb += self.counters.macs.eq(
                Mux(issuer.issue.end, issuer.o.macs_last, issuer.o.macs)
            )
        return issuer

    def _states(self, m, issuer):
        """Count what the sequencer does."""
        causes = {"busy": issuer.issue.valid}
        causes |= {name: issuer.stalls[name] for name, _ in issuer.stalls.shape()}
        causes["stall_program"] = self.coming
        attribute(m, self.counters, GROUP_COUNTERS, causes, "starved")

    def _finish(self, m, issuer, walker, cells, inputs):
        """Tell sequencer and inputs what becomes of the rows, and queue scores."""
        ahead = cells.ahead
        writes = ahead.valid & ahead.work.final & ~ahead.work.score
        scores = ahead.valid & ahead.work.final & ahead.work.score
        ends = ahead.valid & ahead.end
        now = Signal(
            data.StructLayout({"writes": 1, "scores": 1, "ends": 1, "end": 1, "work": self.work})
        )
        m.d.sync += [
            now.writes.eq(writes),
            now.scores.eq(scores),
            now.ends.eq(ends),
            now.end.eq(ahead.end),
            now.work.eq(ahead.work),
        ]
        m.d.comb += [
            issuer.take.eq(cells.take),
            issuer.written.eq(now.writes),
            issuer.write_end.eq(now.writes & now.ends),
            issuer.ended.eq(now.ends),
        ]
        for stage, unit in enumerate(inputs):
            for number in range(2):
                here = (ahead.work.token.stage == stage) & (ahead.work.token.buffer == number)
                m.d.comb += unit.reserved[number].eq(writes & here)
            self._score(m, stage, unit, (ahead, scores, now), issuer, walker, cells)

        for stage in self.geometry.dots:
            results = inputs[stage].results
            m.d.sync += results.row.eq(ahead.row)
            m.d.comb += [
                results.en.eq(now.writes),
                results.work.eq(now.work),
                *(mine.eq(chunk) for mine, chunk in zip(results.data, cells.chunks)),
            ]

        running = Signal(16)  # passes that left the walker and are not over
        begun = walker.o.valid & walker.o.ready
        m.d.sync += running.eq(running + begun - now.ends)
        m.d.comb += walker.idle.eq(running == 0)

    def _load(self, m, inputs):
        """Follow how much work the group has: tokens come and go one at a time."""
        change = 0
        for unit, cost in zip(inputs, self.cost):
            started = unit.i.start.valid & unit.i.start.ready
            change += Mux(started, cost, 0) - Mux(unit.free.any(), cost, 0)
        m.d.sync += self.load_cycles.eq(self.load_cycles + change)

    def _share(self, m, cells, inputs):
        """Pass on the cells that are outside, and tell when they are not needed."""
        for name in cell_ports(self.geometry):
            connect(m, getattr(cells, name), wiring.flipped(getattr(self, name)))
        tokens = Signal(range(2 * self.stages + 1))
        change = 0
        for unit in inputs:
            change += (unit.i.start.valid & unit.i.start.ready) - unit.free.any()
        m.d.sync += tokens.eq(tokens + change)
        m.d.comb += self.idle.eq(tokens == 0)

    def _score_rows(self, stage):
        """Rows of a stage's scores that there is room for."""
        serving = self.hardware.groups_of(self.hardware.groups[self.group].stages[stage])
        # Several scores a cycle are made but one is taken, or other groups' scores come before
        # these, or a token goes on only then: room for all of a token.
        whole = self.geometry.max_parts > 1 or len(serving) > 1 or stage in self.geometry.dots
        return max(self.latency) + 4 + (self.hardware.accumulator_depth if whole else 0)

    def _score(self, m, stage, unit, steps, issuer, walker, cells):
        """Queue a stage's scores, and free the token buffers of the tokens that are over."""
        ahead, scores, now = steps
        depth = self._score_rows(stage)
        queue = ScoreQueue(hardware=self.hardware, parts=self.geometry.max_parts, depth=depth)
        m.submodules[f"scores_{stage}"] = queue
        connect(m, queue.o, wiring.flipped(self.scores[stage]))

        rows = Signal(range(depth + 1))  # in the queue or on their way to it
        token = now.work.token
        mine = token.stage == stage
        arrives = now.scores & mine
        empty = walker.empty.valid & (walker.empty.p.stage == stage)
        row = queue.i.p
        counts = Array(shape.parts for shape in self.geometry.shapes)[now.work.form]
        m.d.comb += [
            unit.read.en.eq(scores & (ahead.work.token.stage == stage)),
            unit.read.buffer.eq(ahead.work.token.buffer),
            unit.read.row.eq(ahead.row),
            queue.i.valid.eq(arrives | (empty & (rows < depth))),
        ]
        with m.If(arrives):
            m.d.comb += [
                row.count.eq(Mux(now.end, token.rest, counts)),
                row.last.eq(now.end),
                row.slot.eq(token.slot),
                row.query_last.eq(token.query_last),
            ]
            for item, position, score in zip(row.items, unit.positions, cells.scores):
                m.d.comb += [
                    item.position.eq(position),
                    item.score.eq(score.score),
                    item.saturated.eq(score.saturated),
                ]
        with m.Else():
            m.d.comb += [
                row.last.eq(1),
                row.slot.eq(walker.empty.p.slot),
                row.query_last.eq(walker.empty.p.query_last),
            ]
        with m.If(now.ends & now.work.last & mine):
            m.d.comb += unit.free.eq(1 << token.buffer)
        with m.If(empty):
            m.d.comb += walker.empty.ready.eq(queue.i.ready & (rows < depth))
            with m.If(walker.empty.ready):
                m.d.comb += unit.free.eq(1 << walker.empty.p.buffer)
        issued = issuer.issue.valid & issuer.o.final & issuer.o.score
        added = (issued & (issuer.o.token.stage == stage)) | (empty & walker.empty.ready)
        m.d.sync += rows.eq(rows + added - queue.left)
        if stage in self.geometry.dots:
            m.d.comb += self.order.left[list(self.geometry.dots).index(stage)].eq(queue.left)
        m.d.comb += issuer.room[stage].eq(rows < depth)
