"""Figure 10a in RTL: the machines, and the smallest of them."""

import numpy as np
import pytest

from rpaccel.array_targets import ANY, STATIC, targets
from rpaccel.bench_array import MODELS
from rpaccel.bench_array_rtl import ITEMS, bench, draw, machine, setting_machine, table
from rpaccel.compiler import compile_image
from rpaccel.sub_batches import alternative
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
    report = {"targets": [], "fixed": [row, {**row, "array": 16, "paper_utilisation": 0.788}]}
    draw(report, tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 5000
    text = table(report)
    assert "36,864" in text
    assert "0.10%" in text
    assert "78.8%" in text


@pytest.mark.parametrize("name", [ANY, STATIC, "(8,16), a stage each"])
def test_settings_are_of_two_machines(name):
    """The funnel fits each, on the groups of the setting, in the passes of its tiles."""
    config = setting_machine(name)
    assert config.hardware.macs == 128 * 128
    models = random_models(config, np.random.default_rng(1))
    image = compile_image(config, models)
    assert all(p.max_items >= stage.items for stage in image.stages for p in stage.programs)
    flow = alternative(config, models, 16).flow
    groups = config.funnel.groups or [config.hardware.setting(config.funnel.setting)] * 2
    assert set(groups[0]) | set(groups[1]) == set(config.hardware.setting(config.funnel.setting))
    assert 10_896 < flow.cycles < 23_000


def test_table_of_settings(tmp_path):
    row = {"setting": ANY, "cycles": 12_240.5, "model_cycles": 12_241.0, "compared": 768}
    report = {"funnel": [row | {"utilisation": 0.838}]}
    report["targets"] = targets(report, "RTL")
    text = table(report)
    assert "12,240" in text
    assert "| 80% | 83.8% | RTL | met |" in text
    draw(report, tmp_path / "settings.png")
    assert (tmp_path / "settings.png").stat().st_size > 5000


@pytest.mark.slow
def test_smallest_array():
    """Every model at its tile bound, every result the golden model's."""
    for row in bench([8], ())["fixed"]:
        assert row["bound"] <= row["cycles"] <= 1.03 * row["bound"]
        assert row["compared"] == 4 * row["items"]
