"""A cell of the array: a sub-array with its share of the activation memory and its epilogue."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.image_layout import PARAM
from rtl_gen.emit import share
from rtl_gen.epilogue import Epilogue, control_layout
from rtl_gen.ram import MACRO_BITS, Ram
from rtl_gen.subarray import LANE, SubArray

__all__ = ["READ_LATENCY", "Cell", "cell_port", "write_layout"]

#: Cycles from a read to its slice at the sub-array's first row.
READ_LATENCY = 2


def write_layout(buffers: int, *, words: int, row_bytes: int) -> data.StructLayout:
    """A write of bytes of a word of an activation memory; ``en`` has a bit a token buffer."""
    return data.StructLayout(
        {"en": buffers, "address": ceil_log2(words), "mask": row_bytes, "data": 8 * row_bytes}
    )


def _members(*, rows, cols, depth, stages, words, row_bytes, delays, **_):
    """Members of a cell of these parameters, see :class:`Cell`."""
    read = {"address": ceil_log2(words), "slice": ceil_log2(row_bytes // rows)}
    port = {"words": words, "row_bytes": row_bytes}
    return {
        "own": In(1),
        "top": In(1),
        "read": In(data.StructLayout({"en": 2 * stages, **read})),
        "write": In(write_layout(2 * stages, **port)),
        "fill": In(write_layout(2, **port)).array(stages),
        "feed_valid": In(rows),
        "feed_set": In(rows),
        "w": In(8 * rows),
        "w_valid": In(rows),
        "w_set": In(rows),
        "e": Out(8 * rows),
        "e_valid": Out(rows),
        "e_set": Out(rows),
        "n": In(LANE * cols),
        "s": Out(LANE * cols),
        "load_en": In(1),
        "load_set": In(1),
        "load_row": In(range(rows)),
        "load": In(8 * cols),
        "control": In(control_layout(depth=depth)),
        "param": In(PARAM.bits * cols),
        **({"delay": In(range(delays + 1))} if delays else {}),
        "chunk": Out(8 * cols),
        "score": Out(16),
        "saturated": Out(1),
    }


#: Members of a cell by which neighbours are joined.
_JOINTS = ("w", "w_valid", "w_set", "e", "e_valid", "e_set", "n", "s")


def cell_port(**sizes) -> wiring.Signature:
    """A cell of these parameters as its sequencer sees it: all but the joints with neighbours."""
    members = _members(**sizes)
    return wiring.Signature({n: m.flip() for n, m in members.items() if n not in _JOINTS})


class Cell(wiring.Component):
    """One sub-array and what it needs to stand alone, at an edge or inside a fused array.

    Its position in the fused array is an input, so that it can change between passes. In the first
    column a cell reads slices from its own activation memory; elsewhere it takes what the cell
    west passes on. In the first row it starts sums from zero; elsewhere it goes on with those of
    the cell north. In the last row its epilogue makes results.

    Parameters
    ----------
    rows, cols : int
        Of the sub-array.
    sum_bits : int
        See :class:`rtl_gen.subarray.SubArray`.
    depth : int
        Accumulators.
    stages : int
        Stages that have two token buffers each; 0 for a cell that is never in the first column.
    words, row_bytes : int
        Words of a token buffer, and bytes of one: a multiple of ``rows``.
    results : bool
        Whether the cell is ever in the last row.
    delays : int
        Most cycles that results may have to wait.
    macro_bits : int
        See :class:`rtl_gen.ram.Ram`.

    Members
    -------
    own, top : In(1)
        Whether the cell is in the first column, in the first row.
    read : In(en, address, slice)
        Read of a slice; ``en`` has a bit for each token buffer.
    write : In(en, address, mask, data), fill : In(en, address, mask, data).array(stages)
        Writes by the array and by the gather unit of each stage. Never both of a buffer.
    feed_valid, feed_set : In(rows)
        For each row, whether a byte of a slice arrives in this cycle, and its set of weights.
    w, w_valid, w_set : In(8 * rows), In(rows), In(rows)
        From the cell west; ``e``, ``e_valid``, ``e_set`` the same to the cell east.
    n, s : In, Out(32 * cols)
        Sums from the cell north, to the cell south.
    load_en, load_set, load_row, load
        A row of weights, see :class:`rtl_gen.subarray.SubArray`.
    control : In(control_layout(...)), param : In(64 * cols)
        See :class:`rtl_gen.epilogue.Epilogue`.
    delay : In(range(delays + 1))
        Cycles that results wait; missing where ``delays`` is 0.
    chunk : Out(8 * cols), score, saturated : Out(16), Out(1)
        Results, see :class:`rtl_gen.epilogue.Epilogue`.
    """

    def __init__(
        self,
        *,
        rows: int,
        cols: int,
        sum_bits: int,
        depth: int,
        stages: int,
        words: int,
        row_bytes: int,
        results: bool,
        delays: int = 0,
        macro_bits: int = MACRO_BITS,
    ):
        self.rows, self.cols, self.sum_bits = rows, cols, sum_bits
        self.depth, self.stages, self.words, self.row_bytes = depth, stages, words, row_bytes
        self.results, self.delays, self.macro_bits = results, delays, macro_bits
        numbers = (rows, cols, sum_bits, depth, stages, words, row_bytes, int(results), delays)
        self.module_name = f"cell_{'_'.join(map(str, numbers))}_{macro_bits}"
        super().__init__(
            _members(
                rows=rows,
                cols=cols,
                depth=depth,
                stages=stages,
                words=words,
                row_bytes=row_bytes,
                delays=delays,
            )
        )

    def elaborate(self, platform):
        m = Module()
        macs = SubArray(rows=self.rows, cols=self.cols, sum_bits=self.sum_bits)
        m.submodules.macs = share(macs, platform)
        west = [self.w, self.w_valid, self.w_set]
        if self.stages:
            own = [self._slices(m), self.feed_valid, self.feed_set]
            west = [Mux(self.own, here, there) for here, there in zip(own, west)]
        for port, value in zip((macs.a, macs.a_valid, macs.a_set), west):
            m.d.comb += port.eq(value)
        m.d.comb += [
            macs.n.eq(Mux(self.top, 0, self.n)),
            macs.w_en.eq(self.load_en),
            macs.w_set.eq(self.load_set),
            macs.w_row.eq(self.load_row),
            macs.w.eq(self.load),
            self.e.eq(macs.e),
            self.e_valid.eq(macs.e_valid),
            self.e_set.eq(macs.e_set),
            self.s.eq(macs.s),
        ]
        if self.results:
            self._results(m, platform, macs.s)
        return m

    def _slices(self, m) -> Value:
        """Read a slice, and give its bytes to the rows, each a cycle later than the one north."""
        shown = []
        for number in range(2 * self.stages):
            ram = Ram(
                width=8 * self.row_bytes,
                depth=self.words,
                granularity=8,
                macro_bits=self.macro_bits,
            )
            m.submodules[f"buffer_{number}"] = ram
            m.d.comb += [
                ram.read.en.eq(self.read.en[number]),
                ram.read.addr.eq(self.read.address),
            ]
            fill = self.fill[number // 2]
            written = self.write.en[number]
            m.d.comb += [
                ram.write.addr.eq(Mux(written, self.write.address, fill.address)),
                ram.write.data.eq(Mux(written, self.write.data, fill.data)),
            ]
            with m.If(written | fill.en[number % 2]):
                m.d.comb += ram.write.en.eq(Mux(written, self.write.mask, fill.mask))
            shown.append(ram.read.data)
        number = Signal.like(self.read.slice)
        chosen = Signal(2 * self.stages)
        with m.If(self.read.en.any()):
            m.d.sync += [number.eq(self.read.slice), chosen.eq(self.read.en)]
        word = shown[0]
        for other, here in zip(shown[1:], chosen[1:]):
            word = Mux(here, other, word)
        width = 8 * self.rows
        slice_ = Signal(width, reset_less=True)
        m.d.sync += slice_.eq(word.word_select(number, width) if len(number) else word)
        return Cat(_delayed(m, slice_.word_select(r, 8), r) for r in range(self.rows))

    def _results(self, m, platform, sums):
        unit = Epilogue(
            cols=self.cols, depth=self.depth, sum_bits=self.sum_bits, macro_bits=self.macro_bits
        )
        m.submodules.epilogue = share(unit, platform)
        m.d.comb += [
            unit.control.eq(self.control),
            unit.sums.eq(sums),
            unit.param.eq(self.param),
        ]
        results = [Cat(unit.data, unit.score, unit.saturated)]
        for _ in range(self.delays):
            later = Signal(len(results[0]), reset_less=True)
            m.d.sync += later.eq(results[-1])
            results.append(later)
        shown = Array(results)[self.delay] if self.delays else results[0]
        m.d.comb += Cat(self.chunk, self.score, self.saturated).eq(shown)


def _delayed(m: Module, value: Value, cycles: int) -> Value:
    """Value as it was some cycles ago, through a shift register without reset."""
    if not cycles:
        return value
    line = Signal(len(value) * cycles, reset_less=True)
    m.d.sync += line.eq(Cat(value, line))
    return line[-len(value) :]
