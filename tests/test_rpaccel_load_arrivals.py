"""Arrivals: rates, gaps, seeds, recorded traces and what is wrong with them."""

import math

import numpy as np
import pytest

from rpaccel.errors import ConfigError, DataError
from rpaccel.load import (
    exponential_arrivals,
    gap_statistics,
    millisecond_arrivals,
    read_trace,
)


@pytest.mark.parametrize("qps", [0.2, 200.0, 17_500.0])
def test_exponential_gaps(rng, qps):
    arrivals = exponential_arrivals(100_000, qps, rng)
    rate, cv = gap_statistics(arrivals)
    assert rate == pytest.approx(qps, rel=0.02)
    assert cv == pytest.approx(1, abs=0.03)
    gaps = np.diff(arrivals) * qps
    for x in (0.1, 1.0, 3.0):  # the distribution, not only two moments of it
        assert np.mean(gaps > x) == pytest.approx(math.exp(-x), abs=0.01)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.02
    assert arrivals[0] > 0


def test_the_seed_decides():
    one, same, other = (
        exponential_arrivals(50, 10.0, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert (one == same).all()
    assert (one != other).all()


@pytest.mark.parametrize("qps", [100.0, 500.0, 2000.0])
def test_millisecond_gaps_are_not_exponential(rng, qps):
    arrivals = millisecond_arrivals(100_000, qps, rng)
    milliseconds = arrivals * 1000
    assert np.allclose(milliseconds, np.round(milliseconds), atol=1e-6)
    rate, cv = gap_statistics(arrivals)
    assert rate == pytest.approx(qps, rel=0.02)
    assert cv == pytest.approx(math.sqrt(qps / 1000), rel=0.03)
    together = np.mean(np.diff(arrivals) == 0)
    assert together == pytest.approx(math.exp(-1000 / qps), abs=0.01)


@pytest.mark.parametrize("make", [exponential_arrivals, millisecond_arrivals])
@pytest.mark.parametrize(
    ("queries", "qps", "message"),
    [
        (0, 1.0, "queries must be an integer of at least 1, not 0"),
        (1.5, 1.0, "queries must be an integer of at least 1, not 1.5"),
        (True, 1.0, "queries"),
        (5, 0.0, "qps must be a finite number above zero, not 0.0"),
        (5, -2, "qps"),
        (5, math.inf, "qps"),
        (5, math.nan, "qps"),
        (5, "fast", "qps must be a finite number above zero, not 'fast'"),
    ],
)
def test_refused(rng, make, queries, qps, message):
    with pytest.raises(ConfigError, match=message):
        make(queries, qps, rng)


def test_trace(tmp_path, rng):
    path = tmp_path / "trace.txt"
    path.write_text("# recorded\n1000.5\n\n1000.5  # together\n1002\n")
    assert read_trace(path).tolist() == [0, 0, 1.5]
    assert read_trace(path, unit="ms") == pytest.approx([0, 0, 0.0015])
    arrivals = exponential_arrivals(1000, 300.0, rng)
    np.savetxt(path, arrivals, header="seconds")
    assert read_trace(path) == pytest.approx(arrivals - arrivals[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\nthree\n", "trace.txt:3: expected one arrival time, not 'three'"),
        ("1\n2 3\n", "trace.txt:2: expected one arrival time, not '2 3'"),
        ("1\nnan\n", "trace.txt:2: expected one arrival time, not 'nan'"),
        ("1\ninf\n", "trace.txt:2: expected one arrival time"),
        ("# s\n5\n\n4.5\n", "trace.txt:4: time 4.5 is before the one above it, 5"),
        ("", "two arrival times or more, this has 0"),
        ("7\n", "two arrival times or more, this has 1"),
    ],
)
def test_bad_trace(tmp_path, text, message):
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_trace(path)


def test_no_trace(tmp_path):
    with pytest.raises(DataError, match="none.txt: No such file"):
        read_trace(tmp_path / "none.txt")
    with pytest.raises(DataError, match="directory"):
        read_trace(tmp_path)
    (tmp_path / "trace.npy").write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="trace.npy: not a text file"):
        read_trace(tmp_path / "trace.npy")
    with pytest.raises(ConfigError, match="unit must be one of s, ms, us, ns, not 'min'"):
        read_trace(tmp_path / "none.txt", unit="min")


def test_gap_statistics_of_odd_arrivals():
    assert gap_statistics([0, 2, 4, 6]) == (0.5, 0)
    rate, cv = gap_statistics([1, 1, 1])
    assert math.isinf(rate)
    assert math.isnan(cv)
    for arrivals, message in (
        ([1], "two queries or more"),
        ([], "one list of times"),
        ([2, 1], r"arrivals\[1\] = 1.0 is before arrivals\[0\] = 2.0"),
        ([1, math.nan, 2], r"arrivals\[1\] is nan"),
        ([1, math.inf], r"arrivals\[1\] is inf"),
        ([[1, 2]], r"shape \(1, 2\)"),
        (["a"], "arrivals must be numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            gap_statistics(arrivals)
