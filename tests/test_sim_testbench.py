"""What the compiled memories of a machine are told."""

from pathlib import Path

import pytest

from rpaccel.simulation import SimulationConfig
from sim.testbench import memory_plusargs
from tests.machines import small_hardware


def plusargs(**simulation):
    memory = {"channels": 4, "bus_bytes": 16, "line_bytes": 64}
    paths = [Path(f"/{channel}") for channel in range(4)]
    settings = SimulationConfig.model_validate(simulation)
    return memory_plusargs(small_hardware(memory=memory), paths, settings, None)


def test_without_tiers():
    found = plusargs(memory_latency=7, memory_gap=2, seed=5)
    assert {name: found[f"mem2_{name}"] for name in ("latency", "gap_num", "gap_den", "seed")} == {
        "latency": 7,
        "gap_num": 3,
        "gap_den": 1,
        "seed": 7,
    }
    assert not [name for name in found if "ssd" in name or "bank" in name]


def test_banks():
    found = plusargs(dram={"banks": 8, "t_rc": 20})
    expected = {"banks": 8, "row_bytes": 2048, "t_rcd": 4, "t_rp": 4, "t_cas": 4, "t_rc": 20}
    for channel in range(4):
        assert {name: found[f"mem{channel}_{name}"] for name in expected} == expected


@pytest.mark.parametrize("line", [0, 1, 4, 6, 1000])
def test_ssd(line):
    """Each channel holds its lines from ``first_line`` on in the SSD, with a share of its rate."""
    found = plusargs(ssd={"first_line": line})
    for channel in range(4):
        first = int(found[f"mem{channel}_ssd_first"], 16) // 64
        numbers = range(channel, 2000, 4)  # of the channel's lines, in the order of addresses
        assert [number >= line for number in numbers] == [n >= first for n in range(500)]
        shared = found[f"mem{channel}_ssd_num"], found[f"mem{channel}_ssd_den"]
        assert shared == (10, 1)
        assert found[f"mem{channel}_ssd_latency"] == 5000
