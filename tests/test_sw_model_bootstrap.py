import numpy as np
import pytest

from sw_model.bootstrap import bootstrap, bootstrap_difference


def test_interval_of_a_mean(rng):
    values = rng.normal(3, 2, size=2500)
    mean, low, high = bootstrap(values)
    assert mean == pytest.approx(values.mean())
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
    assert bootstrap(values) == (mean, low, high)
    assert bootstrap(values, seed=1) != (mean, low, high)
    narrow = bootstrap(values, level=0.5)
    assert low < narrow.low < narrow.high < high


def test_interval_covers_the_truth(rng):
    """Of 95 % intervals, about one in twenty misses the mean that was drawn from."""
    covered = 0
    for _ in range(300):
        _, low, high = bootstrap(rng.random(80), resamples=400)
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_paired_difference_is_narrower(rng):
    base = rng.normal(0, 1, size=400)
    better = base + 0.01 + rng.normal(0, 0.01, size=400)
    assert bootstrap(better).low < bootstrap(base).high
    mean, low, high = bootstrap_difference(better, base)
    assert 0 < low < mean < high < 0.02


def test_many_queries_fit_in_memory():
    values = np.arange(6_000_000) % 2
    assert bootstrap(values, resamples=3).mean == 0.5


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"with queries, not \(0,\)"):
        bootstrap(np.zeros(0))
    with pytest.raises(ValueError, match=r"shape \(queries,\) with queries, not \(2, 2\)"):
        bootstrap(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="level must be above 0 and below 1, not 95"):
        bootstrap(np.zeros(2), level=95)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        bootstrap_difference(np.zeros(2), np.zeros(3))
