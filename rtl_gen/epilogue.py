"""The epilogue of a column of sub-arrays: accumulators, bias, requantisation, clamp."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.image_layout import PARAM
from rtl_gen.ram import MACRO_BITS, Ram
from rtl_gen.signatures import struct
from rtl_gen.subarray import LANE

__all__ = ["EPILOGUE_LATENCY", "Epilogue", "control_layout"]

#: Cycles from a sum at ``sums`` to its int8 at ``data`` and its int16 at ``score``.
EPILOGUE_LATENCY = 5

PRODUCT = 48
"""Bits of a biased sum times a mantissa."""


def control_layout(*, depth: int) -> data.StructLayout:
    """What an epilogue must know of an item.

    Parameters
    ----------
    depth : int
        Accumulators a channel.
    """
    return data.StructLayout(
        {
            **{"valid": 1, "start": 1, "first": 1, "final": 1, "multiply": 1, "relu": 1},
            "item": ceil_log2(depth),
        }
    )


class Epilogue(wiring.Component):
    """Accumulate the sums of ``cols`` output channels over passes and requantise the last.

    Arithmetic as in docs/numerics.md. One item a cycle; ``data`` and ``score`` follow ``sums`` by
    ``EPILOGUE_LATENCY`` cycles and hold until the next final item. Two items of the same number
    must be at least two cycles apart.

    Parameters
    ----------
    cols : int, positive
        Output channels.
    depth : int, positive
        Accumulators a channel: items of a pass.
    sum_bits : int
        Significant bits of a sum.
    macro_bits : int
        See :class:`rtl_gen.ram.Ram`.

    Members
    -------
    control : In(control_layout(...))
        Of the item whose sums arrive one cycle later. ``start`` marks the first item of a pass;
        with ``multiply``, sums and accumulators are int8 and are multiplied.
    sums : In(32 * cols)
        Sums of the sub-array north, ``sum_bits`` significant bits a lane of 32.
    param : In(64 * cols)
        A PARAM structure a channel, two cycles after the ``control`` that starts a final pass.
    data : Out(8 * cols)
        Activations.
    score : Out(signed(16)), saturated : Out(1)
        Logit of the first channel and whether it was clamped.
    """

    def __init__(self, *, cols: int, depth: int, sum_bits: int, macro_bits: int = MACRO_BITS):
        self.cols = cols
        self.depth = depth
        self.sum_bits = sum_bits
        self.macro_bits = macro_bits
        self.module_name = f"epilogue_{cols}_{depth}_{sum_bits}_{macro_bits}"
        super().__init__(
            {
                "control": In(control_layout(depth=depth)),
                "sums": In(LANE * cols),
                "param": In(PARAM.bits * cols),
                "data": Out(8 * cols),
                "score": Out(16),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Control of the item at each stage; stage 0 is the cycle in which its sums are here.
        stages = [self.control]
        for number in range(EPILOGUE_LATENCY):
            stage = Signal(self.control.shape(), name=f"stage_{number}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        stages.pop(0)
        finals = [Signal(name=f"final_{number}") for number in range(EPILOGUE_LATENCY)]
        starts = [Signal(name=f"start_{number}") for number in range(EPILOGUE_LATENCY)]
        for stage, final, start in zip(stages, finals, starts):
            m.d.comb += [final.eq(stage.valid & stage.final), start.eq(final & stage.start)]

        totals = self._accumulate(m, stages[0], finals[0])
        products, shifts = self._scale(m, finals, starts, totals)
        self._clamp(m, stages[4], finals, products, shifts)
        return m

    def _vector(self, m, name, width, enable, lane):
        """Make a register of one value a column, ``lane(col)``, loaded when ``enable`` is high."""
        vector = Signal(width * self.cols, name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += vector.eq(Cat(lane(col)[:width] for col in range(self.cols)))
        return vector

    def _accumulate(self, m, control, final):
        """Stage 0: add sums and accumulators, or multiply them."""
        m.submodules.accumulators = ram = Ram(
            width=LANE * self.cols, depth=self.depth, macro_bits=self.macro_bits
        )
        old = Signal(LANE * self.cols)
        new = Signal(LANE * self.cols)
        with m.If(~control.first):
            m.d.comb += old.eq(ram.read.data)
        m.d.comb += [
            new.eq(Cat(self._sum(col, old, control.multiply)[:LANE] for col in range(self.cols))),
            ram.read.en.eq(self.control.valid & ~self.control.first),
            ram.read.addr.eq(self.control.item),
            ram.write.en.eq(control.valid & ~control.final),
            ram.write.addr.eq(control.item),
            ram.write.data.eq(new),
        ]
        return self._vector(m, "totals", LANE, final, lambda col: new.word_select(col, LANE))

    def _sum(self, col, old, multiply):
        here = self.sums[LANE * col :][: self.sum_bits].as_signed()
        before = old.word_select(col, LANE).as_signed()
        return Mux(multiply, here[:8].as_signed() * before[:8].as_signed(), here + before)

    def _scale(self, m, finals, starts, totals):
        """Stages 1 and 2: add the bias and multiply. Returns products and shifts of stage 3."""
        param = struct(PARAM)
        params = [
            data.View(param, self.param.word_select(col, PARAM.bits)) for col in range(self.cols)
        ]

        def biased_lane(col):
            return totals.word_select(col, LANE).as_signed() + params[col].bias

        def product_lane(col):
            factor = biased.word_select(col, LANE).as_signed()
            return factor * mantissas.word_select(col, 16)

        biased = self._vector(m, "biased", LANE, finals[1], biased_lane)
        # The next pass's parameters are here while this pass's last item is under way.
        mantissas = self._vector(m, "mantissas", 16, starts[1], lambda col: params[col].mantissa)
        early = self._vector(
            m, "early", 8, starts[1], lambda col: Cat(params[col].shift, Const(0, 2))
        )
        products = self._vector(m, "products", PRODUCT, finals[2], product_lane)
        shifts = self._vector(m, "shifts", 8, starts[2], lambda col: early.word_select(col, 8))
        return products, shifts

    def _clamp(self, m, control, finals, products, shifts):
        """Stages 3 and 4: rounding shift, clamp to a logit, clamp to an activation."""
        logits, overs = [], []
        for col in range(self.cols):
            # ((2 v >> s) + 1) >> 1 is rshift_round(v, s), s = 0 included.
            double = Cat(Const(0, 1), products.word_select(col, PRODUCT)).as_signed()
            shifted = Signal(signed(PRODUCT + 1), name=f"shifted_{col}")
            rounded = Signal(signed(PRODUCT + 1), name=f"rounded_{col}")
            over = Signal(name=f"over_{col}")
            m.d.comb += [
                shifted.eq(double >> shifts.word_select(col, 8)[:6]),
                rounded.eq((shifted + 1) >> 1),
                over.eq(rounded[15:] != rounded[-1].replicate(PRODUCT - 14)),
            ]
            limit = Cat((~rounded[-1]).replicate(15), rounded[-1])
            logits.append(Mux(over, limit, rounded[:16]))
            overs.append(over)
        clamped = Signal(reset_less=True)
        with m.If(finals[3]):
            m.d.sync += clamped.eq(overs[0])
        logit = self._vector(m, "logits", 16, finals[3], lambda col: logits[col])

        with m.If(finals[4]):
            m.d.sync += [
                self.data.eq(
                    Cat(
                        self._activation(logit.word_select(col, 16), control.relu)
                        for col in range(self.cols)
                    )
                ),
                self.score.eq(logit[:16]),
                self.saturated.eq(clamped),
            ]

    @staticmethod
    def _activation(logit, relu):
        negative = logit[15]
        over = logit[7:] != negative.replicate(9)
        limit = Cat((~negative).replicate(7), negative)
        return Mux(relu & negative, 0, Mux(over, limit, logit[:8]))
