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

    def _registers(self, m, name, shape, enable, lane):
        """Make a register a column, loaded with ``lane(col)`` when ``enable`` is high."""
        made = [Signal(shape, name=f"{name}_{n}", reset_less=True) for n in range(self.cols)]
        with m.If(enable):
            m.d.sync += [register.eq(lane(col)) for col, register in enumerate(made)]
        return made

    def _accumulate(self, m, control, final):
        """Stage 0: add sums and accumulators, or multiply them."""
        m.submodules.accumulators = ram = Ram(
            width=LANE * self.cols, depth=self.depth, macro_bits=self.macro_bits
        )
        new = [Signal(signed(LANE), name=f"new_{col}") for col in range(self.cols)]
        for col, total in enumerate(new):
            old = Signal(signed(LANE), name=f"old_{col}")
            here = self.sums[LANE * col :][: self.sum_bits].as_signed()
            with m.If(~control.first):
                m.d.comb += old.eq(ram.read.data.word_select(col, LANE))
            product = here[:8].as_signed() * old[:8].as_signed()
            m.d.comb += total.eq(Mux(control.multiply, product, here + old))
        m.d.comb += [
            ram.read.en.eq(self.control.valid & ~self.control.first),
            ram.read.addr.eq(self.control.item),
            ram.write.en.eq(control.valid & ~control.final),
            ram.write.addr.eq(control.item),
            ram.write.data.eq(Cat(new)),
        ]
        return self._registers(m, "total", signed(LANE), final, new.__getitem__)

    def _scale(self, m, finals, starts, totals):
        """Stages 1 and 2: add the bias and multiply. Returns products and shifts of stage 3."""
        param = struct(PARAM)
        params = [
            data.View(param, self.param.word_select(col, PARAM.bits)) for col in range(self.cols)
        ]
        biased = self._registers(
            m, "biased", signed(LANE), finals[1], lambda col: totals[col] + params[col].bias
        )
        # The next pass's parameters are here while this pass's last item is under way.
        mantissas = self._registers(m, "mantissa", 16, starts[1], lambda col: params[col].mantissa)
        early = self._registers(m, "early", 6, starts[1], lambda col: params[col].shift)
        products = self._registers(
            m, "product", signed(PRODUCT), finals[2], lambda col: biased[col] * mantissas[col]
        )
        return products, self._registers(m, "shift", 6, starts[2], early.__getitem__)

    def _clamp(self, m, control, finals, products, shifts):
        """Stages 3 and 4: rounding shift, clamp to a logit, clamp to an activation."""
        logits, overs = [], []
        for col in range(self.cols):
            # ((2 v >> s) + 1) >> 1 is rshift_round(v, s), s = 0 included.
            double = Cat(Const(0, 1), products[col]).as_signed()
            shifted = Signal(signed(PRODUCT + 1), name=f"shifted_{col}")
            rounded = Signal(signed(PRODUCT + 1), name=f"rounded_{col}")
            over = Signal(name=f"over_{col}")
            m.d.comb += [
                shifted.eq(double >> shifts[col]),
                rounded.eq((shifted + 1) >> 1),
                over.eq(rounded[15:] != rounded[-1].replicate(PRODUCT - 14)),
            ]
            limit = Cat((~rounded[-1]).replicate(15), rounded[-1])
            logits.append(Mux(over, limit, rounded[:16]))
            overs.append(over)
        clamped = Signal(reset_less=True)
        with m.If(finals[3]):
            m.d.sync += clamped.eq(overs[0])
        logit = self._registers(m, "logit", 16, finals[3], logits.__getitem__)

        with m.If(finals[4]):
            m.d.sync += [
                self.data.eq(Cat(self._activation(each, control.relu) for each in logit)),
                self.score.eq(logit[0]),
                self.saturated.eq(clamped),
            ]

    @staticmethod
    def _activation(logit, relu):
        negative = logit[15]
        over = logit[7:] != negative.replicate(9)
        limit = Cat((~negative).replicate(7), negative)
        return Mux(relu & negative, 0, Mux(over, limit, logit[:8]))
