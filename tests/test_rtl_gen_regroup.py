"""Groups that share sub-arrays: settings that change at run time, and what they disturb."""

import numpy as np
import pytest

from rtl_gen.regroup import Regroup
from sim.pysim import simulate
from sw_model.dispatch_cycles import DispatchCycles, Program
from sw_model.group_cycles import latency
from sw_model.regroup_cycles import RegroupCycles
from tests.group_bench import Bench, hardware
from tests.group_models import random_model


def group(at, size, stages, shapes=None):
    values = {"at": list(at), "rows": size[0], "cols": size[1], "stages": stages}
    return values | ({"shapes": shapes} if shapes else {})


#: A tile for stage 0; below, two rows of two, as one group of all, or as one of two and two of one.
GROUPS = [
    group((0, 0), (1, 1), [0]),
    group((1, 0), (2, 2), [1]),
    group((1, 0), (1, 2), [1], [[1, 1]]),
    group((2, 0), (1, 1), [1]),
    group((2, 1), (1, 1), [1]),
]
SETTINGS = [[0, 1], [0, 2, 3, 4], [0, 2]]


def machine(tile=(4, 4), groups=GROUPS, settings=SETTINGS, **values):
    return hardware(tile, (1, 1), stages=2, groups=groups, settings=settings, **values)


def two_models(rng):
    return [
        random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1]),
        random_model(rng, tables=[6], dense=0, bottom=[], top=[13, 1]),
    ]


def check(bench, tokens):
    """Compare starts and rows with the cycle model."""
    programs = {
        (stage, number): Program(
            memories.programs[stage], memories.shapes[stage], bench.costs[stage]
        )
        for number, memories in enumerate(bench.memories)
        for stage in memories.stages
    }
    model = DispatchCycles(bench.hardware, programs, bench.changes_seen)
    seen = {s: iter(zip(bench.offers_seen[s], bench.starts_seen[s])) for s in bench.starts_seen}
    runs = [(token.stage, token.items, *next(seen[token.stage])) for token in tokens]
    busy, used = [], []
    for stage, items, offered, (started, finished) in sorted(runs, key=lambda run: run[3][0]):
        done = model.run(stage, items, offered, lambda _, ends=finished: ends)
        assert done.cycle == started
        used.append((done.group, started))
        busy += [cycle for made in done.token.passes for cycle in made.rows.tolist()]
    assert sorted(busy) == bench.cycles["busy"]
    return used


def test_who_is_open_when(rng):
    """Settings that change at any time, groups busy at any time: open in the model's cycles."""
    hw = machine()
    dut = Regroup(hw)
    groups = range(len(hw.groups))
    changes = {int(c): int(rng.integers(4)) for c in np.cumsum(rng.integers(1, 60, 60))}
    spans = {group: [(-1, -1)] for group in groups}  # starts of tokens, and when they are over
    seen = []

    async def testbench(ctx):
        for cycle in range(max(changes) + 100):
            ctx.set(dut.setting, changes.get(cycle, ctx.get(dut.setting)))
            busy = [spans[g][-1][0] < cycle <= spans[g][-1][1] for g in groups]
            ctx.set(dut.idle, sum(1 << g for g in groups if not busy[g]))
            is_open, active = ctx.get(dut.open), ctx.get(dut.active)
            assert ctx.get(dut.changing) == (is_open != ctx.get(dut.on))
            for group in groups:
                mine = active >> group & 1
                assert mine or not busy[group], "a group that has tokens lost its sub-arrays"
                assert not mine or not any(active >> o & 1 for o in hw.overlapping(group))
                if is_open >> group & 1 and cycle > spans[group][-1][1] and rng.random() < 0.2:
                    spans[group].append((cycle, cycle + int(rng.integers(1, 40))))
            seen.append(is_open)
            await ctx.tick()

    simulate(dut, testbench)
    model = RegroupCycles(hw)
    known, last = 0, 0
    for cycle, setting in changes.items():
        known = setting if setting < len(SETTINGS) else 0
        if known != last:
            ends = {g: max(e for s, e in spans[g] if s < cycle) for g in groups}
            model.change(known, cycle, ends.get)
            last = known
    for cycle, is_open in enumerate(seen):
        assert is_open == sum(1 << g for g in groups if model.is_open(g, cycle))


@pytest.mark.parametrize("stall", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_regrouped_between_tokens(rng, stall):
    """Scores and the cycle of every row, while the setting changes under way."""
    changes = [(int(rng.integers(100, 500)), number) for number in (1, 0, 2, 1, 0)]
    bench = Bench(machine(), two_models(rng), costs=[500, 90], settings=changes)
    tokens = [bench.token(rng, int(n % 3 > 0), int(n)) for n in rng.integers(1, 30, 22)]
    bench.run(rng, tokens, stall=stall, score_stall=0.0)
    used = {group for group, _ in check(bench, tokens)}
    assert used >= {0, 1}
    assert used & {2, 3, 4}
    assert len(bench.changes_seen) == len(changes)


NEIGHBOURS = {
    "idle": (0, [], 0),
    "busy": (8, [], 0),
    "regrouped": (8, [(100, 1), (180, 2), (90, 0), (40, 1), (1, 0), (1, 2)], 0),
    "kept apart": (8, [(100, 1)], 1 << 4 * 3 + 1 | 1 << 4 * 2 + 1),
}


def test_cross_talk(rng):
    """Whatever others do, however they are regrouped or kept from stages, a group does the same.

    In value and in cycle; with stalls of its own gather unit and filter.
    """
    models = two_models(rng)
    bench = Bench(machine(), models)
    mine = [bench.token(rng, 0, n) for n in (20, 1, 0, 17)]
    seen = {}
    for name, (count, settings, barred) in NEIGHBOURS.items():
        given = {"settings": settings, "barred": barred}
        bench = Bench(machine(), models, costs=[500, 90], **given)
        others = [bench.token(rng, 1, int(n)) for n in rng.integers(0, 40, count)]
        same = np.random.default_rng(7)
        bench.run(same, [*mine, *others], stall=0.3, score_stall=0.3)
        seen[name] = (bench.scores[0], bench.score_cycles[0], bench.starts_seen[0])
        assert len(bench.changes_seen) == len(settings)
    assert all(each == seen["idle"] for each in seen.values())


def test_others_take_over_at_once(rng):
    """A group starts a token four cycles after the one that had its sub-arrays is done."""
    bench = Bench(machine(), two_models(rng), costs=[500, 90], settings=[(150, 1)])
    tokens = [bench.token(rng, 1, 30) for _ in range(6)]
    bench.run(rng, tokens, score_stall=0.0)
    ((changed, _),) = bench.changes_seen
    used = check(bench, tokens)
    before = [start for group, start in used if group == 1]
    assert max(before) < changed
    last = max(cycle for cycle in bench.cycles["busy"] if cycle < used[len(before)][1])
    over = last + latency(4, bench.memories[1].shapes[1])
    assert used[len(before)][1] == over + 4
