"""The scheduler's best plans for this computer's CPU, really run, beside what was predicted.

A plan gives each stage processors of its own. Here each stage is a service with as many worker
processes of one thread, and a query goes from one to the next with its survivors.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_cpu import open_loop
from rpaccel.config import Config
from rpaccel.errors import ConfigError, LoadError
from rpaccel.load import exponential_arrivals, summarise
from rpaccel.report import grid
from rpaccel.schedule.command import platforms
from rpaccel.schedule.plans import HIGHEST_LOAD, Plan, plans
from rpaccel.schedule.qualities import measured
from rpaccel.schedule.search import Runs
from rpaccel.serve import Answer, Service, Status
from rpaccel.serve.cpu import CpuFunnel
from rpaccel.workflow import Workflow
from sw_model.query import Query, Ranking

__all__ = ["Tandem", "bench", "narrowed", "table"]

MOST = 10
SIMULATED = 200_000


def narrowed(query: Query, positions: np.ndarray, config: Config) -> Query:
    """The query with these items only, in this order."""
    indices = {
        t.name: rows if t.scope == "query" else rows[positions]
        for t in config.features.tables
        for rows in [query.indices[t.name]]
    }
    return Query(query.dense_query, query.dense_item[positions], indices, len(positions))


class Tandem:
    """Services of the stages of a plan, one behind the other; like a service to whoever submits.

    Parameters
    ----------
    config : Config
    services : sequence of Service
        Of each stage; the answer of one says which items the next one gets.
    items : int
        That the first stage ranks, the first ones of a query.
    """

    def __init__(self, config: Config, services: Sequence[Service], items: int) -> None:
        self.config = config
        self.services = services
        self.items = items

    async def submit(self, query: Query) -> Answer:
        """Run a query through all stages, as far as it comes."""
        left, scores = np.arange(query.items)[: self.items], np.zeros(0, np.int64)
        latency = 0.0
        for service in self.services:
            answer = await service.submit(narrowed(query, left, self.config))
            latency += answer.latency
            if answer.ranking is None:
                return Answer(answer.status, latency, None, answer.reason)
            left, scores = left[answer.ranking.positions], answer.ranking.scores
        return Answer(Status.answered, latency, Ranking(left, scores))


def _stage(config: Config, name: str, items: int, keep: int) -> Config:
    """A funnel of one stage."""
    alone = {"stages": [name], "keep": [keep], "items": items, "global_release": []}
    return config.model_copy(update={"funnel": config.funnel.model_copy(update=alone)})


async def _run(
    config: Config, work: Workflow, plan: Plan, samples: Sequence[Query], arrivals: list[float]
) -> list[float]:
    """Latencies of the plan's queries."""
    models = dict(zip(config.funnel.stages, work.float_models, strict=True))
    sizes = [*plan.rated.items, config.funnel.keep[-1]]
    async with AsyncExitStack() as stack:
        services = []
        for number, (name, place) in enumerate(zip(plan.rated.stages, plan.places, strict=True)):
            stage = _stage(config, name, sizes[number], sizes[number + 1])
            opener = partial(CpuFunnel, stage, [models[name]])
            service = Service(opener, workers=place.units, depth=1, limit=1 << 20)
            services.append(await stack.enter_async_context(service))
        tandem = Tandem(config, services, sizes[0])
        for _ in range(2 * max(place.units for place in plan.places)):  # PyTorch's own warm-up
            await asyncio.gather(*(tandem.submit(query) for query in samples[:8]))
        answers, latencies = await open_loop(tandem, samples, arrivals)
    bad = [each.reason for each in answers if each.status != Status.answered]
    if bad:
        raise LoadError(f"{len(bad)} queries were not answered: {bad[0]}")
    return latencies


def bench(
    config: Config,
    cache: Path,
    *,
    qps: float | None = None,
    quality: float = 0.99,
    queries: int = 600,
    seed: int = 1,
) -> dict[str, Any]:
    """Predict the ten plans with the lowest p99, and run them.

    Parameters
    ----------
    config : Config
        With trained models.
    cache : Path
        Folder for what is measured once: times of models, quality of funnels.
    qps : float, optional
        By default half of what the plan with the highest capacity can do.
    quality : float
        Relative to the last stage's model alone on all items.
    queries : int
        Of each plan's run.
    seed : int
        Of the arrivals.

    Raises
    ------
    ConfigError
        The models are not trained, or no plan has the quality at this load.
    LoadError
        The generator did not keep up, or a query was not answered.
    """
    work = Workflow(config)
    if work.dataset is None:
        raise ConfigError("needs trained models (data.source)")
    backends = platforms(config, ["cpu"], cache)
    every = [p for p in plans(backends, measured(config, cache)) if p.quality >= quality]
    if qps is None:
        qps = 0.5 * max((plan.capacity for plan in every), default=0.0)
    able = [plan for plan in every if qps < HIGHEST_LOAD * plan.capacity]
    if not able:
        raise ConfigError(f"no plan of quality {quality:g} sustains {qps:g} queries a second")
    best = sorted(able, key=lambda plan: plan.p99(qps))[:MOST]
    arrivals = exponential_arrivals(queries, qps, np.random.default_rng(seed)).tolist()
    runs = Runs(SIMULATED, seed)
    rows: list[dict[str, Any]] = []
    for plan in best:
        latencies = asyncio.run(_run(config, work, plan, work.queries, arrivals))
        found = runs(plan, qps).summary
        rows.append(
            {
                "plan": plan.name,
                "quality": plan.quality,
                "capacity": plan.capacity,
                "predicted": {f"p{p}": found.percentiles[p].value for p in (50, 99)},
                "measured": {f"p{p}": float(np.percentile(latencies, p)) for p in (50, 99)},
                "run": summarise(latencies, percentiles=(50, 99)).as_dict(),
            }
        )
    for row in rows:
        row["errors"] = {p: row["predicted"][p] / row["measured"][p] - 1 for p in ("p50", "p99")}
    return {
        "name": config.name,
        "qps": qps,
        "quality": quality,
        "queries": queries,
        "busy": os.getloadavg()[0],
        "platform": backends[0].identity(),
        "plans": rows,
    }


def table(report: Mapping[str, Any]) -> str:
    """Lay the report out as text."""
    rows = [
        [
            row["plan"],
            f"{row['quality']:.4f}",
            *(
                f"{row[kind][p] * 1e3:.2f}"
                for p in ("p50", "p99")
                for kind in ("predicted", "measured")
            ),
            *(f"{row['errors'][p]:+.0%}" for p in ("p50", "p99")),
        ]
        for row in report["plans"]
    ]
    return "\n".join(
        [
            grid(
                f"The best plans at {report['qps']:.1f} QPS, {report['queries']} queries each; ms",
                ["plan", "quality", "p50", "measured", "p99", "measured", "error p50", "p99"],
                rows,
            ),
            "",
            f"{report['platform']['machine']}; {report['platform']['source']}; load average "
            f"{report['busy']:.1f} when it was done",
        ]
    )
