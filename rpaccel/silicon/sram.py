"""SRAM macros: area, energy of an access, leakage.

Shapes are CACTI's: what a bit of a macro takes, by width and depth, is interpolated in a table that
CACTI 7 made for 22 nm (``benchmarks/cacti_table.py``). Scales are of the paper's 12 nm: a bit of
the densest macro takes what a bit of the paper's 24 MB does (its total less its arrays), and
energies go with length and with the square of the voltage.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import attrgetter
from pathlib import Path

from rpaccel.silicon.technology import SRAM_UM2_PER_BIT, VOLTS

__all__ = ["TABLE", "Macro", "Memory", "sram"]

TABLE = Path(str(files("rpaccel") / "data" / "sram_22nm.json"))
TABLE_VOLTS = 0.8
"""Supply of CACTI's itrs-lstp devices in 22 nm."""

DEEPEST = 2048
"""Words of a macro; a deeper memory has several, of which one works at a time."""
NARROWEST, WIDEST = 32, 512
"""Bits of a macro's word; wider words lie in several macros that work together."""

FIGURES = ("um2_per_bit", "read_fj_per_bit", "write_fj_per_bit", "leakage_pw_per_bit", "cycle_ns")


@dataclass(frozen=True)
class Memory:
    """A memory: ``depth`` words of ``width`` bits."""

    width: int
    depth: int

    @property
    def bits(self) -> int:
        """Bits that it holds."""
        return self.width * self.depth


@dataclass(frozen=True)
class Macro:
    """What a memory costs, made of macros.

    Attributes
    ----------
    um2 : float
    read_pj, write_pj : float
        Of an access to a word.
    leakage_mw : float
    cycle_ns : float
        Of a macro.
    """

    um2: float
    read_pj: float
    write_pj: float
    leakage_mw: float
    cycle_ns: float


@cache
def _table() -> dict[tuple[int, int], dict[str, float]]:
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {(row["width"], row["depth"]): row for row in rows}


def _at(width: float, depth: float) -> dict[str, float]:
    """Interpolate the table, linearly in the logarithms of width and depth.

    CACTI finds no macro for a few flat shapes; the next deeper one stands for them.
    """
    table = _table()

    def known(w: int, d: int) -> dict[str, float]:
        while (w, d) not in table:
            d *= 2
        return table[w, d]

    low_w, low_d = (2 ** math.floor(math.log2(size)) for size in (width, depth))
    high_w, high_d = min(2 * low_w, WIDEST), min(2 * low_d, DEEPEST)
    along, down = math.log2(width / low_w), math.log2(depth / low_d)

    def between(name: str) -> float:
        low = (1 - down) * known(low_w, low_d)[name] + down * known(low_w, high_d)[name]
        high = (1 - down) * known(high_w, low_d)[name] + down * known(high_w, high_d)[name]
        return (1 - along) * low + along * high

    return {name: between(name) for name in FIGURES}


def _scales() -> tuple[float, float]:
    """Factors from the table to 12 nm: of areas and of energies."""
    area = SRAM_UM2_PER_BIT / min(row["um2_per_bit"] for row in _table().values())
    return area, math.sqrt(area) * (VOLTS / TABLE_VOLTS) ** 2


@cache
def sram(memory: Memory) -> Macro:
    """Make a memory of macros, cut into as many side by side as take the least area.

    Parameters
    ----------
    memory : Memory
        Used once a cycle, or for a read and a write in each cycle by macros that run at twice the
        clock: ``cycle_ns`` says whether they can.
    """
    banks = -(-memory.depth // DEEPEST)
    depth = max(32, -(-memory.depth // banks))
    area_scale, energy_scale = _scales()

    def made(count: int) -> Macro:
        width = max(NARROWEST, -(-memory.width // count))
        figures = _at(width, depth)
        bits = count * width * depth * banks
        return Macro(
            um2=area_scale * figures["um2_per_bit"] * bits,
            read_pj=1e-3 * energy_scale * figures["read_fj_per_bit"] * count * width,
            write_pj=1e-3 * energy_scale * figures["write_fj_per_bit"] * count * width,
            leakage_mw=1e-9 * figures["leakage_pw_per_bit"] * bits,
            cycle_ns=figures["cycle_ns"],
        )

    counts = range(-(-memory.width // WIDEST), max(1, memory.width // NARROWEST) + 1)
    return min((made(count) for count in counts), key=attrgetter("um2"))
