"""The cycle model of groups with dot interactions against the gateware: every row of every pass."""

import pytest

from sw_model.token_order_cycles import TokenOrderCycles
from tests.group_bench import Bench, hardware
from tests.group_models import random_model


def check(bench, tokens):
    """Compare with what a run of a bench saw."""
    geometry = bench.hardware.geometry(0)
    programs = dict(enumerate(zip(bench.programs, bench.shapes, strict=True)))
    dots = [stage for stage, model in enumerate(bench.models) if model.dot is not None]
    model = TokenOrderCycles(geometry, programs, dots)
    seen = {stage: iter(starts) for stage, starts in bench.starts_seen.items()}
    runs = [(token.stage, token.items, *next(seen[token.stage])) for token in tokens]
    for stage, items, started, finished in sorted(runs, key=lambda run: run[2]):
        model.offer(stage, items, started, finished)
    while model.step() is not None:
        pass
    busy = [cycle for run in model.runs for made in run for cycle in made.rows.tolist()]
    assert busy == bench.cycles["busy"]


def unit(stage, vectors, dimension, macs):
    return {"stage": stage, "vectors": vectors, "dimension": dimension, "macs": macs}


@pytest.mark.parametrize(
    ("size", "shapes", "macs", "stall"),
    [
        ((1, 1), None, 5, 0.0),
        ((2, 2), [(1, 1), (2, 2)], 20, 0.5),
        pytest.param((2, 2), [(1, 1), (2, 2)], 20, 0.0, marks=pytest.mark.slow),
        pytest.param((2, 3), None, 9, 0.0, marks=pytest.mark.slow),
        pytest.param((2, 3), [(1, 1)], 40, 0.3, marks=pytest.mark.slow),
    ],
)
def test_to_the_cycle(rng, size, shapes, macs, stall):
    models = [
        random_model(rng, tables=[4] * 3, dense=3, bottom=[6, 4], top=[7, 1], dot=True),
        random_model(rng, tables=[2] * 3, dense=0, bottom=[], top=[5, 1], dot=True),
        random_model(rng, tables=[3], dense=0, bottom=[], top=[6, 1]),
    ]
    units = [unit(0, 4, 4, macs), unit(1, 3, 2, 3)]
    machine = hardware((4, 4), size, stages=3, shapes=shapes, dot=units)
    bench = Bench(machine, models, [len(shapes or [1]) - 1, 0, 0])
    sizes = [1, 12, 2, *rng.integers(1, 20, 5).tolist()]
    tokens = [bench.token(rng, int(rng.integers(3)), n) for n in sizes]
    bench.run(rng, tokens, stall=stall, score_stall=0.0)
    check(bench, tokens)
