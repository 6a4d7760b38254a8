"""The golden top-k against plain sorting and counting, and the conditions it refuses."""

import numpy as np
import pytest

from sw_model.topk import Bins, releases, threshold_entry, top_k


def brute_force(positions, scores, k):
    ranked = sorted(zip(positions.tolist(), scores.tolist()), key=lambda c: (-c[1], c[0]))[:k]
    return [p for p, _ in ranked], [s for _, s in ranked]


@pytest.mark.parametrize("spread", [1, 3, 65_536])
def test_matches_sorting(rng, spread):
    for n in (0, 1, 2, 50):
        positions = rng.permutation(100)[:n]
        scores = rng.integers(-32_768, -32_768 + spread, size=n)
        for k in range(n + 1):
            got = top_k(positions, scores, k)
            assert (got[0].tolist(), got[1].tolist()) == brute_force(positions, scores, k)


def test_arrival_order_does_not_matter(rng):
    positions, scores = np.arange(40), rng.integers(-3, 3, size=40)
    order = rng.permutation(40)
    for want, got in zip(
        top_k(positions, scores, 17), top_k(positions[order], scores[order], 17), strict=True
    ):
        np.testing.assert_array_equal(want, got)


def test_releases_keep_candidates_until_told():
    tokens = [([0, 1], [5, 9]), ([2], [7]), ([], []), ([3], [1])]
    got = releases(tokens, [None, 2, 0, 1])
    assert [(p.tolist(), s.tolist()) for p, s in got] == [([1, 2], [9, 7]), ([], []), ([3], [1])]


def test_refuses():
    with pytest.raises(ValueError, match=r"k must be within 0\.\.2, not 3"):
        top_k([0, 1], [1, 2], 3)
    with pytest.raises(ValueError, match=r"positions have shape \(2,\) but scores have shape"):
        top_k([0, 1], [1], 1)


N = 16
KINDS = ("random", "ties", "equal", "sorted", "reversed", "extreme", "edges")


def streams(rng, kind, count):
    """``count`` streams of N candidates in any order: positions and scores, shape (count, N)."""
    positions = np.argsort(rng.random((count, 2 * N)), axis=1)[:, :N]
    positions[:, 0] = rng.choice([positions[0, 0], 16_383], size=count)
    scores = {
        "random": lambda: rng.integers(-32_768, 32_768, size=(count, N)),
        "ties": lambda: rng.integers(-2, 2, size=(count, N)),
        "equal": lambda: np.repeat(rng.integers(-32_768, 32_768, size=(count, 1)), N, axis=1),
        "extreme": lambda: rng.choice([-32_768, -32_767, -1, 0, 32_766, 32_767], size=(count, N)),
        "edges": lambda: 64 * rng.integers(-60, 60, (count, N)) + rng.integers(-1, 2, (count, N)),
    }
    drawn = scores.get(kind, scores["random"])()
    if kind in ("sorted", "reversed"):
        drawn = np.sort(drawn, axis=1)[:, :: 1 if kind == "sorted" else -1]
    distinct = np.sort(positions, axis=1)
    keep = (np.diff(distinct, axis=1) > 0).all(axis=1)
    return positions[keep], drawn[keep]


def counted_ranks(positions, keys):
    """Rank of each candidate by counting those before it: no sorting anywhere."""
    before = keys[:, None, :] > keys[:, :, None]
    tie = (keys[:, None, :] == keys[:, :, None]) & (positions[:, None, :] < positions[:, :, None])
    return (before | tie).sum(axis=2)


def classes(scores, bins, threshold):
    """Classes of a filter with bins, from the sigmoid: docs/numerics.md without its table."""
    middle = (np.floor_divide(scores, 64) * 64 + 32) / 2048
    rate = np.floor(65535 / (1 + np.exp(-middle)) + 0.5)
    return np.where(rate >= 65535 * threshold, 1 + np.floor(rate * bins / 65536), 0)


def compare_by_counting(rng, total):
    """Compare streams of all kinds, k running through 0..N; return how many were compared."""
    done = 0
    while done < total:
        for kind in KINDS:
            positions, scores = streams(rng, kind, 2000)
            bins, threshold = 2 << int(rng.integers(8)), round(float(rng.uniform(0.02, 0.98)), 4)
            with_bins = Bins(bins, threshold_entry(threshold))
            for unit, keys in (
                (None, scores),
                (with_bins, classes(scores, bins, threshold)),
            ):
                ranks = counted_ranks(positions, keys)
                for at, (p, s, r) in enumerate(zip(positions, scores, ranks, strict=True)):
                    k = at % (N + 1)
                    want = np.full(N, -1)
                    want[r] = np.arange(N)
                    got = top_k(p, s, k, unit)
                    np.testing.assert_array_equal(got[0], p[want[:k]], f"{kind}, k = {k}, {unit}")
                done += len(positions)
    return done


def test_counting_agrees(rng):
    assert compare_by_counting(rng, 2000) >= 2000


@pytest.mark.slow
def test_counting_agrees_on_a_million(rng):
    assert compare_by_counting(rng, 1_000_000) >= 1_000_000


def test_bins_by_hand():
    """Edges belong to the bin above; the bin that is cut is cut by position; the rest fills up."""
    # Entries 512 (CTR 33023) and 511 (32512) are on both sides of a half, the edge of two bins.
    half = Bins(2, threshold_entry(0.5))
    assert half.classes([0, -1, 32_767, -32_768]).tolist() == [2, 0, 2, 0]
    assert Bins(2, 0).classes([0, -1]).tolist() == [2, 1]
    # Within a bin the higher score does not matter, and arrival does not either.
    assert top_k([9, 3, 5, 7], [500, 100, 300, 900], 2, half)[0].tolist() == [3, 5]
    # Two pass, three are asked for: the lowest position of the others, not the best of them.
    positions, scores = top_k([4, 2, 1, 0, 3], [5, 900, -9000, -9000, -1], 3, half)
    assert positions.tolist() == [2, 4, 0]
    assert half.passed(scores).tolist() == [True, True, False]
    assert not Bins(16, 1024).passed([32_767]).any()


def test_threshold_is_reached_exactly():
    from sw_model.numerics import ctr_table

    for entry in (1, 300, 512, 700):
        rate = ctr_table()[entry] / 65535
        assert ctr_table()[threshold_entry(rate)] == ctr_table()[entry]
        assert threshold_entry(np.nextafter(rate, 1)) == np.searchsorted(
            ctr_table(), ctr_table()[entry], side="right"
        )
