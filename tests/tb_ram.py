"""cocotb test of a pair of RAMs: what tests/test_rtl_gen_ram.py runs on a simulator."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge


@cocotb.test()
async def both_are_equal(dut):
    """Drive both with the same traffic and compare what they show."""
    choose = random.Random(os.environ["SEED"])
    depth = int(os.environ["DEPTH"])
    ports = (dut.write__en, dut.write__data)
    addresses = (dut.write__addr, dut.read__addr)
    for port in (*ports, *addresses, dut.read__en):
        port.value = 0
    Clock(dut.clk, 4, "ns", impl="gpi").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    shown = set()
    for _ in range(3000):
        await FallingEdge(dut.clk)
        assert dut.memory_data.value == dut.macro_data.value
        shown.add(dut.macro_data.value.to_unsigned())
        for port in ports:
            port.value = choose.getrandbits(len(port))
        # A few words, so that reads and writes of the same word meet.
        for port in addresses:
            port.value = choose.choice([0, 1, depth - 1, choose.randrange(depth)])
        dut.read__en.value = choose.random() < 0.7
    assert len(shown) > 500
