"""What the compiler refuses."""

import dataclasses

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.errors import ConfigError
from sw_model.random_models import random_models
from tests.workloads import workload


@pytest.mark.parametrize(
    "hardware, message",
    [
        ({"weight_rows": 100}, r"hardware.groups.0: weight_rows takes \d+ of 100"),
        ({"param_rows": 4}, r"hardware.groups.0: param_rows takes \d+ of 4"),
        ({"program_depth": 20}, r"hardware.groups.0: program_depth takes \d+ of 20"),
        ({"activation_rows": 16, "tile_cols": 2}, "activation words an item"),
        (
            {"gather": [{"cache_lines": 4, "max_dimension": 8}] * 2},
            "back.user: dimension 9, but hardware.gather.1.max_dimension = 8",
        ),
        (
            {"gather": [{"cache_lines": 4, "max_fields": 2}] * 2},
            "there are 3 tables, but hardware.gather.0 has lanes = 1 of max_fields = 2",
        ),
    ],
)
def test_machines_too_small(rng, hardware, message):
    small = {"tile_rows": 2, "tile_cols": 2, "groups": [{"stages": [0, 1]}]}
    config = workload(hardware=small | hardware)
    with pytest.raises(ConfigError, match=message):
        compile_image(config, random_models(config, rng))


def test_device_memory_too_small(rng):
    tables = [{"name": "item", "rows": 8000}]
    memory = {"address_bits": 16, "line_bytes": 16, "bus_bytes": 8, "channels": 2}
    config = workload(tables=tables, hardware={"memory": memory})
    with pytest.raises(ConfigError, match=r"takes \d+ bytes of device memory .* has 131072"):
        compile_image(config, random_models(config, rng))


def replaced(models, part, number, **changes):
    """Models with one layer of the second changed."""
    layers = list(getattr(models[1], part))
    layers[number] = dataclasses.replace(layers[number], **changes)
    return [models[0], dataclasses.replace(models[1], **{part: layers})]


def test_overflow_is_refused(rng):
    config = workload()
    models = random_models(config, rng)
    layer = models[1].top[1]
    room = (1 << 31) - 1 - 128 * int(np.abs(layer.weights[4].astype(int)).sum())
    bias = layer.bias.copy()
    bias[4] = -room
    compile_image(config, replaced(models, "top", 1, bias=bias))
    bias[4] -= 1
    with pytest.raises(ConfigError, match=r"layer back.top.1, channel 4: .* 2147483648, more"):
        compile_image(config, replaced(models, "top", 1, bias=bias))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("mantissa", 65536, r"back.bottom.0, channel 2: mantissa 65536 is outside 0..65535"),
        ("shift", 48, r"back.bottom.0, channel 2: shift 48 is outside 0..47"),
        ("shift", -1, r"back.bottom.0, channel 2: shift -1"),
    ],
)
def test_parameters_out_of_range(rng, name, value, message):
    config = workload()
    models = random_models(config, rng)
    values = getattr(models[1].bottom[0], name).copy()
    values[2] = value
    with pytest.raises(ConfigError, match=message):
        compile_image(config, replaced(models, "bottom", 0, **{name: values}))


def test_wrong_models(rng):
    config = workload()
    models = random_models(config, rng)
    with pytest.raises(ConfigError, match="2 stages, but 1 models"):
        compile_image(config, models[:1])
    with pytest.raises(ConfigError, match=r"back.user: rows must be \(30, 9\), not \(30, 3\)"):
        compile_image(config, [models[0], dataclasses.replace(models[0], name="back")])
    with pytest.raises(ConfigError, match="has tables"):
        compile_image(config, [models[0], dataclasses.replace(models[1], tables=[])])
    with pytest.raises(ConfigError, match=r"back.top: layers must be 3, not 2"):
        compile_image(config, [models[0], dataclasses.replace(models[1], top=models[1].top[:2])])
    with pytest.raises(ConfigError, match=r"back.top.2: logit must be True"):
        compile_image(config, replaced(models, "top", 2, logit=False))
    bias = models[1].top[0].bias[:3]
    with pytest.raises(ConfigError, match=r"back.top.0: bias must be \(13,\), not \(3,\)"):
        compile_image(config, replaced(models, "top", 0, bias=bias))
    tables = [dataclasses.replace(models[1].tables[0], shift=16), *models[1].tables[1:]]
    with pytest.raises(ConfigError, match=r"back.user: shift 16 is outside 0..15"):
        compile_image(config, [models[0], dataclasses.replace(models[1], tables=tables)])


def test_wrong_arguments(rng):
    config = workload()
    models = random_models(config, rng)
    with pytest.raises(ConfigError, match="multiple of line_bytes = 16, not 0x8"):
        compile_image(config, models, address=8)
    heat = {"user": np.ones(30), "item": np.ones(300)}
    with pytest.raises(ConfigError, match=r"hotness is not given for front.tags"):
        compile_image(config, models, hotness=[heat, heat])
    heat["tags"] = np.ones(21)
    with pytest.raises(ConfigError, match=r"hotness of front.tags: shape must be \(20,\) or less"):
        compile_image(config, models, hotness=[heat, heat])
