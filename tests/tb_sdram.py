"""cocotb test of the SDRAM controller: what tests/test_rtl_gen_sdram.py runs on a simulator."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer

BUS = 8
BEATS = 8
LINE = BUS * BEATS


class Bench:
    """Bytes and bursts, a few places often, in all banks and some rows."""

    def __init__(self, dut):
        self.dut = dut
        self.choose = random.Random(os.environ["SEED"])
        self.size = int(os.environ["SIZE"])
        self.content = {}
        self.lines = [self.choose.randrange(self.size // LINE) * LINE for _ in range(12)] + [
            0,
            self.size - LINE,
        ]
        self.cycles = []

    async def taken(self, ready):
        """Wait past the edge at which a signal is high."""
        done = False
        while not done:
            await Timer(1, "ns")  # what we drove has gone through the logic
            done = bool(int(ready.value))
            await FallingEdge(self.dut.clk)

    async def byte(self, address, data=None):
        """Read a byte, or write one."""
        dut = self.dut
        dut.bytes__address.value = address
        dut.bytes__write.value = data is not None
        dut.bytes__data.value = data or 0
        dut.bytes__valid.value = 1
        await self.taken(dut.bytes__ready)
        dut.bytes__valid.value = 0
        return int(dut.bytes__r_data.value)

    async def burst(self, address, stall):
        """Read a line; returns data, or None for an error."""
        dut = self.dut
        dut.read__araddr.value = address
        dut.read__arid.value = identity = self.choose.randrange(8)
        dut.read__arvalid.value = 1
        dut.read__arlen.value = BEATS - 1
        count = 0
        await self.taken(dut.read__arready)
        dut.read__arvalid.value = 0
        data, codes = b"", set()
        while len(data) < LINE:
            ready = self.choose.random() >= stall
            dut.read__rready.value = ready
            # Valid does not depend on ready, and what is valid now is taken at the next edge.
            if ready and int(dut.read__rvalid.value):
                data += int(dut.read__rdata.value).to_bytes(BUS, "little")
                codes.add(int(dut.read__rresp.value))
                assert int(dut.read__rid.value) == identity
                assert int(dut.read__rlast.value) == (len(data) == LINE)
            count += 1
            await FallingEdge(dut.clk)
        dut.read__rready.value = 0
        self.cycles.append(count)
        return data if codes == {0} else None

    async def bytes(self, count):
        """Random bytes read and written."""
        for _ in range(count):
            address = self.choose.choice(self.lines) + self.choose.randrange(LINE)
            if address in self.content and self.choose.random() < 0.3:
                assert await self.byte(address) == self.content[address]
            else:
                self.content[address] = self.choose.randrange(256)
                await self.byte(address, self.content[address])
            if self.choose.random() < 0.2:
                await ClockCycles(self.dut.clk, self.choose.randrange(60))
                await FallingEdge(self.dut.clk)

    async def bursts(self, count, stall):
        """Random lines read; bytes that may change meanwhile are in other lines."""
        for _ in range(count):
            line = self.choose.choice(self.lines)
            known = {at: self.content[at] for at in range(line, line + LINE) if at in self.content}
            data = await self.burst(line, stall)
            for at, value in known.items():
                assert data[at - line] == value, hex(at)


@cocotb.test()
async def serves(dut):
    """Bytes and bursts, one kind after the other, then at the same time."""
    for name in "read__arvalid", "read__rready", "bytes__valid":
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, 4, "ns", impl="gpi").start()
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    bench = Bench(dut)
    await bench.bytes(150)
    await bench.bursts(60, 0.0)
    bench.cycles.sort()
    dut._log.info("cycles of a burst: %s", bench.cycles)
    assert bench.cycles[len(bench.cycles) // 2] <= int(os.environ["CYCLES"])
    await bench.bursts(60, 0.6)
    assert await bench.burst(bench.size, 0.0) is None
    # Reads of lines that are not written, beside writes of others.
    bench.lines, others = bench.lines[:6], bench.lines[6:]
    reader = Bench(dut)
    reader.content, reader.lines = bench.content, others
    writing = cocotb.start_soon(bench.bytes(150))
    await reader.bursts(150, 0.3)
    await writing
    await bench.bursts(30, 0.0)
