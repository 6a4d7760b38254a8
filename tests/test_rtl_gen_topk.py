"""The top-k unit against the golden model, stalled and at full rate."""

from dataclasses import dataclass

import numpy as np
import pytest

from rtl_gen.topk import TopK
from sim.pysim import simulate, stream_get, stream_put
from sw_model.topk import releases
from tests.machines import small_hardware


@dataclass
class Token:
    positions: np.ndarray
    scores: np.ndarray
    saturated: np.ndarray
    count: int | None  # None: nothing is released after it
    final: bool
    slot: int
    candidates: int = 0

    @classmethod
    def make(cls, rng, positions, scores, *, count=None, final=True):
        saturated = rng.random(len(scores)) < 0.1
        return cls(positions, scores, saturated, count, final, int(rng.integers(2)))

    def beats(self):
        for n, (position, score) in enumerate(zip(self.positions, self.scores, strict=True)):
            yield {
                "position": int(position),
                "score": int(score),
                "keep": 1,
                "last": n == len(self.scores) - 1,
                "slot": self.slot,
                "saturated": int(self.saturated[n]),
            }
        if not len(self.scores):
            # What an empty beat carries must not matter.
            yield {"position": 7, "score": 99, "last": 1, "slot": self.slot, "saturated": 1}

    def plan(self):
        emit = self.count is not None
        return {
            "slot": self.slot,
            "emit": emit,
            "final": self.final,
            "count": self.count or 0,
            "candidates": self.candidates,
        }


def count_candidates(tokens):
    """Tell each token how many candidates the release that it leads to has."""
    group = []
    for token in tokens:
        group.append(token)
        if token.count is not None:
            for member in group:
                member.candidates = sum(len(t.positions) for t in group)
            group = []
    return tokens


def random_tokens(rng, depth, total=40):
    """Runs of tokens, each run with distinct positions and ended by a release."""
    tokens = []
    for _ in range(total):
        lengths = rng.choice([0, 1, depth - 1, depth, 2 * depth, 5], size=rng.integers(1, 4))
        positions = np.sort(rng.permutation(3 * 2 * depth + 20)[: lengths.sum()])
        spread = int(rng.choice([1, 4, 32_768]))
        scores = rng.integers(-spread, spread, size=len(positions))
        order = [
            rng.permutation(len(positions)),
            np.argsort(scores, kind="stable"),
            np.argsort(-scores, kind="stable"),
            np.arange(len(positions))[::-1],
        ][rng.integers(4)]
        positions, scores = positions[order], scores[order]
        most = min(depth, len(positions))
        count = int(rng.choice([0, 1, most, rng.integers(most + 1)]))
        final = bool(rng.integers(2))
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            part = slice(start, end)
            tokens.append(Token.make(rng, positions[part], scores[part]))
        tokens[-1].count, tokens[-1].final = min(count, most), final
    return tokens


def run(dut, tokens, rng, stall, *, plan_stall=None):
    """Send tokens; return rankings as lists of beats, survivors, counts, saturations by slot."""
    rankings, survivors, saturations = [[]], [], [0, 0]
    counts = {"candidates": 0, "released": 0, "saturations": 0}
    finals = sum(t.count is not None and t.final for t in tokens)
    inner = sum(t.count for t in tokens if t.count is not None and not t.final)

    count_candidates(tokens)

    async def scores(ctx):
        for token in tokens:
            for beat in token.beats():
                await stream_put(ctx, dut.i, beat, rng=rng, stall=stall)

    async def plans(ctx):
        for token in tokens:
            await stream_put(ctx, dut.plan, token.plan(), rng=rng, stall=plan_stall or stall)

    async def ranked(ctx):
        while len(rankings) <= finals:
            beat = await stream_get(ctx, dut.ranked, rng=rng, stall=stall)
            rankings[-1].append((beat.position, beat.score, beat.keep, beat.last, beat.slot))
            if beat.last:
                rankings.append([])

    async def survivor(ctx):
        while len(survivors) < inner:
            survivors.append(await stream_get(ctx, dut.survivor, rng=rng, stall=stall))

    async def monitor(ctx):
        async for *_, step, event in ctx.tick().sample(dut.counters, dut.saturation):
            for name in counts:
                counts[name] += step[name]
            saturations[event.slot] += event.valid

    async def ends(ctx):
        while len(rankings) <= finals or len(survivors) < inner:
            await ctx.tick()
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.ranked.valid)
            assert not ctx.get(dut.survivor.valid)

    simulate(dut, scores, plans, ranked, survivor, ends, background=[monitor])
    return rankings[:-1], survivors, counts, saturations


def check(tokens, rankings, survivors, counts, saturations):
    golden = releases(
        [(t.positions, t.scores) for t in tokens],
        [t.count for t in tokens],
    )
    owners = [t for t in tokens if t.count is not None]
    want_rankings, want_survivors = [], []
    for owner, (positions, scores) in zip(owners, golden, strict=True):
        if not owner.final:
            want_survivors += positions.tolist()
            continue
        n = len(positions)
        beats = [
            (p, s, 1, int(i == n - 1), owner.slot)
            for i, (p, s) in enumerate(zip(positions.tolist(), scores.tolist(), strict=True))
        ]
        want_rankings.append(beats or None)
    assert len(rankings) == len(want_rankings)
    for got, want, owner in zip(
        rankings, want_rankings, [t for t in owners if t.final], strict=True
    ):
        if want is None:
            assert [beat[2:] for beat in got] == [(0, 1, owner.slot)]
        else:
            assert got == want
    assert survivors == want_survivors
    assert counts["candidates"] == sum(len(t.positions) for t in tokens)
    assert counts["released"] == sum(len(positions) for positions, _ in golden)
    assert counts["saturations"] == sum(t.saturated.sum() for t in tokens)
    for slot in range(2):
        assert saturations[slot] == sum(t.saturated.sum() for t in tokens if t.slot == slot)


@pytest.mark.parametrize("depth", [1, 2, 5, 16])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_matches_golden(rng, depth, stall):
    dut = TopK(hardware=small_hardware(1, topk_depth=[depth]), stage=0)
    tokens = random_tokens(rng, depth)
    check(tokens, *run(dut, tokens, rng, stall))


def test_late_plans(rng):
    dut = TopK(hardware=small_hardware(1, topk_depth=[4]), stage=0)
    tokens = random_tokens(rng, 4)
    check(tokens, *run(dut, tokens, rng, 0.0, plan_stall=0.9))


@pytest.mark.parametrize("kind", ["equal", "rising", "falling", "extreme"])
def test_every_k(rng, kind):
    """All k of 1..N, back to back, for score streams that stress the chain."""
    n = 12
    dut = TopK(hardware=small_hardware(1, topk_depth=[n]), stage=0)
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
    check(tokens, *run(dut, tokens, rng, 0.0))


def test_throughput(rng):
    """A score each cycle across tokens; ranked ``count + 1`` cycles after the last score."""
    depth, items = 16, 40
    dut = TopK(hardware=small_hardware(1, topk_depth=[depth]), stage=0)
    tokens = [
        Token.make(rng, rng.permutation(items), rng.integers(-9, 9, size=items), count=depth)
        for _ in range(5)
    ]
    started, ended = [], []

    async def scores(ctx):
        cycle = 0
        for token in tokens:
            for beat in token.beats():
                ctx.set(dut.i.payload, beat)
                ctx.set(dut.i.valid, 1)
                assert ctx.get(dut.i.ready)
                await ctx.tick()
                cycle += 1
            started.append(cycle)
        ctx.set(dut.i.valid, 0)

    async def plans(ctx):
        for token in tokens:
            await stream_put(ctx, dut.plan, token.plan())

    async def ranked(ctx):
        ctx.set(dut.ranked.ready, 1)
        cycle = 0
        while len(ended) < len(tokens):
            if ctx.get(dut.ranked.valid & dut.ranked.p.last):
                ended.append(cycle + 1)
            await ctx.tick()
            cycle += 1

    simulate(dut, scores, plans, ranked)
    assert [end - start for start, end in zip(started, ended, strict=True)] == [depth + 1] * 5


def test_blocked_output_holds_scores_only_when_it_must(rng):
    """With its output blocked, the unit takes what fits beside the release, then resumes."""
    dut = TopK(hardware=small_hardware(1, topk_depth=[8]), stage=0)
    tokens = [
        Token.make(rng, rng.permutation(20), rng.integers(-9, 9, size=20), count=5, final=False)
        for _ in range(2)
    ]
    taken = 0

    async def scores(ctx):
        nonlocal taken
        for token in tokens:
            for beat in token.beats():
                await stream_put(ctx, dut.i, beat)
                taken += 1

    async def plans(ctx):
        for token in tokens:
            await stream_put(ctx, dut.plan, token.plan())

    got = []

    async def survivor(ctx):
        await ctx.tick().repeat(60)
        # 20 and 3 in the cells beside 5 that wait, one more in the input register.
        assert taken == 24
        while len(got) < 10:
            got.append(await stream_get(ctx, dut.survivor))

    simulate(dut, scores, plans, survivor)
    golden = releases([(t.positions, t.scores) for t in tokens], [5, 5])
    assert got == [p for positions, _ in golden for p in positions.tolist()]


def test_bad_stage():
    with pytest.raises(ValueError, match=r"Stage must be within 0\.\.1, not 2"):
        TopK(hardware=small_hardware(2), stage=2)
