"""The cycle model of the whole machine against the RTL: every query, layer and state, exactly."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from benchmarks.predict_agreement import Setting, compare, settings
from benchmarks.predict_errors import events, states
from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.predict import Predictor
from sw_model.cycles.machine import simulate
from sw_model.cycles.programs import Programs
from sw_model.random_models import random_models, random_query
from tests.image_interpreter import LoadedImage
from tests.workloads import workload


def small(rng, *, reorder=False, **changes):
    """Two stages, three queries, all ways in which a row can come."""
    config = workload(**changes)
    values = config.model_dump()
    values["simulation"] |= {"memory_reorder": reorder, "host_latency": 30, "host_rate": 5.0}
    config = Config.model_validate(values)
    models = random_models(config, rng)
    how = {"keep": config.funnel.keep, "sub_batch": config.funnel.sub_batch_items}
    queries = [(random_query(config.features, 40, rng), how) for _ in range(3)]
    return Setting(config, models, compile_image(config, models), queries)


def check(row):
    """All of what RTL counted is what the model says."""
    assert row["rtl"]["queries"] == row["model"]["queries"]
    compared = states(row) | events(row)
    wrong = {name: both for name, both in compared.items() if both[0] != both[1]}
    assert not wrong
    assert row["rtl"]["layers"]
    assert row["rtl"]["layers"] == row["model"]["layers"]


def test_agrees_with_rtl(rng):
    """Model and RTL may not drift apart: two groups share the first stage, the second has dots."""
    groups = [{"rows": 2, "cols": 2, "stages": [0, 1]}, {"rows": 1, "cols": 2, "stages": [0]}]
    models = [
        {"name": "front", "dimensions": 3, "bottom": [5], "top": [6, 1]},
        {"name": "back", "interaction": "dot", "dimensions": 7, "bottom": [9, 7], "top": [13, 1]},
    ]
    dot = [{"stage": 1, "vectors": 5, "dimension": 8, "macs": 10}]
    setting = small(rng, groups=groups, models=models, hardware={"dot": dot})
    row = compare(setting)
    counts = row["rtl"]["counts"]
    assert min(counts["gather0.misses"], counts["group1.busy"], counts["topk0.busy"]) > 20
    assert min(counts[f"gather1.{n}"] for n in ("static_hits", "lookahead_hits", "evictions")) > 0
    check(row)
    # Of 20 sub-batches the second stage gets one item: a query ends behind the last one anyway.
    how = {"keep": [1, 1], "sub_batch": 2}
    slow = setting.config.model_dump()
    slow["simulation"] |= {"memory_latency": 500}
    queries = [(query, how) for query, _ in setting.queries]
    row = compare(replace(setting, config=Config.model_validate(slow), queries=queries))
    assert row["rtl"]["counts"]["gather1.items"] == 3
    check(row)


@pytest.fixture(scope="module")
def drawn():
    """Configurations of random machines, one of them with dot interactions."""
    return [next(settings(seed)) for seed in (9000, 9002, 9004)]


def run(setting, **changes):
    """Run the model alone."""
    predictor = Predictor(setting.config, setting.models, setting.image)
    jobs = [predictor.job(query, **how) for query, how in setting.queries]
    work = predictor.work(jobs)
    return simulate(work, setting.config.simulation, [0, 0, 700], **changes)


def test_cycles_without_a_change_may_be_skipped(drawn):
    for setting in drawn:
        one, other = run(setting), run(setting, skip=False)
        assert one.states == other.states
        assert (one.queries == other.queries).all()
        assert all((a == b).all() for a, b in zip(one.tokens, other.tokens, strict=True))


def test_states_add_up_and_queries_go_on(drawn):
    for setting in drawn:
        done = run(setting)
        assert {sum(states.values()) for states in done.states.values()} == {done.cycles}
        times = [done.queries[n] for n in ("fetched", "opened", "ranked", "requested", "completed")]
        assert all((np.diff(np.stack(times), axis=0) > 0).ravel())
        assert 0 < done.active < done.cycles
        busy = sum(s["busy"] for unit, s in done.states.items() if unit.startswith("group"))
        assert busy > 0


def test_programs_are_those_of_the_image(drawn):
    for setting in drawn:
        hardware, image = setting.config.hardware, setting.image
        found = Programs(hardware, image.data)
        loaded = LoadedImage(hardware, image.data, generated=image.generated)
        for stage in range(len(setting.models)):
            assert found.stages[stage] == loaded.stage(stage)
            assert found.steps(stage) == loaded.steps(stage)
            for lane, fields in enumerate(found.fields(stage)):
                expected = [loaded.field(stage, lane, n) for n in range(len(fields))]
                assert fields == expected
            for group in hardware.groups_of(stage):
                assert found.entry(stage, group) == loaded.entry(stage, group)
                assert found.program(stage, group) == loaded.program(stage, group)


def test_memory_decides_only_where_it_is_asked(drawn):
    """A slower memory makes misses wait longer; rows on chip do not care."""
    setting = drawn[0]
    slow = setting.config.model_dump()
    slow["simulation"] |= {"memory_latency": 4000, "memory_reorder": False, "dram": None}
    slower = replace(setting, config=Config.model_validate(slow))
    assert run(slower).cycles > run(setting).cycles + 3000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [9000, 9002, 9007])
def test_random_machine(seed):
    """Where memory answers in its order, there is nothing that the model does not know."""
    for setting in islice(settings(seed), 3):
        values = setting.config.model_dump()
        values["simulation"] |= {"memory_reorder": False}
        check(compare(replace(setting, config=Config.model_validate(values))))
