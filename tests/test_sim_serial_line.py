"""A whole machine at its two serial pins, through the real driver."""

import random
from pathlib import Path

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.driver import Device
from rpaccel.serial import SerialTransport
from sim.noisy_line import NoisyLine
from sim.serial_line import SimulatedLine
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "rate"), [("chip", 0.0), ("chip", 0.0005), ("sdram", 0.0)])
def test_queries_over_serial_pins(rng, memory, rate):
    """The gateware behind a good line and behind a bad one gives the golden model's bits."""
    values = load(HERE / "tiny.toml").model_dump(mode="json")
    board = {"memory": memory, "memory_bytes": 1 << 25 if memory == "sdram" else 16384}
    config = parse(values | {"board": board})
    models = random_models(config, np.random.default_rng(3))
    image = compile_image(config, models)
    queries = [random_query(config.features, 24, rng) for _ in range(3)]
    line = NoisyLine(SimulatedLine(config), random.Random(int(rng.integers(2**32))), rate)
    transport = SerialTransport(line)
    with Device(transport, config, image) as device:
        handles = device.run(queries)
        assert transport.memory_read(0, len(image.data)) == image.data
    for query, handle in zip(queries, handles, strict=True):
        expected = rank(models, config.features, query, keep=[10, 4], sub_batch=8)
        result = handle.result()
        assert (result.positions == expected.positions).all()
        assert (result.scores == expected.scores).all()
    assert (transport.repeated > 0) == (rate > 0)
