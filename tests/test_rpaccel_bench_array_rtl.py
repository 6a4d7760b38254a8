"""Figure 10a in RTL: the machines, and the smallest of them."""

import numpy as np
import pytest

from rpaccel.bench_array import MODELS
from rpaccel.bench_array_rtl import ITEMS, bench, draw, machine, table
from rpaccel.compiler import compile_image
from sw_model.random_models import random_models

TILES = {
    8: (144, 472, 4156),
    16: (40, 120, 1042),
    32: (14, 34, 270),
    64: (5, 10, 81),
    128: (4, 7, 24),
}
"""Of weights, by the side of the array: RM-small, RM-med, RM-large."""


@pytest.mark.parametrize("tile", ITEMS)
@pytest.mark.parametrize("number, model", [*enumerate(MODELS)])
def test_machines_take_the_models_in_as_many_passes(tile, number, model):
    config = machine(tile, model, ITEMS[tile])
    models = random_models(config, np.random.default_rng(1))
    (stage,) = compile_image(config, models).stages
    (program,) = stage.programs
    assert sum(layer.passes for layer in program.layers) == TILES[tile][number]
    assert config.hardware.macs == tile * tile


def test_table(tmp_path):
    row = {
        "array": 8,
        "model": "RM-small",
        "items": 256,
        "bound": 36_864,
        "cycles": 36_900.5,
        "utilisation": 0.875,
        "paper_utilisation": None,
    }
    report = {"arrays": [row, {**row, "array": 16, "paper_utilisation": 0.788}]}
    draw(report, tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 5000
    text = table(report)
    assert "36,864" in text
    assert "0.10%" in text
    assert "78.8%" in text


@pytest.mark.slow
def test_smallest_array():
    """Every model at its tile bound, every result the golden model's."""
    for row in bench([8])["arrays"]:
        assert row["bound"] <= row["cycles"] <= 1.03 * row["bound"]
        assert row["compared"] == 4 * row["items"]
