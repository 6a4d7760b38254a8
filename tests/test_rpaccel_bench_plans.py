"""The scheduler's best plans, run on this computer's CPU."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rpaccel import bench_cpu, bench_plans
from rpaccel.config import load
from rpaccel.errors import ConfigError
from rpaccel.schedule.qualities import Qualities, Rated
from rpaccel.serve import Service
from rpaccel.serve.cpu import CpuFunnel
from rpaccel.workflow import Workflow
from sw_model.query import Ranking

pytest.importorskip("torch", reason="platform cpu needs PyTorch")
DEMO = "examples/demo.toml"


def test_stages_in_tandem_rank_as_the_funnel_does() -> None:
    work = Workflow(load(DEMO))
    config = work.config
    query = work.queries[0]
    front, back = (
        partial(CpuFunnel, bench_plans._stage(config, name, items, keep), [model])
        for name, items, keep, model in zip(
            ("front", "back"), (1024, 128), (128, 64), work.float_models, strict=True
        )
    )

    async def run() -> Ranking:
        async with Service(front) as first, Service(back) as second:
            tandem = bench_plans.Tandem(config, [first, second], 1024)
            answer = await tandem.submit(query)
            assert answer.ranking is not None, answer.reason
            return answer.ranking

    with CpuFunnel(config, work.float_models) as whole:
        expected = whole.rank(query)
    found = asyncio.run(run())
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.positions, expected.positions)


def test_the_best_plans_are_predicted_and_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_cpu, "LEAST_LAG", 10.0)  # whatever else this computer does
    monkeypatch.setattr(bench_plans, "MOST", 2)
    rows = [
        Rated(stages=["back"], items=[1024], mean=1.0),
        Rated(stages=["front", "back"], items=[1024, 128], mean=1.0),
        Rated(stages=["front"], items=[1024], mean=0.9),
    ]
    table = Qualities(
        name="planted",
        kind="modelled",
        metric="NDCG@64",
        source="planted",
        serves=64,
        reference=rows[0],
        rows=rows,
    )
    monkeypatch.setattr(bench_plans, "measured", lambda config, cache: table)
    report = bench_plans.bench(load(DEMO), tmp_path, queries=330)
    assert 1 <= len(report["plans"]) <= 2
    assert report["platform"]["kind"] == "measured"
    for row in report["plans"]:
        assert row["quality"] == 1.0
        for p in ("p50", "p99"):
            assert row["errors"][p] == pytest.approx(row["predicted"][p] / row["measured"][p] - 1)
    assert report["plans"][0]["plan"] in bench_plans.table(report)


def test_random_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs trained models"):
        bench_plans.bench(load("tests/tiny.toml"), tmp_path)
