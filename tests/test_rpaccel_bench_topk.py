"""Figures of the filters: adversarial streams, brute force that is right, and the report."""

import numpy as np
import pytest

from rpaccel import bench_topk
from rpaccel.bench_topk import KINDS, bench, compare_streams, pace, ranks, streams, table
from sw_model.topk import top_k
from tests.filter_bench import Token, check, run


def test_brute_force_counts_those_before():
    assert ranks(np.array([[5, 2, 9]]), np.array([[7, 7, 8]])).tolist() == [[2, 1, 0]]


def test_streams_are_what_they_are_said_to_be():
    seen = {kind: [] for kind in KINDS}
    for kind, positions, scores, ks in streams(len(KINDS) * bench_topk.BATCH * 3):
        seen[kind].append(scores)
        n = positions.shape[1]
        assert set(ks.tolist()) == set(range(1, n + 1))
        assert positions.min() >= 0
        assert positions.max() < 1 << 14
        assert all(len(set(row)) == n for row in positions[:50].tolist())
        assert scores.min() >= -(1 << 15)
        assert scores.max() < 1 << 15
    assert all([scores.shape[1] for scores in each] == [1, 2, 3] for each in seen.values())
    assert (np.diff(seen["sorted"][2]) >= 0).all()
    assert (np.diff(seen["reversed"][2]) <= 0).all()
    assert (np.diff(seen["equal"][2]) == 0).all()
    assert len(np.unique(seen["ties"][2])) == 4
    assert sum(len(k) for *_, k in streams(3001)) == 3001


def test_exact_ranking_has_no_differences():
    found = compare_streams(30_000)
    assert sum(each["streams"] for each in found.values()) == 30_000
    assert all(each["differences"] == 0 for each in found.values())


def test_differences_are_found(monkeypatch):
    """A ranking that breaks ties to the higher position differs where there are ties."""

    def wrong(positions, scores, k):
        order = np.lexsort((-positions, -scores))[:k]
        return positions[order], scores[order]

    monkeypatch.setattr(bench_topk, "top_k", wrong)
    found = compare_streams(len(KINDS) * bench_topk.BATCH * 3)
    assert all(found[kind]["differences"] > 1000 for kind in ("ties", "equal", "extreme"))


def test_report():
    report = bench(7000, cases=[(8, 20)], with_area=False)
    assert [row["kind"] for row in report["cycles"]] == ["exact", "bins"]
    for row in report["cycles"]:
        assert row["held_up"] == 0
        assert row["rate"] == 1
        assert row["after_last"] == 8 + 14 <= row["limit"]
    text = table(report)
    assert "not measured" in text
    assert "888,832" not in text
    report["area"] = [{"kind": "exact", "k": 8, "luts": 6000, "ffs": 2000, "block_rams": 3}]
    assert "888,832 LUT4" in table(report)
    assert "0.68%" in table(report)


def test_a_filter_that_pauses_is_noticed(rng):
    """Sixty short releases behind a long one hold scores up."""
    held, delays = pace(bench_topk.unit("exact", 60), rng, [(60, 60), *[(1, 1)] * 50])
    assert held > 0
    assert max(delays) > 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_streams_through_the_gateware(rng, kind):
    """A sample of the streams of each kind, of every length with some k."""
    chosen = [
        (positions[row], scores[row], int(ks[row]))
        for of, positions, scores, ks in streams(len(KINDS) * bench_topk.BATCH * 24, seed=1)
        if of == kind
        for row in rng.integers(len(ks), size=6)
    ]
    tokens = [Token.make(rng, p, s, count=k) for p, s, k in chosen]
    check(tokens, *run(bench_topk.unit("exact", 24), tokens, rng, 0.0))
    assert all(len(top_k(p, s, k)[0]) == k for p, s, k in chosen)
