"""The CPU as a device, with the demo's trained models, and what it measures."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from rpaccel import bench_cpu
from rpaccel.config import load
from rpaccel.errors import ConfigError, LoadError, QueryError
from rpaccel.serve import Answer, Service, Status
from rpaccel.serve.cpu import CpuFunnel
from rpaccel.workflow import Workflow
from sw_model.dataset import DENSE_SCALE
from sw_model.dlrm import Inputs
from sw_model.funnel import rank_scores
from sw_model.numerics import logits
from sw_model.query import Query
from tests.test_rpaccel_serve import Slow, query

pytest.importorskip("torch", reason="device cpu needs PyTorch")
DEMO = "examples/demo.toml"


@pytest.fixture(scope="module")
def work() -> Workflow:
    return Workflow(load(DEMO))


def inputs(work: Workflow, each: Query) -> Inputs:
    """What the float models get of a device's query."""
    dense = np.concatenate(
        [np.broadcast_to(each.dense_query, (each.items, len(each.dense_query))), each.dense_item],
        axis=1,
    )
    bags = {
        t.name: np.broadcast_to(each.indices[t.name], (each.items, t.lookups))
        for t in work.config.features.tables
    }
    return Inputs(dense.astype(np.float32) * np.float32(DENSE_SCALE), bags)


def test_the_funnel_is_that_of_the_float_models(work: Workflow) -> None:
    funnel = work.config.funnel
    with CpuFunnel(work.config, work.float_models) as device:
        for each in work.queries[:4]:
            scores = [logits(model(inputs(work, each))) for model in work.float_models]
            expected = rank_scores(scores, funnel.keep, funnel.items)
            handle = device.submit(each)
            assert device.poll(handle)
            found = handle.result()
            assert (np.diff(found.scores) <= 0).all()
            assert np.abs(found.scores - scores[1][found.positions]).max() <= 1
            # the last bit of a logit may decide between neighbours
            assert len(set(found.positions) & set(expected)) >= len(expected) - 1


def test_one_stage_ranks_all_items(work: Workflow) -> None:
    alone = bench_cpu.last_alone(work.config)
    each = work.queries[0]
    with CpuFunnel(alone, work.float_models[-1:]) as device:
        found = device.rank(each)
    scores = work.float_models[-1](inputs(work, each))
    assert set(found.positions[:10]) <= set(np.argsort(-scores)[:12])


def test_queries_that_make_no_sense_are_refused(work: Workflow) -> None:
    device = CpuFunnel(work.config, work.float_models)
    good = work.queries[0]
    bad = {**good.indices, "movie": np.full_like(good.indices["movie"], 9066)}
    with pytest.raises(QueryError, match=r"table movie has rows 0..9065, not 9066"):
        device.submit(Query(good.dense_query, good.dense_item, bad, good.items))
    with pytest.raises(QueryError, match="1..1024 items here, not 0"):
        device.submit(Query(good.dense_query, good.dense_item[:0], good.indices, 0))


def test_killing_a_worker_in_mid_load_loses_no_query(work: Workflow) -> None:
    opener = partial(CpuFunnel, work.config, work.float_models)

    async def run() -> None:
        async with Service(opener, workers=2, depth=1, limit=1000) as service:
            assert (await service.submit(work.queries[0])).status == Status.answered
            tasks = [asyncio.create_task(service.submit(work.queries[n % 16])) for n in range(120)]
            while service.stats()["answered"] < 20:
                await asyncio.sleep(0.01)
            victim = service.processes[0]
            os.kill(victim, signal.SIGKILL)
            answers = await asyncio.wait_for(asyncio.gather(*tasks), 300)
            lost = [a for a in answers if a.status != Status.answered]
            assert len(lost) <= 1  # what it had
            assert all(a.reason == f"worker {victim} ended" for a in lost)
            assert (await service.submit(work.queries[1])).status == Status.answered
            stats = service.stats()
            assert (stats["restarts"], stats["workers"]) == (1, 2)

    asyncio.run(run())


def test_one_stage_and_the_funnel_are_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cpu, "LEAST_LAG", 10.0)  # whatever else this computer does
    report = bench_cpu.bench(load(DEMO), queries=400, workers=1, seconds=2.0, labelled=40)
    assert report["stages"] == {"one": "back 1024", "funnel": "front 1024 -> back 128"}
    assert min(report[side]["capacity"] for side in ("one", "funnel")) > 0
    assert report["qps"] == pytest.approx(0.8 * report["one"]["capacity"])
    difference = report["quality"]["difference"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    text = bench_cpu.table(report)
    assert "front 1024 -> back 128" in text
    # A busy computer may not give steady latencies.
    assert ("none, not steady" if report["ratio"] is None else "target 3") in text


def test_a_generator_that_does_not_keep_up_is_rejected() -> None:
    class Starving:
        """Computes in the process that sends."""

        async def submit(self, _: Query) -> Answer:
            time.sleep(0.03)
            return Answer(Status.answered, 0.03)

    service: Any = Starving()
    with pytest.raises(LoadError, match="ms late on average, more than 2 ms"):
        asyncio.run(bench_cpu.open_loop(service, [query()], [0.01 * n for n in range(40)]))


def test_a_query_that_fails_ends_a_measurement() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.0)) as service:
            await bench_cpu.capacity(service, [query(13)], 1.0)

    with pytest.raises(LoadError, match="a query was failed: 13 items are refused"):
        asyncio.run(run())


def test_stages_are_chosen_by_their_models() -> None:
    config = load("examples/recpipe.toml")
    two = bench_cpu.of_stages(config, ["RM-small", "RM-large"]).funnel
    assert (two.stages, two.keep, two.items) == (["RM-small", "RM-large"], [512, 64], 4096)
    with pytest.raises(ConfigError, match=r"among RM-small, RM-med, RM-large, not \['RM-huge'\]"):
        bench_cpu.of_stages(config, ["RM-huge"])
    with pytest.raises(ConfigError, match="at most 3 stages, not 4"):
        bench_cpu.of_stages(config, ["RM-small"] * 4)


def test_random_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs trained models"):
        bench_cpu.bench(load("tests/tiny.toml"))
