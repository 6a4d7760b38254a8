"""The controller with host port and feature buffer against golden planner and validation."""

import pytest

from rpaccel.abi import Status
from tests.controller_bench import IMAGE_ID, Bench
from tests.machines import small_hardware


@pytest.mark.parametrize(
    "stages, bus_bytes, slots, stall",
    [(1, 8, 1, 0.0), (2, 16, 2, 0.0), (2, 32, 3, 0.5), (4, 64, 4, 0.3), (3, 16, 1, 0.4)],
)
def test_random_queries(rng, stages, bus_bytes, slots, stall):
    """Good, refused and failing queries in any mixture; both rings wrap around."""
    hardware = small_hardware(stages, host_bus_bytes=bus_bytes, query_slots=slots)
    bench = Bench(hardware, rng, stall=stall)
    for number in range(14):
        kind = number if number < 5 else int(rng.integers(8))
        if kind == 0:
            bench.add(items=0)
        elif kind == 1:
            job = bench.add()
            for stage in job.used if job.planned else ():
                if rng.random() < 0.6:
                    job.fails[stage] = int(rng.choice([Status.BAD_INDEX, Status.MEMORY_ERROR]))
        elif kind == 2:
            job = bench.add(image_id=IMAGE_ID ^ 1 << int(rng.integers(32)))
            assert job.status == Status.BAD_IMAGE
        else:
            bench.add()
    bench.run()
    assert bench.errors == 0
