"""A group: sub-arrays fused into one array, their activations, accumulators and sequencer."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.activations import TokenBuffer
from rtl_gen.emit import share
from rtl_gen.fused_array import FusedArray
from rtl_gen.loaded_ram import LoadedRam
from rtl_gen.queue import Queue
from rtl_gen.sequencer import Issuer, ProgramWalker, pass_layout, token_layout
from rtl_gen.signatures import (
    counter_layout,
    group_input_signature,
    load_bus_layout,
    score_layout,
    slot_bits,
)
from rtl_gen.token_input import WRITE_LATENCY, TokenInput
from rtl_gen.writeback import PassTracker, flow_layout

__all__ = ["Group"]

_READ_LATENCY = 2  # cycles from the issue of an item to its slice at the array


class Group(wiring.Component):
    """Run the programs of its stages' tokens on ``rows x cols`` fused sub-arrays.

    One item a cycle goes through one tile of weights, while the weights of the next are loaded. A
    pass of n items takes max(n, tile_rows) cycles, unless it waits for the gather unit, for the
    results of the pass before, or for the top-k unit. Results are in the activation memory
    ``latency`` cycles after the item was issued.

    Parameters
    ----------
    hardware : HardwareConfig
    group : int
        Which of the machine's groups.

    Members
    -------
    load : In(load_bus_layout(hardware))
        Fills program, weights and parameters.
    program : In(16).array(n)
        STAGE.program of each of the n stages that the group serves, in their order.
    i : In(group_input_signature(hardware, group)).array(n)
        From the gather unit of each stage.
    scores : Out(stream.Signature(score_layout(hardware))).array(n)
        To the top-k unit of each stage.
    counters : Out(StructLayout)
        Increments of :data:`rpaccel.abi.GROUP_COUNTERS`.
    """

    def __init__(self, *, hardware: HardwareConfig, group: int):
        self.hardware = hardware
        self.group = group
        shape = hardware.groups[group]
        self.stages = len(shape.stages)
        self.k_width, self.n_width = hardware.k_width(group), hardware.n_width(group)
        self.array = FusedArray(hardware=hardware, group=group)
        self.latency = _READ_LATENCY + self.array.latency
        self.token = token_layout(stages=self.stages, slot=slot_bits(hardware))
        self.work = pass_layout(
            stages=self.stages,
            slot=slot_bits(hardware),
            banks=hardware.banks(group),
            depth=hardware.activation_rows,
            macs=self.k_width * self.n_width,
        )
        super().__init__(
            {
                "load": In(load_bus_layout(hardware)),
                "program": In(16).array(self.stages),
                "i": In(group_input_signature(hardware, group)).array(self.stages),
                "scores": Out(stream.Signature(score_layout(hardware))).array(self.stages),
                "counters": Out(counter_layout(hardware)[f"group{group}"].shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        buffers = self._buffers(m, platform)
        place = buffers[0][0].place
        inputs = self._inputs(m, buffers, place(self.n_width))
        walker = self._walker(m, inputs, place(self.k_width), place(self.n_width))
        issuer = self._issuer(m, walker, inputs)
        slices = self._read(m, issuer, buffers)
        flow = self._flow(m, issuer)
        self._array(m, issuer, flow, slices)
        self._write(m, issuer, walker, flow, inputs, buffers)
        return m

    def _buffers(self, m, platform):
        buffers = []
        for stage in range(self.stages):
            pair = []
            for number in range(2):
                buffer = TokenBuffer(
                    k_width=self.k_width,
                    n_width=self.n_width,
                    depth=self.hardware.activation_rows,
                    macro_bits=self.hardware.sram_macro_bits,
                )
                m.submodules[f"buffer_{stage}_{number}"] = share(buffer, platform)
                pair.append(buffer)
            buffers.append(pair)
        return buffers

    def _inputs(self, m, buffers, chunks):
        inputs = []
        for stage in range(self.stages):
            unit = TokenInput(
                port=group_input_signature(self.hardware, self.group),
                token=self.token,
                stage=stage,
                write=buffers[0][0].write.shape(),
                chunks=chunks,
                items=self.hardware.accumulator_depth,
                macro_bits=self.hardware.sram_macro_bits,
            )
            m.submodules[f"input_{stage}"] = unit
            connect(m, wiring.flipped(self.i[stage]), unit.i)
            inputs.append(unit)
        return inputs

    def _walker(self, m, inputs, slices, chunks):
        """Tokens in the order of their start, and the walker of their programs."""
        m.submodules.tokens = tokens = Queue(self.token, depth=2 * self.stages)
        taken = Const(0)
        for unit in inputs:
            with m.If(unit.token.valid & ~taken):
                m.d.comb += [tokens.i.valid.eq(1), tokens.i.p.eq(unit.token.p)]
            m.d.comb += unit.token.ready.eq(tokens.i.ready & ~taken)
            taken = taken | unit.token.valid

        depth = self.hardware.program_depth
        m.submodules.walker = walker = ProgramWalker(
            token=self.token,
            work=self.work,
            slices=slices,
            chunks=chunks,
            depth=depth,
            stages=self.stages,
        )
        m.submodules.program = program = LoadedRam(
            hardware=self.hardware,
            target=abi.target_id(abi.Target.PROGRAM, self.group),
            width=abi.PASS.bits,
            depth=depth,
        )
        connect(m, tokens.o, walker.tokens)
        m.d.comb += [
            program.bus.eq(self.load),
            program.read[0].en.eq(walker.memory.en),
            program.read[0].addr.eq(walker.memory.addr),
            walker.memory.data.eq(program.read[0].data),
        ]
        for own, given in zip(walker.program, self.program):
            m.d.comb += own.eq(given)
        return walker

    def _issuer(self, m, walker, inputs):
        m.submodules.passes = passes = Queue(self.work, depth=2)
        m.submodules.issuer = issuer = Issuer(
            work=self.work,
            stages=self.stages,
            tile_rows=self.hardware.tile_rows,
            cols=self.array.cols,
            weights=self.hardware.weight_rows,
        )
        connect(m, walker.o, passes.i)
        connect(m, passes.o, issuer.i)
        for unit, arrived in zip(inputs, issuer.arrived):
            m.d.comb += [arrived[b].eq(unit.arrived[b]) for b in range(2)]
        m.d.comb += [
            self.counters.busy.eq(issuer.busy),
            self.counters.stall_input.eq(issuer.stall_input),
            self.counters.stall_write.eq(issuer.stall_write),
            self.counters.stall_weights.eq(issuer.stall_weights),
            self.counters.passes.eq(issuer.issue.valid & issuer.issue.start),
        ]
        with m.If(issuer.busy):
            m.d.comb += self.counters.macs.eq(issuer.o.macs)
        return issuer

    def _read(self, m, issuer, buffers):
        """Read the slice of the item that is issued; returns its bytes two cycles later."""
        work = issuer.o
        address = work.slice.address + issuer.issue.item
        choice = Signal(range(2 * self.stages))
        with m.If(issuer.issue.valid):
            m.d.sync += choice.eq((work.token.stage << 1) | work.token.buffer)
        shown = []
        for stage, pair in enumerate(buffers):
            for number, buffer in enumerate(pair):
                here = (work.token.stage == stage) & (work.token.buffer == number)
                m.d.comb += [
                    buffer.read.en.eq(issuer.issue.valid & here),
                    buffer.read.bank.eq(work.slice.bank),
                    buffer.read.address.eq(address),
                    buffer.read.next_address.eq(address + work.token.items),
                ]
                shown.append(buffer.slice)
        slices = Signal(8 * self.k_width, reset_less=True)
        m.d.sync += slices.eq(Array(shown)[choice])
        return slices

    def _flow(self, m, issuer):
        """What travels beside an item: element d of the list is d cycles after its issue."""
        flow = [Signal(flow_layout(), name="flow_0")]
        m.d.comb += [flow[0][name].eq(issuer.issue[name]) for name in ("valid", "start", "end")]
        for cycle in range(1, self.latency):
            stage = Signal(flow_layout(), name=f"flow_{cycle}")
            m.d.sync += stage.eq(flow[-1])
            flow.append(stage)
        return flow

    def _array(self, m, issuer, flow, slices):
        """The array: slices go in, results come out ``latency`` cycles after the issue."""
        m.submodules.array = array = self.array
        at_sums = flow[_READ_LATENCY + array.sum_latency - 1]
        tracker = self._tracker(m, "accumulating", issuer, at_sums)
        work = tracker.o
        sets = [issuer.issue.set]
        for cycle in range(_READ_LATENCY):
            following = Signal(name=f"set_{cycle}")
            m.d.sync += following.eq(sets[-1])
            sets.append(following)
        m.d.comb += [
            array.load.eq(self.load),
            array.slice.eq(slices),
            array.valid.eq(flow[_READ_LATENCY].valid),
            array.set.eq(sets[_READ_LATENCY]),
            array.weights.eq(issuer.load),
            array.control.valid.eq(tracker.flow.valid),
            array.control.start.eq(tracker.flow.start),
            array.control.item.eq(tracker.item),
            array.control.lane.eq(work.column),
            *(array.control[n].eq(work[n]) for n in ("first", "final", "relu", "params")),
        ]

    def _tracker(self, m, name, issuer, flow):
        """Make a tracker of passes at a place ``flow``; every issued pass is queued in it."""
        passes = -(-self.latency // self.hardware.tile_rows) + 4
        m.submodules[name] = tracker = PassTracker(self.work, depth=passes)
        m.d.comb += [
            tracker.i.p.eq(issuer.o),
            tracker.i.valid.eq(issuer.issue.valid & issuer.issue.start),
            tracker.flow.eq(flow),
        ]
        return tracker

    def _write(self, m, issuer, walker, flow, inputs, buffers):
        """Put results where they belong and tell the sequencer."""
        tracker = self._tracker(m, "writing", issuer, flow[self.latency - WRITE_LATENCY])
        m.d.comb += issuer.take.eq(tracker.i.ready)  # the other tracker is never behind this one

        # Two cycles to work out the address, as a write of the gather unit has.
        layout = data.StructLayout(
            {
                "writes": 1,
                "scores": 1,
                "end": 1,
                "item": abi.ITEM_BITS,
                "work": self.work,
            }
        )
        ahead, before, now = Signal(layout), Signal(layout), Signal(layout)
        final = tracker.flow.valid & tracker.o.final
        m.d.comb += [
            ahead.writes.eq(final & ~tracker.o.score),
            ahead.scores.eq(final & tracker.o.score),
            ahead.end.eq(tracker.flow.valid & tracker.flow.end),
            ahead.item.eq(tracker.item),
            ahead.work.eq(tracker.o),
        ]
        address = Signal(len(before.work.chunk.address))
        mask = Signal(self.n_width)
        column, columns = before.work.column, before.work.columns
        m.d.sync += [
            before.eq(ahead),
            now.eq(before),
            address.eq(before.work.chunk.address + before.item),
            mask.eq(Cat((col >= column) & (col < column + columns) for col in range(self.n_width))),
        ]
        m.d.comb += [
            issuer.written.eq(now.writes),
            issuer.write_end.eq(now.writes & now.end),
        ]
        array_write = {
            "bank": now.work.chunk.bank,
            "address": address,
            "next_address": address + now.work.token.items,
            "mask": mask,
            "data": self.array.chunk,
        }
        for stage, unit in enumerate(inputs):
            for number in range(2):
                self._write_buffer(
                    m, unit, buffers[stage][number], (stage, number), (ahead, now), array_write
                )
            self._score(m, stage, unit, (before, now), issuer, walker)

        running = Signal(16)  # passes that left the walker and are not over
        begun = walker.o.valid & walker.o.ready
        m.d.sync += running.eq(running + begun - now.end)
        m.d.comb += walker.idle.eq(running == 0)

    def _write_buffer(self, m, unit, buffer, which, steps, array_write):
        """Give a token buffer's write port to the array, or else to the gather unit."""
        stage, number = which
        ahead, now = (
            step.writes & (step.work.token.stage == stage) & (step.work.token.buffer == number)
            for step in steps
        )
        m.d.comb += unit.reserved[number].eq(ahead)
        with m.If(now):
            m.d.comb += buffer.write.en.eq(1)
            m.d.comb += [buffer.write[name].eq(value) for name, value in array_write.items()]
        with m.Else():
            m.d.comb += buffer.write.eq(unit.write)
            m.d.comb += buffer.write.en.eq(unit.write.en & (unit.write_buffer == number))

    def _score(self, m, stage, unit, steps, issuer, walker):
        """Queue a stage's scores, and free the token buffers of the tokens that are over."""
        before, now = steps
        depth = self.latency + 4
        queue = Queue(self.scores[stage].p.shape(), depth=depth)
        m.submodules[f"scores_{stage}"] = queue
        connect(m, queue.o, wiring.flipped(self.scores[stage]))

        mine = now.work.token.stage == stage
        arrives = now.scores & mine
        empty = walker.empty.valid & (walker.empty.p.stage == stage)
        entry, token = queue.i.p, now.work.token
        m.d.comb += [
            unit.read.en.eq(before.scores & (before.work.token.stage == stage)),
            unit.read.buffer.eq(before.work.token.buffer),
            unit.read.item.eq(before.item),
            queue.i.valid.eq(arrives | empty),
        ]
        with m.If(arrives):
            m.d.comb += [
                entry.position.eq(unit.position),
                entry.score.eq(self.array.score),
                entry.saturated.eq(self.array.saturated),
                entry.keep.eq(1),
                entry.last.eq(now.end),
                entry.slot.eq(token.slot),
                entry.query_last.eq(token.query_last),
            ]
        with m.Else():
            m.d.comb += [
                entry.last.eq(1),
                entry.slot.eq(walker.empty.p.slot),
                entry.query_last.eq(walker.empty.p.query_last),
            ]
        with m.If(now.end & now.work.last & mine):
            m.d.comb += unit.free.eq(1 << token.buffer)
        with m.If(empty):
            m.d.comb += walker.empty.ready.eq(queue.i.ready)
            with m.If(queue.i.ready):
                m.d.comb += unit.free.eq(1 << walker.empty.p.buffer)

        # Room is kept for the scores that are on their way.
        coming = Signal(range(depth + 1))
        issued = issuer.issue.valid & issuer.o.final & issuer.o.score
        m.d.sync += coming.eq(coming + (issued & (issuer.o.token.stage == stage)) - arrives)
        m.d.comb += issuer.room[stage].eq(coming + queue.level < depth)
