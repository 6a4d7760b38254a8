"""The array's figures beside what they must reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rpaccel.verdicts import Verdict

__all__ = ["ANY", "FUSED", "SHARED", "STATIC", "targets"]

FUSED = "64 of 16x16, in fours for the back end"
SHARED = "16 of 32x32, shared by the stages"
ANY = "16 of 32x32, any stage"
STATIC = "16 of 32x32, 5 for the front end"
WHOLE = 128
"""Side of the largest array; its limits are in cycles, those of smaller ones follow the bound."""
CYCLES = {"RM-small": 16_900, "RM-med": 29_500, "RM-large": 99_500}
OVER_BOUND, DOT, ALONE = 0.03, 1.25, 9600
UTILISATION = {FUSED: 0.85, SHARED: 0.80, ANY: 0.80, STATIC: 0.76}


def targets(report: Mapping[str, Any], by: str) -> list[dict[str, Any]]:
    """Verdicts on a report of :mod:`rpaccel.bench_array` or :mod:`rpaccel.bench_array_rtl`.

    Parameters
    ----------
    report : mapping
    by : str
        What its figures come from.
    """
    makers: dict[str, Callable[[Any], _Found]] = {
        "fixed": _fixed,
        "funnel": _funnel,
        "groups": _funnel,
        "dot": _dot,
        "alone": _alone,
    }
    return [
        asdict(Verdict(measure, target, found, by, met))
        for part, make in makers.items()
        if part in report
        for measure, target, found, met in make(report[part])
    ]


_Found = Iterator[tuple[str, str, str, bool]]


def _fixed(rows: list[Mapping[str, Any]]) -> _Found:
    for row in rows:
        if row["array"] == WHOLE:
            limit, cycles = CYCLES[row["model"]], row["cycles"]
            measure = f"cycles, {row['model']}, {row['items']:,} items, {WHOLE}x{WHOLE}"
            yield measure, f"{limit:,}", f"{cycles:,.0f}", cycles <= limit
    for array in sorted({row["array"] for row in rows} - {WHOLE}):
        mine = [row for row in rows if row["array"] == array]
        over = max((row["cycles"] - row["bound"]) / row["bound"] for row in mine)
        measure = f"cycles over the tile bound, worst model, {array}x{array}"
        yield measure, f"{OVER_BOUND:.0%}", f"{over:.2%}", over <= OVER_BOUND


def _funnel(rows: list[Mapping[str, Any]]) -> _Found:
    for row in rows:
        if (setting := row["setting"]) in UTILISATION:
            limit, found = UTILISATION[setting], row["utilisation"]
            parts = f", {row['sub_batches']} sub-batches" if "sub_batches" in row else ""
            yield f"utilisation, {setting}{parts}", f"{limit:.0%}", f"{found:.1%}", found >= limit


def _dot(row: Mapping[str, Any]) -> _Found:
    found = row["over_concat"]
    yield "cycles of the dot funnel over concat", f"{DOT}", f"{found:.3f}", found <= DOT


def _alone(row: Mapping[str, Any]) -> _Found:
    cycles = row["cycles"]
    measure = f"cycles, RM-large, {row['items']} items alone"
    yield measure, f"{ALONE:,}", f"{cycles:,}", cycles <= ALONE
