"""RecPipe's figure 14 for Criteo from this project's platforms, beside what was published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rpaccel.config import Config
from rpaccel.report import grid
from rpaccel.schedule.array import ArrayBackend
from rpaccel.schedule.backends import Backend, ProfileBackend
from rpaccel.schedule.plans import Plan, plans
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import Qualities, Rated, funnels
from rpaccel.schedule.search import Runs

__all__ = ["bench", "table"]

CPU, GPU, CARD, ARRAY = "cascade-lake-64", "t4", "h100", "rpaccel"
LOADS = (100.0, 500.0, 2000.0)
HIGHEST_LOAD = 0.99
"""Two published points are met at loads nearer to 1 than the search considers."""
NOT_THERE = (None, None, None)
#: Published p99 in ms by platform and number of stages, at each of the loads; None: not met, or
#: (:data:`CARD`) not among the paper's platforms.
PUBLISHED: dict[str, dict[int, tuple[float | None, ...]]] = {
    CPU: {1: (67.2, 221.6, None), 2: (43.1, 55.7, None), 3: (46.9, 83.6, None)},
    GPU: {1: (21.7, None, None), 2: (27.4, 320.0, None), 3: (34.6, 437.0, None)},
    CARD: {1: NOT_THERE, 2: NOT_THERE, 3: NOT_THERE},
    ARRAY: {1: (4.02, 18.3, None), 2: (2.52, 3.33, 37.7), 3: (2.10, 3.69, 8.84)},
}
#: Models and items of each number of stages.
FUNNELS = {
    1: (["RM-large"], [4096]),
    2: (["RM-small", "RM-large"], [4096, 256]),
    3: (["RM-small", "RM-med", "RM-large"], [4096, 512, 128]),
}


def bench(config: Config, *, queries: int = 1_000_000, seed: int = 0) -> dict[str, Any]:
    """Compute p99 of the paper's funnels on each platform, and how fast plans are screened.

    Parameters
    ----------
    config : Config
        With the paper's models under the paper's names (``examples/recpipe.toml``).
    queries : int
        Of each simulation, at least.
    seed : int

    Returns
    -------
    dict
        ``figure14``: of each platform, number of stages and load the plan with the lowest
        estimate, its simulated p99 in seconds (None: no plan sustains the load) and the published
        one. A GPU has the first stage, the CPU those behind it. ``screening``: all plans of all
        funnels of the configuration on CPU, T4 and RPAccel. ``platforms``.
    """
    cores, t4, h100 = (ProfileBackend(Profile.load(name)) for name in (CPU, GPU, CARD))
    array = ArrayBackend(config)
    runs = Runs(queries, seed)
    rows = []
    sides: dict[str, list[Backend]] = {
        CPU: [cores],
        GPU: [t4, cores],
        CARD: [h100, cores],
        ARRAY: [array],
    }
    for name, backends in sides.items():
        for stages, published in PUBLISHED[name].items():
            every = [p for p in _plans(backends, stages) if p.places[0].platform == name]
            for qps, known in zip(LOADS, published, strict=True):
                rows.append(_row(runs, name, stages, every, qps, known))
    return {
        "figure14": rows,
        "screening": _screening(config, [cores, t4, array]),
        "platforms": [backend.identity() for backend in (cores, t4, h100, array)],
        "queries": runs.total,
    }


def _plans(backends: Sequence[Backend], stages: int) -> list[Plan]:
    models, items = FUNNELS[stages]
    return list(plans(backends, unrated([Rated(stages=models, items=items, mean=1.0)])))


def unrated(rows: list[Rated]) -> Qualities:
    """Funnels of which only times matter."""
    return Qualities(
        name="funnels",
        kind="modelled",
        metric="none",
        source="quality is not looked at",
        serves=64,
        reference=rows[0],
        rows=rows,
    )


def _row(
    runs: Runs, name: str, stages: int, every: Sequence[Plan], qps: float, published: float | None
) -> dict[str, Any]:
    able = [p for p in every if qps < HIGHEST_LOAD * p.capacity]
    best = min(able, key=lambda p: p.p99(qps), default=None)
    return {
        "platform": name,
        "stages": stages,
        "qps": qps,
        "plan": best.name if best else None,
        "p99": runs(best, qps).p99 if best else None,
        "published": published / 1e3 if published else None,
        "most_qps": max((p.capacity for p in every), default=None),
    }


def _screening(config: Config, backends: Sequence[Backend]) -> dict[str, Any]:
    names = config.funnel.stages
    rows = [
        Rated(stages=[names[s] for s in stages], items=[items, *keep[:-1]], mean=1.0)
        for stages, items, keep in funnels(config)
    ]
    begun = time.perf_counter()
    count = sum(1 for plan in plans(backends, unrated(rows)) if plan.p99(LOADS[1]) > 0)
    seconds = time.perf_counter() - begun
    return {"plans": count, "seconds": seconds, "plans_per_minute": count / seconds * 60}


def table(report: dict[str, Any]) -> str:
    """Lay the figures out as text."""
    rows = [
        [
            row["platform"],
            str(row["stages"]),
            f"{row['qps']:g}",
            _ms(row["p99"]),
            _ms(row["published"]),
            f"{row['most_qps']:,.0f}" if row["most_qps"] else "-",
            row["plan"] or "-",
        ]
        for row in report["figure14"]
    ]
    screening = report["screening"]
    kinds = ", ".join(f"{p['name']} {p['kind']}" for p in report["platforms"])
    return "\n".join(
        [
            grid(
                f"p99 in ms, exponential arrivals; platforms: {kinds}; CPU behind a GPU",
                ["platform", "stages", "QPS", "p99", "published", "saturates at", "plan"],
                rows,
            ),
            "",
            f"{screening['plans']:,} plans screened in {screening['seconds']:.1f} s: "
            f"{screening['plans_per_minute']:,.0f} a minute",
        ]
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3g}"
