"""The host port against a Python memory."""

from collections import Counter
from functools import partial

import pytest

from rtl_gen.host import HostPort
from sim.pysim import simulate, stream_get, stream_put
from tests.host_memory import HostMemory
from tests.machines import small_hardware

BLOCK = 64


async def count_states(step, states, memory, ctx):
    """Background: what one direction does, one thing a cycle."""
    while memory.running:
        _, _, counted = await ctx.tick().sample(step)
        now = [name for name, _ in counted.shape() if counted[name]]
        assert len(now) == 1
        states.update(now)


def random_requests(rng, memory, count, most=5):
    """Random runs of blocks, sometimes over a 4 KB border or with a bad block in them."""
    requests = []
    for _ in range(count):
        blocks = int(rng.integers(1, most + 1))
        first = int(rng.choice([rng.integers(60, 68), rng.integers(len(memory.data) // BLOCK - 8)]))
        requests.append({"address": memory.base + first * BLOCK, "blocks": blocks})
    return requests


@pytest.mark.parametrize("bus_bytes", [8, 16, 64])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_reads(rng, bus_bytes, stall):
    dut = HostPort(small_hardware(host_bus_bytes=bus_bytes))
    memory = HostMemory(dut.read, dut.write, rng=rng, stall=stall)
    memory.data[:] = rng.bytes(len(memory.data))
    requests = random_requests(rng, memory, 16)
    memory.bad_reads.add(requests[7]["address"])
    counted = 0

    async def producer(ctx):
        for request in requests:
            await stream_put(ctx, dut.client.read_request, request, rng=rng, stall=stall)

    async def consumer(ctx):
        for request in requests:
            for offset in range(0, request["blocks"] * BLOCK, bus_bytes):
                beat = await stream_get(ctx, dut.client.read_data, rng=rng, stall=stall)
                address = request["address"] + offset
                want = int.from_bytes(memory.get(address, bus_bytes), "little")
                assert beat.error == (address // BLOCK * BLOCK in memory.bad_reads)
                assert beat.data == want
                assert beat.last == (offset + bus_bytes == request["blocks"] * BLOCK)
        memory.running = False

    async def counter(ctx):
        nonlocal counted
        while memory.running:
            _, _, count = await ctx.tick().sample(dut.read_bytes)
            counted += count

    states = Counter()
    simulate(
        dut,
        producer,
        consumer,
        counter,
        partial(count_states, dut.read_counters, states, memory),
        *memory.testbenches,
    )
    assert states["busy"] == counted // bus_bytes
    assert (states["stall_device"] > 0) == (stall > 0)
    assert counted == sum(r["blocks"] for r in requests) * BLOCK


@pytest.mark.parametrize("bus_bytes", [8, 16, 64])
@pytest.mark.parametrize("late_address", [False, True])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_writes(rng, bus_bytes, late_address, stall):
    dut = HostPort(small_hardware(host_bus_bytes=bus_bytes))
    memory = HostMemory(dut.read, dut.write, rng=rng, stall=stall, late_address=late_address)
    requests = random_requests(rng, memory, 12)
    memory.bad_writes.add(requests[3]["address"])
    data = [rng.bytes(r["blocks"] * BLOCK) for r in requests]
    counted = 0

    async def producer(ctx):
        for request in requests:
            await stream_put(ctx, dut.client.write_request, request, rng=rng, stall=stall)

    async def source(ctx):
        for content in data:
            for at in range(0, len(content), bus_bytes):
                word = int.from_bytes(content[at : at + bus_bytes], "little")
                await stream_put(ctx, dut.client.write_data, word, rng=rng, stall=stall)

    async def consumer(ctx):
        for request, content in zip(requests, data, strict=True):
            done = await stream_get(ctx, dut.client.write_done, rng=rng, stall=stall)
            touched = {request["address"] + BLOCK * b for b in range(request["blocks"])}
            assert done.error == bool(touched & memory.bad_writes)
            for b in range(request["blocks"]):
                address = request["address"] + b * BLOCK
                if address not in memory.bad_writes:
                    assert memory.get(address, BLOCK) == content[b * BLOCK :][:BLOCK]
        memory.running = False

    async def counter(ctx):
        nonlocal counted
        while memory.running:
            _, _, count = await ctx.tick().sample(dut.written_bytes)
            counted += count

    states = Counter()
    simulate(
        dut,
        producer,
        source,
        consumer,
        counter,
        partial(count_states, dut.write_counters, states, memory),
        *memory.testbenches,
    )
    assert states["busy"] == counted // bus_bytes
    assert states["stall_host"] > 0
    assert counted == sum(map(len, data))
    assert memory.addresses_taken == memory.bursts_taken == sum(r["blocks"] for r in requests)


def test_read_throughput(rng):
    """A beat a cycle once the first one is there, over the borders of blocks and requests."""
    dut = HostPort(small_hardware(host_bus_bytes=16))
    memory = HostMemory(dut.read, dut.write, rng=rng, latency=20)
    requests = random_requests(rng, memory, 3) + random_requests(rng, memory, 40, most=1)
    beats = sum(r["blocks"] for r in requests) * BLOCK // 16

    async def producer(ctx):
        for request in requests:
            await stream_put(ctx, dut.client.read_request, request)

    async def consumer(ctx):
        await stream_get(ctx, dut.client.read_data)
        ctx.set(dut.client.read_data.ready, 1)
        for number in range(1, beats):
            assert ctx.get(dut.client.read_data.valid), f"beat {number} is late"
            await ctx.tick()
        memory.running = False

    simulate(dut, producer, consumer, *memory.testbenches)
    assert memory.most_outstanding == dut.outstanding
