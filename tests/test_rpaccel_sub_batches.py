"""A funnel in other numbers of sub-batches."""

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.explain import explain_sub_batches
from rpaccel.sub_batches import alternatives
from sw_model.random_models import random_models
from tests.workloads import workload

APART = [{"rows": 2, "cols": 2, "stages": [stage]} for stage in range(2)]


def found(config):
    models = random_models(config, np.random.default_rng(3))
    rows = {row.sub_batches: row for row in alternatives(config, models)}
    stages = compile_image(config, models).stages
    return rows, [[program.cycles for program in stage.programs] for stage in stages]


def test_stages_on_groups_of_their_own():
    """The slower stage sets the pace, by the cycles that the compiler predicts."""
    rows, cycles = found(workload(groups=APART, items=64, keep=[32, 16], sub_batches=2))
    assert list(rows) == [1, 2, 4, 8, 16, 32]
    assert rows[2].items == [32, 16]
    assert rows[1].flow is None  # a group has accumulators for 32 items
    assert rows[2].flow.cycles == pytest.approx(2 * max(cycles)[0], rel=0.02)
    assert rows[2].flow.latency < 2 * sum(map(sum, cycles))
    for row in (rows[8], rows[16]):  # a tile's weights take 4 cycles to load, an item of four one
        assert row.flow.cycles > rows[2].flow.cycles


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_slow_back_end_sets_the_pace_whatever_is_in_flight(slots):
    """Fronts run ahead as far as there are slots; that is no part of the pace."""
    config = workload(
        groups=APART, items=64, keep=[64, 64], sub_batches=2, hardware={"query_slots": slots}
    )
    rows, cycles = found(config)
    assert cycles[1][0] > 2 * cycles[0][0]
    pace = 2 * cycles[1][0]
    if slots > 1:
        assert rows[2].flow.cycles == pytest.approx(pace, rel=0.01)
    else:  # nothing overlaps the end of a query
        assert rows[2].flow.cycles == pytest.approx(rows[2].flow.latency, rel=0.02)


def test_sub_batches_that_are_not_even():
    """10 items in 3 sub-batches are 4, 4 and 2; five survivors in 8 leave some of them nothing."""
    even, _ = found(workload(groups=APART, items=12, keep=[6, 6], sub_batches=3))
    rows, _ = found(workload(groups=APART, items=10, keep=[5, 5], sub_batches=3))
    assert rows[3].items == [4, 2]
    assert rows[3].flow.cycles < even[3].flow.cycles
    some = workload(groups=APART, items=30, keep=[5, 5], sub_batches=8)
    assert found(some)[0][8].flow.cycles > 0


def test_what_is_not_predicted():
    models = random_models(workload(), np.random.default_rng(3))
    values = workload().model_dump()
    values["funnel"]["global_release"] = [0]
    assert alternatives(Config.model_validate(values), models) == []
    assert "not predicted for global_release" in explain_sub_batches(3, [])


def test_too_large_for_a_group_that_is_not_used():
    """The driver refuses sub-batches that are too large for any group that serves a stage."""
    groups = [
        {"rows": 2, "cols": 2, "shapes": [[1, 1]], "stages": [0, 1]},
        {"stages": [0, 1]},
    ]
    values = workload(groups=groups, items=64, keep=[32, 16], sub_batches=2).model_dump()
    values["funnel"]["groups"] = [[0], [0]]
    rows, _ = found(Config.model_validate(values))
    assert rows[1].flow is None
    assert rows[2].flow is not None


def test_programs_that_do_not_fit():
    config = workload(groups=APART, items=64, keep=[32, 16], sub_batches=2)
    values = config.model_dump()
    values["hardware"]["program_depth"] = 8
    config = Config.model_validate(values)
    models = random_models(config, np.random.default_rng(3))
    assert {row.flow for row in alternatives(config, models)} == {None}


def test_a_group_for_both_stages():
    rows, cycles = found(workload(items=64, keep=[32, 16], sub_batches=2))
    assert rows[2].flow.cycles == pytest.approx(2 * sum(map(sum, cycles)), rel=0.02)


def test_groups_of_the_funnel_only():
    """Three groups for both stages: those that the funnel names take the work."""
    groups = [{"stages": [0, 1]} for _ in range(3)]
    values = workload(groups=groups, items=64, keep=[32, 16], sub_batches=4).model_dump()
    every, _ = found(Config.model_validate(values))
    values["funnel"]["groups"] = [[0], [0]]
    one, cycles = found(Config.model_validate(values))
    assert one[4].flow.cycles == pytest.approx(4 * sum(c[0] for c in cycles), rel=0.02)
    assert one[4].flow.cycles / every[4].flow.cycles == pytest.approx(3, rel=0.02)


def test_shown():
    config = workload(groups=APART, items=48, keep=[32, 16], sub_batches=3)
    rows, _ = found(config)
    text = explain_sub_batches(3, list(rows.values()))
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "48", "32", "too", "large"] in lines
    assert [line[0] for line in lines if line[-1] == "configured"] == ["3"]
    assert f"{rows[3].flow.latency}" in text
