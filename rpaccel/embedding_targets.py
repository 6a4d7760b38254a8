"""The embedding memory's figures beside what they must reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from rpaccel.verdicts import Verdict

__all__ = ["MACHINE", "targets"]

MACHINE = "static + SIEVE, a cache a lane, as in RTL"
"""The memory that the machine has, among those of :func:`rpaccel.bench_embedding.policies`."""
AHEAD = 64
"""Items that the machine's walker may be ahead, about."""
OVER_MIN, HIDDEN, PEAK, MEGABYTES, AMAT = 1.25, 0.80, 0.90, 2.0, -0.40


def targets(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Verdicts on all that a report of :func:`rpaccel.bench_embedding.bench` has measured."""
    makers = {"gather": _gather, "fetches": _fetches, "access_times": _access_times}
    makers["machine"] = _machine
    return [
        asdict(verdict)
        for part, make in makers.items()
        if part in report
        for verdict in make(report[part])
    ]


def _gather(runs: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    # With a lane a table; each write takes a cycle.
    for run in runs:
        measure = (
            f"all {run['all']}, {run['lanes']} lanes, rows of {run['rows']} B, "
            f"writes of {run['write_bytes']:,} B"
        )
        cycles = run["cycles_per_item"]
        if "of_peak" in run:
            peak = run["of_peak"]
            yield Verdict(measure, f"{PEAK:.0%} of the peak", f"{peak:.1%}", "RTL", peak >= PEAK)
        elif run["lanes"] == run["tables"]:
            yield Verdict(measure, "1 cycle an item", f"{cycles:.3f}", "RTL", cycles <= 1)


def _fetches(traces: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for trace in traces:
        row = next(row for row in trace["rows"] if row["memory"] == MACHINE)
        for key, start in ("over_min", "seen the training trace"), ("over_min_same_start", "same"):
            measure = f"lines fetched / MIN ({start}), {trace['trace']}"
            over = row[key]
            yield Verdict(measure, f"{OVER_MIN}", f"{over:.2f}", "model", over <= OVER_MIN)
        if trace["trace"].startswith("Criteo-like"):
            size = row["bytes"] / 1e6
            measure = f"DRAM MB a query, {trace['trace']}"
            yield Verdict(measure, f"{MEGABYTES:g}", f"{size:.2f}", "model", size <= MEGABYTES)


def _access_times(traces: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for trace in traces:
        row = next(row for row in trace["rows"] if row["ahead"] == AHEAD)
        hidden, change = row["hidden_back"], row["over_static_only"]
        measure = f"back-end miss latency hidden, {AHEAD} items ahead, {trace['trace']}"
        yield Verdict(measure, f"{HIDDEN:.0%}", f"{hidden:.1%}", "model", hidden >= HIDDEN)
        measure = f"AMAT against static only, {AHEAD} items ahead, {trace['trace']}"
        yield Verdict(measure, f"{AMAT:.0%}", f"{change:+.0%}", "model", change <= AMAT)


def _machine(rows: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for name in dict.fromkeys(row["machine"] for row in rows if not row["static_only"]):
        mine = [row for row in rows if row["machine"] == name]
        usual = [r for r in mine if not (r["spilled"] or r["one_stage"] or r["banked"])]
        ours = next(row for row in usual if not row["static_only"] and not row["uniform"])
        only = next(row for row in usual if row["static_only"])
        by = "RTL" if ours["rtl"] and only["rtl"] else "cycle model"
        change = ours["amat"] / only["amat"] - 1
        measure = f"AMAT against static only, machine {name}"
        yield Verdict(measure, f"{AMAT:.0%}", f"{change:+.0%}", by, change <= AMAT)
        by = "RTL" if ours["rtl"] else "cycle model"
        hidden = ours["hidden_back"]
        measure = f"back-end miss latency hidden, machine {name}"
        yield Verdict(measure, f"{HIDDEN:.0%}", f"{hidden:.1%}", by, hidden >= HIDDEN)
        sweep = sorted((r for r in usual if not r["static_only"]), key=lambda row: row["hits"])
        falls = all(
            a["amat"] > b["amat"] and a["latency"] >= b["latency"] for a, b in pairwise(sweep)
        )
        found = ", ".join(f"{row['amat']:.2f} ({row['latency']:,.0f})" for row in sweep)
        measure = f"AMAT falls as hits rise, latency (cycles) does not rise, machine {name}"
        yield Verdict(measure, "always", found, by, falls)
