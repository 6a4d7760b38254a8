"""Clicks with a planted truth."""

import itertools

import numpy as np
import pytest

from benchmarks.planted import main
from sw_model.criteo_like import TABLES, trace
from sw_model.metrics import auc
from sw_model.planted import (
    CENTRES,
    DENSE,
    SPREADS,
    WEIGHTS,
    Clicks,
    Periods,
    capped,
    clicks,
    parts,
    truth,
)


def whole(rows, **arguments) -> Clicks:
    blocks = list(clicks(rows, **{"seed": 3} | arguments))
    return Clicks(*(np.concatenate(part) for part in zip(*(vars(b).values() for b in blocks))))


@pytest.fixture(scope="module")
def many() -> Clicks:
    return whole(range(50_000))


def equal(first: Clicks, second: Clicks) -> None:
    for name in ("labels", "dense", "ranks"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_allclose(first.logits, second.logits, rtol=1e-12, atol=1e-12)


def test_a_log_may_be_cut_anywhere():
    every = whole(range(1000))
    part = whole(range(437, 700), block=100)
    equal(part, Clicks(*(values[437:700] for values in vars(every).values())))
    assert every.dense.shape == (1000, 13)
    assert every.ranks.shape == (1000, 26)
    np.testing.assert_array_equal(every.ranks, np.concatenate(list(trace(1000, seed=3, block=300))))
    assert (whole(range(1000), seed=4).dense != every.dense).mean() > 0.5


def test_drifting_popularity_keeps_the_truth():
    drifted = whole(range(5000, 5500), lifetime=1000)
    assert (drifted.ranks != whole(range(5000, 5500)).ranks).mean() > 0.3
    np.testing.assert_allclose(drifted.logits, truth(drifted.ranks, drifted.dense), rtol=1e-12)


def test_periods_are_disjoint_and_in_time():
    periods = Periods.of(900, 50, 70)
    assert [*periods.training, *periods.calibration, *periods.test] == list(range(1020))
    drawn = [whole(p) for p in (periods.training, periods.calibration, periods.test)]
    for first, second in itertools.combinations(drawn, 2):
        theirs = {row.tobytes() for row in second.dense}
        # whole rows: dense inputs of ten or so columns that are not 0 never come twice
        same = [row for row in first.dense if row.tobytes() in theirs and (row > 0).sum() > 9]
        assert not same
    for sizes in ((0, 1, 1), (1, 0, 1), (1, 1, -2)):
        with pytest.raises(ValueError, match="must be a positive number of rows, not"):
            Periods.of(*sizes)


def test_constants_are_those_measured(many):
    """Other rows than those that the constants were measured on agree with them."""
    found = parts(many.ranks, many.dense)
    np.testing.assert_allclose(found.mean(axis=0), CENTRES, atol=0.05 * max(SPREADS) / 3, rtol=0.03)
    np.testing.assert_allclose(found.std(axis=0), SPREADS, rtol=0.03)
    correlated = np.corrcoef(found.T)
    assert np.abs(correlated - np.eye(3)).max() < 0.1
    assert many.logits.std() == pytest.approx(np.linalg.norm(WEIGHTS), rel=0.05)


def test_labels_follow_the_truth(many):
    assert many.labels.mean() == pytest.approx(0.216, abs=0.006)
    probability = 1 / (1 + np.exp(-many.logits))
    for low, high in itertools.pairwise((0, 0.02, 0.1, 0.3, 0.6, 1)):
        chosen = (probability >= low) & (probability < high)
        error = 4 * np.sqrt(0.25 / chosen.sum())
        assert many.labels[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=error)


def test_counts_resemble_those_of_the_log(many):
    for column, (zero, mean, spread) in zip(many.dense.T, DENSE, strict=True):
        assert (column == 0).mean() == pytest.approx(zero, abs=0.01)
        assert column[column > 0].mean() == pytest.approx(mean, abs=0.35)
        assert column[column > 0].std() == pytest.approx(spread, abs=0.45)
        counts = np.expm1(column.astype(np.float64))
        np.testing.assert_allclose(counts, np.rint(counts), rtol=1e-5)


def test_more_factors_know_more(many):
    found = [
        float(auc(truth(many.ranks, many.dense, factors=factors), many.labels))
        for factors in (0, 3, 15, 24)
    ]
    assert found == sorted(found)
    assert found[1] - found[0] > 0.01
    assert found[2] - found[1] > 0.01
    assert found[3] - found[2] > 0.003
    every = truth(many.ranks, many.dense)
    np.testing.assert_array_equal(every, many.logits)


def test_interactions_are_those_of_pairs():
    """The sum over pairs, counted pair by pair on vectors found from rows that differ in one."""
    tables = capped(50)
    drawn = whole(range(4), tables=tables)
    assert (drawn.ranks < [t.rows for t in tables]).all()
    base = np.zeros((1, 26), dtype=np.int64)

    def value(changed):
        ranks = base.copy()
        for table, rank in changed.items():
            ranks[0, table] = rank
        return parts(ranks, drawn.dense[:1])[0]

    # of pairs: a second difference in two tables is left, a third difference in three is not
    second = value({2: 5, 3: 7}) - value({2: 5}) - value({3: 7}) + value({})
    assert abs(second[1]) > 1e-3
    assert abs(second[0]) < 1e-9
    chosen = {2: 5, 3: 7, 6: 9}
    third = np.zeros(3)
    for count in range(4):
        for names in itertools.combinations(chosen, count):
            third += (-1) ** (3 - count) * value({n: chosen[n] for n in names})
    np.testing.assert_allclose(third, 0, atol=1e-9)


def test_bad_arguments():
    for rows in (range(5, 0, -1), range(0, 10, 2), range(-3, 4)):
        with pytest.raises(ValueError, match="rows must be a range upwards by 1 from 0 or more"):
            next(clicks(rows, seed=0))
    with pytest.raises(ValueError, match="rows must be an integer of at least 2, not 1"):
        capped(1)
    assert [t.rows for t in capped(10**9)] == [t.rows for t in TABLES]


def test_benchmark(tmp_path, capsys):
    row = "1\t" + "\t".join("3" * 13) + "\t" + "\t".join(["a"] * 26) + "\n"
    (tmp_path / "log").write_text(row + row.replace("3", "", 1).replace("1", "0", 1))
    assert main([str(tmp_path / "log"), "--rows", "3000"]) == 0
    assert "24 factors: AUC 0.8" in capsys.readouterr().out
    assert main([str(tmp_path / "none"), "--rows", "10"]) == 2
    assert "none: cannot be read" in capsys.readouterr().err
