"""Regrouping while the load changes over a day, against settings that stay and shared groups.

The array is that of a configuration: cycles of a sub-batch are those that its compiler predicts,
queries and groups meet in :mod:`rpaccel.schedule.regroup`. A second kind of query, with a quarter
of the survivors, stands in while the load is high: a service may give up quality at its peak.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.bench_pipeline import preset
from rpaccel.compiler import compile_image
from rpaccel.config import Config, load
from rpaccel.provision import Policy, Setting, choices
from rpaccel.report import grid
from rpaccel.schedule.cheapest import arriving
from rpaccel.schedule.regroup import Work, simulate_groups
from sw_model.random_models import random_models

__all__ = ["bench", "day", "table"]

NIGHT, NOON = 0.1, 0.85
"""Least and largest load of a day, as a share of what shared groups can do."""
PEAK = 0.5
"""Load from which on queries have a quarter of the survivors."""
TRIALS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TRIAL_QUERIES = 1500


def day(queries: int, interval: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw arrivals of a day from midnight on: Poisson, at a rate that rises and falls.

    Parameters
    ----------
    queries : int
    interval : float
        Time of a query at a load of one.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (queries,)
        In the unit of ``interval``.
    """
    length = queries * interval / ((NIGHT + NOON) / 2)
    steps = np.linspace(0, 1, 10_001)
    load_ = NIGHT + (NOON - NIGHT) * (0.5 - 0.5 * np.cos(2 * math.pi * steps))
    due = np.concatenate([[0.0], np.cumsum((load_[1:] + load_[:-1]) / 2)])
    due *= queries / due[-1]
    return np.interp(np.sort(rng.uniform(0, queries, queries)), due, steps * length)


def _work(config: Config, keep: Sequence[int]) -> Work:
    """What a query asks that keeps so many."""
    funnel = config.funnel.model_copy(update={"keep": list(keep)})
    config = config.model_copy(update={"funnel": funnel})
    models = random_models(config, np.random.default_rng(config.data.seed))
    return Work.of(
        compile_image(config, models),
        sub_batches=funnel.sub_batches,
        arriving=arriving(config, funnel.sub_batch_items),
        filter_=keep[0] / funnel.sub_batches + 14,
    )


def bench(path: Path | None = None, *, queries: int = 20_000, seed: int = 1) -> dict[str, Any]:
    """Simulate a day with every setting, with the policy, and with shared groups.

    Parameters
    ----------
    path : path, optional
        Configuration of two stages that all groups serve; by default the machine of Table 3.
    queries : int
        Of the day.
    seed : int

    Returns
    -------
    dict
        ``days``: with one kind of query and with two, p50 and p99 in cycles by setting;
        ``policy``: which setting it takes at which load. It is chosen of the settings without
        shared groups, by p99 at constant loads under other arrivals.
    """
    config = load(path or preset("rpaccel"))
    keep = config.funnel.keep
    works = [_work(config, keep), _work(config, [max(keep[1], keep[0] // 4), keep[1]])]
    every = tuple(range(len(config.hardware.groups)))
    settings: dict[str, Setting] = {
        f"{n} and {len(every) - n}": {0: every[:n], 1: every[n:]} for n in every[1:]
    }
    interval = works[0].interval
    arrivals = day(queries, interval, np.random.default_rng(seed))
    bound = [PEAK / interval]
    busy = choices(Policy((bound[0],), ({}, {})), arrivals.tolist())
    days = []
    for name, kinds in ("one kind of query", None), ("a quarter of the survivors at noon", busy):
        policy, names = _policy(works, settings, kinds is not None, seed + 1)
        chosen = choices(policy, arrivals.tolist())
        rows = {
            setting: simulate_groups(works, arrivals, [groups], kinds=kinds)
            for setting, groups in (settings | {"shared": {0: every, 1: every}}).items()
        }
        rows["policy"] = simulate_groups(
            works, arrivals, policy.settings, kinds=kinds, choices=chosen
        )
        days.append(
            {
                "day": name,
                "policy": names,
                "changes": sum(a != b for a, b in pairwise(chosen)),
                "latencies": {
                    setting: {p: float(np.percentile(values, p)) for p in (50, 99)}
                    for setting, values in rows.items()
                },
            }
        )
    return {"name": config.name, "queries": queries, "interval": interval, "days": days}


def _policy(
    works: Sequence[Work], settings: Mapping[str, Setting], two: bool, seed: int
) -> tuple[Policy, list[str]]:
    """The setting with the lowest p99 at each of some loads, joined where it stays the same."""
    gaps = np.random.default_rng(seed).exponential(works[0].interval, TRIAL_QUERIES)
    best: list[tuple[float, str]] = []
    for load_ in TRIALS:
        arrivals = np.cumsum(gaps / load_)
        kinds = [int(two and load_ >= PEAK)] * TRIAL_QUERIES
        p99 = {
            name: np.percentile(simulate_groups(works, arrivals, [groups], kinds=kinds), 99)
            for name, groups in settings.items()
        }
        name = min(p99, key=lambda each: p99[each])
        if not best or best[-1][1] != name:
            best.append((load_, name))
    bounds = tuple(load_ / works[0].interval for load_, _ in best[1:])
    policy = Policy(bounds, tuple(settings[name] for _, name in best))
    return policy, [f"{name} from a load of {load_:g}" for load_, name in best]


def table(report: Mapping[str, Any]) -> str:
    """Lay the report out as text."""
    lines = []
    for each in report["days"]:
        rows = [
            [name, f"{values[50]:,.0f}", f"{values[99]:,.0f}"]
            for name, values in each["latencies"].items()
        ]
        lines += [
            grid(
                f"A day of {report['queries']:,} queries on {report['name']}, {each['day']}; "
                "predicted cycles; groups of the stages",
                ["", "p50 cycles", "p99 cycles"],
                rows,
            ),
            f"policy: {', '.join(each['policy'])}; {each['changes']} changes",
            "",
        ]
    return "\n".join(lines[:-1])
