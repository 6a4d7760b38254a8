"""The compiled host memory, checked by cocotbext-axi and by raw bus cycles."""

from pathlib import Path

import pytest

import sim
from sim.build import build
from sim.testbench import HOST_MEMORY
from sim.verilog import port_names
from tests.test_sim_axi_memory import SIMULATORS

SOURCE = Path(sim.__file__).with_name("axi_host.v")
SIZE_BYTES = 8192


@pytest.fixture(params=SIMULATORS)
def run(request, rng, tmp_path):
    text = SOURCE.read_text()
    host = build(
        {SOURCE.name: text},
        "axi_host",
        simulator=request.param,
        public={"axi_host": [*port_names(text, "axi_host"), *HOST_MEMORY["axi_host"]]},
        parameters={"DATA_BYTES": 16, "ADDR_BITS": 32, "SIZE_BYTES": SIZE_BYTES},
    )

    def run(test, env=None, **settings):
        return host.run(
            "sim.tb_axi_host",
            testcase=test,
            work=tmp_path,
            timeout=120,
            seed=int(rng.integers(1, 2**31)),
            env={"SIZE_BYTES": str(SIZE_BYTES), **{k: str(v) for k, v in (env or {}).items()}},
            plusargs={"host_seed": int(rng.integers(2**31))}
            | {f"host_{name}": value for name, value in settings.items()},
        )

    return run


@pytest.mark.parametrize("settings", [{}, {"latency": 30, "stall": 40, "gap_num": 7, "gap_den": 4}])
def test_traffic(run, settings):
    run("traffic", {"ROUNDS": 20}, **settings)


def test_errors(run):
    run("errors")


@pytest.mark.parametrize(("latency", "gap_num", "gap_den"), [(1, 1, 1), (250, 16, 11)])
def test_timing(run, latency, gap_num, gap_den):
    timing = {"latency": latency, "gap_num": gap_num, "gap_den": gap_den}
    run("timing", {"BURSTS": 100, **{k.upper(): v for k, v in timing.items()}}, **timing)
