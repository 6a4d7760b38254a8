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
    assert list(rows) == [1, 2, 4, 8, 16]
    assert rows[2].items == [32, 16]
    assert rows[1].flow is None  # a group has accumulators for 32 items
    assert rows[2].flow.cycles == pytest.approx(2 * max(cycles)[0], rel=0.02)
    assert rows[2].flow.latency < 2 * sum(map(sum, cycles))
    for row in (rows[8], rows[16]):  # a tile's weights take 4 cycles to load, an item of four one
        assert row.flow.cycles > rows[2].flow.cycles


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
