"""The golden top-k against plain sorting, and the conditions it refuses."""

import numpy as np
import pytest

from sw_model.topk import releases, top_k


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
