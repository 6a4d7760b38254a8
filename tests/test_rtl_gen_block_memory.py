"""On-chip memory: bursts and single bytes at the same time, errors behind its end."""

import numpy as np
import pytest

from rtl_gen.block_memory import BlockMemory
from sim.pysim import idle, simulate

SIZE, BUS = 512, 8
SHAPE = {"data_bytes": BUS, "address_bits": 32, "id_bits": 3}


async def read_burst(ctx, bus, address, beats, identity, rng, stall):
    """One AXI read; returns data and response codes."""
    ctx.set(bus.araddr, address)
    ctx.set(bus.arlen, beats - 1)
    ctx.set(bus.arid, identity)
    ctx.set(bus.arvalid, 1)
    while not (await ctx.tick().sample(bus.arready))[2]:
        pass
    ctx.set(bus.arvalid, 0)
    data, codes = b"", set()
    for beat in range(beats):
        await idle(ctx, rng, stall)
        ctx.set(bus.rready, 1)
        valid = False
        while not valid:
            _, _, valid, word, code, last, rid = await ctx.tick().sample(
                bus.rvalid, bus.rdata, bus.rresp, bus.rlast, bus.rid
            )
        ctx.set(bus.rready, 0)
        assert (last, rid) == (beat == beats - 1, identity)
        data += word.to_bytes(BUS, "little")
        codes.add(code)
    return data, codes


async def write_burst(ctx, bus, address, data, identity, rng, stall):
    """One AXI write; returns the response code."""
    ctx.set(bus.awaddr, address)
    ctx.set(bus.awid, identity)
    ctx.set(bus.awvalid, 1)
    while not (await ctx.tick().sample(bus.awready))[2]:
        pass
    ctx.set(bus.awvalid, 0)
    for at in range(0, len(data), BUS):
        await idle(ctx, rng, stall)
        ctx.set(bus.wdata, int.from_bytes(data[at : at + BUS], "little"))
        ctx.set(bus.wstrb, (1 << BUS) - 1)
        ctx.set(bus.wlast, at + BUS == len(data))
        ctx.set(bus.wvalid, 1)
        while not (await ctx.tick().sample(bus.wready))[2]:
            pass
        ctx.set(bus.wvalid, 0)
    ctx.set(bus.bready, 1)
    valid = False
    while not valid:
        _, _, valid, code, bid = await ctx.tick().sample(bus.bvalid, bus.bresp, bus.bid)
    ctx.set(bus.bready, 0)
    assert bid == identity
    return code


async def byte_access(ctx, port, address, data=None):
    """Read a byte, or write one."""
    ctx.set(port.address, address)
    ctx.set(port.write, data is not None)
    ctx.set(port.data, data or 0)
    ctx.set(port.valid, 1)
    while not (await ctx.tick().sample(port.ready))[2]:
        pass
    ctx.set(port.valid, 0)
    return (await ctx.tick().sample(port.r_data))[2]


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_bursts_and_bytes(rng, stall):
    """Reads, writes and bytes at once, each in a part of the memory of its own, then all of it."""
    dut = BlockMemory(size=SIZE, writable=True, **SHAPE)
    content = bytearray(SIZE)
    seeds = [np.random.default_rng(int(s)) for s in rng.integers(0, 2**32, 4)]
    initial = bytes(int(b) for b in rng.integers(0, 256, 128))
    running = {"reads", "writes", "bytes"}

    async def fill(ctx):
        for at, byte in enumerate(initial):
            await byte_access(ctx, dut.bytes, at, byte)
        content[:128] = initial

    async def reads(ctx):
        random = seeds[0]
        await ctx.tick().repeat(300)
        for _ in range(20):
            beats = int(random.integers(1, 9))
            at = BUS * int(random.integers(0, 128 // BUS - beats + 1))
            data, codes = await read_burst(
                ctx, dut.read, at, beats, int(random.integers(8)), random, stall
            )
            assert (data, codes) == (initial[at : at + BUS * beats], {0})
        running.remove("reads")

    async def writes(ctx):
        random = seeds[1]
        for _ in range(20):
            beats = int(random.integers(1, 9))
            at = 128 + BUS * int(random.integers(0, 192 // BUS - beats + 1))
            data = random.bytes(BUS * beats)
            assert not await write_burst(ctx, dut.write, at, data, 5, random, stall)
            content[at : at + len(data)] = data
        running.remove("writes")

    async def some_bytes(ctx):
        random = seeds[2]
        await fill(ctx)
        for _ in range(100):
            at = 320 + int(random.integers(192))
            if random.random() < 0.5:
                content[at] = int(random.integers(256))
                await byte_access(ctx, dut.bytes, at, content[at])
            else:
                assert await byte_access(ctx, dut.bytes, at) == content[at]
        running.remove("bytes")
        while running:
            await ctx.tick()
        for at in range(0, SIZE, 64):
            data, codes = await read_burst(ctx, dut.read, at, 8, 1, seeds[3], stall)
            assert (data, codes) == (bytes(content[at : at + 64]), {0})
        for at in range(SIZE):
            assert await byte_access(ctx, dut.bytes, at) == content[at]

    simulate(dut, reads, writes, some_bytes)


def test_a_beat_a_cycle(rng):
    dut = BlockMemory(size=SIZE, writable=False, **SHAPE)
    valid = []

    async def ask(ctx):
        ctx.set(dut.read.arlen, 7)
        ctx.set(dut.read.arvalid, 1)
        ctx.set(dut.read.rready, 1)
        for _ in range(30):
            valid.append((await ctx.tick().sample(dut.read.rvalid))[2])

    simulate(dut, ask)
    assert valid == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0] + 2 * [1, 1, 1, 1, 1, 1, 1, 1, 0] + [1]


def test_behind_the_end(rng):
    dut = BlockMemory(size=SIZE, writable=True, **SHAPE)

    async def ask(ctx):
        for at, byte in enumerate(range(64)):
            await byte_access(ctx, dut.bytes, at, byte)
        for address in SIZE, SIZE << 8, 2**32 - 64:
            assert (await read_burst(ctx, dut.read, address, 2, 0, rng, 0))[1] == {2}
            assert await write_burst(ctx, dut.write, address, bytes(64), 0, rng, 0) == 2
        assert await read_burst(ctx, dut.read, 0, 8, 0, rng, 0) == (bytes(range(64)), {0})

    simulate(dut, ask)


@pytest.mark.parametrize("size", [0, 12, -8])
def test_bad_size(size):
    with pytest.raises(ValueError, match=f"Size must be a positive multiple of 8, not {size}"):
        BlockMemory(size=size, writable=True, **SHAPE)
