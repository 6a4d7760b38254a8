"""Criteo-like accesses: their distribution, their drift, and how they fit rows of the log."""

import numpy as np
import pytest

from benchmarks.criteo_like import Figures, compare, expect, fit, pooled, table
from sw_model.criteo import build_vocabulary
from sw_model.criteo_like import TABLES, Popularity, _drifted, _partners, trace

ROWS = 20_000


def test_full_cardinality():
    assert len(TABLES) == 26
    assert sum(t.rows for t in TABLES) == 33_762_577
    for t in TABLES:
        first = t.cumulative(np.array([0.0, 1.0, t.rows - 1]))
        assert first[1] - first[0] <= first[0] == t.hottest
        assert first[2] == pytest.approx(1)


def test_hottest_share_and_ranks():
    (ranks,) = trace(ROWS, seed=3)
    assert ranks.shape == (ROWS, 26)
    assert ranks.dtype == np.int64
    for t, column in zip(TABLES, ranks.T, strict=True):
        assert column.min() >= 0
        assert column.max() < t.rows
        error = np.sqrt(t.hottest * (1 - t.hottest) / ROWS)
        assert abs((column == 0).mean() - t.hottest) < 5 * error


def test_samples_follow_the_law():
    """Every rank of a small table, and quantiles of a large one."""
    for law in (Popularity(50, 0.2, 1.3, 2.0), Popularity(10_000_000, 0.05, 1.03, 1.1)):
        uniform = (np.arange(200_000) + 0.5) / 200_000
        ranks = law.sample(uniform)
        for rank in (0, 1, 5, 20, law.rows // 2, law.rows - 1):
            share = float(law.cumulative(np.array([float(rank)]))[0])
            assert (ranks <= rank).mean() == pytest.approx(share, abs=1e-5)


def test_expected_figures_are_those_of_samples():
    (ranks,) = trace(ROWS, seed=4)
    for column in (2, 6, 23):
        counts = np.unique(ranks[:, column], return_counts=True)[1]
        law = expect(TABLES[column], ROWS)
        assert len(counts) == pytest.approx(law.distinct, rel=0.03)
        assert (counts == 1).sum() == pytest.approx(law.once, rel=0.05)


@pytest.mark.parametrize("lifetime", [None, 150])
def test_a_row_depends_on_its_number_only(lifetime):
    (whole,) = trace(500, seed=5, lifetime=lifetime)
    blocks = list(trace(500, seed=5, block=64, lifetime=lifetime))
    assert [len(b) for b in blocks] == [64] * 7 + [52]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    (tail,) = trace(200, seed=5, start=300, lifetime=lifetime)
    np.testing.assert_array_equal(tail, whole[300:])
    (other,) = trace(500, seed=6, lifetime=lifetime)
    assert (other != whole).any()


@pytest.mark.parametrize("rows", [3, 4, 10, 1460, 12517])
def test_drift_exchanges_rows(rows):
    ranks = np.arange(rows)
    partners = _partners(ranks, rows, np.uint64(1234567))
    np.testing.assert_array_equal(_partners(partners, rows, np.uint64(1234567)), ranks)
    for age in (0.0, 0.4, 1.0, 2.7):
        drifted = _drifted(ranks, rows, np.full(rows, age), np.uint64(99))
        np.testing.assert_array_equal(np.sort(drifted), ranks)
        if rows > 1000:
            moved = (drifted != ranks).mean()
            assert moved == pytest.approx(min(age, 1), abs=0.05)


def test_drift_makes_a_ranking_stale():
    law = (Popularity(100_000, 0.1, 1.2, 2.0),)
    (ranks,) = trace(40_000, seed=7, lifetime=40_000, tables=law)
    hits = [(quarter < 100).mean() for quarter in np.split(ranks, 4)]
    assert hits == sorted(hits, reverse=True)
    assert hits[3] < 0.5 * hits[0]


def test_fit_finds_a_law():
    law = Popularity(100_000, 0.1, 1.2, 5.0)
    found = fit(law, expect(law, 8000), 8000)
    assert found.exponent == pytest.approx(1.2, abs=0.02)
    assert found.offset == pytest.approx(5, rel=0.1)


def test_against_the_log(data_folder):
    """The first 8,000 rows of the log; how far tables are off is in docs/data.md."""
    path = data_folder / "criteo" / "criteo_kaggle_8000.tsv"
    if not path.exists():
        pytest.skip(f"{path} is not there: its terms forbid passing it on")
    report = compare(path)
    assert report["rows"] == 8000
    for entry in report["tables"].values():
        seen, law = Figures(**entry["file"]), Figures(**entry["generator"])
        assert abs(law.top1 - seen.top1) < 0.1
        assert abs(law.top10 - seen.top10) < 0.08
        assert abs(law.top100 - seen.top100) < 0.04
        if seen.distinct > 100:
            assert law.distinct == pytest.approx(seen.distinct, rel=0.05)
            assert abs(law.once - seen.once) / seen.distinct < 0.11
    shares = report["pooled top 1 %, 10 %"]
    np.testing.assert_allclose(shares["generator"], shares["file"], atol=0.02)
    assert "C26" in table(report)


def test_pooled():
    counts = build_vocabulary([np.repeat(np.arange(100), [101] + [1] * 99)[:, None]]).counts
    assert pooled(counts) == [0.505, 0.55]


@pytest.mark.parametrize("bad", [{"rows": -1}, {"start": -1}, {"block": 0}, {"lifetime": 0}])
def test_bad_parameters(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least"):
        next(trace(**({"rows": 1, "seed": 1} | bad)))
