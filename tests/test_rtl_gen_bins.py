"""The filter with bins against the golden model, stalled and at full rate."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from rpaccel import abi
from rtl_gen.bins import Bins
from sw_model import topk as golden
from sw_model.numerics import ctr_table
from tests.filter_bench import Token, check, random_tokens, run
from tests.machines import small_hardware


class WithThreshold(wiring.Elaboratable):
    """A filter whose threshold is tied to a value."""

    def __init__(self, depth, bins, threshold):
        hardware = small_hardware(2, topk_depth=[depth] * 2, filter=["bins", "exact"], bins=bins)
        self.unit = Bins(hardware=hardware, stage=0)
        self.golden = golden.Bins(bins, threshold)

    def __getattr__(self, name):
        return getattr(self.unit, name)

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        m.d.comb += self.unit.threshold.eq(self.golden.threshold)
        return m


def edge_scores(rng, size):
    """Logits on and beside the places where the CTR table steps."""
    return np.clip(64 * rng.integers(-70, 70, size) + rng.integers(-1, 2, size), -32768, 32767)


@pytest.mark.parametrize(
    "depth, bins, threshold, stall",
    [(1, 2, 512, 0.0), (5, 16, 512, 0.5), (16, 64, 530, 0.0), (7, 16, 1024, 0.3), (7, 8, 0, 0.0)],
)
def test_matches_golden(rng, depth, bins, threshold, stall):
    dut = WithThreshold(depth, bins, threshold)
    tokens = random_tokens(rng, depth, releases=20, ranked=False)
    for token in tokens:
        if rng.random() < 0.7:
            token.scores = edge_scores(rng, len(token.scores))
    check(tokens, *run(dut, tokens, rng, stall), bins=dut.golden)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(8))
def test_matches_golden_often(rng, case):
    """Random depths, bins, thresholds, plans, streams and stalls on each side."""
    depth = int(rng.integers(1, 50))
    dut = WithThreshold(depth, 2 << int(rng.integers(8)), int(rng.integers(400, 620)))
    tokens = random_tokens(rng, depth, releases=30, ranked=False)
    for token in tokens:
        if rng.random() < 0.7:
            token.scores = edge_scores(rng, len(token.scores))
    stall, plan_stall, output_stall = rng.choice([0.0, 0.3, 0.8], size=3).tolist()
    got = run(dut, tokens, rng, stall, plan_stall=plan_stall, output_stall=output_stall)
    check(tokens, *got, bins=dut.golden)


@pytest.mark.parametrize("bins", [2, 16, 256])
def test_every_step_of_the_table(rng, bins):
    """Each entry of the CTR table, in random order: all edges of all bins."""
    dut = WithThreshold(1024, bins, 300)
    scores = rng.permutation(np.arange(-32768, 32768, 64))
    token = Token.make(rng, rng.permutation(1024), scores, count=1024, final=False)
    check([token], *run(dut, [token], rng, 0.0), bins=dut.golden)


def test_entries_are_those_of_the_golden_table():
    table = ctr_table()
    for value in [*range(0, 65536, 97), *table.tolist(), 65535, 65536]:
        reached = np.flatnonzero(table >= value)
        assert abi.ctr_index(value) == (reached[0] if len(reached) else 1024)
