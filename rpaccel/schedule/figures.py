"""RecPipe's figures 7, 8 and 12 for Criteo from this project's platforms, and the published points.

Figures 7 and 8 place the funnels of which RecPipe published a quality on its CPU and GPU, by the
profiles derived from its figure 14, and on an H100, by times that were measured. Figure 12 is
RPAccel: its array by the cycle model, the baseline by its RTL's cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rpaccel.bench_array import shared
from rpaccel.bench_pipeline import CLOCK_HZ, HOST_SECONDS
from rpaccel.config import Config
from rpaccel.recorded import Machine, read
from rpaccel.report import grid
from rpaccel.schedule.array import ArrayBackend
from rpaccel.schedule.backends import Backend, ProfileBackend
from rpaccel.schedule.bench import CARD, CPU, FUNNELS, GPU, LOADS, PUBLISHED, unrated
from rpaccel.schedule.figure13 import figure13
from rpaccel.schedule.figure13 import text as figure13_text
from rpaccel.schedule.plans import Plan, plans
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import Qualities, Rated
from rpaccel.schedule.search import Runs

__all__ = ["figure7", "figure8", "figure12", "figures", "text"]

ISO = 92.25
"""NDCG that the paper holds (its own scale)."""
LOADS7 = (100.0, 300.0, 500.0, 700.0)
LOADS8 = (70.0, 100.0, 200.0, 500.0)
LOW, LIMIT = 70.0, 25e-3
HIGHEST = 0.99
REACHED = {"CPU": 87.0, GPU: 92.25}
"""NDCG that the paper reaches within :data:`LIMIT` at a low load."""
#: Figure 12, p99 in ms by load: at the top numbers of stages, at the bottom the array's settings.
BASELINE = {200: 5.03, 250: 5.9, 333: 9.31, 400: 20.9}
STAGES = {
    1: {200: 4.02, 400: 9.36, 500: 18.3},
    2: {250: 2.53, 400: 3.26, 1000: 4.46, 1333: 6.31, 2000: 37.8},
    3: {100: 2.11, 200: 2.19, 1000: 4.27, 1333: 4.6, 2000: 8.89, 2500: 32.6},
}
SETTINGS = {
    "(8,2), a stage each": {250: 3.02, 1000: 5.6, 1333: 19.3},
    "(8,8), a stage each": {250: 4.51, 1000: 6.67, 2000: 56.1},
    "(8,16), a stage each": {250: 6.52, 1000: 7.4, 2000: 39.6},
}


def _best(every: Sequence[Plan], qps: float) -> Plan | None:
    able = [plan for plan in every if qps < HIGHEST * plan.capacity]
    return min(able, key=lambda plan: plan.p99(qps), default=None)


def _row(runs: Runs, every: Sequence[Plan], qps: float) -> dict[str, Any]:
    best = _best(every, qps)
    return {
        "qps": qps,
        "plan": best.name if best else None,
        "p99": runs(best, qps).p99 if best else None,
    }


def _published(platform: str, stages: Sequence[int], qps: float) -> float | None:
    """Lowest published p99 in seconds at a load, which figure 14 has: of plans at :data:`ISO`."""
    if qps not in LOADS:
        return None
    known = [PUBLISHED[platform][count][LOADS.index(qps)] for count in stages]
    return min((ms / 1e3 for ms in known if ms is not None), default=None)


def figure7(cores: Backend, qualities: Qualities, runs: Runs) -> list[dict[str, Any]]:
    """One, two and three stages on the CPU at :data:`ISO`: the lowest p99 at each load."""
    good = [plan for plan in plans([cores], qualities) if plan.rated.mean >= ISO]
    return [
        {
            "stages": count,
            **_row(runs, [p for p in good if len(p.places) == count], qps),
            "published": _published(CPU, [count], qps),
        }
        for count in (1, 2, 3)
        for qps in LOADS7
    ]


def figure8(
    cores: Backend, cards: Sequence[Backend], qualities: Qualities, runs: Runs
) -> dict[str, list[dict[str, Any]]]:
    """CPU, GPUs and both: the best quality within a latency at a low load, and p99 over load."""
    sides = {"CPU": [cores]}
    for card in cards:
        sides |= {card.name: [card], f"{card.name} and CPU": [card, cores]}
    every = {
        name: [p for p in plans(backends, qualities) if len(p.platforms) == len(backends)]
        for name, backends in sides.items()
    }
    quality = []
    for name, found in every.items():
        fast = [plan for plan in found if plan.p99(LOW) <= LIMIT]
        best = max(fast, key=lambda plan: plan.rated.mean, default=None)
        quality.append(
            {
                "platforms": name,
                "quality": best.rated.mean if best else None,
                "plan": best.name if best else None,
                "published": REACHED.get(name),
            }
        )
    known = {"CPU": (CPU, (1, 2, 3)), GPU: (GPU, (1,)), f"{GPU} and CPU": (GPU, (2, 3))}
    tails = [
        {
            "platforms": name,
            **_row(runs, [p for p in found if p.rated.mean >= ISO], qps),
            "published": _published(*known[name], qps) if name in known else None,
        }
        for name, found in every.items()
        for qps in LOADS8
    ]
    return {"quality": quality, "tails": tails}


def figure12(
    config: Config, runs: Runs, settings: Sequence[str] = tuple(SETTINGS)
) -> dict[str, list[dict[str, Any]]]:
    """The baseline and RPAccel by stages, and by the settings of its array."""
    record = read()
    base = Machine.of(record["baseline"], 2 * HOST_SECONDS + record["host_sort_seconds"])
    top = [
        {"machine": "baseline", "qps": qps, "p99": base.p99(qps), "published": ms / 1e3}
        for qps, ms in BASELINE.items()
    ]
    backend = ArrayBackend(config)
    for count, points in STAGES.items():
        models, items = FUNNELS[count]
        every = list(plans([backend], unrated([Rated(stages=models, items=items, mean=1.0)])))
        for qps, ms in points.items():
            row = _row(runs, every, float(qps))
            top.append({"machine": f"RPAccel, {count} stages", "published": ms / 1e3, **row})
    bottom = []
    for name in settings:
        found = shared(name)
        alone = found["latency"] / CLOCK_HZ + 2 * HOST_SECONDS
        machine = Machine(name, found["cycles"] / CLOCK_HZ, alone, alone, {})
        for qps, ms in SETTINGS[name].items():
            bottom.append(
                {"machine": name, "qps": qps, "p99": machine.p99(qps), "published": ms / 1e3}
            )
    return {"top": top, "bottom": bottom}


def figures(config: Config, *, queries: int = 200_000, seed: int = 0) -> dict[str, Any]:
    """Compute all of them.

    Parameters
    ----------
    config : Config
        With the paper's models under the paper's names (``examples/recpipe.toml``).
    queries : int
        Of each simulation, at least.
    seed : int
    """
    runs = Runs(queries, seed)
    cores, *cards = (ProfileBackend(Profile.load(name)) for name in (CPU, GPU, CARD))
    qualities = Qualities.load("recpipe-criteo")
    return {
        "figure7": figure7(cores, qualities, runs),
        "figure8": figure8(cores, cards, qualities, runs),
        "figure12": figure12(config, runs),
        "figure13": figure13(),
    }


def text(report: Mapping[str, Any]) -> str:
    """Lay the figures out."""
    eight, twelve = report["figure8"], report["figure12"]

    def tails(rows: Sequence[Mapping[str, Any]], key: str) -> list[list[str]]:
        return [
            [str(r[key]), f"{r['qps']:g}", ms(r["p99"]), ms(r["published"]), r["plan"] or "-"]
            for r in rows
        ]

    return "\n\n".join(
        [
            grid(
                f"Figure 7: CPU, derived, NDCG of {ISO} or more, lowest p99 in ms",
                ["stages", "QPS", "p99", "published", "plan"],
                tails(report["figure7"], "stages"),
            ),
            grid(
                f"Figure 8: derived platforms, best NDCG, p99 of {LIMIT * 1e3:g} ms at {LOW:g} QPS",
                ["platforms", "NDCG", "published", "plan"],
                [
                    [
                        r["platforms"],
                        f"{r['quality'] or 0:.2f}",
                        f"{r['published'] or '-'}",
                        r["plan"] or "-",
                    ]
                    for r in eight["quality"]
                ],
            ),
            grid(
                f"Figure 8: derived platforms, NDCG of {ISO} or more, lowest p99 in ms",
                ["platforms", "QPS", "p99", "published", "plan"],
                tails(eight["tails"], "platforms"),
            ),
            grid(
                "Figure 12: RecPipe's funnel on the accelerators, modelled, p99 in ms",
                ["machine", "QPS", "p99", "published"],
                [
                    [r["machine"], f"{r['qps']:g}", ms(r["p99"]), ms(r["published"])]
                    for r in [*twelve["top"], *twelve["bottom"]]
                ],
            ),
            figure13_text(report["figure13"]),
        ]
    )


def ms(seconds: float | None) -> str:
    """Milliseconds, or a dash."""
    return "-" if seconds is None else f"{seconds * 1e3:.3g}"
