"""The RAM queue: order, capacity, and one payload a cycle."""

import pytest

from rtl_gen.ram_queue import RamQueue
from sim.pysim import simulate, stream_get, stream_put


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("stalls", [(0.5, 0.5), (0.0, 0.7), (0.7, 0.0)])
def test_keeps_order(rng, depth, stalls):
    dut = RamQueue(16, depth=depth)
    sent, got = rng.integers(2**16, size=200).tolist(), []

    async def producer(ctx):
        for value in sent:
            await stream_put(ctx, dut.i, value, rng=rng, stall=stalls[0])

    async def consumer(ctx):
        while len(got) < len(sent):
            got.append(await stream_get(ctx, dut.o, rng=rng, stall=stalls[1]))
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.o.valid)

    simulate(dut, producer, consumer)
    assert got == sent


def test_throughput_and_latency():
    dut = RamQueue(8, depth=4)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for cycle in range(40):
            ctx.set(dut.i.payload, cycle)
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.o.valid) == (cycle >= 2)
            if cycle >= 2:
                assert ctx.get(dut.o.payload) == cycle - 2
            await ctx.tick()

    simulate(dut, testbench)


def test_capacity():
    dut = RamQueue(8, depth=5)
    accepted = 0

    async def testbench(ctx):
        nonlocal accepted
        ctx.set(dut.i.valid, 1)
        for _ in range(20):
            accepted += ctx.get(dut.i.ready)
            await ctx.tick()

    simulate(dut, testbench)
    assert accepted == 6


@pytest.mark.parametrize("depth", [1, "8"])
def test_bad_depth(depth):
    with pytest.raises(TypeError, match="Depth must be an integer of 2 or more"):
        RamQueue(8, depth=depth)
