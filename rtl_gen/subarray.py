"""A sub-array: a tile of weight-stationary int8 multiply-accumulate units."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LANE", "SubArray", "sum_bits"]

#: Bits a partial sum takes in a vector of sums. The sum itself is narrower; whole machine words
#: keep the simulators fast, and synthesis drops the rest.
LANE = 32


def sum_bits(inputs: int) -> int:
    """Bits of a sum of ``inputs`` products of two int8 numbers (two's complement)."""
    return 16 + (inputs - 1).bit_length()


class SubArray(wiring.Component):
    """A tile of ``rows x cols`` int8 multiply-accumulate units that hold two sets of weights.

    Semi-systolic: an activation enters a row and, one cycle later, meets the weights of all its
    columns and is passed on east; sums go south, a row a cycle. Row r of an item is therefore
    presented r cycles after row 0, and the sums of an item leave all columns in the same cycle,
    ``rows + 1`` cycles after its row 0 was presented. One item a cycle. The item of the tile north
    arrives at ``n`` in the cycle in which row 0 is presented.

    Weights are loaded a row a cycle into either set, at any time. A row of weights presented in
    cycle x is used by what is presented to that row from cycle x + 1 on. ``set`` travels with the
    activations, so that sets are exchanged item by item as the wave passes.

    Parameters
    ----------
    rows, cols : int, at least 2, positive
    sum_bits : int, up to 32
        Bits of a partial sum, see :func:`sum_bits`.

    Members
    -------
    a : In(8 * rows), a_valid, a_set : In(rows)
        Activations from the west, and for each row whether there is one and its set of weights.
    e : Out(8 * rows), e_valid, e_set : Out(rows)
        The same one cycle later, for the tile east.
    n, s : In, Out(32 * cols)
        Sums from the north and to the south, ``sum_bits`` significant bits in each lane of 32.
    w_en : In(1), w_set : In(1), w_row : In(range(rows)), w : In(8 * cols)
        Loads a row of weights.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    def __init__(self, *, rows: int, cols: int, sum_bits: int):
        if rows < 2 or cols < 1:
            raise ValueError(f"A tile has at least 2 rows and 1 column, not {rows} and {cols}")
        if not 16 < sum_bits <= LANE:
            raise ValueError(f"A sum must have 17 to {LANE} bits, not {sum_bits}")
        self.rows = rows
        self.cols = cols
        self.sum_bits = sum_bits
        self.module_name = f"subarray_{rows}x{cols}_{sum_bits}"
        super().__init__(
            {
                "a": In(8 * rows),
                "a_valid": In(rows),
                "a_set": In(rows),
                "e": Out(8 * rows),
                "e_valid": Out(rows),
                "e_set": Out(rows),
                "n": In(LANE * cols),
                "s": Out(LANE * cols),
                "w_en": In(1),
                "w_set": In(1),
                "w_row": In(range(rows)),
                "w": In(8 * cols),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Everything that enters is registered: short wires between tiles and, for Verilator, logic
        # that refers to nothing outside the tile, so that all tiles share its code.
        north = Signal(LANE * self.cols, reset_less=True)
        load = Signal(self.rows)
        load_set = Signal()
        loaded = Signal(8 * self.cols, reset_less=True)
        m.d.sync += [
            self.e.eq(self.a),
            self.e_valid.eq(self.a_valid),
            self.e_set.eq(self.a_set),
            load.eq(self.w_en << self.w_row),
            load_set.eq(self.w_set),
        ]
        with m.If(self.w_en):
            m.d.sync += loaded.eq(self.w)
        with m.If(self.a_valid[0]):
            m.d.sync += north.eq(self.n)

        sums = north
        for row in range(self.rows):
            sets = [Signal(8 * self.cols, name=f"w{i}_{row}", reset_less=True) for i in range(2)]
            with m.If(load[row]):
                with m.If(load_set):
                    m.d.sync += sets[1].eq(loaded)
                with m.Else():
                    m.d.sync += sets[0].eq(loaded)
            weights = Signal(8 * self.cols, name=f"weights_{row}")
            m.d.comb += weights.eq(Mux(self.e_set[row], sets[1], sets[0]))
            below = Signal(LANE * self.cols, name=f"sums_{row}", reset_less=True)
            with m.If(self.e_valid[row]):
                m.d.sync += below.eq(self._row(sums, self.e.word_select(row, 8), weights))
            sums = below
        m.d.comb += self.s.eq(sums)
        return m

    def _row(self, sums, activation, weights):
        lanes = []
        for col in range(self.cols):
            product = activation.as_signed() * weights.word_select(col, 8).as_signed()
            lane = sums[LANE * col :][: self.sum_bits].as_signed() + product
            lanes += [lane[: self.sum_bits], Const(0, LANE - self.sum_bits)]
        return Cat(*lanes)
