"""The simulated board: a cocotb testbench that is at the other end of a serial line.

It touches the pins of the line only. Requests arrive over a local socket; simulated time passes
only while one is served.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Client
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Event, FallingEdge, First, RisingEdge, Timer

CLOCK_NS = 40


class Port:
    """The far end of the line, as a port of a computer: sends bytes, keeps those that come."""

    def __init__(self, dut: Any, divisor: int) -> None:
        self.dut = dut
        self.bit = divisor * CLOCK_NS
        self.came = bytearray()
        self.some = Event()
        self.cycles = 0
        cocotb.start_soon(self._listen())

    async def _listen(self) -> None:
        pin = self.dut.tx
        while True:
            if int(pin.value):
                await FallingEdge(pin)
            await Timer(self.bit + self.bit // 2, unit="ns")
            byte = 0
            for number in range(8):
                byte |= int(pin.value) << number
                await Timer(self.bit, unit="ns")
            assert int(pin.value) == 1, "stop bit"
            self.came.append(byte)
            self.some.set()

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when they are on the line."""
        pin = self.dut.rx
        for byte in data:
            level = 1
            run = 0
            for bit in (0, *(byte >> number & 1 for number in range(8)), 1):
                if bit != level:
                    if run:
                        await Timer(run, unit="ns")
                    pin.value = level = bit
                    run = 0
                run += self.bit
            await Timer(run, unit="ns")

    async def read(self, nanoseconds: int) -> bytes:
        """What came; if nothing did, wait so long for a byte."""
        if not self.came and nanoseconds > 0:
            self.some.clear()
            await First(self.some.wait(), Timer(nanoseconds, unit="ns"))
        data = bytes(self.came)
        self.came.clear()
        return data


@cocotb.test()
async def serve(dut: Any) -> None:
    """Serve one user of the line until it closes the connection."""
    dut.rx.value = 1
    dut.rst.value = 1
    dut.clk.value = 0
    await Timer(CLOCK_NS, unit="ns")
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
    await ClockCycles(dut.clk, 8)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    port = Port(dut, int(os.environ["RPACCEL_DIVISOR"]))
    with Client(os.environ["RPACCEL_SOCKET"], family="AF_UNIX") as connection:
        while True:
            try:
                operation, value = connection.recv()
                reply = await getattr(port, operation)(value)
                connection.send((reply, cocotb.simtime.get_sim_time("ns")))
            except EOFError:
                return
