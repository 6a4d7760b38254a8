"""`rpaccel predict`: what it reports, what it calls statistical, what it refuses."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.compiler import compile_image
from rpaccel.errors import ConfigError
from rpaccel.predict import Predictor, drawn_hits, report, text
from sw_model.random_models import random_models, random_query
from tests.workloads import workload


@pytest.fixture(scope="module")
def predictor():
    config = workload()
    models = random_models(config, np.random.default_rng(3))
    return Predictor(config, models, compile_image(config, models))


@pytest.fixture(scope="module")
def queries(predictor):
    rng = np.random.default_rng(4)
    return [random_query(predictor.config.features, 40, rng) for _ in range(3)]


def test_report(predictor, queries):
    found = report(predictor, [predictor.job(q) for q in queries])
    json.dumps(found)
    assert found["kind"] == "traced"
    alone, both = found["alone"], found["back_to_back"]
    assert len(alone) == len(both["latencies"]) == 3
    assert min(alone) < both["per_query"] * 3 < sum(alone)  # queries overlap
    for states in found["states"]["units"].values():
        assert sum(states.values()) == pytest.approx(1)
    layers = [row["layer"] for rows in found["layers"].values() for row in rows]
    assert len(layers) == sum(len(p.layers) for s in predictor.image.stages for p in s.programs)
    assert found["limit"]["unit"] == "group0"
    shown = text(found)
    assert "STATISTICAL" not in shown
    assert "group0" in shown


def test_hit_rates_are_statistical(predictor):
    jobs = [predictor.untraced()] * 2
    shares = [report(predictor, jobs, drawn_hits(predictor.config, [r, r])) for r in (1.0, 0.0)]
    hits, misses = shares
    assert {found["kind"] for found in shares} == {"statistical"}
    assert "STATISTICAL" in text(hits)
    assert hits["states"]["units"]["memory0"]["busy"] == 0
    assert misses["back_to_back"]["cycles"] > 1.1 * hits["back_to_back"]["cycles"]


@pytest.mark.parametrize("rates", [[0.5], [0.5, 1.1], [0.5, 0.5, 0.5], [-0.1, 1]])
def test_bad_hit_rates(predictor, rates):
    with pytest.raises(ConfigError, match=r"hit rates must be 2 shares of 0\.\.1, one a stage"):
        drawn_hits(predictor.config, rates)


def test_completions_follow_arrivals(predictor, queries):
    together = predictor.completions(queries, [0, 0, 0])
    apart = predictor.completions(queries, [0, 50_000, 100_000])
    assert together == sorted(together)
    assert apart[0] <= together[0]
    assert all(0 < done - arrival < 5000 for done, arrival in zip(apart, [0, 50_000, 100_000]))


def test_command_refuses_hit_rates_of_other_stages():
    done = CliRunner().invoke(app, ["predict", "tests/tiny.toml", "--hit-rate", "0.5"])
    assert done.exit_code == 2
    assert done.stdout == ""
