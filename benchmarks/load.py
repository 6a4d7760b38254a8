"""The load tools against theory, and how fast they are.

    python -m benchmarks.load [--queries N] [--json] [--picture FILE]

Simulated mean latency and p99 beside the exact ones of M/M/1, M/D/1 and M/D/c at loads up to 0.9;
how many of many intervals hold the true value; queries simulated in a second on one core. Exit
code 4 if a p99 is off by more than 2 %, a mean over all runs is, or a rate is below its target
(1M queries a second for arrays, 100k for events). What was found is in docs/results/load.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from rpaccel.errors import ConfigError, RPAccelError
from rpaccel.load import Change, Stage, exponential_arrivals, gap_statistics, simulate
from rpaccel.load.checks import check_count
from rpaccel.load.events import simulate_events
from rpaccel.load.theory import MDc, MMc

LOADS = (0.5, 0.7, 0.8, 0.9)
KINDS = (("M/M", MMc, 1), ("M/D", MDc, 1), ("M/D", MDc, 4), ("M/D", MDc, 16))
MEAN_QUERIES = 1_000_000
LIMIT = 0.02
ARRAY_TARGET, EVENT_TARGET = 1e6, 1e5


def services(queue, count, rng):
    return rng.exponential(queue.service, count) if isinstance(queue, MMc) else queue.service


def run(queue, count, rng):
    arrivals = exponential_arrivals(count, queue.rate, rng)
    return simulate(arrivals, [Stage(services(queue, count, rng), queue.servers)])


def agreement(queue, name, count, runs, rng):
    """Theory beside one long run, and beside some runs of a million queries."""
    summary = run(queue, count, rng).summary()
    if 99 not in summary.percentiles:
        why = summary.reason or "; ".join(summary.notes)
        raise ConfigError(f"--queries {count}: no p99 of {name}/{queue.servers}: {why}")
    p99, truth = summary.percentiles[99], queue.latency_quantile(0.99)
    short = [run(queue, MEAN_QUERIES, rng).latencies[MEAN_QUERIES // 20 :] for _ in range(runs)]
    errors = np.array([x.mean() for x in short]) / queue.mean_latency - 1
    return {
        "queue": f"{name}/{queue.servers}",
        "load": queue.load,
        "mean": {
            "theory": queue.mean_latency,
            "error": float(errors.mean()),
            "standard_deviation": float(errors.std(ddof=1)),
            "within_limit": int(np.count_nonzero(abs(errors) < LIMIT)),
            "runs": runs,
        },
        "p99": {
            "theory": truth,
            "simulated": p99.value,
            "low": p99.low,
            "high": p99.high,
            "error": p99.value / truth - 1,
        },
    }


def coverage(queue, name, count, runs, rng):
    """Share of 95 % intervals that hold the true value."""
    truth = {p: queue.latency_quantile(p / 100) for p in (50, 95, 99, 99.9)}
    held, given, steady = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0), 0
    mean = 0
    for _ in range(runs):
        summary = run(queue, count, rng).summary()
        if not summary.steady:
            continue
        steady += 1
        mean += summary.mean.low <= queue.mean_latency <= summary.mean.high
        for p, estimate in summary.percentiles.items():
            given[p] += 1
            # An atom (nobody waited) may be missed by a rounding of the last bit.
            held[p] += estimate.low * (1 - 1e-9) <= truth[p] <= estimate.high * (1 + 1e-9)
    shares = {f"p{p:g}": held[p] / given[p] for p in truth if given[p]}
    return {
        "queue": f"{name}/{queue.servers}",
        "load": queue.load,
        "queries": count,
        "runs": runs,
        "steady": steady,
        "coverage": {"mean": mean / max(1, steady)} | shares,
    }


def rates(rng, repeat):
    """Queries simulated in a second of wall time, the best of some runs."""
    count, events = 1_000_000, 200_000
    arrivals = exponential_arrivals(count, 0.8, rng)
    times = rng.exponential(1, count)
    back = Stage(rng.exponential(0.8, count))
    several = arrivals / 4
    few = arrivals[:events]
    pair = [Stage(times[:events]), Stage(0.7)]
    changes = [Change(time, pair) for time in np.linspace(0, few[-1], 10)]
    work = {
        "1 stage, 1 server": (count, lambda: simulate(arrivals, [Stage(times)])),
        "2 stages, 1 server each": (count, lambda: simulate(arrivals, [Stage(times), back])),
        "1 stage, 4 servers, one service time": (
            count,
            lambda: simulate(several, [Stage(1.0, 4)]),
        ),
        "1 stage, 4 servers, differing times": (
            count,
            lambda: simulate(several, [Stage(times, 4)]),
        ),
        "1 stage, 64 servers, differing times": (
            count,
            lambda: simulate(arrivals / 64, [Stage(times, 64)]),
        ),
        "1 stage, 1 server, with summary": (
            count,
            lambda: simulate(arrivals, [Stage(times)]).summary(),
        ),
        "events: 1 stage": (events, lambda: simulate_events(few, pair[:1])),
        "events: 2 stages, deadline, limit, 10 changes": (
            events,
            lambda: simulate_events(few, pair, deadline=20.0, limit=30, changes=changes),
        ),
    }
    best = {}
    for name, (queries, function) in work.items():
        seconds = []
        for _ in range(repeat):
            begin = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - begin)
        best[name] = queries / min(seconds)
    return best


def measure(options):
    for name, least in (("runs", 2), ("intervals", 1), ("repeat", 1), ("seed", 0)):
        check_count(f"--{name}", getattr(options, name), least)
    rng = np.random.default_rng(options.seed)
    rate, cv = gap_statistics(exponential_arrivals(MEAN_QUERIES, 500.0, rng))
    figures = {
        "seed": options.seed,
        "queries": options.queries,
        "arrivals": {"qps_asked": 500.0, "qps": rate, "cv": cv},
        "rates": rates(rng, options.repeat),
        "agreement": [],
        "coverage": [],
    }
    for name, kind, servers in KINDS:
        for load in LOADS:
            queue = kind(load, servers)
            figures["agreement"].append(agreement(queue, name, options.queries, options.runs, rng))
            print(f"{name}/{servers} at {load}", file=sys.stderr)
    for queue, name in ((MMc(0.5), "M/M"), (MMc(0.8), "M/M"), (MMc(0.9), "M/M"), (MDc(0.8), "M/D")):
        # Long enough that a percentile of the table can be given: see rpaccel.load.tails.
        count = 1_000_000 if queue.load > 0.7 else 100_000
        figures["coverage"].append(coverage(queue, name, count, options.intervals, rng))
    return figures


def problems(figures):
    """What misses its target."""
    found = []
    for row in figures["agreement"]:
        for what in ("mean", "p99"):
            if abs(row[what]["error"]) > LIMIT:
                found.append(f"{row['queue']} at {row['load']}: {what} {row[what]['error']:+.2%}")
    for name, rate in figures["rates"].items():
        if rate < (EVENT_TARGET if name.startswith("events") else ARRAY_TARGET):
            found.append(f"{name}: {rate:,.0f} queries a second")
    if abs(figures["arrivals"]["cv"] - 1) > 0.03:
        found.append(f"CV of exponential gaps: {figures['arrivals']['cv']:.3f}")
    return found


def text(figures):
    lines = [
        f"p99: one run of {figures['queries']:,} queries; mean: runs of {MEAN_QUERIES:,}. "
        "Service time 1, latencies with service.",
        "",
        f"{'queue':8}{'load':>5}{'mean':>9}{'error':>8}{'sd of run':>10}{'within 2 %':>11}"
        f"{'p99':>9}{'simulated':>10}{'error':>8}{'95 % interval':>17}",
    ]
    for row in figures["agreement"]:
        mean, p99 = row["mean"], row["p99"]
        lines.append(
            f"{row['queue']:8}{row['load']:5.1f}{mean['theory']:9.4f}{mean['error']:+8.2%}"
            f"{mean['standard_deviation']:10.2%}{mean['within_limit']:>8}/{mean['runs']:<2}"
            f"{p99['theory']:9.3f}{p99['simulated']:10.3f}{p99['error']:+8.2%}"
            f"{p99['low']:9.3f}..{p99['high']:<6.3f}"
        )
    lines += ["", "Share of 95 % intervals that hold the true value"]
    for row in figures["coverage"]:
        shares = "  ".join(f"{name} {share:.1%}" for name, share in row["coverage"].items())
        lines.append(
            f"  {row['queue']} at {row['load']}, {row['queries']:,} queries, {row['steady']} of "
            f"{row['runs']} runs: {shares}"
        )
    arrivals = figures["arrivals"]
    lines += [
        "",
        f"Exponential arrivals at {arrivals['qps_asked']:g} QPS: {arrivals['qps']:.2f} QPS, "
        f"CV {arrivals['cv']:.4f}",
        "",
        "Queries a second of wall time, one core",
    ]
    lines += [f"  {name:48}{rate:>14,.0f}" for name, rate in figures["rates"].items()]
    return "\n".join(lines)


def draw(figures, path):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (tails, errors) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    x = np.linspace(0.4, 0.92, 27)
    for number, (name, kind, servers) in enumerate(KINDS):
        label, colour = f"{name}/{servers}", f"C{number}"
        rows = [row for row in figures["agreement"] if row["queue"] == label]
        tails.plot(
            x, [kind(load, servers).latency_quantile(0.99) for load in x], color=colour, label=label
        )
        at = np.array([row["load"] for row in rows])
        p99 = [row["p99"] for row in rows]
        values = np.array([p["simulated"] for p in p99])
        bounds = np.abs([[p["low"], p["high"]] for p in p99] - values[:, None]).T
        tails.errorbar(at, values, yerr=bounds, fmt="o", color=colour, markersize=4)
        theory = np.array([p["theory"] for p in p99])
        shift = at + 0.006 * (number - 1.5)
        errors.errorbar(
            shift,
            (values / theory - 1) * 100,
            yerr=bounds / theory * 100,
            fmt="o",
            color=colour,
            markersize=4,
            label=label,
        )
    tails.set(xlabel="load", ylabel="p99 of the latency, service times", yscale="log")
    tails.set_title("Lines: theory; points: simulated")
    tails.legend(frameon=False)
    errors.axhspan(-LIMIT * 100, LIMIT * 100, color="#eeeeee", zorder=0)
    errors.axhline(0, color="#999999", linewidth=0.8)
    errors.set(xlabel="load", ylabel="error of p99, % (bars: 95 % interval)")
    errors.set_title(f"{figures['queries']:,} queries a point")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000_000, help="of a run for p99")
    parser.add_argument("--runs", type=int, default=20, help="for means, of a million queries")
    parser.add_argument("--intervals", type=int, default=200, help="runs to count intervals in")
    parser.add_argument("--repeat", type=int, default=3, help="timings, of which the best counts")
    parser.add_argument("--seed", type=int, default=2021)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them here (PNG)")
    options = parser.parse_args()
    try:
        figures = measure(options)
    except RPAccelError as error:
        print(f"load: error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(figures, indent=2) if options.json else text(figures))
    if options.picture:
        draw(figures, options.picture)
    missed = problems(figures)
    for problem in missed:
        print(f"load: misses its target: {problem}", file=sys.stderr)
    return 4 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
