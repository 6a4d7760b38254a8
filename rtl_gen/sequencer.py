"""The sequencer of a group: turns tokens into passes, and passes into rows of items a cycle."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rpaccel.image_layout import PASS
from rtl_gen.group_layouts import entry_layout, load_layout, resumed_layout
from rtl_gen.queue import Queue
from rtl_gen.signatures import struct

__all__ = ["Issuer", "ProgramWalker"]

STALLS = (
    *("stall_gap", "stall_input", "stall_write", "stall_scores"),  # of a pass whose turn it is
    *("stall_shape", "stall_weights"),
)


class ProgramWalker(wiring.Component):
    """Walk the programs of tokens: a pass every four cycles.

    A token without items runs no program: when all passes before it are over, it leaves at
    ``empty``.

    Parameters
    ----------
    geometry : GroupGeometry
    token, work : StructLayout
        See :mod:`rtl_gen.group_layouts`.

    Members
    -------
    tokens : In(stream.Signature(token))
        Or of :func:`resumed_layout`, where the group has dot interactions.
    paused : Out(1), resume : Out(resumed_layout(...))
        Such a token has left before its interaction; it goes on as ``resume`` says.
    entry : In(entry_layout(...)).array(stages)
        Of each stage that the group serves.
    memory : Out(en, addr, data)
        Read port of the program memory, one cycle of latency.
    o : Out(stream.Signature(work))
    empty : Out(stream.Signature(token))
    idle : In(1)
        All passes that left at ``o`` are over.
    busy : Out(1)
        There is a token.
    """

    def __init__(self, geometry: GroupGeometry, *, token, work):
        self.geometry = geometry
        self.work = work
        hardware = geometry.hardware
        stages = len(hardware.groups[geometry.group].stages)
        memory = {
            "en": Out(1),
            "addr": Out(ceil_log2(hardware.program_depth)),
            "data": In(PASS.bits),
        }
        self.dots = bool(geometry.dots)
        resumed = resumed_layout(token)
        super().__init__(
            {
                "tokens": In(stream.Signature(resumed if self.dots else token)),
                "entry": In(entry_layout(geometry)).array(stages),
                "memory": Out(wiring.Signature(memory)),
                "o": Out(stream.Signature(work)),
                "empty": Out(stream.Signature(token)),
                "idle": In(1),
                "busy": Out(1),
                **({"paused": Out(1), "resume": Out(resumed)} if self.dots else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        counter = Signal(16)
        command = data.View(struct(PASS), self.memory.data)
        work = self.o.p
        product = Signal(range(self.geometry.hardware.macs + 1))
        token = self.tokens.p.token if self.dots else self.tokens.p
        entry = data.View(
            self.entry[0].shape(), Array(e.as_value() for e in self.entry)[token.stage]
        )
        parts = Array(shape.parts for shape in self.geometry.shapes)[work.form]
        same = (
            *(
                "weights",
                "tile",
                "source",
                "slice",
                "target",
                "chunk",
                "first",
                "final",
                "multiply",
                "relu",
            ),
            *("column", "columns", "params", "wait_input", "wait_write", "last"),
            *(("vector", "pause") if self.dots else ()),
        )
        m.d.comb += [
            self.empty.p.eq(work.token),
            self.memory.addr.eq(counter),
        ]
        ends = work.last
        if self.dots:
            ends = work.last | work.pause
            m.d.comb += [self.resume.token.eq(work.token), self.resume.counter.eq(counter)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [
                    work.token.eq(token),
                    work.form.eq(entry.form),
                    work.words.eq(entry.words),
                    counter.eq(self.tokens.p.counter if self.dots else entry.program),
                ]
                m.d.comb += self.tokens.ready.eq(1)
                with m.If(self.tokens.valid):
                    with m.If(token.items == 0):
                        m.next = "EMPTY"
                    with m.Else():
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.memory.en.eq(1)
                m.d.sync += counter.eq(counter + 1)
                m.next = "DECODE"
            with m.State("DECODE"):
                m.d.sync += [work[name].eq(command[name]) for name in same]
                m.d.sync += [
                    work.score.eq(command.destination),
                    product.eq(command.rows * command.cols),
                ]
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [
                    work.macs.eq(product * parts),
                    work.macs_last.eq(product * work.token.rest),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FETCH"
                    with m.If(ends):
                        m.next = "IDLE"
                    if self.dots:
                        m.d.comb += self.paused.eq(work.pause)
            with m.State("EMPTY"):
                m.d.comb += self.empty.valid.eq(self.idle)
                with m.If(self.empty.valid & self.empty.ready):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(self.tokens.valid | ~fsm.ongoing("IDLE"))
        return m


class Issuer(wiring.Component):
    """Run passes in order: load their weights, and send their items into the array, a row a cycle.

    The weights of a pass are loaded into the set that the pass before does not use, as soon as the
    pass before that has left it; the items follow the weights as a wave. A pass needs
    ``tile_rows`` cycles, or one a row of items if that is more; with enough of them there is no
    pause. A pass in another shape than the one before waits until that has left the array.

    Parameters
    ----------
    geometry : GroupGeometry
    work : StructLayout
        See :func:`rtl_gen.group_layouts.pass_layout`.

    Members
    -------
    i : In(stream.Signature(work))
        Passes.
    shape : Out
        Number of the shape of all passes in the array.
    load : Out(load_layout(...))
        Read of the weight memory in this cycle.
    o : Out(stream.Signature(work))
        The pass that a row of items belongs to.
    issue : Out(valid, start, end, set, row)
        A row of items, one in each part, enters in this cycle: first or last of its pass, which set
        of weights, its number.
    arrived : In(15).array(stages, 2)
        Rows in each token buffer that the gather unit has finished.
    room : In(stages)
        Whether another row of scores can be taken.
    take : In(1)
        Whether the pass can be taken by those that follow it to the end.
    written, write_end : In(1)
        A row, and with it its pass, was written to the activation memory.
    ended : In(1)
        The last row of a pass has left the array.
    stalls : Out(StructLayout)
        Why no row enters the array in this cycle, as in ``counters.GROUP_COUNTERS``; the first
        counts.
    """

    def __init__(self, geometry: GroupGeometry, *, work):
        self.geometry = geometry
        self.work = work
        self.tile_rows = geometry.hardware.tile_rows
        stages = len(geometry.hardware.groups[geometry.group].stages)
        row = data.StructLayout({"valid": 1, "start": 1, "end": 1, "set": 1, "row": abi.ITEM_BITS})
        super().__init__(
            {
                "i": In(stream.Signature(work)),
                "shape": Out(work["form"].shape),
                # Sets take turns; the first pass turns this to set 0, where the items begin.
                "load": Out(load_layout(geometry), init={"set": 1}),
                "o": Out(work),
                "issue": Out(row),
                "arrived": In(abi.ITEM_BITS).array(stages, 2),
                "room": In(stages),
                "take": In(1),
                "written": In(1),
                "write_end": In(1),
                "ended": In(1),
                "stalls": Out(data.StructLayout(dict.fromkeys(STALLS, 1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # One entry more than there are sets of weights, so that a set is never waited for here.
        m.submodules.loaded = loaded = Queue(self.work, depth=3)
        end = self.issue.valid & self.issue.end
        self._load(m, loaded, end)
        self._issue(m, loaded)
        return m

    def _load(self, m, loaded, end):
        # Columns to the east use a set longer: it is free again cols - 1 cycles later.
        late = Signal(max(1, self.geometry.max_cols - 2))
        m.d.sync += late.eq(late << 1 | end)
        freed = Array(
            late[shape.cols - 3] if shape.cols > 2 else end for shape in self.geometry.shapes
        )[self.shape]
        free = Signal(2, init=2)
        left = Signal(range(self.tile_rows + 1))
        active = Signal(8)  # passes that were begun and are not over
        start, may_start = Signal(), Signal()
        same = self.i.p.form == self.shape
        m.d.comb += [
            may_start.eq((left <= 1) & (free != 0) & loaded.i.ready & same),
            start.eq(may_start & self.i.valid),
            self.i.ready.eq(may_start),
            loaded.i.valid.eq(start),
            loaded.i.p.eq(self.i.p),
            self.load.en.eq(left != 0),
        ]
        m.d.sync += [free.eq(free - start + freed), active.eq(active + start - self.ended)]
        with m.If(self.i.valid & ~same & (active == 0)):
            m.d.sync += self.shape.eq(self.i.p.form)
        with m.If(self.load.en):
            m.d.sync += [
                left.eq(left - 1),
                self.load.address.eq(self.load.address + 1),
                self.load.row.eq(self.load.row + 1),
            ]
        with m.If(start):
            m.d.sync += [
                left.eq(self.tile_rows),
                self.load.address.eq(self.i.p.weights),
                self.load.tile.eq(self.i.p.tile),
                self.load.row.eq(0),
                self.load.set.eq(~self.load.set),
            ]

    def _issue(self, m, loaded):
        work = loaded.o.p
        row, now = Signal(abi.ITEM_BITS), self.issue
        single = Signal()  # the last cycle's row was all of its pass
        outstanding = Signal(8)  # writing passes that have been issued but not all written
        written = Signal(abi.ITEM_BITS)  # rows written of the oldest of them
        input_ok, write_ok, room_ok = Signal(), Signal(), Signal()
        arrived = Array(self.arrived[s][b] for s in range(len(self.arrived)) for b in range(2))
        waiting = loaded.o.valid & ~single & self.take
        waited = Signal()  # the next pass, one cycle before

        m.d.comb += [
            self.o.eq(work),
            input_ok.eq(
                ~work.wait_input | (row < arrived[(work.token.stage << 1) | work.token.buffer])
            ),
            write_ok.eq(
                (work.wait_write == 0)
                | (outstanding < work.wait_write)
                | ((outstanding == work.wait_write) & (row < written))
            ),
            room_ok.eq(~(work.final & work.score) | self.room.bit_select(work.token.stage, 1)),
            now.valid.eq(waiting & input_ok & write_ok & room_ok),
            now.start.eq(row == 0),
            now.end.eq(row == work.token.rows - 1),
            now.row.eq(row),
            loaded.o.ready.eq(now.valid & now.end),
            self.stalls.stall_gap.eq(loaded.o.valid & ~waiting),
            self.stalls.stall_input.eq(waiting & ~input_ok),
            self.stalls.stall_write.eq(waiting & ~write_ok),
            self.stalls.stall_scores.eq(waiting & ~room_ok),
            self.stalls.stall_shape.eq(self.i.valid & (self.i.p.form != self.shape)),
            self.stalls.stall_weights.eq(self.i.valid & (~self.i.ready | waited)),
        ]
        m.d.sync += waited.eq(self.i.valid & ~self.i.ready)
        # An accumulator is read one cycle before it is written.
        m.d.sync += single.eq(now.valid & now.start & now.end)
        with m.If(now.valid):
            m.d.sync += row.eq(Mux(now.end, 0, row + 1))
            with m.If(now.end):
                m.d.sync += now.set.eq(~now.set)

        grown = now.valid & now.end & work.final & ~work.score
        m.d.sync += outstanding.eq(outstanding + grown - self.write_end)
        with m.If(self.written):
            m.d.sync += written.eq(Mux(self.write_end, 0, written + 1))
