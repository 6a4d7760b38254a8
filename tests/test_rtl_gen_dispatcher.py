"""Groups that share stages: scores in order, tokens to the group that is done first."""

import pytest

from sw_model.dispatch_cycles import DispatchCycles, Program
from tests.group_bench import Bench, hardware
from tests.group_models import random_model


def shared(count, stages=2, **values):
    """A machine of ``count`` groups of one tile that all serve all stages."""
    groups = [{"stages": list(range(stages))}] * count
    return hardware((4, 4), (1, 1), stages=stages, groups=groups, **values)


def two_models(rng):
    return [
        random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1]),
        random_model(rng, tables=[6], dense=0, bottom=[], top=[13, 1]),
    ]


@pytest.mark.parametrize(("count", "stall"), [(2, 0.0), (3, 0.3)])
def test_matches_golden(rng, count, stall):
    """Whatever group makes them, scores leave in the order of their stage's tokens."""
    bench = Bench(shared(count), two_models(rng), costs=[500, 90])
    sizes = [1, 30, 0, 17, 0, 2, *rng.integers(0, 40, 6).tolist()]
    tokens = [bench.token(rng, int(rng.integers(2)), n) for n in sizes]
    bench.run(rng, tokens, stall=stall, score_stall=float(rng.choice([0.0, 0.6])))


def test_a_third_of_the_time(rng):
    """Three groups that are kept busy take a third of the time of one."""
    model = random_model(rng, tables=[4], dense=0, bottom=[], top=[16, 8, 1])
    spans = []
    for count in (1, 3):
        bench = Bench(shared(count, 1), [model], costs=[300])
        bench.run(rng, [bench.token(rng, 0, 24) for _ in range(12)])
        spans.append(bench.cycles["busy"][-1] - bench.cycles["busy"][0])
    assert spans[1] < 0.42 * spans[0]


@pytest.mark.parametrize(
    ("count", "stall"),
    [
        (2, 0.0),
        pytest.param(2, 0.4, marks=pytest.mark.slow),
        pytest.param(3, 0.0, marks=pytest.mark.slow),
        (3, 0.4),
    ],
)
def test_to_the_cycle(rng, count, stall):
    """The cycle model makes the same choices at the same time, and every row is where it says."""
    bench = Bench(shared(count), two_models(rng), costs=[900, 150])
    tokens = [bench.token(rng, int(rng.integers(2)), int(n)) for n in rng.integers(1, 40, 16)]
    bench.run(rng, tokens, stall=stall, score_stall=0.0)
    check(bench, tokens)


@pytest.mark.parametrize(
    ("barred", "missing"),
    [
        pytest.param(0x010, {(0, 1)}, marks=pytest.mark.slow),
        pytest.param(0x102, {(1, 0), (0, 2)}, marks=pytest.mark.slow),
        pytest.param(0x111, set(), marks=pytest.mark.slow),
        (0x122, {(1, 0), (1, 1), (0, 2)}),
    ],
)
def test_barred_groups_get_nothing(rng, barred, missing):
    """A stage uses the groups that it is not kept from, and all if it is kept from all."""
    bench = Bench(shared(3), two_models(rng), costs=[300, 300], barred=barred)
    tokens = [bench.token(rng, number % 2, int(n)) for number, n in enumerate([20] * 10)]
    bench.run(rng, tokens, score_stall=0.0)
    check(bench, tokens, missing)


def check(bench, tokens, missing=frozenset()):
    """Compare starts and rows with the cycle model, groups missing for some stages."""
    programs = {
        (stage, group): Program(bench.programs[stage], bench.shapes[stage], bench.costs[stage])
        for stage in range(bench.dut.stages)
        for group in bench.groups
        if (stage, group) not in missing
    }
    model = DispatchCycles(bench.hardware, programs)
    seen = {s: iter(zip(bench.offers_seen[s], bench.starts_seen[s])) for s in bench.starts_seen}
    runs = [(token.stage, token.items, *next(seen[token.stage])) for token in tokens]
    busy = []
    for stage, items, offered, (started, finished) in sorted(runs, key=lambda run: run[3][0]):
        done = model.run(stage, items, offered, lambda _, ends=finished: ends)
        assert done.cycle == started
        busy += [cycle for made in done.token.passes for cycle in made.rows.tolist()]
    assert sorted(busy) == bench.cycles["busy"]
