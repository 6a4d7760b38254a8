"""A group: sub-arrays fused into one array, their activations, accumulators and sequencer."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.activations import TokenBuffer
from rtl_gen.emit import share
from rtl_gen.epilogue import EPILOGUE_LATENCY, Epilogue
from rtl_gen.load_port import LoadPort
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram
from rtl_gen.sequencer import Issuer, ProgramWalker, load_layout, pass_layout, token_layout
from rtl_gen.signatures import (
    counter_layout,
    group_input_signature,
    load_bus_layout,
    score_layout,
    slot_bits,
)
from rtl_gen.subarray import SubArray, sum_bits
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
        self.rows, self.cols = shape.rows, shape.cols
        self.tile_rows, self.tile_cols = hardware.tile_rows, hardware.tile_cols
        self.k_width, self.n_width = hardware.k_width(group), hardware.n_width(group)
        # Row 0 of each row of sub-arrays is this much later than that of the one north of it.
        self.row_delay = self.tile_rows + 1
        #: Cycles from the issue of an item to its sums in column 0.
        self.sum_latency = _READ_LATENCY + self.rows * self.row_delay
        self.latency = self.sum_latency + self.cols - 1 + EPILOGUE_LATENCY
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
        sums = self._array(m, platform, issuer, flow, slices)
        chunk, score, saturated = self._epilogues(m, platform, issuer, flow, sums)
        self._write(m, issuer, walker, flow, inputs, buffers, (chunk, score, saturated))
        return m

    def _load_port(self, m, name, target, width, depth):
        identity = abi.target_id(target, self.group)
        port = LoadPort(hardware=self.hardware, target=identity, width=width, depth=depth)
        m.submodules[f"{name}_load"] = port
        m.d.comb += port.bus.eq(self.load)
        return port

    def _ram(self, m, name, target, width, depth, readers=1):
        """Make a memory that the load bus fills, as ``readers`` equal slices of its words."""
        port = self._load_port(m, name, target, width, depth)
        part = width // readers
        rams = []
        for number in range(readers):
            ram = Ram(width=part, depth=depth, macro_bits=self.hardware.sram_macro_bits)
            m.submodules[f"{name}_{number}"] = ram
            m.d.comb += [
                ram.write.en.eq(port.en),
                ram.write.addr.eq(port.addr),
                ram.write.data.eq(port.data.word_select(number, part)),
            ]
            rams.append(ram)
        return rams

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
        (program,) = self._ram(m, "program", abi.Target.PROGRAM, abi.PASS.bits, depth)
        connect(m, tokens.o, walker.tokens)
        m.d.comb += [
            program.read.en.eq(walker.memory.en),
            program.read.addr.eq(walker.memory.addr),
            walker.memory.data.eq(program.read.data),
        ]
        for own, given in zip(walker.program, self.program):
            m.d.comb += own.eq(given)
        return walker

    def _issuer(self, m, walker, inputs):
        m.submodules.passes = passes = Queue(self.work, depth=2)
        m.submodules.issuer = issuer = Issuer(
            work=self.work,
            stages=self.stages,
            tile_rows=self.tile_rows,
            cols=self.cols,
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

    def _array(self, m, platform, issuer, flow, slices):
        """The sub-arrays; returns the sums of the southern edge, a vector a column."""
        weights = self._weights(m, issuer)
        sets = [issuer.issue.set]
        for cycle in range(1, self.sum_latency):
            bit = Signal(name=f"set_{cycle}")
            m.d.sync += bit.eq(sets[-1])
            sets.append(bit)

        sums = [0] * self.cols
        for row in range(self.rows):
            delays = [row * self.row_delay + r for r in range(self.tile_rows)]
            west = {
                "a": Cat(
                    self._delayed(m, slices.word_select(row * self.tile_rows + r, 8), delay)
                    for r, delay in enumerate(delays)
                ),
                "a_valid": Cat(flow[_READ_LATENCY + delay].valid for delay in delays),
                "a_set": Cat(sets[_READ_LATENCY + delay] for delay in delays),
            }
            for col in range(self.cols):
                tile = SubArray(
                    rows=self.tile_rows, cols=self.tile_cols, sum_bits=sum_bits(self.k_width)
                )
                m.submodules[f"tile_{row}_{col}"] = share(tile, platform)
                control, word = weights[row]
                m.d.comb += [
                    *(getattr(tile, name).eq(value) for name, value in west.items()),
                    tile.n.eq(sums[col]),
                    tile.w_en.eq(control.en),
                    tile.w_set.eq(control.set),
                    tile.w_row.eq(control.row),
                    tile.w.eq(word.word_select(col, 8 * self.tile_cols)),
                ]
                west = {"a": tile.e, "a_valid": tile.e_valid, "a_set": tile.e_set}
                sums[col] = tile.s
        return sums

    def _delayed(self, m, value, cycles):
        if not cycles:
            return value
        line = Signal(len(value) * cycles, reset_less=True)
        m.d.sync += line.eq(Cat(value, line))
        return line[-len(value) :]

    def _weights(self, m, issuer):
        """For each row of sub-arrays: control and word of the row of weights to be loaded.

        A memory each, read later and later, so that weights arrive in step with the items.
        """
        rams = self._ram(
            m,
            "weights",
            abi.Target.WEIGHTS,
            8 * self.rows * self.n_width,
            self.hardware.weight_rows,
            self.rows,
        )
        shape = load_layout(depth=self.hardware.weight_rows, rows=self.tile_rows)
        loads = []
        for row, ram in enumerate(rams):
            load = data.View(shape, self._delayed(m, issuer.load.as_value(), row * self.row_delay))
            control = Signal(shape, name=f"load_{row}")
            m.d.comb += [ram.read.en.eq(load.en), ram.read.addr.eq(load.address)]
            m.d.sync += control.eq(load)
            loads.append((control, ram.read.data))
        return loads

    def _tracker(self, m, name, issuer, flow):
        """Make a tracker of passes at a place ``flow``; every issued pass is queued in it."""
        passes = -(-self.latency // self.tile_rows) + 4
        m.submodules[name] = tracker = PassTracker(self.work, depth=passes)
        m.d.comb += [
            tracker.i.p.eq(issuer.o),
            tracker.i.valid.eq(issuer.issue.valid & issuer.issue.start),
            tracker.flow.eq(flow),
        ]
        return tracker

    def _epilogues(self, m, platform, issuer, flow, sums):
        """Accumulate and requantise; returns chunk, score and saturation after ``latency``."""
        tracker = self._tracker(m, "accumulating", issuer, flow[self.sum_latency - 1])
        hardware = self.hardware
        words = abi.PARAM.bits * self.n_width
        port = self._load_port(m, "params", abi.Target.PARAMS, words, hardware.param_rows)

        control = None
        parts = []
        for col in range(self.cols):
            unit = Epilogue(
                cols=self.tile_cols,
                depth=hardware.accumulator_depth,
                params=hardware.param_rows,
                lanes=self.n_width,
                sum_bits=sum_bits(self.k_width),
                macro_bits=hardware.sram_macro_bits,
            )
            m.submodules[f"epilogue_{col}"] = share(unit, platform)
            if control is None:
                control = Signal(unit.c.shape(), name="control")
                work = tracker.o
                m.d.comb += [
                    control.valid.eq(tracker.flow.valid),
                    control.start.eq(tracker.flow.start),
                    control.item.eq(tracker.item),
                    control.lane.eq(work.column),
                    *(control[n].eq(work[n]) for n in ("first", "final", "relu", "params")),
                ]
            m.d.comb += [
                unit.c.eq(control),
                unit.sums.eq(sums[col]),
                unit.load_en.eq(port.en),
                unit.load_addr.eq(port.addr),
                unit.load_data.eq(port.data.word_select(col, abi.PARAM.bits * self.tile_cols)),
            ]
            control = unit.c_east
            # Columns to the west have their results earlier: they wait for the last.
            result = Cat(unit.data, unit.score, unit.saturated)
            parts.append(self._delayed(m, result, self.cols - 1 - col))
        chunk = Cat(part[: 8 * self.tile_cols] for part in parts)
        scores = [part[8 * self.tile_cols :] for part in parts]
        score = scores[0]
        for other in scores[1:]:
            score = score | other
        return chunk, score[:16], score[16]

    def _write(self, m, issuer, walker, flow, inputs, buffers, results):
        """Put results where they belong and tell the sequencer."""
        chunk, score, saturated = results
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
            "data": chunk,
        }
        for stage, unit in enumerate(inputs):
            for number in range(2):
                self._write_buffer(
                    m, unit, buffers[stage][number], (stage, number), (ahead, now), array_write
                )
            self._score(m, stage, unit, (before, now), issuer, walker, (score, saturated))

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

    def _score(self, m, stage, unit, steps, issuer, walker, result):
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
            score, saturated = result
            m.d.comb += [
                entry.position.eq(unit.position),
                entry.score.eq(score),
                entry.saturated.eq(saturated),
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
