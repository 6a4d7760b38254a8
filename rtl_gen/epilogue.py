"""The epilogue of a column of sub-arrays: accumulators, bias, requantisation, clamp."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rtl_gen.ram import MACRO_BITS, Ram
from rtl_gen.signatures import struct
from rtl_gen.subarray import LANE

__all__ = ["EPILOGUE_LATENCY", "Epilogue", "control_layout"]

#: Cycles from a sum at ``sums`` to its int8 at ``data`` and its int16 at ``score``.
EPILOGUE_LATENCY = 5

PRODUCT = 48
"""Bits of a biased sum times a mantissa."""


def control_layout(*, depth: int, params: int, lanes: int) -> data.StructLayout:
    """What an epilogue must know of an item; travels from column to column, a cycle each.

    Parameters
    ----------
    depth : int
        Accumulators a channel.
    params : int
        Words of parameters.
    lanes : int
        Output channels of all columns together.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "start": 1,
            "first": 1,
            "final": 1,
            "relu": 1,
            "item": ceil_log2(depth),
            "params": ceil_log2(params),
            # One bit more than a lane number needs: lanes to the west wrap to large numbers.
            "lane": ceil_log2(lanes) + 1,
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
    params : int, positive
        Words of parameters, one a final pass.
    lanes : int, positive
        Output channels of the group.
    sum_bits : int
        Significant bits of a sum.
    macro_bits : int
        See :class:`rtl_gen.ram.Ram`.

    Members
    -------
    c : In(control_layout(...))
        Control of the item whose sums arrive one cycle later. ``start`` marks the first item of a
        pass, ``lane`` is the channel of the score counted from this column's first.
    c_east : Out(control_layout(...))
        The same one cycle later, ``lane`` counted from the next column's first.
    sums : In(32 * cols)
        Sums of the sub-array north, ``sum_bits`` significant bits a lane of 32.
    load_en : In(1), load_addr : In(ceil_log2(params)), load_data : In(64 * cols)
        Writes a word of parameters: ``cols`` PARAM structures.
    data : Out(8 * cols)
        Activations.
    score : Out(signed(16)), saturated : Out(1)
        Logit of the chosen lane and whether it was clamped; zero in other columns.
    """

    def __init__(
        self,
        *,
        cols: int,
        depth: int,
        params: int,
        lanes: int,
        sum_bits: int,
        macro_bits: int = MACRO_BITS,
    ):
        self.cols = cols
        self.depth = depth
        self.params = params
        self.sum_bits = sum_bits
        self.macro_bits = macro_bits
        self.module_name = f"epilogue_{cols}_{depth}_{params}_{lanes}_{sum_bits}_{macro_bits}"
        control = control_layout(depth=depth, params=params, lanes=lanes)
        super().__init__(
            {
                "c": In(control),
                "c_east": Out(control),
                "sums": In(LANE * cols),
                "load_en": In(1),
                "load_addr": In(ceil_log2(params)),
                "load_data": In(abi.PARAM.bits * cols),
                "data": Out(8 * cols),
                "score": Out(16),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.c_east.eq(self.c), self.c_east.lane.eq(self.c.lane - self.cols)]

        # Control of the item at each stage; stage 0 is the cycle in which its sums are here. Lanes
        # are those meant for the next column.
        stages = [self.c_east]
        for number in range(1, EPILOGUE_LATENCY):
            stage = Signal(self.c.shape(), name=f"stage_{number}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        finals = [Signal(name=f"final_{number}") for number in range(EPILOGUE_LATENCY)]
        starts = [Signal(name=f"start_{number}") for number in range(EPILOGUE_LATENCY)]
        for stage, final, start in zip(stages, finals, starts):
            m.d.comb += [final.eq(stage.valid & stage.final), start.eq(final & stage.start)]

        totals = self._accumulate(m, stages[0], finals[0])
        products, shifts = self._scale(m, stages[0], finals, starts, totals)
        self._clamp(m, stages[4], finals, products, shifts)
        return m

    def _vector(self, m, name, width, enable, lane):
        """Make a register of one value a column, ``lane(col)``, loaded when ``enable`` is high."""
        vector = Signal(width * self.cols, name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += vector.eq(Cat(lane(col)[:width] for col in range(self.cols)))
        return vector

    def _accumulate(self, m, control, final):
        """Stage 0: add sums and accumulators."""
        m.submodules.accumulators = ram = Ram(
            width=LANE * self.cols, depth=self.depth, macro_bits=self.macro_bits
        )
        old = Signal(LANE * self.cols)
        new = Signal(LANE * self.cols)
        with m.If(~control.first):
            m.d.comb += old.eq(ram.read.data)
        m.d.comb += [
            new.eq(Cat(self._sum(col, old)[:LANE] for col in range(self.cols))),
            ram.read.en.eq(self.c.valid & ~self.c.first),
            ram.read.addr.eq(self.c.item),
            ram.write.en.eq(control.valid & ~control.final),
            ram.write.addr.eq(control.item),
            ram.write.data.eq(new),
        ]
        return self._vector(m, "totals", LANE, final, lambda col: new.word_select(col, LANE))

    def _sum(self, col, old):
        here = self.sums[LANE * col :][: self.sum_bits].as_signed()
        return here + old.word_select(col, LANE).as_signed()

    def _scale(self, m, control, finals, starts, totals):
        """Stages 1 and 2: add the bias and multiply. Returns products and shifts of stage 3."""
        m.submodules.params = ram = Ram(
            width=abi.PARAM.bits * self.cols, depth=self.params, macro_bits=self.macro_bits
        )
        m.d.comb += [
            ram.write.en.eq(self.load_en),
            ram.write.addr.eq(self.load_addr),
            ram.write.data.eq(self.load_data),
            ram.read.en.eq(starts[0]),
            ram.read.addr.eq(control.params),
        ]
        param = struct(abi.PARAM)
        params = [
            data.View(param, ram.read.data.word_select(col, abi.PARAM.bits))
            for col in range(self.cols)
        ]

        def biased_lane(col):
            return totals.word_select(col, LANE).as_signed() + params[col].bias

        def product_lane(col):
            factor = biased.word_select(col, LANE).as_signed()
            return factor * mantissas.word_select(col, 16)

        biased = self._vector(m, "biased", LANE, finals[1], biased_lane)
        # The memory shows the next pass's parameters while this pass's last item is under way.
        mantissas = self._vector(m, "mantissas", 16, starts[1], lambda col: params[col].mantissa)
        early = self._vector(
            m, "early", 8, starts[1], lambda col: Cat(params[col].shift, Const(0, 2))
        )
        products = self._vector(m, "products", PRODUCT, finals[2], product_lane)
        shifts = self._vector(m, "shifts", 8, starts[2], lambda col: early.word_select(col, 8))
        return products, shifts

    def _clamp(self, m, control, finals, products, shifts):
        """Stages 3 and 4: rounding shift, clamp to a logit, clamp to an activation."""
        logits, clamps = [], []
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
            clamps.append(over)
        clamped = Signal(self.cols, reset_less=True)
        with m.If(finals[3]):
            m.d.sync += clamped.eq(Cat(clamps))
        logit = self._vector(m, "logits", 16, finals[3], lambda col: logits[col])

        chosen = [
            control.lane == (col - self.cols) % (1 << len(control.lane)) for col in range(self.cols)
        ]
        with m.If(finals[4]):
            m.d.sync += [
                self.data.eq(
                    Cat(
                        self._activation(logit.word_select(col, 16), control.relu)
                        for col in range(self.cols)
                    )
                ),
                self.score.eq(
                    reduce(
                        or_,
                        (
                            Mux(chosen[col], logit.word_select(col, 16), 0)
                            for col in range(self.cols)
                        ),
                    )
                ),
                self.saturated.eq((Cat(chosen) & clamped).any()),
            ]

    @staticmethod
    def _activation(logit, relu):
        negative = logit[15]
        over = logit[7:] != negative.replicate(9)
        limit = Cat((~negative).replicate(7), negative)
        return Mux(relu & negative, 0, Mux(over, limit, logit[:8]))
