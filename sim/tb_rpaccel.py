"""The simulated device: a cocotb testbench that serves a driver in another process.

It touches AXI ports only. Requests arrive over a local socket as tuples ``(operation, *values)``;
simulated time passes only while one is served, so a run is the same each time.
"""

from __future__ import annotations

import itertools
import os
import random
from multiprocessing.connection import Client, Connection
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import Immediate
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiRamRead, AxiReadBus

CLOCK_NS = 4
POLL_CYCLES = 20_000


def pauses(percent: int, seed: int) -> itertools.repeat | Any:
    """Endless random pauses for one AXI channel."""
    rng = random.Random(seed)
    while True:
        yield rng.randrange(100) < percent


class HostMemory:
    """Host memory of the compiled model, reached without time passing."""

    def __init__(self, memory: Any, width: int) -> None:
        self.memory, self.width = memory, width

    def read(self, address: int, size: int) -> bytes:
        """Bytes from an address on."""
        first, last = address // self.width, -(-(address + size) // self.width)
        words = [self.memory[word].value.to_unsigned() for word in range(first, last)]
        data = b"".join(word.to_bytes(self.width, "little") for word in words)
        return data[address - first * self.width :][:size]

    def write(self, address: int, data: bytes) -> None:
        """Put bytes from an address on."""
        before = address % self.width
        after = -(before + len(data)) % self.width
        start = address - before
        data = self.read(start, before) + data + self.read(address + len(data), after)
        for at in range(0, len(data), self.width):
            word = int.from_bytes(data[at : at + self.width], "little")
            self.memory[(start + at) // self.width].set(Immediate(word))


class SimulatedDevice:
    """Bus models around the design, and the operations a transport asks for."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.host = self._host()
        self.memories: list[AxiRamRead] = []
        for path in filter(None, os.environ.get("RPACCEL_MEMORY_FILES", "").split(os.pathsep)):
            bus = AxiReadBus.from_prefix(dut, f"m_axi_mem{len(self.memories)}")
            with open(path, "rb") as file:
                image = file.read()
            memory = AxiRamRead(bus, dut.clk, dut.rst, size=max(len(image), 4096))
            memory.write(0, image)
            self.memories.append(memory)
        stall = int(os.environ.get("RPACCEL_HOST_STALL", "0"))
        if stall:
            self._stall(stall, int(os.environ.get("RPACCEL_STALL_SEED", "1")))

    def _host(self) -> HostMemory | AxiRam:
        size = int(os.environ["RPACCEL_HOST_BYTES"])
        if os.environ.get("RPACCEL_MEMORY_FILES"):
            bus = AxiBus.from_prefix(self.dut, "m_axi_host")
            return AxiRam(bus, self.dut.clk, self.dut.rst, size=size)
        memory = self.dut.host.mem
        return HostMemory(memory, size // len(memory))

    def _stall(self, percent: int, seed: int) -> None:
        channels = [self.registers.write_if.b_channel, self.registers.read_if.r_channel]
        if isinstance(self.host, AxiRam):
            write, read = self.host.write_if, self.host.read_if
            channels += [write.aw_channel, write.w_channel, write.b_channel]
            channels += [read.ar_channel, read.r_channel]
        for memory in self.memories:
            channels += [memory.ar_channel, memory.r_channel]
        for number, channel in enumerate(channels):
            channel.set_pause_generator(pauses(percent, seed * 97 + number))

    async def reset(self) -> None:
        """Start the clock and end the reset."""
        await Timer(CLOCK_NS, unit="ns")  # what the models drive must be there at the first edge
        Clock(self.dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
        await ClockCycles(self.dut.clk, 8)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def read32(self, address: int) -> int:
        """Read a register."""
        return await self.registers.read_dword(address)

    async def write32(self, address: int, value: int) -> None:
        """Write a register."""
        await self.registers.write_dword(address, value)

    async def host_read(self, address: int, size: int) -> bytes:
        """Read host memory."""
        return bytes(self.host.read(address, size))

    async def host_write(self, address: int, data: bytes) -> None:
        """Write host memory."""
        self.host.write(address, data)

    async def wait(self, cycles: int, connection: Connection) -> bool:
        """Let the device run until its interrupt is up, or for so many cycles."""
        while cycles > 0 and not int(self.dut.irq.value):
            step = min(cycles, POLL_CYCLES)
            await First(RisingEdge(self.dut.irq), ClockCycles(self.dut.clk, step))
            cycles -= step
            if connection.poll():  # the driver went away: nothing else is sent while it waits
                raise EOFError
        return bool(int(self.dut.irq.value))


@cocotb.test()
async def serve(dut: Any) -> None:
    """Serve one driver until it closes the connection."""
    dut.clk.value = 0
    dut.rst.value = 1
    await Timer(CLOCK_NS, unit="ns")  # so that no model sees wires that were never driven
    device = SimulatedDevice(dut)
    await device.reset()
    with Client(os.environ["RPACCEL_SOCKET"], family="AF_UNIX") as connection:
        while True:
            try:
                operation, *values = connection.recv()
                if operation == "wait":
                    reply = await device.wait(values[0], connection)
                else:
                    reply = await getattr(device, operation)(*values)
                connection.send(reply)
            except EOFError:
                return
