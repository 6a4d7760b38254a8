"""The board presets: their images fit, and the demo's queries give the golden model's bits."""

from pathlib import Path

import pytest

from rpaccel.board_build import check_image
from rpaccel.config import load
from rpaccel.driver import Device
from rpaccel.serial import SerialTransport
from rpaccel.verify import compare
from rpaccel.workflow import Workflow
from sim.serial_line import SimulatedLine

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["ulx3s", "ulx3s-sdram"])
def test_the_image_fits(name):
    work = Workflow(load(EXAMPLES / f"{name}.toml"))
    check_image(work.config, work.image)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ulx3s", "ulx3s-sdram"])
def test_queries_at_the_pins(name):
    """Serial pins (and those of the SDRAM) are all that is touched; the driver is the real one."""
    work = Workflow(load(EXAMPLES / f"{name}.toml"))
    # An image of 456 KB takes the simulated line minutes; with all queries ten were not enough.
    queries = work.queries[:2] if "sdram" in name else work.queries
    transport = SerialTransport(SimulatedLine(work.config))
    with Device(transport, work.config, work.image) as device:
        handles = device.run(queries)
        counters = device.counters()
    for number, (query, handle) in enumerate(zip(queries, handles, strict=True)):
        compare(number, work.golden(query), handle.result())
    assert transport.repeated == 0
    for stage in range(work.config.hardware.stages):
        for counter in "static_hits", "lookahead_hits", "misses", "evictions":
            assert counters[f"gather{stage}.{counter}"], counter
