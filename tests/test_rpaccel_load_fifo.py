"""FIFO pipelines: against a queue simulated the long way, exactly, in integers."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpaccel.errors import ConfigError
from rpaccel.load import Stage, exponential_arrivals, fifo, simulate


def by_hand(arrivals, stages):
    """Departures and waits of each query: look for a free server, one query after another."""
    count = len(arrivals)
    now = list(arrivals)
    order = list(range(count))
    all_waits = []
    for stage in stages:
        service = np.broadcast_to(stage.service, count)
        free = [0] * (count if stage.servers is None else stage.servers)
        waits = [0] * count
        order.sort(key=lambda q: now[q])  # stable: together arrived, in the order of before
        for query in order:
            server = free.index(min(free))
            begin = max(now[query], free[server])
            waits[query] = begin - now[query]
            now[query] = free[server] = begin + int(service[query])
        all_waits.append(waits)
    return now, all_waits


@st.composite
def pipelines(draw):
    count = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        times = st.integers(0, 9)
        each = st.lists(times, min_size=count, max_size=count).map(np.array)
        stages.append(Stage(draw(times | each), draw(st.none() | st.integers(1, 5))))
    return np.cumsum(gaps), stages


@settings(max_examples=400)
@given(pipelines(), st.sampled_from([1, 7, 1 << 15]))
def test_exact_in_integers(pipeline, block):
    arrivals, stages = pipeline
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fifo, "BLOCK", block)
        run = simulate(arrivals, stages)
    departures, waits = by_hand(arrivals.tolist(), stages)
    assert run.departures.tolist() == departures
    assert [w.tolist() for w in run.waits] == waits
    assert run.latencies.tolist() == (np.array(departures) - arrivals).tolist()


def test_across_blocks_in_real_numbers(rng):
    """Over several blocks, long after the start, real times are right to a nanosecond."""
    count = 3 * fifo.BLOCK + 5
    arrivals = 1e5 + exponential_arrivals(count, 1000.0, rng)
    service = rng.exponential(0.0009, count)
    run = simulate(arrivals, [Stage(service)])
    end = -math.inf
    for arrival, needs, departure in zip(arrivals, service, run.departures, strict=True):
        end = max(end, arrival) + needs
        assert abs(departure - end) < 1e-9
    assert min(w.min() for w in run.waits) == 0


def test_loads(rng):
    arrivals = np.arange(0, 1000, 2)
    stages = [Stage(1, name="link"), Stage(3, 2), Stage(50.0, None), Stage(np.tile([1, 3], 250), 4)]
    loads = simulate(arrivals, stages).loads
    assert [load.stage for load in loads] == ["link", "stage 1", "stage 3"]
    assert [load.offered for load in loads] == pytest.approx([0.5, 0.75, 0.25])
    assert [load.variability for load in loads] == pytest.approx([0, 0, 0.25])
    assert simulate([5.0], [Stage(1.0)]).loads[0].offered == math.inf
    assert simulate([5.0, 5.0], [Stage(0.0)]).loads[0].offered == 0


def test_arguments_stay_as_they_are(rng):
    arrivals, service = exponential_arrivals(100, 1.0, rng), rng.exponential(1, 100)
    copies = arrivals.copy(), service.copy()
    simulate(arrivals, [Stage(service), Stage(service, 3)])
    assert (arrivals == copies[0]).all()
    assert (service == copies[1]).all()


@pytest.mark.parametrize(
    ("arrivals", "stages", "message"),
    [
        ([0, 1], [], "one stage or more"),
        ([1, 0], [Stage(1)], "must not decrease"),
        ([0, 1], [Stage(1, 0)], "stage 0: servers must be an integer of at least 1, not 0"),
        ([0, 1], [Stage(1), Stage(1, 1.5, "back")], "back: servers must be an integer"),
        ([0, 1], [Stage(-1)], "stage 0: service must be finite and not negative, but it has -1"),
        ([0, 1], [Stage(math.nan)], "has nan"),
        ([0, 1], [Stage([1, math.inf])], "has inf"),
        ([0, 1], [Stage([1, 2, 3])], r"one for each of 2 queries, not of shape \(3,\)"),
        ([0, 1], [Stage("long")], "service must be numbers, not 'long'"),
    ],
)
def test_refused(arrivals, stages, message):
    with pytest.raises(ConfigError, match=message):
        simulate(arrivals, stages)


@pytest.mark.parametrize("servers", [1, 4])
def test_a_million_queries_a_second(rng, servers):
    """In processor time: other work on the machine does not count."""
    count = 1_000_000
    arrivals = exponential_arrivals(count, 0.8 * servers, rng)
    service = rng.exponential(1, count)
    begin = time.process_time()
    simulate(arrivals, [Stage(service, servers)])
    assert time.process_time() - begin < 1
