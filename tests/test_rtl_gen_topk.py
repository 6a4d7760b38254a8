"""The exact top-k unit against the golden model, stalled and at full rate."""

import numpy as np
import pytest

from rpaccel.bench_topk import pace
from rtl_gen.merge import NUMBER_BITS
from rtl_gen.topk import TopK
from tests.filter_bench import Token, check, random_tokens, run
from tests.machines import small_hardware

LATENCY = NUMBER_BITS
"""Cycles that a release takes besides one for each candidate."""


def topk(depth):
    return TopK(hardware=small_hardware(1, topk_depth=[depth]), stage=0)


@pytest.mark.parametrize("depth", [1, 2, 5, 16])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_matches_golden(rng, depth, stall):
    dut = topk(depth)
    tokens = random_tokens(rng, depth, releases=20)
    check(tokens, *run(dut, tokens, rng, stall))


@pytest.mark.slow
@pytest.mark.parametrize("case", range(12))
def test_matches_golden_often(rng, case):
    """Random depths, plans, streams and stalls on each side."""
    depth = int(rng.integers(1, 70))
    dut = topk(depth)
    tokens = random_tokens(rng, depth, releases=30)
    stall, plan_stall, output_stall = rng.choice([0.0, 0.3, 0.8], size=3).tolist()
    check(tokens, *run(dut, tokens, rng, stall, plan_stall=plan_stall, output_stall=output_stall))


def test_late_plans(rng):
    dut = topk(4)
    tokens = random_tokens(rng, 4, releases=20)
    check(tokens, *run(dut, tokens, rng, 0.0, plan_stall=0.9))


def test_slow_output(rng):
    """Scores at full rate fill the rings; nothing is lost and order is kept."""
    dut = topk(9)
    tokens = random_tokens(rng, 9, releases=20)
    check(tokens, *run(dut, tokens, rng, 0.0, output_stall=0.85))


@pytest.mark.parametrize("kind", ["equal", "rising", "falling", "extreme"])
def test_every_k(rng, kind):
    """All k of 1..N, back to back, for score streams that stress the sorter."""
    n = 12
    tokens = []
    for k in range(1, n + 1):
        scores = {
            "equal": np.full(n, -5),
            "rising": np.arange(n) - 6,
            "falling": 6 - np.arange(n),
            "extreme": rng.choice([-32_768, 32_767, -1, 0], size=n),
        }[kind]
        positions = rng.permutation(np.r_[0 : n - 1, 16_383])
        tokens.append(Token.make(rng, positions, scores, count=k))
    check(tokens, *run(topk(n), tokens, rng, 0.0))


@pytest.mark.parametrize(
    "depth, candidates, count", [(16, 40, 16), (5, 23, 5), (8, 8, 8), (64, 64, 5)]
)
def test_throughput(rng, depth, candidates, count):
    """A score each cycle across tokens; the last candidate ``count`` and 14 cycles after it."""
    held, delays = pace(topk(depth), rng, [(candidates, count)] * 5)
    assert held == 0
    assert delays == [count + LATENCY] * 5


@pytest.mark.parametrize("depth", [6, 16])
def test_throughput_of_ragged_lists(rng, depth):
    """Whatever the lengths of lists: no pause, and all released within the depth and 14 cycles."""
    sizes = [1, 2, depth - 1, depth, depth + 1, 2 * depth + 1, 4 * depth - 1, 5 * depth]
    lists = []
    for _ in range(30):
        candidates = int(rng.choice(sizes))
        lists.append((candidates, int(rng.integers(min(candidates, depth) + 1))))
    held, delays = pace(topk(depth), rng, lists)
    assert held == 0
    assert max(delays) <= depth + LATENCY


@pytest.mark.slow
def test_largest_query(rng):
    """16,384 candidates, and one more query behind them."""
    held, delays = pace(topk(64), rng, [(16_384, 64), (64, 64)], spread=2**15)
    assert held == 0
    assert delays == [64 + LATENCY] * 2


def test_bad_stage():
    with pytest.raises(ValueError, match=r"Stage must be within 0\.\.1, not 2"):
        TopK(hardware=small_hardware(2), stage=2)
