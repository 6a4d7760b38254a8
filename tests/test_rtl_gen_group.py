"""Groups against the golden model: random models, shapes, tokens and stalls."""

import pytest

from tests.group_bench import Bench, hardware, random_model

SHAPES = {
    "4x4": ((4, 4), (1, 1)),
    "4x6": ((4, 6), (1, 1)),
    "6x4": ((6, 4), (1, 1)),
    "4x4 fused 2x2": ((4, 4), (2, 2)),
    "4x6 fused 1x2": ((4, 6), (1, 2)),
    "6x4 fused 2x1": ((6, 4), (2, 1)),
    "5x3 fused 2x3": ((5, 3), (2, 3)),
}


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_golden(rng, shape, stall):
    model = random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1])
    bench = Bench(hardware(*SHAPES[shape]), [model])
    sizes = [1, 2, 0, 17, 0, 1, int(rng.integers(3, 40))]
    bench.run(rng, [bench.token(rng, 0, n, last=n == 17) for n in sizes], stall=stall)
