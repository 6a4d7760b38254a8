"""Figures of the paper's silicon (12 nm), and what they make of a 180 nm library's.

Sources: the paper's totals (its figure 11), and the synthesis reports of its public artifact
(``RPAccel_characterization/Synthesis_Report``, a 12 nm library at 0.7 V, typical, 25 C): a baseline
array of 32x32 multiply-accumulate units of 16-bit operands and 64-bit sums, of which the paper's
128x128 have 16.
"""

from __future__ import annotations

__all__ = [
    "CLOCK_FJ",
    "CLOCK_HZ",
    "FLIP_FLOP_UM2",
    "LEAKAGE_MW_PER_MM2",
    "PAPER",
    "REFERENCE_LOGIC_UM2",
    "SRAM_UM2_PER_BIT",
    "VOLTS",
]

CLOCK_HZ = 250e6
VOLTS = 0.7

PAPER = {"area_mm2": (26.52, 28.55), "watts": (3.65, 4.66)}
"""Baseline and RPAccel in the paper: figure 11."""
SRAM_BITS = 24 * 2**20 * 8
"""8 MB of the array and 16 MB for embeddings, in both."""

# Report of the baseline array (MMU-compile): um2, flip-flops, mW.
_UNITS = 32 * 32
_COMBINATIONAL, _SEQUENTIAL = 394_366.84, 112_524.74
_FLIP_FLOPS = 116_736
_CLOCK_NETWORK, _REGISTERS, _LEAKAGE = 2.7375 + 11.5777, 74.1936, 1.8294
_ARRAYS = 16

FLIP_FLOP_UM2 = _SEQUENTIAL / _FLIP_FLOPS
REFERENCE_LOGIC_UM2 = _COMBINATIONAL / _UNITS
"""Logic of one of its multiply-accumulate units, without flip-flops."""
CLOCK_FJ = 1e12 * (_CLOCK_NETWORK + _REGISTERS) / _FLIP_FLOPS / CLOCK_HZ
"""Energy that a flip-flop takes in a cycle, its share of the clock network included. The report
does not tell the clock: it is taken to be that of the paper's machine. Internal power of the
registers is taken to be the clock's, though some of it is of data."""
LEAKAGE_MW_PER_MM2 = _LEAKAGE / (1e-6 * (_COMBINATIONAL + _SEQUENTIAL))
SRAM_UM2_PER_BIT = (
    1e6 * PAPER["area_mm2"][0] - _ARRAYS * (_COMBINATIONAL + _SEQUENTIAL)
) / SRAM_BITS
"""What is left of the paper's baseline when its arrays are taken away, a bit of its SRAM."""
