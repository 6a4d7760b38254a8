"""Groups with dot interactions against the golden model."""

import pytest

from tests.group_bench import Bench, hardware
from tests.group_models import random_model


def unit(stage, vectors, dimension, macs, items=256):
    return {
        "stage": stage,
        "vectors": vectors,
        "dimension": dimension,
        "macs": macs,
        "items": items,
    }


SHAPES = {  # tile, size, shapes
    "4x4": ((4, 4), (1, 1), None),
    "4x4, sharing and fused": ((4, 4), (2, 2), [(1, 1), (2, 2)]),
    "5x3 fused 2x3": ((5, 3), (2, 3), None),
}


def two_models(rng):
    """One with and one without a bottom MLP."""
    return [
        random_model(rng, tables=[5] * 4, dense=7, bottom=[9, 5], top=[11, 6, 1], dot=True),
        random_model(rng, tables=[3] * 4, dense=0, bottom=[], top=[1], dot=True),
    ]


UNITS = [unit(0, 5, 5, 12), unit(1, 5, 4, 40)]


@pytest.mark.parametrize(("shape", "stall"), [*zip(SHAPES, [0.4, 0.0, 0.4], strict=True)])
def test_two_dot_models(rng, shape, stall):
    """Tokens of two stages, some of them empty, in every order."""
    tile, size, shapes = SHAPES[shape]
    machine = hardware(tile, size, 2, shapes=shapes, dot=UNITS)
    bench = Bench(machine, two_models(rng), [len(shapes or [1]) - 1, 0])
    sizes = [1, 14, 2, 0, 9, 0, int(rng.integers(3, 20)), 0, 7, 5]
    tokens = [bench.token(rng, number // 2 % 2, n) for number, n in enumerate(sizes)]
    bench.run(rng, tokens, stall=stall)


def test_a_unit_that_a_model_does_not_use(rng):
    """Concat in a stage that has a unit, beside dot in another."""
    models = two_models(rng)
    models[1] = random_model(rng, tables=[4, 3], dense=2, bottom=[3], top=[5, 1])
    bench = Bench(hardware((4, 4), (1, 2), 2, dot=UNITS), models)
    tokens = [bench.token(rng, number % 2, n) for number, n in enumerate([3, 6, 0, 5, 9, 0, 4, 8])]
    bench.run(rng, tokens, stall=0.2)


def test_other_tokens_run_meanwhile(rng):
    """A slow unit holds up its own tokens, and no others."""
    models = two_models(rng)
    models[1] = random_model(rng, tables=[4], dense=0, bottom=[], top=[9, 5, 1])
    slow = unit(0, 15, 8, 15)  # 56 cycles an item
    bench = Bench(hardware((4, 4), (1, 1), 2, dot=[slow], activation_rows=4096), models)
    tokens = [bench.token(rng, stage, 12) for stage in (0, 1, 1, 1, 1)]
    bench.run(rng, tokens)
    started = bench.starts_seen[0][0][0]
    ends = [finished[-1] for _, finished in bench.starts_seen[1]]
    # The others were fed, so had been worked on, before the products were there.
    assert max(ends) < started + 12 * bench.hardware.dot_shape(0).cycles


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_groups_share_stages(rng, number):
    """Two groups for two stages, one of them with dot: in order, without deadlock."""
    models = two_models(rng)
    if number % 3:
        models[number % 3 - 1] = random_model(rng, tables=[4], dense=0, bottom=[], top=[6, 1])
    group = {"rows": 1, "cols": 2, "shapes": [[1, 1], [1, 2]], "stages": [0, 1]}
    machine = hardware((4, 4), (1, 1), 2, dot=UNITS, groups=[group, group], accumulator_depth=12)
    bench = Bench(machine, models, rng.integers(2, size=2).tolist(), costs=[60, 90])
    tokens = [bench.token(rng, int(rng.integers(2)), int(rng.integers(12))) for _ in range(16)]
    bench.run(rng, tokens, stall=0.3, score_stall=[0.0, 0.5, 0.9][number // 2])
