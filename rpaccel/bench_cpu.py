"""One stage against several on this computer's CPU: real models, real queries, real load.

Queries go through the service (:mod:`rpaccel.serve`) to worker processes of one thread that run the
float models in PyTorch. Both funnels get the same queries at the same exponential times.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from rpaccel.config import Config
from rpaccel.errors import ConfigError, LoadError
from rpaccel.load import exponential_arrivals, summarise
from rpaccel.quality import ScoredQueries
from rpaccel.report import grid
from rpaccel.schedule.profiles import machine
from rpaccel.serve import Answer, Service, Status
from rpaccel.serve.cpu import CpuFunnel
from rpaccel.workflow import Workflow
from sw_model.bootstrap import bootstrap, bootstrap_difference
from sw_model.dlrm import FloatModel
from sw_model.query import Query

__all__ = ["bench", "capacity", "of_stages", "open_loop", "quality", "table"]

SHARE = 0.8
"""Of one stage's capacity: the load at which tails are compared."""
TARGET = 3.0
LAG_SHARE, LEAST_LAG = 0.1, 2e-3
"""Queries may be late on average by a share of the mean gap, or by what sleeping costs."""


def last_alone(config: Config) -> Config:
    """The last stage's model on all items, in place of the funnel."""
    funnel = config.funnel
    alone = {"stages": funnel.stages[-1:], "keep": funnel.keep[-1:], "global_release": []}
    return config.model_copy(update={"funnel": funnel.model_copy(update=alone)})


def of_stages(config: Config, stages: Sequence[str]) -> Config:
    """The funnel with some of the configuration's models, for the CPU: its hardware is not asked.

    Stages but the last keep what the configuration's first stages keep.

    Raises
    ------
    ConfigError
        A model is unknown, or there are more stages than the configuration has.
    """
    known = [model.name for model in config.models]
    if unknown := set(stages) - set(known):
        raise ConfigError(f"stages must be among {', '.join(known)}, not {sorted(unknown)}")
    funnel = config.funnel
    if len(stages) > len(funnel.stages):
        raise ConfigError(f"at most {len(funnel.stages)} stages, not {len(stages)}")
    keep = [*funnel.keep[: len(stages) - 1], funnel.keep[-1]]
    return config.model_copy(
        update={"funnel": funnel.model_copy(update={"stages": list(stages), "keep": keep})}
    )


async def capacity(service: Service, queries: Sequence[Query], seconds: float) -> float:
    """Measure queries a second with two always waiting for each worker.

    Raises
    ------
    LoadError
        A query was not answered.
    """
    done = 0
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            answer = await service.submit(queries[(number + done) % len(queries)])
            if answer.status != Status.answered:
                raise LoadError(f"a query was {answer.status.value}: {answer.reason}")
            done += 1

    begun = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(3 * len(service.processes))))
    return done / (time.monotonic() - begun)


class Submits(Protocol):
    """What queries are submitted to; a :class:`~rpaccel.serve.Service` is one."""

    async def submit(self, query: Query) -> Answer:
        """Run a query."""
        ...


async def open_loop(
    service: Submits, queries: Sequence[Query], arrivals: Sequence[float]
) -> tuple[list[Answer], list[float]]:
    """Submit queries at their times, in turns, whatever becomes of those before.

    Parameters
    ----------
    service : Service or the like
    queries : sequence of Query
    arrivals : sequence of float, seconds
        From now on.

    Returns
    -------
    answers : list of Answer
    latencies : list of float, seconds
        From the scheduled arrival.

    Raises
    ------
    LoadError
        Queries went out late: the generator did not keep up.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time() + 0.05
    late = 0.0
    latencies = [0.0] * len(arrivals)

    async def one(number: int) -> Answer:
        answer = await service.submit(queries[number % len(queries)])
        latencies[number] = loop.time() - begun - arrivals[number]
        return answer

    tasks = []
    for number, arrival in enumerate(arrivals):
        await asyncio.sleep(max(0.0, begun + arrival - loop.time()))
        late += max(0.0, loop.time() - begun - arrival)
        tasks.append(asyncio.create_task(one(number)))
    answers = await asyncio.gather(*tasks)
    limit = max(LAG_SHARE * arrivals[-1] / len(arrivals), LEAST_LAG)
    if late / len(arrivals) > limit:
        raise LoadError(
            f"queries were sent {late / len(arrivals) * 1e3:.3g} ms late on average, more than "
            f"{limit * 1e3:.3g} ms: this computer does not keep up"
        )
    return answers, latencies


def quality(config: Config, work: Workflow, most: int) -> dict[str, Any]:
    """NDCG of the last stage alone and of the funnel, float, as the CPU ranks: no sub-batches.

    Parameters
    ----------
    config : Config
    work : Workflow
    most : int
        Labelled queries, the first ones.
    """
    labelled = work.candidates[:most]
    assert work.dataset is not None
    inputs = [work.dataset.candidate_inputs(each) for each in labelled]
    logits = [np.array([model(each) for each in inputs]) for model in work.float_models]
    scored = ScoredQueries(np.array([each.relevant for each in labelled]), {"float": logits})
    funnel, stages = config.funnel, range(len(config.funnel.stages))
    exact = [None] * (len(stages) - 1)
    one = scored.values("float", stages[-1:], funnel.keep[-1:], funnel.items)["ndcg"]
    many = scored.values("float", stages, funnel.keep, funnel.items, filters=exact)["ndcg"]
    return {
        "queries": len(labelled),
        "one": bootstrap(one)._asdict(),
        "funnel": bootstrap(many)._asdict(),
        "difference": bootstrap_difference(many, one)._asdict(),
    }


def bench(
    config: Config,
    *,
    queries: int = 2000,
    workers: int = 0,
    seconds: float = 15.0,
    labelled: int = 512,
    seed: int = 1,
) -> dict[str, Any]:
    """Measure capacity, tails at a load, and quality of one stage and of the funnel.

    Parameters
    ----------
    config : Config
        With trained models and a funnel of two stages or more.
    queries : int
        Sent to each at random times.
    workers : int
        Processes; by default a processor less than there are, for whoever sends queries.
    seconds : float
        For each measurement of a capacity.
    labelled : int
        Queries on which quality is compared.
    seed : int
        Of the arrivals.

    Raises
    ------
    ConfigError
        The configuration has no trained models, or one stage only.
    LoadError
        The generator did not keep up, or a query was not answered.
    """
    work = Workflow(config)
    if work.dataset is None or len(config.funnel.stages) < 2:
        raise ConfigError("needs trained models (data.source) and a funnel of two stages or more")
    workers = workers or max(1, len(os.sched_getaffinity(0)) - 1)
    models = work.float_models
    sides = {"one": (last_alone(config), models[-1:]), "funnel": (config, models)}
    found = asyncio.run(_measure(sides, work.queries, workers, queries, seconds, seed))
    tails = {name: each["latency"]["percentiles"].get("p99") for name, each in found.items()}
    ratio = tails["one"]["value"] / tails["funnel"]["value"] if all(tails.values()) else None
    return {
        "name": config.name,
        "machine": machine(),
        "workers": workers,
        "busy": os.getloadavg()[0],
        "stages": {name: _described(each) for name, (each, _) in sides.items()},
        "qps": SHARE * found["one"]["capacity"],
        **found,
        "ratio": ratio,
        "target": TARGET,
        "quality": quality(config, work, labelled),
    }


def _described(config: Config) -> str:
    funnel = config.funnel
    items = [funnel.items, *funnel.keep[:-1]]
    return " -> ".join(f"{s} {n}" for s, n in zip(funnel.stages, items, strict=True))


async def _measure(
    sides: Mapping[str, tuple[Config, Sequence[FloatModel]]],
    samples: Sequence[Query],
    workers: int,
    queries: int,
    seconds: float,
    seed: int,
) -> dict[str, Any]:
    """Capacities of all first, then all at the share of the first one's."""
    found: dict[str, Any] = {}
    services = {
        name: Service(partial(CpuFunnel, *side), workers=workers, depth=1, limit=1 << 20)
        for name, side in sides.items()
    }
    async with services["one"], services["funnel"]:
        for name, service in services.items():
            await capacity(service, samples, 1.0)  # PyTorch's own warm-up
            found[name] = {"capacity": await capacity(service, samples, seconds)}
        qps = SHARE * found["one"]["capacity"]
        arrivals = exponential_arrivals(queries, qps, np.random.default_rng(seed)).tolist()
        for name, service in services.items():
            answers, latencies = await open_loop(service, samples, arrivals)
            bad = [each.reason for each in answers if each.status != Status.answered]
            if bad:
                raise LoadError(f"{len(bad)} queries were not answered: {bad[0]}")
            found[name]["latency"] = summarise(latencies).as_dict()
    return found


def table(report: Mapping[str, Any]) -> str:
    """Lay the report out as text."""
    rows = []
    for name, text in report["stages"].items():
        each = report[name]
        p99 = each["latency"]["percentiles"].get("p99")
        rows.append(
            [
                text,
                f"{each['capacity']:.1f}",
                *(
                    ["-", "-", "-"]
                    if p99 is None
                    else [
                        "-" if p99[key] is None else f"{p99[key] * 1e3:.1f}"
                        for key in ("value", "low", "high")
                    ]
                ),
                f"{report['quality'][name]['mean']:.4f}",
            ]
        )
    change, ratio = report["quality"]["difference"], report["ratio"]
    lines = [
        grid(
            f"{report['workers']} workers of one thread, exponential arrivals at "
            f"{report['qps']:.1f} QPS, {SHARE:.0%} of one stage's capacity",
            ["", "QPS at most", "p99 ms", "from", "to", "NDCG"],
            rows,
        ),
        "",
        "p99 of one stage over that of the funnel: "
        + ("none, not steady" if ratio is None else f"{ratio:.2f} (target {report['target']:g})"),
        f"NDCG, funnel - one stage: {change['mean']:+.4f} ({change['low']:+.4f} .. "
        f"{change['high']:+.4f}), {report['quality']['queries']} queries",
        f"{report['machine']}; load average {report['busy']:.1f} when it was done",
    ]
    for name, text in report["stages"].items():
        latency = report[name]["latency"]
        if latency["reason"] or "p99" not in latency["percentiles"]:
            lines.append(f"{text}: {latency['reason'] or '; '.join(latency['notes'])}")
    return "\n".join(lines)
