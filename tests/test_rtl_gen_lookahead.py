"""The look-ahead cache against its golden model: the same decisions whatever the timing."""

from itertools import pairwise

import pytest

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rtl_gen.lookahead import LookaheadCache
from rtl_gen.lookahead_set import LookaheadSet
from sim.line_memory import LineMemory
from sim.pysim import idle, simulate
from sw_model.lookahead import LookaheadCache as GoldenCache

PAYLOAD_BITS = 10


def hardware(*, bus=8, line=16, **gather):
    return HardwareConfig.model_validate(
        {
            "groups": [{"stages": [0]}],
            "gather": [{**gather}],
            "topk_depth": [4],
            "memory": {"bus_bytes": bus, "line_bytes": line, "channels": 2, "address_bits": 20},
        }
    )


class Bench:
    """Sends a sequence of lines (or None: no probe) through the cache and reads every segment."""

    def __init__(self, rng, sequence, config, *, stall, latency=8, errors=(), reads=None):
        self.rng, self.sequence, self.stall = rng, sequence, stall
        self.memory_config = config.memory
        self.reads = reads or config.memory.beats  # beats read of each segment
        self.dut = LookaheadCache(hardware=config, gather=config.gather[0], payload=PAYLOAD_BITS)
        self.memory = LineMemory(
            self.dut.memory,
            rng,
            line_bytes=config.memory.line_bytes,
            bus_bytes=config.memory.bus_bytes,
            latency=latency,
            stall=stall,
            errors=errors,
        )
        self.counts = {"hit": 0, "miss": 0, "eviction": 0}
        self.segments = []  # (payload, [(data, poison) of each beat])
        self.waited = 0
        self.cycles = 0
        self.flush_after = None

    async def feed(self, ctx, sequence, first=0):
        dut = self.dut
        for number, line in enumerate(sequence, first):
            await idle(ctx, self.rng, self.stall)
            value = {"probe": line is not None, "payload": number % 2**PAYLOAD_BITS}
            value["line"] = line if line is not None else int(self.rng.integers(2**15))
            ctx.set(dut.i.payload, value)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def producer(self, ctx):
        if self.flush_after is None:
            await self.feed(ctx, self.sequence)
            return
        await self.feed(ctx, self.sequence[: self.flush_after])
        while len(self.segments) < self.flush_after:
            await ctx.tick()
        ctx.set(self.dut.flush, 1)
        await ctx.tick()
        ctx.set(self.dut.flush, 0)
        assert ctx.get(self.dut.sweeping)
        await self.feed(ctx, self.sequence[self.flush_after :], self.flush_after)

    async def consumer(self, ctx):
        """Reads a segment's beats one a cycle and takes it with the last read."""
        dut = self.dut
        while len(self.segments) < len(self.sequence):
            await idle(ctx, self.rng, self.stall)
            while not ctx.get(dut.o.valid):
                await ctx.tick()
            beats = []
            for beat in range(self.reads):
                ctx.set(dut.read.en, 1)
                ctx.set(dut.read.beat, beat)
                ctx.set(dut.o.ready, beat == self.reads - 1)
                payload = ctx.get(dut.o.payload)
                await ctx.tick()
                beats.append((ctx.get(dut.read.data), ctx.get(dut.read.poison)))
                ctx.set(dut.o.ready, 0)
                ctx.set(dut.read.en, 0)
            self.segments.append((payload, beats))

    async def count(self, ctx):
        dut = self.dut
        ports = [getattr(dut, name) for name in self.counts]
        ports += [dut.waiting, dut.sweeping]
        while True:
            _, _, *pulses, waiting, sweeping = await ctx.tick().sample(*ports)
            for name, pulse in zip(self.counts, pulses, strict=True):
                self.counts[name] += pulse
            self.waited += waiting
            self.cycles += not sweeping and len(self.segments) < len(self.sequence)

    def run(self, timeout=60_000):
        simulate(
            self.dut,
            self.producer,
            self.consumer,
            background=[self.memory.take_requests, self.memory.answer, self.count],
            timeout=timeout,
        )

    def check(self, lines, ways):
        """Compare contents, counters and requests with the golden cache."""
        golden = GoldenCache(lines=lines, ways=ways, lookahead=self.dut.gather.lookahead)
        missed = []
        for number, line in enumerate(self.sequence):
            if number == self.flush_after:
                golden.flush()
            payload, beats = self.segments[number]
            assert payload == number % 2**PAYLOAD_BITS
            if line is None:
                golden.skip()
                continue
            if not golden.probe(line).hit:
                missed.append(line)
            content = self.memory.line(line)
            size = self.memory.bus_bytes
            for beat, (data, poison) in enumerate(beats):
                expected = int.from_bytes(content[beat * size : (beat + 1) * size], "little")
                assert (data, poison) == (expected, 0), f"segment {number} line {line}"
        counts = {"hit": golden.hits, "miss": golden.misses, "eviction": golden.evictions}
        assert self.counts == counts
        assert self.memory.requests == missed
        return golden


def draw(rng, count, lines, *, skips=0.2, zipf=1.3):
    """Line numbers, some often, some of them far apart; some segments without a line."""
    hot = rng.permutation(2**14)[: 4 * lines]
    sequence = [int(hot[min(int(rng.zipf(zipf)) - 1, len(hot) - 1)]) for _ in range(count)]
    return [None if rng.random() < skips else line for line in sequence]


SHAPES = [
    # lines, ways, lookahead, outstanding
    (1, 1, 2, 1),
    (2, 1, 8, 4),
    (2, 2, 4, 8),
    (6, 3, 16, 2),
    (16, 4, 8, 4),
    (16, 16, 4, 4),
    (28, 7, 8, 8),
    (32, 2, 64, 16),
]


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("lines, ways, lookahead, outstanding", SHAPES)
def test_matches_golden(rng, lines, ways, lookahead, outstanding, stall):
    config = hardware(
        cache_lines=lines, cache_ways=ways, lookahead=lookahead, outstanding=outstanding
    )
    bench = Bench(rng, draw(rng, 250, lines), config, stall=stall)
    bench.flush_after = 120
    bench.run()
    golden = bench.check(lines, ways)
    assert golden.evictions > 0 or lines > 16
    assert bench.memory.most <= outstanding
    if stall == 0.0 and outstanding > 1 and lines > 1:
        assert bench.memory.most > 1


@pytest.mark.parametrize("distinct", [1, 8])
def test_hits_at_one_a_cycle(rng, distinct):
    """Hits to one set, or to several, never make a bubble once the lines are there."""
    config = hardware(cache_lines=8, cache_ways=8 // distinct, lookahead=16)
    sequence = [i % distinct for i in range(300)]
    bench = Bench(rng, sequence, config, stall=0.0, reads=1)
    bench.run()
    bench.check(8, 8 // distinct)
    assert bench.cycles <= 300 + 8 + bench.memory.latency + distinct * 2


@pytest.mark.parametrize(
    "lines, ways, lookahead, outstanding, latency",
    [(128, 2, 64, 32, 20), (128, 16, 64, 32, 20), (256, 4, 256, 256, 160)],
)
def test_misses_overlap(rng, lines, ways, lookahead, outstanding, latency):
    """With a line a bus word, a miss a cycle is requested and the latency is paid once."""
    size = {"cache_lines": lines, "cache_ways": ways}
    size |= {"lookahead": lookahead, "outstanding": outstanding}
    config = hardware(bus=16, line=16, **size)
    bench = Bench(rng, list(range(500)), config, stall=0.0, latency=latency)
    bench.run()
    bench.check(lines, ways)
    assert bench.memory.most == latency
    assert bench.cycles <= 500 + latency + 12


def test_poisoned_lines(rng):
    """Every poisoned word is seen; once the missing segment has left, the line is fetched anew."""
    config = hardware(cache_lines=8, cache_ways=2, lookahead=8, outstanding=4)
    sequence = draw(rng, 300, 8)
    errors = set(rng.permutation([s for s in set(sequence) if s is not None])[:6].tolist())
    bench = Bench(rng, sequence, config, stall=0.3, errors=errors)
    bench.run()
    assert len(bench.segments) == len(sequence)
    poisoned = 0
    for number, (line, (payload, beats)) in enumerate(zip(sequence, bench.segments, strict=True)):
        assert payload == number
        if line is None:
            continue
        flags = [poison for _, poison in beats]
        assert any(flags) == (line in errors)
        poisoned += any(flags)
        content = bench.memory.line(line)
        for beat, (value, poison) in enumerate(beats):
            if not poison:
                assert value == int.from_bytes(content[8 * beat : 8 * beat + 8], "little")
    assert poisoned > 0
    assert bench.counts["hit"] + bench.counts["miss"] == sum(s is not None for s in sequence)
    # Far apart in the sequence, a line with an error is requested again each time.
    for line in errors:
        uses = [i for i, s in enumerate(sequence) if s == line]
        apart = 1 + sum(b - a > 12 for a, b in pairwise(uses))
        assert bench.memory.requests.count(line) >= apart


def test_recovers_from_an_error(rng):
    """A line that came with an error once is good again afterwards, in the same place."""
    config = hardware(cache_lines=2, cache_ways=2, lookahead=2, outstanding=1)
    sequence = [5, 5, None, 7, None, None, 5, 7, 5]
    bench = Bench(rng, sequence, config, stall=0.0, errors={5})
    accept = bench.memory._accept

    def accept_once(request):
        accept(request)
        bench.memory.errors.clear()

    bench.memory._accept = accept_once
    bench.run()
    assert bench.memory.requests == [5, 7, 5]
    flags = [any(p for _, p in beats) for _, beats in bench.segments]
    assert flags[0]
    assert not any(f for f, line in zip(flags[6:], sequence[6:], strict=True) if line is not None)


def test_a_large_cache_has_no_flip_flop_for_each_line():
    """65,536 lines elaborate at once: tags and lines are RAM."""
    from amaranth.back import rtlil

    config = hardware(cache_lines=65_536, cache_ways=4)
    dut = LookaheadCache(hardware=config, gather=config.gather[0], payload=PAYLOAD_BITS)
    text = rtlil.convert(dut)
    assert len(text) < 1_000_000


@pytest.mark.parametrize("ways", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("lookahead", [2, 4, 32])
def test_set_matches_golden(rng, ways, lookahead):
    """What a set decides, probe by probe, and that each of its lines keeps a way of its own."""
    dut = LookaheadSet(ways=ways, tag_bits=6, lookahead=lookahead)
    golden = GoldenCache(lines=ways, ways=ways, lookahead=lookahead)

    async def bench(ctx):
        lines = dut.word.kept
        for way in range(ways):
            ctx.set(lines[way].way, way)
        places = {}
        # Twice as many lines as ways: most are hit, so that marks are everywhere when one goes.
        for line in rng.integers(2 * ways + 1, size=600).tolist():
            if rng.random() < 0.05:
                golden.skip(int(rng.integers(lookahead * abi.SEQUENCE_ROUNDS)))
            ctx.set(dut.tag, line)
            ctx.set(dut.number, golden.segments % (lookahead * abi.SEQUENCE_ROUNDS))
            await ctx.delay(1e-9)
            chosen = ctx.get(dut.chosen)
            probe = golden.probe(line)
            assert (ctx.get(dut.hit), chosen.valid) == (
                probe.hit,
                probe.hit or probe.evicted is not None,
            )
            places.pop(probe.evicted, None)
            assert places.setdefault(line, chosen.way) == chosen.way
            assert len(set(places.values())) == len(places)
            ctx.set(dut.word.as_value(), ctx.get(dut.decided.as_value()))

    simulate(dut, bench)
    assert golden.hits > 100 < golden.evictions
