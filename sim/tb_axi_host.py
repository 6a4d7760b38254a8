"""cocotb tests of the compiled host memory, driven by cocotbext-axi's master.

``tests/test_sim_axi_host.py`` builds it, chooses plusargs and says through the environment what to
expect.
"""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from sim.tb_rpaccel import HostMemory

CLOCK_NS = 4
BLOCK = 64


async def start(dut):
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
    for name in ("awvalid", "wvalid", "arvalid", "bready", "rready"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)


def setting(name):
    return int(os.environ[name])


def memory(dut):
    return HostMemory(dut.mem, len(dut.wdata) // 8)


@cocotb.test()
async def traffic(dut):
    """Reads and writes of several masters' worth, with the host's program in between."""
    await start(dut)
    master = AxiMaster(AxiBus.from_entity(dut), dut.clk, dut.rst)
    host, size = memory(dut), setting("SIZE_BYTES")
    host.write(0, random.randbytes(size))

    async def work(base, length):
        content = bytearray(host.read(base, length))
        for _ in range(setting("ROUNDS")):
            at = BLOCK * random.randrange(length // BLOCK)
            count = BLOCK * random.randint(1, min(5, (length - at) // BLOCK))
            kind = random.randrange(3)
            if kind == 0:
                data = random.randbytes(count)
                response = await master.write(base + at, data)
                assert response.resp == AxiResp.OKAY
                content[at : at + count] = data
                assert host.read(base + at, count) == data
            elif kind == 1:
                response = await master.read(base + at, count)
                assert response.resp == AxiResp.OKAY
                assert response.data == bytes(content[at : at + count]), hex(base + at)
            else:  # any bytes, also parts of words
                odd = random.randrange(1, 40)
                data = random.randbytes(min(odd, length - at))
                host.write(base + at, data)
                content[at : at + len(data)] = data
        assert host.read(base, length) == bytes(content)

    part = size // 4
    tasks = [cocotb.start_soon(work(n * part, part)) for n in range(4)]
    for task in tasks:
        await task


@cocotb.test()
async def errors(dut):
    """What leaves the memory is refused, and changes nothing."""
    await start(dut)
    master = AxiMaster(AxiBus.from_entity(dut), dut.clk, dut.rst)
    host, size = memory(dut), setting("SIZE_BYTES")
    content = random.randbytes(size)
    host.write(0, content)
    assert (await master.write(size, bytes(BLOCK))).resp == AxiResp.DECERR
    response = await master.read(size, BLOCK)
    assert response.resp == AxiResp.DECERR
    assert response.data == b"\xee" * BLOCK
    assert (await master.read(size - BLOCK, BLOCK)).data == content[-BLOCK:]
    assert host.read(0, size) == content


def now():
    return int(get_sim_time("ns")) // CLOCK_NS


@cocotb.test()
async def timing(dut):
    """Latency and rate are those asked for, each way, with many bursts under way."""
    await start(dut)
    beat, bursts, beats = len(dut.wdata) // 8, setting("BURSTS"), 4
    per_beat = setting("GAP_NUM") / setting("GAP_DEN")
    taken: list[int] = []

    async def collect():
        dut.rready.value = 1
        while len(taken) < bursts * beats:
            await RisingEdge(dut.clk)
            if dut.rvalid.value:
                taken.append(now())

    collector = cocotb.start_soon(collect())
    for channel in "ar", "aw":
        getattr(dut, f"{channel}len").value = beats - 1
        getattr(dut, f"{channel}size").value = beat.bit_length() - 1
        getattr(dut, f"{channel}burst").value = 1
        getattr(dut, f"{channel}id").value = 0
    dut.arvalid.value = 1
    accepted: list[int] = []
    while len(accepted) < bursts:
        dut.araddr.value = len(accepted) * beats * beat
        await RisingEdge(dut.clk)
        if dut.arready.value:
            accepted.append(now())
    dut.arvalid.value = 0
    await collector
    assert accepted[-1] - accepted[0] == bursts - 1
    assert taken[0] - accepted[0] == setting("LATENCY")
    assert abs(taken[-1] - taken[0] - (len(taken) - 1) * per_beat) <= 1

    dut.awaddr.value = 0
    dut.awvalid.value = 1
    await RisingEdge(dut.clk)
    while not dut.awready.value:
        await RisingEdge(dut.clk)
    dut.awvalid.value = 0
    dut.wstrb.value = (1 << beat) - 1
    dut.wvalid.value = 1
    sent: list[int] = []
    while len(sent) < beats:
        dut.wlast.value = len(sent) == beats - 1
        dut.wdata.value = len(sent)
        await RisingEdge(dut.clk)
        if dut.wready.value:
            sent.append(now())
    dut.wvalid.value = 0
    dut.bready.value = 1
    await RisingEdge(dut.clk)
    while not dut.bvalid.value:
        await RisingEdge(dut.clk)
    assert now() - sent[-1] == setting("LATENCY")
    assert abs(sent[-1] - sent[0] - (beats - 1) * per_beat) <= 1
    assert memory(dut).read(0, beat) == bytes(beat)
    assert memory(dut).read(beat, 1) == b"\1"
