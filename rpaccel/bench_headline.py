"""The headline: RPAccel against the baseline under load, from cycles that their RTL took.

Two records give each machine's cycles: of a query alone and between completions back to back
(``rpaccel bench pipeline --json``), of pairs of queries, and of queries at random times, with which
the queueing model is compared (``rpaccel bench arrivals --json``). Nothing else goes in but the
host's 40 us each way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_pipeline import CLOCK_HZ, HOST_SECONDS, preset
from rpaccel.config import load
from rpaccel.recorded import RECORD, SPARSE, Machine, predicted, read
from rpaccel.report import grid
from rpaccel.schedule.cheapest import arriving, cheapest, tile_cycles
from rpaccel.schedule.profiles import shipped
from rpaccel.schedule.qualities import Qualities

__all__ = ["bench", "draw", "table"]

QUALITIES = "criteo-like"
"""Table of quality that comes with the package, of held-out queries."""
LIMIT, LOW = 6e-3, 200.0
FAST, FAST_QPS, LOW_P99 = 1e-3, 17_500.0, 0.18e-3
RATIO_QPS, RATIO_P99 = 9.2, 6.0
SHOWN = 1e-6
"""Seconds that a query is late from which on it is told what that would mean."""
LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


def bench(
    record: Path | None = None,
    arrivals: Path | None = None,
    *,
    qualities: str | None = None,
    queries: int = 10_000_000,
    seed: int = 1,
) -> dict[str, Any]:
    """Compute the headline's figures.

    Parameters
    ----------
    record, arrivals : path, optional
        See :func:`read`.
    qualities : str, optional
        Table of quality with paired bounds; by default the one that is shipped, if it is.
    queries : int
        Of each simulation.
    seed : int
        Of the arrivals.

    Returns
    -------
    dict
        ``machines``: of each the cycles and, for each limit of p99, the queries a second up to
        which the theory keeps it, and p99 as simulated there, with its interval; p99 at a
        low load; ``curve``; ``errors`` of the model where the RTL ran queries at random, with what
        would be sustained were every query as late as the latest of these.
        ``measures``: what is to be reached, what is, and the target. ``ratio_b``: see
        :func:`ratio_b`; None without a table.
    """
    read_ = read(record, arrivals)
    rng = np.random.default_rng(seed)
    host = {"baseline": read_["host_sort_seconds"], "rpaccel": 0.0}
    found = {
        name: _machine(Machine.of(read_[name], 2 * HOST_SECONDS + more), queries, rng)
        for name, more in host.items()
    }
    base, ours = found["baseline"], found["rpaccel"]
    if qualities is None and QUALITIES in shipped("qualities"):
        qualities = QUALITIES
    second = None
    if qualities is not None:
        machine = Machine.of(read_["rpaccel"], 2 * HOST_SECONDS)
        second = ratio_b(qualities, machine, base["qps"]["6"])

    def low(rows: Mapping[str, Any]) -> float:
        return float(rows["low"]["percentiles"]["p99"]["value"])

    measures = [
        ("ratio A: QPS at p99 <= 6 ms", ours["qps"]["6"] / base["qps"]["6"], RATIO_QPS, True, "x"),
        ("ratio A: p99 at 200 QPS", low(base) / low(ours), RATIO_P99, True, "x"),
        ("p99 at 200 QPS", low(ours) * 1e3, LOW_P99 * 1e3, False, "ms"),
        ("QPS at p99 <= 1 ms", ours["qps"]["1"], FAST_QPS, True, ""),
    ]
    return {
        "record": (record or RECORD).name,
        "machines": found,
        "measures": [
            {
                "measure": name,
                "value": value,
                "target": target,
                "unit": unit,
                "met": value >= target if more else value <= target,
            }
            for name, value, target, more, unit in measures
        ],
        "ratio_b": second,
        "queries": queries,
    }


def ratio_b(table: str, ours: Machine, base_qps: float) -> dict[str, Any]:
    """Compare the cheapest funnel that is surely as good as the last model alone.

    Its cycles are those of the record's funnel by the ratio of their tile bounds, or what its
    features take to arrive if that is more.

    Parameters
    ----------
    table : str
        Of qualities, see :meth:`rpaccel.schedule.qualities.Qualities.load`.
    ours : Machine
        Of the preset ``rpaccel``.
    base_qps : float
        What the baseline serves at the same limit.
    """
    config, qualities = load(preset("rpaccel")), Qualities.load(table)
    cycles = tile_cycles(config)
    rated = cheapest(qualities, cycles)
    funnel = config.funnel

    def bound(stages: Sequence[str], items: Sequence[int]) -> float:
        return sum(cycles[s] * n for s, n in zip(stages, items, strict=False))

    known = bound(funnel.stages, [funnel.items, *funnel.keep])
    found = bound(rated.stages, rated.items)
    scaled = max(ours.interval * found / known, arriving(config, rated.items[0]) / CLOCK_HZ)
    qps = replace(ours, interval=scaled).sustained(LIMIT)
    return {
        "funnel": " -> ".join(f"{s} {n}" for s, n in zip(rated.stages, rated.items, strict=True)),
        "change_low": rated.change_low,
        "quality": rated.mean,
        "reference": qualities.reference.mean,
        "qualities": f"{qualities.kind}: {qualities.source}",
        "tile_bound": found,
        "tile_bound_a": known,
        "interval": scaled,
        "qps": qps,
        "ratio": qps / base_qps,
    }


def _low(machine: Machine, queries: int, rng: np.random.Generator) -> dict[str, Any]:
    """Latencies at the low load, in the better of the settings."""
    found = {"the queueing model": machine.simulate(LOW, queries, rng)}
    if "pairs" in machine.record and LOW * machine.interval <= SPARSE:
        found["pairs of queries in the RTL"] = machine.meeting(LOW, queries, rng)
    else:
        found["one query after the other"] = machine.one_by_one(LOW, queries, rng)
    how, best = min(found.items(), key=lambda each: each[1].percentiles[99].value)
    return best.as_dict() | {"how": how}


def _machine(machine: Machine, queries: int, rng: np.random.Generator) -> dict[str, Any]:
    limits = {"6": LIMIT, "1": FAST}
    qps = {name: machine.sustained(limit) for name, limit in limits.items()}
    low = _low(machine, queries, rng)
    errors = None
    if seen := machine.record.get("at_random"):
        values = predicted(machine, seen)
        taken = (np.array(seen["ends"]) - seen["arrivals"]) / CLOCK_HZ
        late = max(0.0, float((-values * taken).max()))
        slow = replace(machine, alone=machine.alone + late)
        errors = {
            "load": machine.record["load"],
            "queries": len(values),
            "mean": float(values.mean()),
            "worst": float(np.abs(values).max()),
            "late": late,
            "qps": {name: slow.sustained(limit) for name, limit in limits.items()},
        }
    return {
        "name": machine.name,
        "interval": machine.interval,
        "alone": machine.alone,
        "quick": machine.quick,
        "most_qps": 1 / machine.interval,
        "qps": qps,
        "p99": {name: machine.simulate(each, queries, rng).as_dict() for name, each in qps.items()},
        "low": low,
        "errors": errors,
        "curve": [
            {"qps": load / machine.interval, "p99": machine.p99(load / machine.interval)}
            for load in LOADS
        ],
    }


def table(report: Mapping[str, Any]) -> str:
    """Lay the figures out as text."""
    rows = [
        [
            row["measure"],
            f"{row['value']:,.4g}{row['unit']}" if row["unit"] else f"{row['value']:,.0f}",
            f"{row['target']:,g}{row['unit']}",
            "met" if row["met"] else f"not met, by {abs(1 - row['value'] / row['target']):.1%}",
        ]
        for row in report["measures"]
    ]
    lines = [
        grid(
            "The headline, RTL cycles at 250 MHz, 40 us each way", ["", "here", "target", ""], rows
        )
    ]
    for each in report["machines"].values():
        low, errors = each["low"], each["errors"]
        p99 = low["percentiles"]["p99"]
        lines += [
            "",
            f"{each['name']}: {each['interval'] * 1e6:.1f} us a query back to back "
            f"({each['most_qps']:,.0f} QPS), {each['alone'] * 1e6:.0f} us alone, "
            f"{each['quick'] * 1e6:.0f} in the best sub-batches",
            f"  200 QPS: p99 {_interval(p99)}, by {low['how']}",
        ]
        for limit, run in each["p99"].items():
            value = run["percentiles"].get("p99")
            if value is None:
                why = run["reason"] or "; ".join(run["notes"])
                lines.append(f"  {each['qps'][limit]:,.0f} QPS: p99 was not simulated: {why}")
                continue
            lines.append(
                f"  {each['qps'][limit]:,.0f} QPS: p99 {_interval(value)}, "
                f"{run['queries']:,} queries"
            )
        if errors:
            lines.append(
                f"  the model against the RTL at a load of {errors['load']:g}, "
                f"{errors['queries']} queries: latency {errors['mean']:+.1%} on average, "
                f"{errors['worst']:.1%} at worst"
            )
            if errors["late"] >= SHOWN:
                lines.append(
                    f"  were every query as late as the latest, {errors['late'] * 1e6:.1f} us: "
                    f"{errors['qps']['6']:,.0f} QPS at 6 ms, {errors['qps']['1']:,.0f} at 1 ms"
                )
    if second := report["ratio_b"]:
        lines += [
            "",
            f"ratio B: {second['ratio']:.2f}x at p99 <= 6 ms, {second['qps']:,.0f} QPS: "
            f"{second['funnel']}, NDCG {second['quality']:.4f} of {second['reference']:.4f}, "
            f"difference surely {second['change_low']:+.2%} or better ({second['qualities']})",
            f"  cycles are those of A by tile bounds, {second['tile_bound']:,.0f} for "
            f"{second['tile_bound_a']:,.0f}: not run in RTL",
        ]
    return "\n".join(lines)


def _interval(value: Mapping[str, float | None]) -> str:
    each = (value[name] for name in ("value", "low", "high"))
    texts = ["-" if seconds is None else f"{seconds * 1e3:.4g}" for seconds in each]
    return "{} ms, 95 % interval {} to {}".format(*texts)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw p99 over load of both machines (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for each in report["machines"].values():
        points = [(row["qps"], row["p99"] * 1e3) for row in each["curve"]]
        axes.plot(*zip(*points, strict=True), "o-", label=each["name"])
    axes.axhline(LIMIT * 1e3, color="grey", linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="queries a second", ylabel="p99, ms")
    axes.legend()
    figure.savefig(path, dpi=120)
