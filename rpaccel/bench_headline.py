"""The headline: RPAccel against the baseline under load, from cycles that their RTL took.

Two records give each machine's cycles: of a query alone and between completions back to back
(``rpaccel bench pipeline --json``), of pairs of queries, and of queries at random times, with which
the queueing model is compared (``rpaccel bench arrivals --json``). Nothing else goes in but the
host's 40 us each way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.bench_pipeline import CLOCK_HZ, HOST_SECONDS
from rpaccel.errors import ConfigError
from rpaccel.load import Stage, Summary, exponential_arrivals, simulate, summarise
from rpaccel.load.tails import Load
from rpaccel.load.theory import MDc
from rpaccel.report import grid
from rpaccel.schedule.plans import wait_quantile

__all__ = ["RECORD", "Machine", "bench", "draw", "read", "table"]

FOLDER = Path(__file__).with_name("data")
RECORD, ARRIVALS = FOLDER / "pipeline.json", FOLDER / "arrivals.json"
"""What ``rpaccel bench pipeline --json`` and ``rpaccel bench arrivals --json`` printed."""
MACHINES = ("rpaccel", "baseline")
LIMIT, LOW, TAIL = 6e-3, 200.0, 0.99
FAST, FAST_QPS, LOW_P99 = 1e-3, 17_500.0, 0.18e-3
RATIO_QPS, RATIO_P99 = 9.2, 6.0
SPARSE = 0.1
"""Load up to which no more than two queries are taken to meet."""
HEAVY = 0.9
"""Load above which the exponential tail of the wait is exact to more digits than are printed."""
LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Machine:
    """A machine as queries see it: they complete in the order of arrival.

    Completion n is at ``max(arrival n + alone, completion n - 1 + interval)``, seconds.

    Attributes
    ----------
    name : str
    interval : float, seconds
        Between completions back to back.
    alone : float, seconds
        Of a query that meets no other, in the sub-batches of the funnel, host included.
    quick : float, seconds
        The same in the number of sub-batches that is best for it.
    record : mapping
        What was measured.
    """

    name: str
    interval: float
    alone: float
    quick: float
    record: Mapping[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any], host: float) -> Machine:
        """Make it of a machine's part of the record.

        Parameters
        ----------
        record : mapping
        host : float, seconds
            Spent on the host, the way there and back included.
        """
        cycles = record["alone"]
        return cls(
            record["name"],
            record["cycles_per_query"] / CLOCK_HZ,
            cycles["tried"][0]["cycles"] / CLOCK_HZ + host,
            cycles["warm"] / CLOCK_HZ + host,
            record,
        )

    def stages(self) -> list[Stage]:
        """The same as stages: one server, then a delay."""
        rest = max(0.0, self.alone - self.interval)
        return [Stage(self.interval, 1, self.name), Stage(rest, None, "the rest")]

    def p99(self, qps: float) -> float:
        """Latency by the solution of M/D/1, above :data:`HEAVY` by its tail, seconds."""
        load = qps * self.interval
        if load > HEAVY:
            return self.alone + wait_quantile(self.interval, 1, qps, TAIL)
        queue = MDc(load, 1, self.interval)
        return queue.latency_quantile(TAIL) + self.alone - self.interval

    def sustained(self, p99: float) -> float:
        """Queries a second up to which p99 is not longer, by theory."""
        low, high = 1.0, 0.995 / self.interval
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p99(middle) <= p99 else (low, middle)
        return low

    def simulate(self, qps: float, queries: int, rng: np.random.Generator) -> Summary:
        """Latencies of so many queries at exponential times."""
        run = simulate(exponential_arrivals(queries, qps, rng), self.stages())
        return run.summary(percentiles=(50, 95, 99))

    def meeting(self, qps: float, queries: int, rng: np.random.Generator) -> Summary:
        """Latencies at a low load: two queries that meet take what pairs took in the RTL.

        Both are in the best sub-batches. Between gaps that were measured delays are interpolated.

        Raises
        ------
        ConfigError
            The load is above :data:`SPARSE`, or the record has no pairs.
        """
        if qps * self.interval > SPARSE or "pairs" not in self.record:
            raise ConfigError(f"{self.name}: pairs say nothing of {qps:g} queries a second")
        pairs = self.record["pairs"]
        best = self.record["alone"]["warm"]
        gaps = np.diff(pairs["arrivals"])[::2] / CLOCK_HZ
        cycles = np.array(pairs["ends"]) - pairs["arrivals"]
        cycles = (cycles - _way(pairs) - best).reshape(-1, 2)
        ends = np.array([best / CLOCK_HZ])
        first, second = (np.append(column, 0.0) / CLOCK_HZ for column in cycles.T)
        apart = np.diff(exponential_arrivals(queries + 2, qps, rng))
        at = np.concatenate([gaps, ends])
        latencies = self.quick + np.interp(apart[:-1], at, second) + np.interp(apart[1:], at, first)
        load = Load(self.name, qps * self.interval, 1.0)
        return summarise(latencies, loads=[load], percentiles=(50, 95, 99))


def _way(seen: Mapping[str, Sequence[int]]) -> int:
    """Cycles that a query takes to the device and its completion back, at the least.

    The way is what the paper's 40 us are for: here it is left out.
    """
    taken = np.array(seen["ends"]) - seen["arrivals"] - seen["cycles"]
    return int(taken.min())


def predicted(machine: Machine, seen: Mapping[str, Sequence[int]]) -> NDArray[np.float64]:
    """Errors of the model's latencies on queries that came at random in the RTL, relative."""
    arrivals, ends = (np.array(seen[name], float) for name in ("arrivals", "ends"))
    alone = machine.record["alone"]["tried"][0]["cycles"] + _way(seen)
    interval = machine.interval * CLOCK_HZ
    stages = [Stage(interval), Stage(max(0.0, alone - interval), None)]
    return simulate(arrivals, stages).latencies / (ends - arrivals) - 1


def read(path: Path | None = None, arrivals: Path | None = None) -> dict[str, Any]:
    """Read the records into one.

    Parameters
    ----------
    path, arrivals : path, optional
        By default :data:`RECORD` and :data:`ARRIVALS`, the latter where it is there and of the
        same cycles.

    Raises
    ------
    ConfigError
        A record cannot be read, or is none.
    """
    record = _read(path or RECORD, "pipeline")
    try:
        for name in MACHINES:
            Machine.of(record[name], record["host_sort_seconds"])
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{path or RECORD}: not what rpaccel bench pipeline --json prints: {error!r}"
        ) from None
    if arrivals is None and not ARRIVALS.exists():
        return record
    more = _read(arrivals or ARRIVALS, "arrivals")
    for name in MACHINES:
        seen = more.get(name)
        if not isinstance(seen, dict) or not {"load", "at_random", "pairs"} <= set(seen):
            raise ConfigError(f"{arrivals}: not what rpaccel bench arrivals --json prints")
        if seen.get("cycles_per_query") == record[name]["cycles_per_query"]:
            record[name] |= seen
        elif arrivals is not None:
            raise ConfigError(
                f"{arrivals}: {name} took {seen.get('cycles_per_query')} cycles a query, in the "
                f"other record {record[name]['cycles_per_query']}: they are of other machines"
            )
    return record


def _read(path: Path, command: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not what rpaccel bench {command} --json prints")
    return found


def bench(
    record: Path | None = None,
    arrivals: Path | None = None,
    *,
    queries: int = 10_000_000,
    seed: int = 1,
) -> dict[str, Any]:
    """Compute the headline's figures.

    Parameters
    ----------
    record, arrivals : path, optional
        See :func:`read`.
    queries : int
        Of each simulation.
    seed : int
        Of the arrivals.

    Returns
    -------
    dict
        ``machines``: of each the cycles and, for each limit of p99, the queries a second up to
        which the theory keeps it, and p99 as simulated there, with its interval; p99 at a
        low load; ``curve``; ``errors`` of the model where the RTL ran queries at random.
        ``measures``: what is to be reached, what is, and the target.
    """
    read_ = read(record, arrivals)
    rng = np.random.default_rng(seed)
    host = {"baseline": read_["host_sort_seconds"], "rpaccel": 0.0}
    found = {
        name: _machine(Machine.of(read_[name], 2 * HOST_SECONDS + more), queries, rng)
        for name, more in host.items()
    }
    base, ours = found["baseline"], found["rpaccel"]

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
        "made": read_.get("made", ""),
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
        "queries": queries,
    }


def _machine(machine: Machine, queries: int, rng: np.random.Generator) -> dict[str, Any]:
    limits = {"6": LIMIT, "1": FAST}
    qps = {name: machine.sustained(limit) for name, limit in limits.items()}
    met = "pairs" in machine.record and LOW * machine.interval <= SPARSE
    low = (machine.meeting if met else machine.simulate)(LOW, queries, rng)
    errors = None
    if seen := machine.record.get("at_random"):
        values = predicted(machine, seen)
        errors = {
            "load": machine.record["load"],
            "queries": len(values),
            "mean": float(values.mean()),
            "worst": float(np.abs(values).max()),
        }
    return {
        "name": machine.name,
        "interval": machine.interval,
        "alone": machine.alone,
        "quick": machine.quick,
        "most_qps": 1 / machine.interval,
        "qps": qps,
        "p99": {name: machine.simulate(each, queries, rng).as_dict() for name, each in qps.items()},
        "low": low.as_dict() | {"pairs": met},
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
            f"  200 QPS: p99 {_interval(p99)}"
            + (", as pairs of queries in the RTL" if low["pairs"] else ", queueing model"),
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
    return "\n".join(lines)


def _interval(value: Mapping[str, float | None]) -> str:
    texts = [
        "-" if value[name] is None else f"{value[name] * 1e3:.4g}"
        for name in ("value", "low", "high")
    ]
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
