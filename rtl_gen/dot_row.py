"""A rotation of the dot interaction: products of each vector of a ring with another."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rpaccel.image_layout import PAIR
from rtl_gen.signatures import struct

__all__ = ["DOT_LATENCY", "DotRow", "dot_control_layout"]

#: Steps from operands to their result at ``y``.
DOT_LATENCY = 5

SUM, SCALED = 24, 40
"""Bits of a dot product, and of it times a mantissa."""


def dot_control_layout() -> data.StructLayout:
    """What travels beside operands: whether they are there, first and last bytes of a product."""
    return data.StructLayout({"valid": 1, "first": 1, "last": 1})


class DotRow(wiring.Component):
    """Dot products of ``lanes`` pairs of int8 vectors, each requantised with a PAIR of its own.

    Arithmetic as in docs/numerics.md. ``width`` bytes of each vector a cycle; a product is there
    ``DOT_LATENCY`` cycles after its last bytes. Nothing moves in cycles without ``en``.

    Parameters
    ----------
    lanes, width : int, positive

    Members
    -------
    en : In(1)
    control : In(dot_control_layout())
        Of the operands.
    a, b : In(8 * width * lanes)
        Operands, those of lane 0 lowest.
    pairs : In(24 * lanes)
        A PAIR a lane, three cycles after a product's last operands.
    y : Out(8 * lanes)
        Holds until the next product.
    """

    def __init__(self, *, lanes: int, width: int):
        self.lanes, self.width = lanes, width
        self.module_name = f"dot_row_{lanes}_{width}"
        super().__init__(
            {
                "en": In(1),
                "control": In(dot_control_layout()),
                "a": In(8 * width * lanes),
                "b": In(8 * width * lanes),
                "pairs": In(PAIR.bits * lanes),
                "y": Out(8 * lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        controls = [self.control]
        for number in range(1, DOT_LATENCY):
            control = Signal(dot_control_layout(), name=f"control_{number}")
            with m.If(self.en):
                m.d.sync += control.eq(controls[-1])
            controls.append(control)

        a, b = _lanes(self.a, 8), _lanes(self.b, 8)
        products = self._vector(
            m, "products", 16, controls[0].valid, [x * y for x, y in zip(a, b, strict=True)]
        )
        parts = _lanes(products, 16)
        sums = self._vector(
            m,
            "sums",
            SUM,
            controls[1].valid,
            [sum(parts[n : n + self.width]) for n in range(0, len(parts), self.width)],
        )
        totals = Signal(SUM * self.lanes, reset_less=True)
        added = [
            here + Mux(controls[2].first, 0, before)
            for here, before in zip(_lanes(sums, SUM), _lanes(totals, SUM), strict=True)
        ]
        with m.If(self.en & controls[2].valid):
            m.d.sync += totals.eq(Cat(_resized(value, SUM) for value in added))
        self._requantise(m, controls[3:], _lanes(totals, SUM))
        return m

    def _vector(self, m, name, width, enable, values):
        """Make a register of one signed value a lane."""
        vector = Signal(width * len(values), name=name, reset_less=True)
        with m.If(self.en & enable):
            m.d.sync += vector.eq(Cat(_resized(value, width) for value in values))
        return vector

    def _requantise(self, m, controls, totals):
        """Multiply by the mantissa; then shift, round, and clamp."""
        pairs = [
            data.View(struct(PAIR), self.pairs.word_select(lane, PAIR.bits))
            for lane in range(self.lanes)
        ]
        done = [control.valid & control.last for control in controls]
        scaled = self._vector(
            m,
            "scaled",
            SCALED,
            done[0],
            [total * pair.mantissa for total, pair in zip(totals, pairs, strict=True)],
        )
        shifts = Signal(6 * self.lanes, reset_less=True)
        with m.If(self.en & done[0]):
            m.d.sync += shifts.eq(Cat(pair.shift for pair in pairs))
        results = []
        for lane, value in enumerate(_lanes(scaled, SCALED)):
            # ((2 v >> s) + 1) >> 1 is rshift_round(v, s), s = 0 included.
            shifted = Signal(signed(SCALED + 1), name=f"shifted_{lane}")
            rounded = Signal(signed(SCALED + 1), name=f"rounded_{lane}")
            m.d.comb += [
                shifted.eq(Cat(Const(0, 1), value).as_signed() >> shifts.word_select(lane, 6)),
                rounded.eq((shifted + 1) >> 1),
            ]
            over = rounded[7:] != rounded[-1].replicate(SCALED - 6)
            limit = Cat((~rounded[-1]).replicate(7), rounded[-1])
            results.append(Mux(over, limit, rounded[:8]))
        with m.If(self.en & done[1]):
            m.d.sync += self.y.eq(Cat(results))


def _lanes(vector, width):
    """Signed values of a vector."""
    return [vector.word_select(lane, width).as_signed() for lane in range(len(vector) // width)]


def _resized(value, width):
    """A signed value in another number of bits, which are enough for it."""
    return Cat(value, value[-1].replicate(max(0, width - len(value))))[:width]
