"""The sequencer of a group: turns tokens into passes, and passes into items a cycle."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.activations import Place
from rtl_gen.queue import Queue
from rtl_gen.signatures import struct

__all__ = ["Issuer", "ProgramWalker", "load_layout", "pass_layout", "token_layout"]


def token_layout(*, stages: int, slot: int) -> data.StructLayout:
    """A token in a group: served stage, token buffer, query slot (``slot`` bits), items."""
    return data.StructLayout(
        {
            "stage": ceil_log2(stages),
            "buffer": 1,
            "slot": slot,
            "query_last": 1,
            "items": abi.ITEM_BITS,
        }
    )


def pass_layout(*, stages: int, slot: int, banks: int, depth: int, macs: int) -> data.StructLayout:
    """A pass ready to run: a PASS of a token with its addresses worked out.

    Parameters
    ----------
    stages, slot : int
        As for :func:`token_layout`.
    banks, depth : int
        Of the activation memory.
    macs : int
        Multiply-accumulate units of the group.
    """
    at = data.StructLayout({"bank": ceil_log2(banks), "address": ceil_log2(depth)})
    return data.StructLayout(
        {
            "token": token_layout(stages=stages, slot=slot),
            "weights": 20,
            "slice": at,
            "chunk": at,
            "macs": range(macs + 1),
            "first": 1,
            "final": 1,
            "score": 1,
            "relu": 1,
            "column": 16,
            "columns": 16,
            "params": 14,
            "wait_input": 1,
            "wait_write": 1,
            "last": 1,
        }
    )


class ProgramWalker(wiring.Component):
    """Walk the programs of tokens: a pass every four cycles.

    A token without items runs no program: when all passes before it are over, it leaves at
    ``empty``.

    Parameters
    ----------
    token, work : StructLayout
        See :func:`token_layout` and :func:`pass_layout`.
    slices, chunks : Place
        Where slices and chunks lie.
    depth : int
        Words of the program memory.
    stages : int
        Stages that the group serves.

    Members
    -------
    tokens : In(stream.Signature(token))
    program : In(16).array(stages)
        First pass of each stage's program.
    memory : Out(en, addr, data)
        Read port of the program memory, one cycle of latency.
    o : Out(stream.Signature(work))
    empty : Out(stream.Signature(token))
    idle : In(1)
        All passes that left at ``o`` are over.
    """

    def __init__(self, *, token, work, slices: Place, chunks: Place, depth: int, stages: int):
        self.slices = slices
        self.chunks = chunks
        super().__init__(
            {
                "tokens": In(stream.Signature(token)),
                "program": In(16).array(stages),
                "memory": Out(
                    wiring.Signature(
                        {
                            "en": Out(1),
                            "addr": Out(ceil_log2(depth)),
                            "data": In(abi.PASS.bits),
                        }
                    )
                ),
                "o": Out(stream.Signature(work)),
                "empty": Out(stream.Signature(token)),
                "idle": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        counter = Signal(16)
        command = data.View(struct(abi.PASS), self.memory.data)
        work = self.o.p
        rows = {"slice": Signal(16), "chunk": Signal(16)}
        places = {"slice": self.slices, "chunk": self.chunks}
        m.d.comb += [
            self.empty.p.eq(self.tokens.p),
            self.memory.addr.eq(counter),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    work.token.eq(self.tokens.p),
                    counter.eq(Array(self.program)[self.tokens.p.stage]),
                ]
                with m.If(self.tokens.valid):
                    with m.If(self.tokens.p.items == 0):
                        m.next = "EMPTY"
                    with m.Else():
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.memory.en.eq(1)
                m.d.sync += counter.eq(counter + 1)
                m.next = "DECODE"
            with m.State("DECODE"):
                for name, place in places.items():
                    bank, row = place.locate(command[name])
                    m.d.sync += [work[name].bank.eq(bank), rows[name].eq(row)]
                m.d.sync += work.score.eq(command.destination)
                for name in ("weights", "first", "final", "relu", "column", "columns"):
                    m.d.sync += work[name].eq(command[name])
                for name in ("params", "wait_input", "wait_write", "last"):
                    m.d.sync += work[name].eq(command[name])
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                for name in places:
                    m.d.sync += work[name].address.eq(rows[name] * work.token.items)
                m.d.sync += work.macs.eq(command.rows * command.cols)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "FETCH"
                    with m.If(work.last):
                        m.d.comb += self.tokens.ready.eq(1)
                        m.next = "IDLE"
            with m.State("EMPTY"):
                m.d.comb += self.empty.valid.eq(self.idle)
                with m.If(self.empty.valid & self.empty.ready):
                    m.d.comb += self.tokens.ready.eq(1)
                    m.next = "IDLE"
        return m


def load_layout(*, depth: int, rows: int) -> data.StructLayout:
    """A row of weights to be read from the weight memory and put into a set of a tile's row."""
    return data.StructLayout(
        {"en": 1, "address": ceil_log2(depth), "row": ceil_log2(rows), "set": 1}
    )


class Issuer(wiring.Component):
    """Run passes in order: load their weights, and send their items into the array, one a cycle.

    The weights of a pass are loaded into the set that the pass before does not use, as soon as the
    pass before that has left it; the items follow the weights as a wave. A pass needs
    ``tile_rows`` cycles, or one an item if that is more; with enough items there is no pause.

    Parameters
    ----------
    work : StructLayout
        See :func:`pass_layout`.
    stages : int
        Stages that the group serves.
    tile_rows : int
        Rows of weights that a pass loads.
    cols : int
        Sub-arrays side by side.
    weights : int
        Words of the weight memory.

    Members
    -------
    i : In(stream.Signature(work))
        Passes.
    load : Out(load_layout(...))
        Read of the weight memory in this cycle.
    o : Out(stream.Signature(work))
        The pass that an item belongs to; ``ready`` high for the last item.
    issue : Out(valid, start, end, set, item)
        An item enters in this cycle: first or last of its pass, which set of weights.
    arrived : In(15).array(stages, 2)
        Items in each token buffer that the gather unit has finished.
    room : In(stages)
        Whether another score can be taken.
    take : In(1)
        Whether the pass can be taken by those that follow it to the end.
    written, write_end : In(1)
        An item, and with it its pass, was written to the activation memory.
    busy, stall_input, stall_write, stall_weights : Out(1)
        Counter increments of this cycle.
    """

    def __init__(self, *, work, stages: int, tile_rows: int, cols: int, weights: int):
        self.work = work
        self.tile_rows = tile_rows
        self.cols = cols
        item = data.StructLayout(
            {"valid": 1, "start": 1, "end": 1, "set": 1, "item": abi.ITEM_BITS}
        )
        super().__init__(
            {
                "i": In(stream.Signature(work)),
                # Sets take turns; the first pass turns this to set 0, where the items begin.
                "load": Out(load_layout(depth=weights, rows=tile_rows), init={"set": 1}),
                "o": Out(work),
                "issue": Out(item),
                "arrived": In(abi.ITEM_BITS).array(stages, 2),
                "room": In(stages),
                "take": In(1),
                "written": In(1),
                "write_end": In(1),
                "busy": Out(1),
                "stall_input": Out(1),
                "stall_write": Out(1),
                "stall_weights": Out(1),
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
        late = Signal(max(1, self.cols - 2))
        m.d.sync += late.eq(late << 1 | end)
        freed = late[-1] if self.cols > 2 else end
        free = Signal(2, init=2)
        left = Signal(range(self.tile_rows + 1))
        start = Signal()
        m.d.comb += [
            start.eq((left <= 1) & self.i.valid & (free != 0) & loaded.i.ready),
            self.i.ready.eq((left <= 1) & (free != 0) & loaded.i.ready),
            loaded.i.valid.eq(start),
            loaded.i.p.eq(self.i.p),
            self.load.en.eq(left != 0),
        ]
        m.d.sync += free.eq(free - start + freed)
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
                self.load.row.eq(0),
                self.load.set.eq(~self.load.set),
            ]

    def _issue(self, m, loaded):
        work = loaded.o.p
        item, now = Signal(abi.ITEM_BITS), self.issue
        single = Signal()  # the last cycle's item was all of its pass
        outstanding = Signal(8)  # writing passes that have been issued but not all written
        written = Signal(abi.ITEM_BITS)  # items written of the oldest of them
        input_ok, write_ok, room_ok = Signal(), Signal(), Signal()
        arrived = Array(self.arrived[s][b] for s in range(len(self.arrived)) for b in range(2))
        waiting = loaded.o.valid & ~single & self.take

        m.d.comb += [
            self.o.eq(work),
            input_ok.eq(
                ~work.wait_input | (item < arrived[(work.token.stage << 1) | work.token.buffer])
            ),
            write_ok.eq(
                ~work.wait_write | (outstanding == 0) | ((outstanding == 1) & (item < written))
            ),
            room_ok.eq(~(work.final & work.score) | self.room.bit_select(work.token.stage, 1)),
            now.valid.eq(waiting & input_ok & write_ok & room_ok),
            now.start.eq(item == 0),
            now.end.eq(item == work.token.items - 1),
            now.item.eq(item),
            loaded.o.ready.eq(now.valid & now.end),
            self.busy.eq(now.valid),
            self.stall_input.eq(waiting & ~input_ok),
            self.stall_write.eq(waiting & input_ok & ~write_ok),
            self.stall_weights.eq(~loaded.o.valid & self.i.valid),
        ]
        # An accumulator is read one cycle before it is written.
        m.d.sync += single.eq(now.valid & now.start & now.end)
        with m.If(now.valid):
            m.d.sync += item.eq(Mux(now.end, 0, item + 1))
            with m.If(now.end):
                m.d.sync += now.set.eq(~now.set)

        grown = now.valid & now.end & work.final & ~work.score
        m.d.sync += outstanding.eq(outstanding + grown - self.write_end)
        with m.If(self.written):
            m.d.sync += written.eq(Mux(self.write_end, 0, written + 1))
