"""The feature buffer against an array of bytes."""

import pytest

from rtl_gen.arbiter import RoundRobin
from rtl_gen.features import FeatureBuffer
from sim.pysim import simulate, stream_get, stream_put
from tests.machines import small_hardware


async def fill(ctx, dut, slot, content):
    """Write a slot's words in order, one a cycle."""
    width = dut.bus_bytes
    for word in range(len(content) // width):
        ctx.set(dut.write.valid, 1)
        ctx.set(dut.write.slot, slot)
        ctx.set(dut.write.word, word)
        ctx.set(
            dut.write.data, int.from_bytes(content[word * width : (word + 1) * width], "little")
        )
        await ctx.tick()
    ctx.set(dut.write.valid, 0)


def addresses(rng, dut, slot_bytes, count):
    """Random (slot, address) pairs whose answer is inside the slot."""
    top = slot_bytes - dut.bus_bytes
    ends = rng.choice([0, 1, top, -1], size=count)
    return [
        (int(slot), int(end if end >= 0 else rng.integers(top + 1)))
        for slot, end in zip(rng.integers(dut.slots, size=count), ends, strict=True)
        if end <= top
    ]


@pytest.mark.parametrize(
    "stages, bus_bytes, slots, feature_bytes",
    [(1, 64, 1, 64), (1, 64, 3, 64), (2, 16, 3, 192), (4, 8, 2, 128), (3, 32, 5, 64)],
)
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_matches_bytes(rng, stages, bus_bytes, slots, feature_bytes, stall):
    hardware = small_hardware(
        stages, host_bus_bytes=bus_bytes, query_slots=slots, feature_bytes=feature_bytes
    )
    dut = FeatureBuffer(hardware)
    contents = [rng.bytes(feature_bytes) for _ in range(slots)]
    filled = False

    async def writer(ctx):
        nonlocal filled
        for slot, content in enumerate(contents):
            await fill(ctx, dut, slot, content)
        filled = True

    def reader(stage):
        port = dut.port[stage]
        reads = addresses(rng, dut, feature_bytes, 60)

        async def ask(ctx):
            while not filled:
                await ctx.tick()
            for slot, address in reads:
                request = {"slot": slot, "address": address}
                await stream_put(ctx, port.request, request, rng=rng, stall=stall)

        async def take(ctx):
            for slot, address in reads:
                got = await stream_get(ctx, port.response, rng=rng, stall=stall)
                want = contents[slot][address : address + bus_bytes]
                assert got == int.from_bytes(want, "little"), f"slot {slot}, byte {address}"
            assert not ctx.get(port.response.valid)

        return ask, take

    simulate(dut, writer, *(bench for s in range(stages) for bench in reader(s)))


def test_reads_wait_for_what_arrives(rng):
    """Bytes of the arriving slot are answered as soon as they are written, others at once."""
    hardware = small_hardware(2, host_bus_bytes=8, query_slots=2, feature_bytes=256)
    dut = FeatureBuffer(hardware)
    contents = [rng.bytes(256) for _ in range(2)]
    words, early = 0, 0

    async def writer(ctx):
        nonlocal words
        await fill(ctx, dut, 0, contents[0])
        ctx.set(dut.arriving.slot, 1)
        ctx.set(dut.arriving.valid, 1)
        for word in range(31):  # the last one never comes, but the copy ends
            await ctx.tick().repeat(int(rng.integers(1, 9)))
            data = int.from_bytes(contents[1][8 * word :][:8], "little")
            for name, value in (("valid", 1), ("slot", 1), ("word", word), ("data", data)):
                ctx.set(getattr(dut.write, name), value)
            await ctx.tick()
            ctx.set(dut.write.valid, 0)
            words = word + 1
            ctx.set(dut.arriving.words, words)
        await ctx.tick().repeat(50)
        words = 32
        ctx.set(dut.arriving.valid, 0)

    def reader(stage, slot, reads):
        port = dut.port[stage]

        async def ask(ctx):
            for address in reads:
                await stream_put(ctx, port.request, {"slot": slot, "address": address})

        async def take(ctx):
            nonlocal early
            for address in reads:
                got = await stream_get(ctx, port.response)
                if slot:
                    assert 8 * words >= address + 8 or words == 32
                    have = 8 if address < 240 else 0
                else:
                    early += words < 31
                    have = 8
                want = contents[slot][address : address + have]
                assert got.to_bytes(8, "little")[:have] == want

        return ask, take

    async def later(ctx):
        while not ctx.get(dut.arriving.valid):
            await ctx.tick()

    waiting = sorted(int(a) for a in rng.integers(248, size=20)) + [245]
    ask, take = reader(1, 1, waiting)

    async def ask_later(ctx):
        await later(ctx)
        await ask(ctx)

    here = [int(a) for a in rng.integers(248, size=20)]
    ask_here, take_here = reader(0, 0, here)

    async def ask_here_later(ctx):
        await later(ctx)
        await ask_here(ctx)

    simulate(dut, writer, ask_later, take, ask_here_later, take_here)
    assert early == len(here)


def test_throughput(rng):
    """One port alone gets a read a cycle; two share it fairly; a stuck one holds up nobody."""
    dut = FeatureBuffer(small_hardware(2))

    async def testbench(ctx):
        async def count(cycles):
            answers = [0, 0]
            for _ in range(cycles):
                _, _, *taken = await ctx.tick().sample(
                    *(p.response.valid & p.response.ready for p in dut.port)
                )
                answers = [a + t for a, t in zip(answers, taken, strict=True)]
            return answers

        for stage in (0, 1):
            ctx.set(dut.port[stage].response.ready, 1)
        ctx.set(dut.port[0].request.valid, 1)
        assert await count(2) == [0, 0]
        assert await count(100) == [100, 0]
        ctx.set(dut.port[1].request.valid, 1)
        await count(2)
        assert await count(100) == [50, 50]
        ctx.set(dut.port[0].response.ready, 0)
        await count(20)
        assert await count(100) == [0, 100]

    simulate(dut, testbench)


def test_round_robin(rng):
    dut = RoundRobin(count=3)

    async def testbench(ctx):
        before = 0
        for _ in range(300):
            request = int(rng.integers(8))
            ctx.set(dut.request, request)
            order = [(before + step) % 3 for step in (1, 2, 3)]
            winner = next((n for n in order if request >> n & 1), None)
            assert ctx.get(dut.grant) == (0 if winner is None else 1 << winner)
            if winner is not None:
                before = winner
            await ctx.tick()

    simulate(dut, testbench)
