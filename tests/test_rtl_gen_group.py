"""Groups against the golden model: random models, shapes, tokens and stalls."""

import numpy as np
import pytest

from tests.group_bench import Bench, hardware
from tests.group_models import random_model

SHAPES = {
    "4x4": ((4, 4), (1, 1)),
    "8x8": ((8, 8), (1, 1)),
    "4x4 fused 2x2": ((4, 4), (2, 2)),
    "4x6 fused 1x2": ((4, 6), (1, 2)),
    "6x4 fused 2x1": ((6, 4), (2, 1)),
    "5x3 fused 2x3": ((5, 3), (2, 3)),
}


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s != "4x4"])
def test_matches_golden(rng, shape, stall):
    model = random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1])
    bench = Bench(hardware(*SHAPES[shape]), [model])
    sizes = [1, 2, 0, 17, 0, 1, int(rng.integers(3, 40))]
    bench.run(rng, [bench.token(rng, 0, n, last=n == 17) for n in sizes], stall=stall)
    assert bench.counts["stall_input"] > 0
    assert bench.counts["stall_write"] > 0


@pytest.mark.parametrize("shape", ["4x4", "4x6 fused 1x2"])
def test_extreme_values(rng, shape):
    model = random_model(rng, tables=[11], dense=0, bottom=[], top=[7, 1], extreme=True)
    bench = Bench(hardware(*SHAPES[shape]), [model])
    bench.run(rng, [bench.token(rng, 0, n, extreme=True) for n in (5, 24)])
    assert any(saturated for *_, saturated in bench.scores[0])


@pytest.mark.parametrize("slow", [0, 1])
def test_stages_share_a_group(rng, slow):
    """Tokens of two stages take turns; a slow top-k unit of one does not mix their scores."""
    models = [
        random_model(rng, tables=[4], dense=3, bottom=[5], top=[6, 1]),
        random_model(rng, tables=[2, 7], dense=0, bottom=[], top=[1]),
    ]
    bench = Bench(hardware((4, 4), (1, 2), stages=2), models)
    tokens = [bench.token(rng, int(rng.integers(2)), int(rng.integers(30))) for _ in range(14)]
    bench.run(rng, tokens, stall=0.1, score_stall=[0.0, 0.9][slow])


@pytest.mark.parametrize("shape", ["4x4", "4x4 fused 2x2"])
def test_an_item_a_cycle(rng, shape):
    """With as many items as the array is deep, no cycle is lost between passes or tokens."""
    model = random_model(rng, tables=[8], dense=0, bottom=[], top=[24, 16, 1])
    bench = Bench(hardware(*SHAPES[shape]), [model])
    items = bench.dut.latency[0] + 1
    bench.run(rng, [bench.token(rng, 0, items) for _ in range(4)])
    steady = bench.cycles["busy"][-3 * items * len(bench.programs[0]) :]
    assert steady[-1] - steady[0] + 1 == len(steady)


@pytest.mark.parametrize("items", [1, 3, 8])
def test_a_pass_takes_a_tile_of_weights(rng, items):
    """Short passes take as long as their weights, the next ones' being loaded meanwhile."""
    model = random_model(rng, tables=[80], dense=0, bottom=[], top=[1])
    bench = Bench(hardware((8, 8), (1, 2)), [model])
    bench.run(rng, [bench.token(rng, 0, items) for _ in range(5)])
    begun = np.array(bench.cycles["passes"]).reshape(5, 10)
    assert (np.diff(begun[2:].ravel()) == 8).all()


@pytest.mark.parametrize("shape", ["4x6 fused 1x2", "5x3 fused 2x3"])
@pytest.mark.parametrize("top", [[1], [7, 1]])
def test_product(rng, shape, top):
    """Parts of two vectors are multiplied, wherever they lie in slices and chunks."""
    tables = [int(width) for width in rng.integers(9, 20, 3)]
    model = random_model(rng, tables=tables, dense=3, bottom=[4], top=top, factors=9)
    bench = Bench(hardware(*SHAPES[shape]), [model])
    bench.run(rng, [bench.token(rng, 0, int(n)) for n in (1, 12, 30)], stall=0.1)


SHARED = {
    "2x2 of 4x4": ((4, 4), (2, 2), [(1, 1), (2, 1), (2, 2)]),
    "3x4 of 4x5": ((4, 5), (3, 4), [(3, 4), (1, 1), (3, 2)]),
    "2x4 of 6x3": ((6, 3), (2, 4), [(1, 2), (2, 4)]),
}


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("shape", SHARED)
def test_shapes_change_between_tokens(rng, shape, stall):
    """A group fuses its tiles for tokens of one stage and shares items out for another's."""
    tile, size, shapes = SHARED[shape]
    models = [
        random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1]),
        random_model(rng, tables=[6], dense=0, bottom=[], top=[13, 1]),
    ]
    first, second = rng.permutation(len(shapes))[:2]
    bench = Bench(hardware(tile, size, stages=2, shapes=shapes), models, [first, second])
    sizes = [1, 30, 2, 0, 17, int(rng.integers(3, 40)), 7, 0]
    tokens = [bench.token(rng, number % 2, n) for number, n in enumerate(sizes)]
    bench.run(rng, [*tokens, bench.token(rng, 0, 9)], stall=stall)


def test_parts_share_items(rng):
    """Four tiles side by side need a quarter of the cycles of one, if there are items enough."""
    model = random_model(rng, tables=[8], dense=0, bottom=[], top=[16, 8, 1])
    busy = []
    for size, shapes in ((1, 1), None), ((2, 2), [(1, 1)]):
        bench = Bench(hardware((8, 8), size, shapes=shapes), [model])
        bench.run(rng, [bench.token(rng, 0, 60) for _ in range(3)])
        busy.append(bench.counts["busy"])
    assert busy[0] == 4 * busy[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(16))
def test_random_groups(rng, number):
    """Any shape, any programs, any tokens."""

    def between(low, high):
        return int(rng.integers(low, high + 1))

    def widths(count, most):
        return [between(1, most) for _ in range(count)]

    stages = between(1, 2)
    models = []
    for _ in range(stages):
        bottom = widths(between(0, 2), 14)
        models.append(
            random_model(
                rng,
                tables=widths(between(1, 4), 12),
                dense=between(1, 12) if bottom else 0,
                bottom=bottom,
                top=[*widths(between(0, 2), 20), 1],
                extreme=rng.random() < 0.2,
            )
        )
    tile, size = (between(2, 9), between(2, 9)), (between(1, 4), between(1, 4))
    fusions = [(r, c) for r in (1, 2, 3, 4) for c in (1, 2, 3, 4) if not size[0] % r + size[1] % c]
    shapes = [fusions[i] for i in rng.permutation(len(fusions))[: between(1, 3)]]
    machine = hardware(tile, size, stages=stages, shapes=shapes, program_depth=2048)
    bench = Bench(machine, models, [between(0, len(shapes) - 1) for _ in range(stages)])
    tokens = [bench.token(rng, between(0, stages - 1), between(0, 40)) for _ in range(10)]
    bench.run(rng, tokens, stall=rng.choice([0.0, 0.3]), score_stall=rng.choice([0.0, 0.5, 0.95]))
