"""A testbench for filter units, of either kind."""

from dataclasses import dataclass

import numpy as np

from rpaccel.counters import TOPK_COUNTERS, states_of
from sim.pysim import simulate, stream_get, stream_put
from sw_model.topk import Bins
from sw_model.topk import releases as golden_releases

__all__ = ["Token", "check", "count_candidates", "random_tokens", "run"]


STATES = states_of(TOPK_COUNTERS)


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


def random_tokens(rng, depth, *, releases=40, ranked=True):
    """Runs of tokens, each run with distinct positions and ended by a release, some final."""
    tokens = []
    for _ in range(releases):
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
        final = ranked and bool(rng.integers(2))
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            part = slice(start, end)
            tokens.append(Token.make(rng, positions[part], scores[part]))
        tokens[-1].count, tokens[-1].final = min(count, most), final
    return tokens


def run(dut, tokens, rng, stall, *, plan_stall=None, output_stall=None):
    """Send tokens; return rankings as lists of beats, survivors, counts, saturations by slot."""
    rankings, survivors, saturations = [[]], [], [0, 0]
    counts = dict.fromkeys(TOPK_COUNTERS, 0)
    finals = sum(t.count is not None and t.final for t in tokens)
    inner = sum(t.count for t in tokens if t.count is not None and not t.final)

    count_candidates(tokens)
    leaving = stall if output_stall is None else output_stall

    async def scores(ctx):
        for token in tokens:
            for beat in token.beats():
                await stream_put(ctx, dut.i, beat, rng=rng, stall=stall)

    async def plans(ctx):
        for token in tokens:
            await stream_put(ctx, dut.plan, token.plan(), rng=rng, stall=plan_stall or stall)

    async def ranked(ctx):
        while len(rankings) <= finals:
            beat = await stream_get(ctx, dut.ranked, rng=rng, stall=leaving)
            rankings[-1].append((beat.position, beat.score, beat.keep, beat.last, beat.slot))
            if beat.last:
                rankings.append([])

    async def survivor(ctx):
        while len(survivors) < inner:
            survivors.append(await stream_get(ctx, dut.survivor, rng=rng, stall=leaving))

    async def monitor(ctx):
        async for *_, step, event in ctx.tick().sample(dut.counters, dut.saturation):
            assert sum(step[name] for name in STATES) == 1
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


def check(tokens, rankings, survivors, counts, saturations, *, bins=None):
    """Compare what :func:`run` returned with the golden model."""
    golden = golden_releases(
        [(t.positions, t.scores) for t in tokens],
        [t.count for t in tokens],
        bins,
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
    counts_below = isinstance(bins, Bins)
    below = [0 if not counts_below else int((~bins.passed(s)).sum()) for _, s in golden]
    assert counts["below"] == sum(below)
    assert counts["short"] == sum(b > 0 for b in below)
    for slot in range(2):
        assert saturations[slot] == sum(t.saturated.sum() for t in tokens if t.slot == slot)
