"""The cycle model of a group against its gateware: every row of every pass, to the cycle."""

import numpy as np
import pytest

from sw_model.group_cycles import GroupCycles
from tests.group_bench import Bench, hardware
from tests.group_models import random_model


def check(bench, tokens):
    """Compare with what a run of a bench saw; tokens in the order of their start."""
    model = GroupCycles(bench.hardware.geometry(0))
    seen = {stage: iter(starts) for stage, starts in bench.starts_seen.items()}
    runs = [(token.stage, token.items, *next(seen[token.stage])) for token in tokens]
    busy, loads = [], []
    for stage, items, started, finished in sorted(runs, key=lambda run: run[2]):
        if items:
            program, shape = bench.programs[stage], bench.shapes[stage]
            made = model.run(program, shape, items, stage=stage, started=started, arrived=finished)
            busy += [cycle for done in made.passes for cycle in done.rows.tolist()]
            loads += [done.loads for done in made.passes]
    assert busy == bench.cycles["busy"]
    assert (np.diff(loads) >= bench.hardware.tile_rows).all()


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((1, 1), None),
        ((2, 3), None),
        ((2, 2), [(1, 1)]),
        ((2, 4), [(2, 4), (1, 2)]),
    ],
)
def test_to_the_cycle(rng, size, shapes, stall):
    models = [
        random_model(rng, tables=[3, 5, 2], dense=7, bottom=[9, 4], top=[11, 6, 1]),
        random_model(rng, tables=[6], dense=0, bottom=[], top=[13, 1]),
    ]
    uses = [0, len(shapes or [1]) - 1]
    bench = Bench(hardware((4, 4), size, stages=2, shapes=shapes), models, uses)
    sizes = [1, 30, 2, 17, *rng.integers(1, 40, 3).tolist()]
    tokens = [bench.token(rng, int(rng.integers(2)), n) for n in sizes]
    bench.run(rng, tokens, stall=stall, score_stall=0.0)
    check(bench, tokens)


def test_scores_hold_up_the_array(rng):
    """More scores a cycle than the filter takes: rows wait for room."""
    model = random_model(rng, tables=[4], dense=0, bottom=[], top=[1])
    machine = hardware((4, 4), (4, 4), shapes=[(1, 1)], accumulator_depth=8)
    bench = Bench(machine, [model])
    tokens = [bench.token(rng, 0, 120) for _ in range(6)]
    bench.run(rng, tokens, score_stall=0.0)
    check(bench, tokens)
