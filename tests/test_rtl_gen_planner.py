"""The planner and its divider against the golden plan."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from rtl_gen.divider import Divider
from rtl_gen.planner import Planner
from sim.pysim import simulate, stream_get, stream_put
from sw_model.planner import plan, share
from tests.machines import small_hardware


def random_job(rng, hardware, most=40):
    """A valid query for the planner, with some corners made likely."""
    first = int(rng.integers(hardware.stages))
    last = int(rng.integers(first, hardware.stages))
    items = int(rng.choice([1, rng.integers(1, most), rng.integers(1, most), 16_384]))
    keep = [0] * hardware.stages
    above = items
    for stage in range(first, last + 1):
        above = keep[stage] = int(rng.choice([1, above, rng.integers(1, above + 1)]))
    sub_batch = int(rng.integers(max(1, items // 6), items + 10))
    return {
        "slot": int(rng.integers(hardware.query_slots)),
        "first_stage": first,
        "last_stage": last,
        "items": items,
        "sub_batch": int(rng.choice([sub_batch, 65_535], p=[0.9, 0.1])),
        "keep": keep,
        "global_release": int(rng.integers(1 << hardware.stages)) if rng.random() < 0.5 else 0,
    }


def expected(job, stage):
    """Tokens and plans of a job in one stage, in the terms of the gateware's layouts."""
    first, last = job["first_stage"], job["last_stage"]
    once = [s - first for s in range(first, last) if job["global_release"] >> s & 1]
    steps = plan(job["items"], job["sub_batch"], job["keep"][first : last + 1], once)
    mine = [s for s in steps if s.stage == stage - first]
    tokens = [(job["slot"], s.sub_batch == 0, s.last, s.items, stage > first, s.base) for s in mine]
    plans = [(job["slot"], s.emit, stage == last, s.count, s.candidates) for s in mine]
    return tokens, plans


class Planned(wiring.Elaboratable):
    """A planner with a divider of its own."""

    def __init__(self, hardware):
        self.planner = Planner(hardware)

    def elaborate(self, platform):
        m = Module()
        m.submodules.planner = self.planner
        m.submodules.divider = divider = Divider(clients=1)
        connect(m, self.planner.divider, divider.client[0])
        return m


@pytest.mark.parametrize("stages, stall", [(1, 0.0), (2, 0.0), (2, 0.6), (4, 0.0), (4, 0.4)])
def test_matches_golden(rng, stages, stall):
    hardware = small_hardware(stages, query_slots=3)
    dut = Planned(hardware)
    jobs = [random_job(rng, hardware) for _ in range(25)]
    streams = []

    async def producer(ctx):
        for job in jobs:
            await stream_put(ctx, dut.planner.job, job, rng=rng, stall=stall)

    def consumer(stage, kind):
        want = [entry for job in jobs for entry in expected(job, stage)[kind]]
        got = []
        streams.append((want, got))

        async def consume(ctx):
            stream = (dut.planner.token, dut.planner.plan)[kind][stage]
            for _ in want:
                p = await stream_get(ctx, stream, rng=rng, stall=stall)
                if kind == 0:
                    got.append((p.slot, p.first, p.last, p.items, p.listed, p.base))
                else:
                    got.append((p.slot, p.emit, p.final, p.count, p.candidates))
            for _ in range(50):
                await ctx.tick()
                assert not ctx.get(stream.valid)

        return consume

    simulate(dut, producer, *(consumer(s, k) for s in range(stages) for k in (0, 1)))
    for want, got in streams:
        assert got == want


def test_throughput(rng):
    """A sub-batch takes 3 cycles, and 20 more for each stage but the last."""
    hardware = small_hardware(3)
    dut = Planned(hardware)
    job = {"items": 300, "sub_batch": 3, "keep": [200, 100, 50], "last_stage": 2}

    async def testbench(ctx):
        for stage in range(3):
            ctx.set(dut.planner.token[stage].ready, 1)
            ctx.set(dut.planner.plan[stage].ready, 1)
        await stream_put(ctx, dut.planner.job, job)
        cycles = 0
        while ctx.get(dut.planner.busy):
            await ctx.tick()
            cycles += 1
        assert cycles == 100 * (3 + 2 * 20)

    simulate(dut, testbench)


def test_plans_ahead(rng):
    """A stage that takes no token keeps the one before it from none until its queue is full."""
    hardware = small_hardware(2, query_slots=3)
    dut = Planned(hardware)
    job = {"items": 300, "sub_batch": 3, "keep": [200, 100], "last_stage": 1}

    async def testbench(ctx):
        ctx.set(dut.planner.token[0].ready, 1)
        for stage in range(2):
            ctx.set(dut.planner.plan[stage].ready, 1)
        await stream_put(ctx, dut.planner.job, job)
        taken = 0
        for _ in range(24 * 40):
            taken += ctx.get(dut.planner.token[0].valid)
            await ctx.tick()
        assert ctx.get(dut.planner.busy)
        assert 8 * hardware.query_slots <= taken <= 8 * hardware.query_slots + 1

    simulate(dut, testbench)


def test_divider_clients(rng):
    """Two clients at once, each gets its own answers; one takes the promised time."""
    dut = Divider(clients=2)

    def client(number):
        port = dut.client[number]

        async def run(ctx):
            for _ in range(60):
                whole = int(rng.choice([rng.integers(1, 16_385), rng.integers(1, 20), 16_384]))
                part = int(rng.choice([rng.integers(1, whole + 1), whole, 0]))
                keep = int(rng.choice([rng.integers(0, 16_385), 16_384]))
                request = {"keep": keep, "part": part, "whole": whole}
                await stream_put(ctx, port.request, request, rng=rng, stall=0.2)
                cycles = 1
                while not ctx.get(port.done):
                    await ctx.tick()
                    cycles += 1
                assert cycles == 17
                assert ctx.get(port.quotient) == share(keep, part, whole)

        return run

    simulate(dut, client(0), client(1))
