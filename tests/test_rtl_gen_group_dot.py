"""Groups with dot interactions against the golden model."""

import pytest

from tests.group_bench import Bench, hardware, random_model


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


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_dot_models(rng, shape, stall):
    """Tokens of two stages, one with and one without a bottom MLP."""
    tile, size, shapes = SHAPES[shape]
    models = [
        random_model(rng, tables=[5] * 4, dense=7, bottom=[9, 5], top=[11, 6, 1], dot=True),
        random_model(rng, tables=[3] * 4, dense=0, bottom=[], top=[1], dot=True),
    ]
    units = [unit(0, 5, 5, 12), unit(1, 5, 4, 40)]
    machine = hardware(tile, size, 2, shapes=shapes, dot=units)
    bench = Bench(machine, models, [len(shapes or [1]) - 1, 0])
    sizes = [1, 30, 2, 0, 17, 0, int(rng.integers(3, 40)), 0, 7, 5]
    tokens = [bench.token(rng, number // 2 % 2, n) for number, n in enumerate(sizes)]
    bench.run(rng, tokens, stall=stall)
