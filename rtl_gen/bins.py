"""Top-k unit with bins: candidates by the bin of their CTR, then by position."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Signal
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.filter import FilterUnit

__all__ = ["Bins"]


class Bins(FilterUnit):
    """Release the best candidates by bin; see :class:`rtl_gen.filter.FilterUnit`.

    Candidates that pass the threshold come first, highest bin first; then the others. Among
    equals, the lower position comes first. It makes no final rankings: ``ranked`` never is valid.

    Parameters
    ----------
    hardware : HardwareConfig
        Gives the number of bins.
    stage : int
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        self.bin_bits = ceil_log2(hardware.bins)
        super().__init__(
            hardware=hardware, stage=stage, key_bits=1 + self.bin_bits + abi.POSITION_BITS
        )

    def key(self, m, position, score):
        """Whether the threshold is passed, the bin if it is, then the position, inverted."""
        index = Signal(abi.CTR_INDEX_BITS)
        passed = Signal()
        number = Signal(self.bin_bits)
        # The table is monotone: comparing CTRs is comparing their places in it.
        m.d.comb += [
            index.eq((score >> abi.CTR_BITS) + (1 << abi.CTR_INDEX_BITS - 1)),
            passed.eq(index >= self.threshold),
        ]
        for bin_number in range(1, self.hardware.bins):
            edge = abi.ctr_index(-(-bin_number * (1 << 16) // self.hardware.bins))
            with m.If(index >= edge):
                m.d.comb += number.eq(bin_number)
        return Cat(~position, number & passed.replicate(self.bin_bits), passed)

    def score(self, key):
        """None: the bin is all that is known of it."""
        return Const(0)

    def below(self, key):
        """Whether a candidate has not passed the threshold."""
        return ~key[-1]
