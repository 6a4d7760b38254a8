"""Provisioning at run time: the policy, the driver that follows it, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, preset
from rpaccel.bench_provision import bench, day, table
from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.errors import ConfigError
from rpaccel.provision import Policy, Provisioner, Rate, choices
from rpaccel.schedule.regroup import Work, simulate_groups
from rpaccel.verify import compare
from sw_model.funnel import rank_query
from sw_model.random_models import random_models

APART = {0: (0,), 1: (1, 2, 3)}
EVEN = {0: (0, 1), 1: (2, 3)}


def test_a_policy_follows_the_rate_and_not_its_noise(rng: np.random.Generator) -> None:
    policy = Policy((1.0,), (APART, EVEN), window=50)
    slow, fast = rng.exponential(2.0, 500), rng.exponential(0.5, 500)
    arrivals = np.cumsum(np.concatenate([slow, fast, slow]))
    chosen = np.array(choices(policy, arrivals.tolist()))
    assert not chosen[:500].any()
    assert chosen[700:1000].all()
    assert not chosen[1200:].any()
    assert np.count_nonzero(np.diff(chosen)) == 2
    # within the slack around a bound nothing changes, whatever it was before
    rate = Rate(Policy((1.0,), (APART, EVEN), window=10, slack=0.2))
    for step in range(100):
        assert rate.arrived(step / 1.1) == 0


def test_bounds_must_rise_and_fit() -> None:
    with pytest.raises(ConfigError, match="a policy of 2 settings needs 1 rising bounds"):
        Policy((), (APART, EVEN))
    with pytest.raises(ConfigError, match="rising"):
        Policy((2.0, 1.0), (APART, EVEN, APART))


def test_a_query_alone_by_hand() -> None:
    """Two sub-batches, a group a stage: features 5, front 10, filter 3, back 20, filter 3."""
    work = Work(({0: 10}, {1: 20}), 2, 5.0, 3.0)
    # front from 0 to 10 and to 20; back from 13 to 33, then to 53
    assert simulate_groups([work], [100.0], [{0: (0,), 1: (1,)}]).tolist() == [56.0]
    # features that take longer than the front end: 40 and 80, then 3 + 20 + 3
    late = Work(({0: 10}, {1: 20}), 2, 40.0, 3.0)
    assert simulate_groups([late], [100.0], [{0: (0,), 1: (1,)}]).tolist() == [106.0]


def test_shared_groups_do_what_they_can() -> None:
    work = Work((dict.fromkeys(range(4), 10), dict.fromkeys(range(4), 30)), 4, 0.0, 0.0)
    assert work.interval == 40.0
    every = {0: range(4), 1: range(4)}
    arrivals = np.zeros(200)
    ends = simulate_groups([work], arrivals, [every])
    assert ends.max() == pytest.approx(200 * 40, rel=0.01)
    even = simulate_groups([work], arrivals, [EVEN])
    assert even.max() == pytest.approx(200 * 60, rel=0.01)  # two groups for 4 x 30


def test_settings_change_for_what_starts_later() -> None:
    work = Work(({0: 10, 1: 10}, {2: 1}), 1, 0.0, 0.0)
    first, second = {0: (0,), 1: (2,)}, {0: (1,), 1: (2,)}
    # both come at once; the second query finds the other group free
    taken = simulate_groups([work], [0.0, 1.0], [first, second], choices=[0, 1])
    assert taken.tolist() == [11.0, 11.0]
    taken = simulate_groups([work], [0.0, 1.0], [first, second], choices=[0, 0])
    assert taken.tolist() == [11.0, 20.0]


def test_settings_must_serve_every_stage() -> None:
    work = Work(({0: 10}, {1: 20}), 2, 5.0, 3.0)
    with pytest.raises(ConfigError, match="leaves stage 1 without a group"):
        simulate_groups([work], [0.0], [{0: (0,), 1: (0,)}])


def test_a_day_rises_and_falls(rng: np.random.Generator) -> None:
    arrivals = day(100_000, 2.0, rng)
    assert (np.diff(arrivals) >= 0).all()
    counts, edges = np.histogram(arrivals, 10)
    loads = counts / np.diff(edges) * 2.0
    assert loads[0] < 0.2
    assert loads[-1] < 0.2
    assert 0.8 < loads[4] < 0.87
    assert 0.8 < loads[5] < 0.87


def test_regrouping_is_worth_it_where_the_work_changes() -> None:
    report = bench(queries=3000)
    one, two = report["days"]
    tails = []
    for each in one, two:
        p99 = {name: latencies[99] for name, latencies in each["latencies"].items()}
        still = min(value for name, value in p99.items() if "and" in name)
        assert p99["shared"] < min(still, p99["policy"])
        tails.append(p99["policy"] / still)
    assert tails[0] == 1
    assert tails[1] < 0.9
    assert one["changes"] == 0 < two["changes"] < 100
    assert "shared" in table(report)


class Recorded:
    """A device that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def dispatch(self, groups: Mapping[int, Any]) -> None:
        self.told.append(groups)

    def submit(self, query: Any, **how: Any) -> Any:
        self.told.append(query)
        return how


def test_the_driver_regroups_once_for_a_change() -> None:
    device = Recorded()
    followed = Provisioner(device, Policy((1.0,), (APART, EVEN), window=4))
    for step in range(8):
        assert followed.submit(step, step * 2.0, sub_batch=5) == {"sub_batch": 5}
    for step in range(8, 20):
        followed.submit(step, 16.0 + (step - 8) * 0.1)
    assert followed.changes == 1
    assert [told for told in device.told if isinstance(told, dict)] == [APART, EVEN]
    assert device.told.index(EVEN) < device.told.index(19)


@pytest.mark.slow
def test_results_stay_equal_while_the_array_is_regrouped() -> None:
    """A small machine in RTL, regrouped with queries in flight, against the golden model."""
    config = load(preset("scaled"))
    models = random_models(config, np.random.default_rng(1))
    image = compile_image(config, models)
    queries = criteo_like_queries(config, TRAINING_QUERIES, 16)
    with Device(open_transport("verilator", config, models, image), config, image) as device:
        followed = Provisioner(device, Policy((1.0,), (APART, EVEN), window=2))
        handles = []
        at = 0.0
        for number, query in enumerate(queries):
            device.run_until(device.cycles() + 300)
            at += 0.1 if number // 4 % 2 else 10.0  # four slow ones, four fast ones, ...
            handles.append(followed.submit(query, at))
        assert followed.changes == 3
        for number, (query, handle) in enumerate(zip(queries, handles, strict=True)):
            golden = rank_query(config, models, query)
            compare(number, golden, device.wait(handle).result())
