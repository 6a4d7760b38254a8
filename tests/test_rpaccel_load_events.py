"""The event path: equal to arrays without a policy; deadlines, shedding and changes by hand."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpaccel.errors import ConfigError
from rpaccel.load import Change, Outcome, Stage, exponential_arrivals, simulate, simulate_events
from tests.test_rpaccel_load_fifo import pipelines

DONE, SHED, EXPIRED = Outcome


@settings(max_examples=300)
@given(pipelines(), st.integers(0, 200))
def test_without_a_policy_equal_to_arrays(pipeline, when):
    arrivals, stages = pipeline
    expected = simulate(arrivals, stages).departures.tolist()
    assert simulate_events(arrivals, stages).departures.tolist() == expected
    # A change into the same, a deadline and a limit that nothing reaches: nothing changes.
    run = simulate_events(
        arrivals, stages, deadline=1e9, limit=60, changes=[Change(float(when), stages)]
    )
    assert run.departures.tolist() == expected
    assert run.shares == {"completed": 1, "shed": 0, "expired": 0, "late": 0}


def run(arrivals, stages, **policy):
    done = simulate_events(arrivals, stages, **policy)
    return done.departures.tolist(), [Outcome(o) for o in done.outcomes]


def test_limit():
    departures, outcomes = run([0, 1, 2, 3, 10, 20], [Stage(10)], limit=2)
    # At 10 the first leaves, then there is room for the arrival at 10.
    assert outcomes == [DONE, DONE, SHED, SHED, DONE, DONE]
    assert departures == [10, 20, 2, 3, 30, 40]


def test_limit_counts_all_stages():
    _, outcomes = run([0, 5, 9, 10], [Stage(2), Stage(8)], limit=1)
    assert outcomes == [DONE, SHED, SHED, DONE]


def test_deadline():
    # The third would start at 20, 18 after its arrival; the one after it takes the server.
    departures, outcomes = run([0, 1, 2, 15], [Stage(10)], deadline=12)
    assert outcomes == [DONE, DONE, EXPIRED, DONE]
    assert departures == [10, 20, 20, 30]
    done = simulate_events([0, 1, 2, 15], [Stage(10)], deadline=12)
    assert done.shares == {"completed": 0.75, "shed": 0, "expired": 0.25, "late": 0.5}
    assert done.latencies.tolist() == [10, 19, 15]


def test_deadline_is_over_after_its_last_moment():
    assert run([0, 0], [Stage(10)], deadline=10)[1] == [DONE, DONE]
    assert run([0, 0], [Stage(10)], deadline=9.5)[1] == [DONE, EXPIRED]


def test_deadline_in_a_later_stage_frees_its_place():
    arrivals, stages = [0, 0, 0, 21, 21, 21, 21], [Stage(1), Stage(10)]
    departures, outcomes = run(arrivals, stages, deadline=9, limit=3)
    assert outcomes == [DONE, EXPIRED, EXPIRED, DONE, EXPIRED, EXPIRED, SHED]
    assert departures == [11, 11, 11, 32, 32, 32, 21]


def test_faster_from_a_time_on():
    stages, fast = [Stage(10)], [Stage(2)]
    departures, _ = run([0, 1, 2], stages, changes=[Change(5, fast)])
    assert departures == [10, 12, 14]  # what runs ends as it began
    departures, _ = run([0, 1, 2], stages, changes=[Change(10, fast)])
    assert departures == [10, 12, 14]  # a service that begins at the change takes the new time
    departures, _ = run([0, 1, 2], stages, changes=[Change(10.5, fast)])
    assert departures == [10, 20, 22]


def test_servers_come_and_go():
    stages = [Stage(10, 3)]
    departures, _ = run([0, 0, 0, 0, 0], stages, changes=[Change(1, [Stage(10, 1)])])
    assert departures == [10, 10, 10, 20, 30]
    departures, _ = run([0, 0, 0], [Stage(10, 1)], changes=[Change(4, [Stage(10, 3)])])
    assert departures == [10, 14, 14]


def test_a_pause_for_regrouping():
    stages = [Stage(10), Stage(5)]
    stopped = [Stage(10, 0), Stage(5, 0)]
    departures, _ = run(
        [0, 1, 2], stages, changes=[Change(3, stopped), Change(30, [Stage(4), Stage(1)])]
    )
    assert departures == [31, 35, 39]


def test_changed_delay_and_times_a_query():
    departures, _ = run(
        [0, 1, 2, 3],
        [Stage(5, None)],
        changes=[Change(2, [Stage(np.array([9, 8, 7, 6]), None)])],
    )
    assert departures == [5, 6, 9, 9]


def lost(load, limit):
    """Share of queries that M/D/1 with so many places refuses: what departures leave behind."""
    came = [math.exp(-load) * load**n / math.factorial(n) for n in range(limit)]
    steps = np.zeros((limit, limit))
    for left in range(limit):
        first = max(left - 1, 0)
        steps[left, first:] = came[: limit - first]
        steps[left, -1] += 1 - steps[left].sum()
    sums = np.vstack([steps.T - np.eye(limit), np.ones(limit)])
    empty = np.linalg.lstsq(sums, np.eye(limit + 1)[-1], rcond=None)[0][0]
    return 1 - 1 / (empty + load)


def test_summaries(rng):
    arrivals = exponential_arrivals(40_000, 1.3, rng)
    overload = simulate_events(arrivals, [Stage(1.0)])
    assert not overload.summary().steady
    assert "overload" in overload.summary().reason
    # A limit keeps the queue short: overload is then a steady state of its own, with its losses.
    shed = simulate_events(arrivals, [Stage(1.0)], limit=5)
    summary = shed.summary(percentiles=(90,), confidence=0.9)
    assert summary.steady
    assert summary.confidence == 0.9
    assert summary.percentiles[90].value <= 5
    assert shed.shares["shed"] == pytest.approx(lost(1.3, 5), abs=0.01)
    changed = simulate_events(arrivals, [Stage(0.5)], changes=[Change(5000, [Stage(0.4)])])
    assert not changed.summary().steady
    assert "changes during the run, at 5000" in changed.summary().reason
    later = simulate_events(arrivals, [Stage(0.5)], changes=[Change(1e9, [Stage(0.4)])])
    assert later.summary().steady


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"deadline": 0}, "deadline must be a finite number above zero, not 0"),
        ({"limit": 0}, "limit must be an integer of at least 1, not 0"),
        ({"changes": [Change(2, [])]}, r"changes\[0\]: 0 stages, but the pipeline has 1"),
        (
            {"changes": [Change(2, [Stage(1)]), Change(1, [Stage(1)])]},
            r"changes\[1\]: time 1 must be finite and not before the last",
        ),
        ({"changes": [Change(float("nan"), [Stage(1)])]}, "time nan must be finite"),
        ({"changes": [Change(1, [Stage(1, 0)])]}, "the last change leaves stage 0 without servers"),
        ({"changes": [Change(1, [Stage(-1)])]}, "not negative"),
    ],
)
def test_refused(policy, message):
    with pytest.raises(ConfigError, match=message):
        simulate_events([0, 1], [Stage(1)], **policy)


def test_a_hundred_thousand_queries_a_second(rng):
    """In processor time, with all that the event path can do."""
    count = 100_000
    arrivals = exponential_arrivals(count, 1.5, rng)
    stages = [Stage(rng.exponential(0.6, count)), Stage(rng.exponential(0.6, count))]
    changes = [Change(t, stages) for t in np.linspace(0, arrivals[-1], 5)]
    begin = time.process_time()
    simulate_events(arrivals, stages, deadline=20.0, limit=40, changes=changes)
    assert time.process_time() - begin < 1
