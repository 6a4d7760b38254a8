"""Accesses to embedding tables that resemble those of Criteo Kaggle, at full cardinality.

A table's rows are in order of popularity. Row 0 has a share of its own; the others follow a
Zipf-Mandelbrot law whose rank is taken as continuous, so that its distribution has a closed form
and is inverted a sample at a time: nothing is as large as a table.

What is not modelled: columns are independent of each other, where the log's largest ones go
together row by row, and rows are independent of each other, but for the drift asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TABLES", "Popularity", "mix", "trace"]


@dataclass(frozen=True)
class Popularity:
    """How the accesses to a table spread over its rows.

    Row 0 has the share ``hottest``. The share of the rows 1..r is (1 - ``hottest``) F(r), where F
    is the integral of (x + ``offset``)**-``exponent`` from 0 to r, over that from 0 to rows - 1.

    Attributes
    ----------
    rows : int
        2 or more.
    hottest : float
    exponent : float
        Any but 1.
    offset : float
        Positive; the smaller, the more of the rest goes to row 1.
    """

    rows: int
    hottest: float
    exponent: float
    offset: float

    def cumulative(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of accesses to the rows 0..rank, for ranks from 0 to rows - 1."""
        k = 1 - self.exponent
        rest = np.expm1(k * np.log1p(ranks / self.offset)) / self._total
        return np.asarray(self.hottest + (1 - self.hottest) * rest)

    def sample(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Ranks for numbers that are uniform in [0, 1): the inverse of :meth:`cumulative`."""
        rest = np.maximum(uniform - self.hottest, 0) / (1 - self.hottest)
        x = self.offset * np.expm1(np.log1p(rest * self._total) / (1 - self.exponent))
        ranks = np.minimum(1 + x.astype(np.int64), self.rows - 1)
        return np.where(uniform < self.hottest, 0, ranks)

    @property
    def _total(self) -> float:
        return math.expm1((1 - self.exponent) * math.log1p((self.rows - 1) / self.offset))


TABLES = (
    Popularity(1_460, 0.498, 1.922, 1.587),  # C1
    Popularity(583, 0.109, 2.378, 25.441),  # C2
    Popularity(10_131_227, 0.048, 1.028, 1.077),  # C3
    Popularity(2_202_608, 0.063, 1.12, 2.532),  # C4
    Popularity(305, 0.676, 2.808, 2.821),  # C5
    Popularity(24, 0.363, 4.0, 3.09),  # C6
    Popularity(12_517, 0.015, 1.399, 98.845),  # C7
    Popularity(633, 0.597, 2.193, 1.412),  # C8
    Popularity(3, 0.898, 0.0, 0.05),  # C9
    Popularity(93_145, 0.208, 1.264, 24.414),  # C10
    Popularity(5_683, 0.026, 1.743, 126.263),  # C11
    Popularity(8_351_593, 0.048, 1.044, 1.317),  # C12
    Popularity(3_194, 0.029, 1.663, 91.038),  # C13
    Popularity(27, 0.351, 3.996, 3.381),  # C14
    Popularity(14_992, 0.025, 1.805, 105.585),  # C15
    Popularity(5_461_306, 0.048, 1.09, 2.657),  # C16
    Popularity(10, 0.47, 4.0, 1.025),  # C17
    Popularity(5_652, 0.051, 2.018, 57.298),  # C18
    Popularity(2_173, 0.479, 1.294, 0.318),  # C19
    Popularity(4, 0.479, 0.0, 0.05),  # C20
    Popularity(7_046_547, 0.048, 1.064, 1.837),  # C21
    Popularity(18, 0.735, 4.0, 0.6),  # C22
    Popularity(15, 0.388, 4.0, 2.535),  # C23
    Popularity(286_181, 0.062, 1.254, 3.47),  # C24
    Popularity(105, 0.479, 4.0, 4.606),  # C25
    Popularity(142_572, 0.479, 1.21, 5.751),  # C26
)
"""C1..C26, frozen.

Rows: all ids of the Kaggle training file. Hottest: share in 20,000 rows of it, whose rare ids seem
to be one id; except for C3, C12, C16 and C21, where that id is the hottest (.275, .218, .145,
.186), and the share is that of the first 8,000 raw rows, .048. Exponent and offset: least error in
distinct ids, ids seen once, and shares of the top 10 and top 100 of these 8,000 rows, as found by
``python -m benchmarks.criteo_like FILE --fit``.
"""


def trace(
    rows: int,
    *,
    seed: int,
    start: int = 0,
    block: int = 65_536,
    lifetime: int | None = None,
    tables: Sequence[Popularity] = TABLES,
) -> Iterator[NDArray[np.int64]]:
    """Draw accesses, one to each table a row, as ranks of the popularity at row 0.

    Row number r depends on ``seed``, ``tables``, ``lifetime`` and r only, so that a trace may be
    cut anywhere, and a test trace taken from behind a training trace.

    With a ``lifetime`` the popularity drifts. In each stretch of that many rows almost every
    table row exchanges its popularity with one other, chosen at random, at a random time of the
    stretch: after d rows about a share d / ``lifetime`` of the hot rows have become cold ones. The
    distribution itself stays the same. Time grows with the number of stretches.

    Parameters
    ----------
    rows : int
        Rows to draw.
    seed : int
    start : int
        Number of the first row.
    block : int
        Rows of a block; the last may have fewer.
    lifetime : int, optional
        Rows of a stretch; by default the popularity is stationary.
    tables : sequence of Popularity

    Yields
    ------
    int64, shape (n, tables)
    """
    for name, value, least in (
        ("rows", rows, 0),
        ("start", start, 0),
        ("block", block, 1),
        ("lifetime", lifetime, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    bits = np.random.PCG64(seed)
    bits.advance(start * len(tables))
    rng = np.random.Generator(bits)
    for first in range(start, start + rows, block):
        n = min(block, start + rows - first)
        uniform = rng.random((n, len(tables)))
        ranks = np.stack([t.sample(u) for t, u in zip(tables, uniform.T, strict=True)], axis=1)
        if lifetime is not None:
            age = np.arange(first, first + n) / lifetime
            for column, table in enumerate(tables):
                key = mix(np.uint64(seed % 2**64)) ^ np.uint64(column)
                ranks[:, column] = _drifted(ranks[:, column], table.rows, age, key)
        yield ranks


def _drifted(
    ranks: NDArray[np.int64], rows: int, age: NDArray[np.float64], key: np.uint64
) -> NDArray[np.int64]:
    """Table rows that have the given popularity ranks at the given ages, in stretches."""
    # The latest stretch comes first: it exchanges popularities, whoever had them before.
    for stretch in range(int(age[-1]), -1, -1):
        salt = mix(key ^ mix(np.uint64(stretch)))
        partners = _partners(ranks, rows, salt)
        pair = np.minimum(ranks, partners).astype(np.uint64)
        when = (mix(pair ^ mix(salt)) >> np.uint64(11)) * 2.0**-53
        ranks = np.where(when < age - stretch, partners, ranks)
    return ranks


def _partners(ranks: NDArray[np.int64], rows: int, salt: np.uint64) -> NDArray[np.int64]:
    """Pair up the rows of a table without a list of them: partner of a partner is the row itself.

    Rows are laid out in a rectangle. A column is paired with a column, and within such a pair a
    row with a row, each by a reflection; the two columns' common number picks the second one. The
    few rows that are left over, the coldest, are their own partners.
    """
    columns = math.isqrt(rows)
    height = rows // columns
    y, x = np.divmod(ranks, columns)
    x2 = (int(salt % np.uint64(columns)) - x) % columns
    common = mix(np.minimum(x, x2).astype(np.uint64) ^ salt) % np.uint64(height)
    y2 = (common.astype(np.int64) - y) % height
    return np.where(y < height, y2 * columns + x2, ranks)


def mix(x: Any) -> Any:
    """Hash 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
