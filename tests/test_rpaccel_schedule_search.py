"""Plans, their screening and simulation, and what the search answers."""

from __future__ import annotations

import json
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.config import load
from rpaccel.errors import ConfigError
from rpaccel.load import Stage, exponential_arrivals
from rpaccel.load.theory import MDc
from rpaccel.quality import ScoredQueries
from rpaccel.schedule.backends import Backend, Served
from rpaccel.schedule.command import duration, report, text
from rpaccel.schedule.plans import Plan, Segment, plans, wait_quantile
from rpaccel.schedule.qualities import Qualities, Rated, funnels, measure
from rpaccel.schedule.search import Targets, dominated, frontier, schedule, simulate_plan

ROOT = Path(__file__).parents[1]
QUERIES = 200_000


class Planted(Backend):
    """A platform whose times are given: seconds an item by model; units serve a query each."""

    kind = "modelled"
    machine = source = "planted"

    def __init__(self, name: str, units: int, times: dict[str, float], **more: object) -> None:
        self.name, self.units, self.times = name, units, times
        self.__dict__.update(more)

    def serve(self, model: str, items: int, units: int) -> Served | None:
        return Served(self.times[model] * items, units) if model in self.times else None


def rated(stages: list[str], items: list[int], mean: float, **more: object) -> Rated:
    return Rated(stages=stages, items=items, mean=mean, **more)


def table(rows: list[Rated], reference: Rated) -> Qualities:
    return Qualities(
        name="planted",
        kind="modelled",
        metric="NDCG@10",
        source="planted",
        serves=10,
        reference=reference,
        rows=rows,
    )


def random_case(rng: np.random.Generator) -> tuple[list[Backend], Qualities]:
    """Two platforms, three models, quality that grows with model and items."""
    cost = {"a": 1e-6, "b": 5e-6, "c": 20e-6}
    backends: list[Backend] = [
        Planted(
            name, int(rng.integers(1, 6)), {m: t * rng.uniform(0.5, 2) for m, t in cost.items()}
        )
        for name in ("x", "y")
    ]
    rows = [
        rated(list(models), list(items), float(rng.uniform(0.5, 1)))
        for models in (("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("a", "b", "c"))
        for items in ((1000, 200, 50), (500, 100, 50))
        for items in [items[: len(models)]]
    ]
    return backends, table(rows, rated(["c"], [1000], 1.0))


@pytest.mark.parametrize("servers", [1, 2, 8, 34])
@pytest.mark.parametrize("load_", [0.3, 0.7, 0.9])
def test_estimated_waits_are_those_of_theory(servers: int, load_: float) -> None:
    queue = MDc(load_, servers)
    exact = max(0.0, queue.latency_quantile(0.99) - 1)
    found = wait_quantile(1.0, servers, queue.rate, 0.99)
    assert found == pytest.approx(exact, abs=0.1 if servers == 1 else 0.3 / servers + 0.02)


def test_no_estimate_from_the_capacity_on() -> None:
    assert wait_quantile(1.0, 2, 2.0, 0.99) == math.inf
    plan = next(
        plans([Planted("x", 1, {"a": 1e-3})], table([rated(["a"], [10], 1)], rated(["a"], [10], 1)))
    )
    assert plan.capacity == pytest.approx(100)
    assert plan.p99(100) == math.inf
    assert math.isfinite(plan.p99(99))


def test_sub_batches_overlap_as_if_each_were_followed() -> None:
    """A query of 4 sub-batches through 2 stages and a delay, each sub-batch by hand."""
    segments = (
        Segment(1, (Stage(3.0, 1, "in"),)),
        Segment(4, (Stage(2.0, 1, "f"), Stage(0.5, None, "d"), Stage(3.0, 1, "b"))),
    )
    plan = Plan(rated(["a"], [10], 1), 1.0, (), segments)
    arrivals = np.array([0.0, 1.0, 50.0])
    done, free = [], [0.0, 0.0, 0.0]
    for arrival in arrivals:
        free[0] = max(arrival, free[0]) + 3.0
        for _ in range(4):
            free[1] = max(free[0], free[1]) + 2.0
            free[2] = max(free[1] + 0.5, free[2]) + 3.0
        done.append(free[2])
    assert plan.alone == pytest.approx(done[2] - 50.0)
    assert plan.capacity == pytest.approx(1 / 12)
    many = np.concatenate([arrivals, 50.0 + 1000.0 * np.arange(1, 2000)])
    found = simulate_plan(plan, 0.001, many)
    assert found.summary.steady
    assert found.summary.percentiles[50].value == pytest.approx(plan.alone)


def test_simulation_agrees_with_the_estimate() -> None:
    backends = [Planted("x", 6, {"a": 1e-6, "b": 5e-6})]
    qualities = table([rated(["a", "b"], [1000, 200], 1)], rated(["b"], [1000], 1))
    every = list(plans(backends, qualities))
    assert len(every) == 5
    rng = np.random.default_rng(1)
    for plan in every:
        qps = 0.8 * plan.capacity
        found = simulate_plan(plan, qps, exponential_arrivals(QUERIES, qps, rng))
        assert found.p99 == pytest.approx(plan.p99(qps), rel=0.1)


def test_plans_are_all_ways_to_place_a_funnel() -> None:
    backends = [Planted("x", 3, {"a": 1, "b": 1}), Planted("y", 1, {"b": 1})]
    qualities = table([rated(["a", "b"], [20, 10], 1)], rated(["b"], [20], 1))
    found = [
        tuple((p.platform, p.units) for p in plan.places) for plan in plans(backends, qualities)
    ]
    assert sorted(found) == [
        (("x", 1), ("x", 2)),
        (("x", 2), ("x", 1)),
        (("x", 3), ("y", 1)),
    ]


def test_a_platform_is_visited_once() -> None:
    backends = [Planted(name, 2, {"a": 1, "b": 1, "c": 1}) for name in ("x", "y")]
    qualities = table([rated(["a", "b", "c"], [30, 20, 10], 1)], rated(["c"], [30], 1))
    wheres = {tuple(p.platform for p in plan.places) for plan in plans(backends, qualities)}
    assert wheres == {("x", "x", "y"), ("x", "y", "y"), ("y", "x", "x"), ("y", "y", "x")}


def test_quality_is_that_of_the_arithmetic() -> None:
    backends = [Planted("x", 1, {"a": 1}), Planted("y", 1, {"a": 1}, int8=True)]
    rows = [rated(["a"], [10], 0.8), rated(["a"], [10], 0.4, int8=True), rated(["a"], [5], 0.2)]
    found = {
        (plan.places[0].platform, plan.rated.items[0]): plan.quality
        for plan in plans(backends, table(rows, rated(["a"], [10], 0.8)))
    }
    assert found == {("x", 10): 1.0, ("y", 10): 0.5, ("x", 5): 0.25, ("y", 5): 0.25}


def test_planted_optima_are_found(rng: np.random.Generator) -> None:
    """One plan is made the best by far: the only good funnel, fast on one provision only."""
    for _ in range(5):
        backends, qualities = random_case(rng)
        rows = [row.model_copy(update={"mean": row.mean * 0.9}) for row in qualities.rows]
        planted = rows[int(rng.integers(len(rows)))]
        rows = [row.model_copy(update={"mean": 1.0}) if row is planted else row for row in rows]
        fast = Planted("z", len(planted.stages), {m: 1e-8 for m in planted.stages})
        answer = schedule(
            [*backends, fast],
            qualities.model_copy(update={"rows": rows}),
            Targets(200.0, 5e-3, 0.95),
            queries=QUERIES,
        )
        assert answer.best is not None
        assert answer.best.plan.rated.funnel == planted.funnel
        assert {p.platform for p in answer.best.plan.places} == {"z"}
        assert [p.units for p in answer.best.plan.places] == [1] * len(planted.stages)


def test_provisioning_is_planted() -> None:
    """The second stage needs three times the first's units to keep up."""
    backend = Planted("x", 8, {"a": 1e-6, "b": 15e-6})
    qualities = table([rated(["a", "b"], [1000, 200], 1)], rated(["b"], [1000], 1))
    answer = schedule([backend], qualities, Targets(1900.0, 60e-3, 1.0), queries=QUERIES)
    assert answer.best is not None
    assert [place.units for place in answer.best.plan.places] == [2, 6]


def test_screening_finds_what_simulating_everything_finds(rng: np.random.Generator) -> None:
    for _ in range(3):
        backends, qualities = random_case(rng)
        targets = Targets(150.0, 1.0, 0.6)
        answer = schedule(backends, qualities, targets, queries=QUERIES, seed=3)
        arrivals = exponential_arrivals(100_000, targets.qps, np.random.default_rng(3))
        every = [
            simulate_plan(plan, targets.qps, arrivals)
            for plan in plans(backends, qualities)
            if plan.capacity > 1.5 * targets.qps
        ]
        least = min(s.p99 for s in every if s.meets(targets))
        assert answer.best is not None
        assert answer.best.p99 <= 1.03 * least


def test_no_point_of_the_frontier_is_dominated(rng: np.random.Generator) -> None:
    for _ in range(5):
        backends, qualities = random_case(rng)
        answer = schedule(backends, qualities, Targets(100.0, 1.0, 0.5), queries=QUERIES)
        assert answer.frontier
        for one in answer.frontier:
            for other in answer.frontier:
                better = [b >= a for a, b in zip(one.goals, other.goals, strict=True)]
                assert not all(better) or one.goals == other.goals


def test_dominated_rows() -> None:
    rows = np.array([(1, 1), (2, 1), (1, 2), (2, 1), (0, 3), (0, 2)], float)
    assert dominated(rows).tolist() == [True, False, False, False, False, True]


def test_frontier_keeps_what_estimates_do_not_decide() -> None:
    backends = [Planted("x", 1, {m: t for m, t in zip("abc", (1e-3, 1.01e-3, 2e-3), strict=True)})]
    rows = [rated([m], [10], 1) for m in "abc"]
    every = list(plans(backends, table(rows, rows[0])))
    estimates = np.array([plan.p99(1.0) for plan in every])
    assert [every[n].rated.stages for n in frontier(every, estimates)] == [["a"], ["b"]]


def test_infeasible_targets_are_said_so_with_the_nearest() -> None:
    backend = Planted("x", 1, {"a": 1e-6, "b": 10e-6})
    rows = [rated(["a"], [1000], 0.5), rated(["b"], [1000], 1.0)]
    answer = schedule([backend], table(rows, rows[1]), Targets(50.0, 5e-3, 0.9), queries=QUERIES)
    assert answer.best is None
    assert set(answer.nearest) == {"p99", "quality"}  # no load is low enough
    assert answer.nearest["p99"].plan.rated.stages == ["b"]
    assert answer.nearest["p99"].p99 > 10e-3
    assert answer.nearest["quality"].plan.rated.stages == ["a"]
    assert answer.nearest["quality"].p99 <= 5e-3
    found = report(answer, [backend], table(rows, rows[1]))
    assert not found["feasible"]
    assert "Infeasible" in text(found)
    assert "nearest, lowest p99 with the rest kept: b" in text(found)
    assert "nearest, most queries a second with the rest kept: no plan" in text(found)
    json.dumps(found, allow_nan=False)


def test_nearest_load_is_simulated() -> None:
    backend = Planted("x", 1, {"b": 10e-6})
    rows = [rated(["b"], [1000], 1.0)]
    answer = schedule([backend], table(rows, rows[0]), Targets(95.0, 30e-3, 0.9), queries=QUERIES)
    assert answer.best is None
    assert answer.nearest["qps"].p99 <= 30e-3
    exact = MDc(answer.nearest["qps"].qps * 1.05 / 100, 1, 10e-3).latency_quantile(0.99)
    assert exact > 30e-3 * 0.99


def test_nothing_to_choose_from_is_an_error() -> None:
    rows = [rated(["b"], [1000], 1.0)]
    with pytest.raises(ConfigError, match="no platform has times.*x.*b"):
        schedule([Planted("x", 1, {"a": 1})], table(rows, rows[0]), Targets(1, 1, 1))


@pytest.mark.parametrize(("qps", "p99", "quality"), [(0, 1, 1), (1, -1, 1), (1, 1, math.nan)])
def test_bad_targets_are_named(qps: float, p99: float, quality: float) -> None:
    with pytest.raises(ConfigError, match="must be a positive number"):
        Targets(qps, p99, quality)


def test_durations() -> None:
    assert duration("25ms") == pytest.approx(0.025)
    assert duration("1.5s") == 1.5
    assert duration(".5us") == pytest.approx(5e-7)
    for bad in ("25", "ms", "-1ms", "0ms", "1 m"):
        with pytest.raises(ConfigError, match="like 25ms"):
            duration(bad)


def test_funnels_of_a_configuration_fall_and_are_distinct() -> None:
    config = load(ROOT / "examples/recpipe.toml")
    found = funnels(config)
    assert len(set(found)) == len(found)
    assert ((0, 1, 2), 4096, (512, 128, 64)) in found
    assert ((2,), 4096, (64,)) in found
    for stages, items, keep in found:
        sizes = [items, *keep]
        assert sizes[-1] == 64
        assert all(a > b for a, b in pairwise(sizes[:-1]))
        assert list(stages) == sorted(set(stages))


def test_quality_is_measured_by_funnel(rng: np.random.Generator) -> None:
    config = load(ROOT / "examples/demo.toml")
    funnel = config.funnel.model_copy(update={"items": 64, "keep": [16, 8]})
    config = config.model_copy(update={"funnel": funnel})
    relevant = rng.random((20, 64)) < 0.2
    good = relevant + rng.normal(0, 0.3, relevant.shape)
    logits = [rng.normal(0, 1, relevant.shape), good]
    scored = ScoredQueries(relevant, {"float": logits, "int8": [logits[0], -good]})
    found = measure(config, scored)
    front, back = config.funnel.stages
    values = found.rated(int8=False)
    assert found.reference.mean == values[(back,), (64,)].mean
    assert values[(back,), (64,)].mean > values[(front, back), (64, 16)].mean
    assert values[(front, back), (64, 16)].mean > values[(front,), (64,)].mean
    assert found.rated(int8=True)[(back,), (64,)].mean < values[(front,), (64,)].mean


def test_five_thousand_plans_a_minute_are_screened(rng: np.random.Generator) -> None:
    backends, qualities = random_case(rng)
    begun = time.perf_counter()
    every = [plan.p99(150.0) for _ in range(3) for plan in plans(backends, qualities)]
    assert len(every) / (time.perf_counter() - begun) * 60 > 5000


def test_command_answers_for_the_reference_platforms(tmp_path: Path) -> None:
    arguments = [
        "schedule", str(ROOT / "examples/recpipe.toml"), "--qps", "100", "--p99", "50ms",
        "--platform", "cascade-lake-64", "--platform", "t4", "--qualities", "recpipe-criteo",
        "--queries", "1000000", "--cache", str(tmp_path), "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    # RecPipe's section 5: at a low load one stage on the GPU is best ...
    assert found["feasible"]
    assert [stage["platform"] for stage in found["best"]["stages"]] == ["t4"]
    assert found["best"]["p99"] == pytest.approx(21.7e-3, rel=0.03)
    # ... and two stages beat one on the CPU
    two, one = (
        found["alternatives"][f"{n} on cascade-lake-64"]["p99"] for n in ("2 stages", "1 stage")
    )
    assert two < 0.7 * one
    assert {platform["kind"] for platform in found["platforms"]} == {"derived"}
    assert found["limits"]["bottleneck"] == "t4: RM-large"
    assert "Best plan: RM-large 4096 on 1 t4" in text(found)


def test_command_names_what_is_wrong(tmp_path: Path) -> None:
    config = str(ROOT / "examples/recpipe.toml")
    base = ["schedule", config, "--qps", "100", "--qualities", "recpipe-criteo"]
    for more, message in (
        (["--p99", "25"], "like 25ms"),
        (["--p99", "25ms", "--platform", "tpu"], "'tpu' is not among"),
        (["--p99", "25ms", "--platform", "t4", "--platform", "t4"], "must be distinct"),
        (["--p99", "25ms", "--qps", "-1"], "qps must be a positive"),
    ):
        done = CliRunner().invoke(app, [*base, *more])
        assert done.exit_code == 2
        assert message in done.stderr
