"""How well the Criteo-like generator agrees with rows of the log it resembles.

    python -m benchmarks.criteo_like FILE [--fit] [--json]

FILE is Criteo Kaggle's ``train.txt`` or its first rows. For each table the distinct ids, those
seen once, and the shares of the hottest, of the top 10 and of the top 100 ids: in the file, and
expected of the generator in as many rows; then the shares of the top 1 % and 10 % of the ids of
all tables pooled, in the file and in a sample. ``--fit`` prints exponents and offsets found anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace

import numpy as np

from rpaccel.errors import RPAccelError
from sw_model.criteo import CATEGORIES, build_vocabulary, read
from sw_model.criteo_like import TABLES, Popularity, trace

EXACT = 4096
"""Ranks counted one by one; those behind them in :data:`BINS` bins of like popularity."""
BINS = 400
MAX_EXPONENT = 4.0
OFFSETS = 0.05, 1000.0
SEED = 1


@dataclass(frozen=True)
class Figures:
    """Of one table: distinct ids, ids seen once, and shares of the accesses."""

    distinct: float
    once: float
    top1: float
    top10: float
    top100: float


def count(counts):
    """Figures of a table from how often its ids were seen, descending."""
    n = counts.sum()
    return Figures(
        len(counts), int((counts == 1).sum()), *(float(counts[:k].sum() / n) for k in (1, 10, 100))
    )


def expect(table, n):
    """Figures to be expected of ``n`` accesses to a table."""
    last = table.rows - 1
    edges = np.arange(min(last, EXACT) + 1.0)
    if last > EXACT:
        edges = np.append(edges, np.geomspace(EXACT, last, BINS)[1:])
    cumulative = table.cumulative(edges)
    ids = np.append(1, np.diff(edges))
    p = np.append(table.hottest, np.diff(cumulative)) / ids
    tops = (float(cumulative[min(k, len(cumulative)) - 1]) for k in (1, 10, 100))
    return Figures(
        float((ids * -np.expm1(n * np.log1p(-p))).sum()),
        float((ids * n * p * np.exp((n - 1) * np.log1p(-p))).sum()),
        *tops,
    )


def loss(table, seen, n):
    """Squared error of a table's law, in shares; no row may be hotter than row 0."""
    if table.cumulative(np.array([1.0]))[0] > 2 * table.hottest:
        return np.inf
    law = expect(table, n)
    return (
        (law.distinct / seen.distinct - 1) ** 2
        + ((law.once - seen.once) / seen.distinct) ** 2
        + 4 * (law.top10 - seen.top10) ** 2
        + 4 * (law.top100 - seen.top100) ** 2
    )


def fit(table, seen, n):
    """The table with the exponent and offset of least loss, by grids that zoom in."""
    low, high = np.log(OFFSETS)
    best = table
    center, span = np.array([MAX_EXPONENT / 2, 3.0]), np.array([MAX_EXPONENT / 2, 5.0])
    for _ in range(12):
        laws = [
            replace(table, exponent=round(s, 3), offset=round(float(np.exp(q)), 3))
            for s in np.linspace(center[0] - span[0], center[0] + span[0], 12)
            for q in np.linspace(center[1] - span[1], center[1] + span[1], 12)
            if 0 < s <= MAX_EXPONENT and round(s, 3) != 1 and low <= q <= high
        ]
        best = min(laws, key=lambda law: loss(law, seen, n))
        center, span = np.array([best.exponent, np.log(best.offset)]), span * 0.6
    return best


def pooled(counts):
    """Shares of the top 1 % and top 10 % of the ids of all tables."""
    together = np.sort(np.concatenate(counts))[::-1]
    return [float(together[: len(together) // k].sum() / together.sum()) for k in (100, 10)]


def compare(path, *, anew=False):
    """Figures of the file and of the generator; ``anew`` fits the generator's laws first."""
    counts = build_vocabulary(block.categories for block in read(path)).counts
    n = int(counts[0].sum())
    seen = [count(c) for c in counts]
    tables = TABLES
    if anew:
        tables = [fit(t, s, n) for t, s in zip(TABLES, seen, strict=True)]
    sample = build_vocabulary(trace(n, seed=SEED, tables=tables)).counts
    return {
        "rows": n,
        "tables": {
            name: {"law": asdict(t), "file": asdict(s), "generator": asdict(expect(t, n))}
            for name, t, s in zip(CATEGORIES, tables, seen, strict=True)
        },
        "pooled top 1 %, 10 %": {"file": pooled(counts), "generator": pooled(sample)},
    }


def table(report):
    lines = [f"{report['rows']} rows; file / generator"]
    for name, entry in report["tables"].items():
        pairs = [(entry["file"][k], entry["generator"][k]) for k in entry["file"]]
        (d, e), (s, t), *tops = pairs
        shares = "  ".join(f"{a:.3f} / {b:.3f}" for a, b in tops)
        law = Popularity(**entry["law"])
        lines.append(
            f"{name:3}  {d:5.0f} / {e:5.0f}  {s:5.0f} / {t:5.0f}  {shares}"
            f"  ({law.rows}, {law.hottest}, {law.exponent}, {law.offset})"
        )
    for who, shares in report["pooled top 1 %, 10 %"].items():
        lines.append(f"pooled top 1 %, 10 %, {who}: {shares[0]:.3f} {shares[1]:.3f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--fit", action="store_true", help="fit exponents and offsets anew")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        report = compare(arguments.file, anew=arguments.fit)
    except RPAccelError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report, indent=2) if arguments.json else table(report))


if __name__ == "__main__":
    main()
