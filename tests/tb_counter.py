"""cocotb tests of a counter: what tests/test_sim_build.py runs to check the builds themselves."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Timer

from rpaccel.errors import MismatchError


@cocotb.test()
async def counts(dut):
    """Count to the step that the test says."""
    Clock(dut.clk, 4, "ns", impl="gpi").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 101)
    assert dut.q.value.to_unsigned() == 100 * int(os.environ.get("STEP", "1"))


@cocotb.test()
async def differs(dut):
    """Find a difference."""
    raise MismatchError("item 3: score 5, golden 7")


@cocotb.test()
async def breaks(dut):
    """Fail otherwise than by a difference."""
    raise KeyError("no such thing")


@cocotb.test()
async def hangs(dut):
    """Never end."""
    Clock(dut.clk, 4, "ns", impl="gpi").start()
    while True:
        await ClockCycles(dut.clk, 1000)


@cocotb.test()
async def crashes(dut):
    """End the simulator without results."""
    os._exit(3)


@cocotb.test()
async def sees_hidden(dut):
    """Read a signal inside the design that was made public."""
    await Timer(1, "ns")
    assert dut.inner.hidden.value.to_unsigned() == 5
