"""The search: all plans screened by theory, those of interest simulated, Pareto frontiers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError
from rpaccel.load import Summary, exponential_arrivals, simulate, summarise
from rpaccel.load.tails import LEAST_RELAXATIONS, Load
from rpaccel.schedule.backends import Backend
from rpaccel.schedule.plans import HIGHEST_LOAD, Plan, plans
from rpaccel.schedule.qualities import Qualities

__all__ = [
    "Answer",
    "Runs",
    "Simulated",
    "Targets",
    "dominated",
    "frontier",
    "schedule",
    "simulate_plan",
]

SLACK = 0.02
"""Estimates of p99 that differ by less than this share do not decide what is simulated."""
LEAST_QUERIES = 100_000
NEEDED = 1.1 * LEAST_RELAXATIONS
"""Relaxation times of a run: what a steady state takes, after the warm-up."""


@dataclass(frozen=True)
class Targets:
    """What is asked for: queries a second, p99 in seconds, quality relative to the reference's."""

    qps: float
    p99: float
    quality: float

    def __post_init__(self) -> None:
        for name in ("qps", "p99", "quality"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number, not {value}")


@dataclass(frozen=True)
class Simulated:
    """A plan with what its simulation says. Without a steady state p99 is infinite."""

    plan: Plan
    qps: float
    summary: Summary

    @property
    def p99(self) -> float:
        """Seconds."""
        found = self.summary.percentiles.get(99.0)
        return found.value if found else math.inf

    @property
    def goals(self) -> tuple[float, float, float]:
        """What is to be large: quality, -p99, capacity."""
        return self.plan.quality, -self.p99, self.plan.capacity

    def meets(self, targets: Targets) -> bool:
        """Whether quality and p99 are reached."""
        return self.p99 <= targets.p99 and self.plan.quality >= targets.quality


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes
    ----------
    targets : Targets
    screened : int
        Plans that there are.
    seconds : float
        Wall time of the screening.
    overloaded : int
        Plans that cannot serve so many queries.
    frontier : tuple of Simulated
        None dominates another in quality, p99 and capacity; by quality, best first.
    best : Simulated or None
        Of those that meet the targets, the one with the lowest p99.
    alternatives : dict of str to Simulated
        With the quality asked for, the lowest p99 by number of stages and by platforms.
    nearest : dict of str to Simulated
        Where nothing meets the targets: the best by each target, the other two being kept.
    queries : int
        Simulated in all.
    """

    targets: Targets
    screened: int
    seconds: float
    overloaded: int
    frontier: tuple[Simulated, ...]
    best: Simulated | None
    alternatives: dict[str, Simulated]
    nearest: dict[str, Simulated] = field(default_factory=dict)
    queries: int = 0


def dominated(goals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find rows that another one is no worse than in every column, and better in one.

    Parameters
    ----------
    goals : float, shape (n, columns)
        What is to be large.
    """
    found = np.zeros(len(goals), bool)
    for number, row in enumerate(goals):
        no_worse = (goals >= row).all(axis=1)
        found[number] = bool((no_worse & (goals > row).any(axis=1)).any())
    return found


def frontier(every: Sequence[Plan], estimates: NDArray[np.float64]) -> list[int]:
    """Plans that may be on the frontier, by estimates of p99 with some slack.

    Returns
    -------
    list of int
        Numbers of plans that no other is at least as good as in quality and capacity with an
        estimate lower by more than :data:`SLACK`; one of those that are the same in all three.
    """
    goals = np.array([(p.quality, p.capacity) for p in every])
    order = np.lexsort((estimates, -goals[:, 1], -goals[:, 0]))
    kept: list[int] = []
    seen: set[tuple[float, ...]] = set()
    best = np.empty((len(every), 3))
    for number in order.tolist():
        row = (*goals[number].tolist(), float(estimates[number]))
        known = best[: len(kept)]
        beaten = (
            (known[:, 0] >= row[0]) & (known[:, 1] >= row[1]) & (known[:, 2] < row[2] * (1 - SLACK))
        )
        if row in seen or beaten.any():
            continue
        seen.add(row)
        best[len(kept)] = row
        kept.append(number)
    return kept


def simulate_plan(plan: Plan, qps: float, arrivals: NDArray[np.float64]) -> Simulated:
    """Send queries through a plan, first come first served at each station.

    Parameters
    ----------
    plan : Plan
    qps : float
        Of the arrivals.
    arrivals : float, shape (queries,), seconds
        Poisson ones.
    """
    now = arrivals
    for segment in plan.segments:
        batches = segment.sub_batches
        run = simulate(np.repeat(now, batches) if batches > 1 else now, segment.stages)
        now = run.departures[batches - 1 :: batches]
    summary = summarise(now - arrivals, loads=_loads(plan, qps), percentiles=(50, 95, 99))
    return Simulated(plan, qps, summary)


def _loads(plan: Plan, qps: float) -> list[Load]:
    """What Poisson arrivals of constant work ask of each station."""
    return [
        Load(stage.name, qps * float(stage.service) * segment.sub_batches / stage.servers, 1.0)
        for segment in plan.segments
        for stage in segment.stages
        if stage.servers is not None
    ]


class Runs:
    """Simulations of plans under the same arrivals, as many of them as a plan's p99 needs."""

    def __init__(self, queries: int, seed: int) -> None:
        self.least = queries
        self.total = 0
        self._seed = seed
        self._gaps = np.empty(0)

    def __call__(self, plan: Plan, qps: float) -> Simulated:
        """Simulate a plan at a load."""
        relaxation = max(load.relaxation for load in _loads(plan, qps))
        count = max(self.least, math.ceil(NEEDED * relaxation))
        if len(self._gaps) < count:
            rng = np.random.default_rng(self._seed)
            self._gaps = exponential_arrivals(count, 1.0, rng)
        self.total += count
        return simulate_plan(plan, qps, self._gaps[:count] / qps)


def schedule(
    backends: Sequence[Backend],
    qualities: Qualities,
    targets: Targets,
    *,
    queries: int = 10_000_000,
    seed: int = 0,
) -> Answer:
    """Find the best plan.

    Parameters
    ----------
    backends : sequence of Backend
        With distinct names.
    qualities : Qualities
    targets : Targets
    queries : int
        To simulate in all, at least; where a plan's load needs more to be sure, more.
    seed : int
        Of the arrivals, which are the same for all plans.

    Raises
    ------
    ConfigError
        There is no plan at all: no platform knows any of the rated funnels.
    """
    begun = time.perf_counter()
    every = list(plans(backends, qualities))
    if not every:
        raise ConfigError(
            "no platform has times for any rated funnel: the platforms are "
            f"{', '.join(b.name for b in backends)}, the models "
            f"{', '.join(sorted({s for r in qualities.rows for s in r.stages}))}"
        )
    able = [p for p in every if targets.qps < HIGHEST_LOAD * p.capacity]
    estimates = np.array([p.p99(targets.qps) for p in able])
    seconds = time.perf_counter() - begun
    kept = frontier(able, estimates)
    chosen = {number: "" for number in kept} | _alternatives(able, estimates, targets)
    runs = Runs(max(LEAST_QUERIES, math.ceil(queries / max(1, len(chosen)))), seed)
    results = {n: runs(able[n], targets.qps) for n in chosen}
    settled = [results[n] for n in kept if results[n].summary.steady]
    beaten = dominated(np.array([s.goals for s in settled]).reshape(-1, 3))
    front = [s for s, bad in zip(settled, beaten, strict=True) if not bad]
    meeting = [s for s in results.values() if s.meets(targets)]
    best = min(meeting, key=lambda s: (s.p99, -s.plan.quality), default=None)
    nearest = {} if best else _nearest(every, list(results.values()), targets, runs)
    return Answer(
        targets,
        len(every),
        seconds,
        len(every) - len(able),
        tuple(sorted(front, key=lambda s: (-s.plan.quality, s.p99))),
        best,
        {name: results[n] for n, name in chosen.items() if name},
        nearest,
        runs.total,
    )


def _alternatives(
    able: Sequence[Plan], estimates: NDArray[np.float64], targets: Targets
) -> dict[int, str]:
    """Of each number of stages and set of platforms the plan with the lowest estimate."""
    best: dict[str, int] = {}
    for number, plan in enumerate(able):
        if plan.quality >= targets.quality:
            count = len(plan.places)
            name = f"{count} stage{'s' if count > 1 else ''} on {' and '.join(plan.platforms)}"
            if name not in best or estimates[number] < estimates[best[name]]:
                best[name] = number
    return {number: name for name, number in best.items()}


def _nearest(
    every: Sequence[Plan],
    results: Sequence[Simulated],
    targets: Targets,
    runs: Runs,
) -> dict[str, Simulated]:
    """What is reached of each target when the other two are kept."""
    found: dict[str, Simulated] = {}
    steady = [s for s in results if s.summary.steady]
    good = [s for s in steady if s.plan.quality >= targets.quality]
    if good:
        found["p99"] = min(good, key=lambda s: s.p99)
    fast = [s for s in steady if s.p99 <= targets.p99]
    if fast:
        found["quality"] = max(fast, key=lambda s: (s.plan.quality, -s.p99))
    rate, plan = 0.0, None
    for each in every:
        if each.quality >= targets.quality and each.p99(max(rate, 1e-3)) < targets.p99:
            rate, plan = each.sustained(targets.p99), each
    for _ in range(20 if plan else 0):
        assert plan is not None
        result = runs(plan, rate)
        if result.p99 <= targets.p99:
            found["qps"] = result
            break
        rate *= 0.99
    return found
