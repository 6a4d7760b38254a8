"""Exact top-k unit: candidates by score, higher first, ties to the lower position."""

from __future__ import annotations

from amaranth.hdl import Cat, Const

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.filter import FilterUnit

__all__ = ["TopK"]


class TopK(FilterUnit):
    """Release the best candidates by score; see :class:`rtl_gen.filter.FilterUnit`.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        super().__init__(hardware=hardware, stage=stage, key_bits=16 + abi.POSITION_BITS)

    def key(self, m, position, score):
        """The score with an offset, then the position, inverted."""
        return Cat(~position, score.as_unsigned() ^ 0x8000)

    def score(self, key):
        """The score of a candidate."""
        return (key[abi.POSITION_BITS :] ^ 0x8000).as_signed()

    def below(self, key):
        """Never: there is no threshold."""
        return Const(0)
