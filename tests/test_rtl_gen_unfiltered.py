"""No filter: every candidate by position, against the golden model, stalled and at full rate."""

import numpy as np
import pytest

from rpaccel.bench_topk import pace
from rtl_gen.unfiltered import Unfiltered
from sw_model.topk import Unfiltered as Golden
from tests.filter_bench import Token, check, run
from tests.machines import small_hardware


def unfiltered():
    return Unfiltered(hardware=small_hardware(1, topk_depth=[64], filter=["none"]), stage=0)


def tokens_of(rng, releases):
    """Runs of tokens in the order of their positions, all of which are released."""
    tokens = []
    for _ in range(releases):
        lengths = rng.choice([0, 1, 2, 7, 30], size=rng.integers(1, 4))
        ends, slot = np.cumsum(lengths), int(rng.integers(2))
        scores = rng.integers(-9, 9, size=ends[-1])
        for start, end in zip(ends - lengths, ends, strict=True):
            tokens.append(Token.make(rng, np.arange(start, end), scores[start:end]))
            tokens[-1].slot = slot
        tokens[-1].count = int(ends[-1])
    return tokens


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_matches_golden(rng, stall):
    tokens = tokens_of(rng, 30)
    check(tokens, *run(unfiltered(), tokens, rng, stall), bins=Golden())


def test_throughput(rng):
    """A score a cycle, the last one out a cycle after it came, without a pause between lists."""
    held, delays = pace(unfiltered(), rng, [(n, n) for n in (5, 1, 64, 2, 30)])
    assert held == 0
    assert set(delays) == {1}
