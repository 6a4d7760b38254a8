"""cocotb tests of the compiled AXI memory, driven by cocotbext-axi's master.

``tests/test_sim_axi_memory.py`` builds the memory, chooses plusargs and says through the
environment what to expect.
"""

import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiMasterRead, AxiReadBus, AxiResp

CLOCK_NS = 4


async def start(dut):
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
    dut.arvalid.value = 0
    dut.rready.value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)


def setting(name):
    return int(os.environ[name])


@cocotb.test()
async def random_reads(dut):
    """Random bursts, many at once, return the image whatever the timing."""
    await start(dut)
    master = AxiMasterRead(AxiReadBus.from_entity(dut), dut.clk, dut.rst)
    image = Path(os.environ["IMAGE"]).read_bytes()
    if setting("PAUSE"):
        for channel in (master.ar_channel, master.r_channel):
            channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))

    async def reader():
        for _ in range(setting("READS")):
            length = random.randint(1, 300)
            address = random.randrange(len(image) - length)
            size = random.randint(0, (len(dut.rdata) // 8).bit_length() - 1)
            response = await master.read(address, length, size=size)
            assert response.resp == AxiResp.OKAY
            assert response.data == image[address : address + length], hex(address)

    readers = [cocotb.start_soon(reader()) for _ in range(8)]
    for task in readers:
        await task


@cocotb.test()
async def errors(dut):
    """Beats in the error range answer SLVERR, beats outside the memory DECERR, others OKAY."""
    await start(dut)
    master = AxiMasterRead(AxiReadBus.from_entity(dut), dut.clk, dut.rst)
    size = setting("SIZE_BYTES")
    beat = len(dut.rdata) // 8
    first, last = setting("ERROR_FIRST"), setting("ERROR_LAST")
    for address in range(0, size + 4 * beat, beat):
        response = await master.read(address, beat)
        expected = AxiResp.OKAY
        if address >= size:
            expected = AxiResp.DECERR
        elif address <= last and address + beat > first:
            expected = AxiResp.SLVERR
        assert response.resp == expected, hex(address)
        if expected != AxiResp.OKAY:
            assert response.data == b"\xee" * beat


async def read_burst(dut, ident, address, beats, size):
    """Offer one address and wait until it is taken, raw, without a bus model."""
    dut.arid.value = ident
    dut.araddr.value = address
    dut.arlen.value = beats - 1
    dut.arsize.value = size
    dut.arburst.value = 1
    dut.arvalid.value = 1
    await RisingEdge(dut.clk)
    while not dut.arready.value:
        await RisingEdge(dut.clk)
    dut.arvalid.value = 0


async def collect(dut, count):
    """Take beats, always ready: list of (cycle, id, data, last)."""
    taken: list[tuple[int, int, int, int]] = []
    dut.rready.value = 1
    while len(taken) < count:
        await RisingEdge(dut.clk)
        if dut.rvalid.value:
            cycle = int(get_sim_time("ns")) // CLOCK_NS
            data = dut.rdata.value.to_unsigned()
            taken.append((cycle, int(dut.rid.value), data, int(dut.rlast.value)))
    dut.rready.value = 0
    return taken


@cocotb.test()
async def timing(dut):
    """Latency and bandwidth are those asked for; many bursts are outstanding."""
    await start(dut)
    beat = len(dut.rdata) // 8
    size = beat.bit_length() - 1
    image = Path(os.environ["IMAGE"]).read_bytes()
    latency, bursts, beats = setting("LATENCY"), setting("BURSTS"), 4
    per_beat = setting("GAP_NUM") / setting("GAP_DEN")
    collector = cocotb.start_soon(collect(dut, bursts * beats))
    accepted = []
    for number in range(bursts):
        await read_burst(dut, number % 64, number * beats * beat, beats, size)
        accepted.append(int(get_sim_time("ns")) // CLOCK_NS)
    assert accepted[-1] - accepted[0] == bursts - 1  # all accepted, one a cycle
    taken = await collector
    await ClockCycles(dut.clk, 1)  # the counters follow by one
    assert taken[0][0] - accepted[0] == latency
    assert abs((taken[-1][0] - taken[0][0]) - (len(taken) - 1) * per_beat) <= 1
    for number, (_, ident, data, last) in enumerate(taken):
        assert ident == number // beats % 64
        assert data.to_bytes(beat, "little") == image[number * beat : (number + 1) * beat]
        assert last == (number % beats == beats - 1)
    assert int(dut.bursts.value) == bursts
    assert int(dut.beats.value) == bursts * beats


@cocotb.test()
async def order(dut):
    """Bursts overtake each other, never within an ID, and never interleave."""
    await start(dut)
    beat = len(dut.rdata) // 8
    size = beat.bit_length() - 1
    image = Path(os.environ["IMAGE"]).read_bytes()
    beats, bursts, idents = 3, 400, 5  # more bursts than the memory holds
    sent = [(random.randrange(idents), 64 * random.randrange(32)) for _ in range(bursts)]
    collector = cocotb.start_soon(collect(dut, bursts * beats))
    for ident, address in sent:
        await read_burst(dut, ident, address, beats, size)
    taken = await collector
    expected = {ident: [a for i, a in sent if i == ident] for ident in range(idents)}
    arrived = []
    for number in range(0, len(taken), beats):
        group = taken[number : number + beats]
        ident = group[0][1]
        assert [g[1] for g in group] == [ident] * beats
        assert [g[3] for g in group] == [0] * (beats - 1) + [1]
        address = expected[ident].pop(0)
        data = b"".join(g[2].to_bytes(beat, "little") for g in group)
        assert data == image[address : address + beats * beat]
        arrived.append(ident)
    assert (arrived != [ident for ident, _ in sent]) == bool(setting("REORDER"))


@cocotb.test()
async def crosses_boundary(dut):
    """A burst over a 4 KB boundary ends the simulation."""
    await start(dut)
    beat = len(dut.rdata) // 8
    await read_burst(dut, 0, 4096 - beat, 2, beat.bit_length() - 1)
    await ClockCycles(dut.clk, 10)


@cocotb.test()
async def withdraws_address(dut):
    """A waiting address that disappears ends the simulation."""
    await start(dut)
    dut.arvalid.value = 1
    for name in ("arid", "arlen", "arsize"):
        getattr(dut, name).value = 0
    dut.arburst.value = 1
    for address in range(0, 4096, 64):  # one is taken a cycle, until a pause leaves one waiting
        dut.araddr.value = address
        await RisingEdge(dut.clk)
        if not dut.arready.value:
            break
    await RisingEdge(dut.clk)
    dut.arvalid.value = 0
    await ClockCycles(dut.clk, 10)
