"""A testbench around a gather unit in Amaranth's simulator."""

from collections import defaultdict, deque

import numpy as np

from rpaccel.counters import GATHER_COUNTERS, states_of
from rpaccel.image_layout import FIELD, Target, target_id
from rpaccel.steps import step_word
from rtl_gen.gather import GatherUnit
from sim.line_memory import LineMemory
from sim.pysim import idle, simulate, stream_get, stream_put
from sw_model.gather import GatherTrace
from sw_model.lookahead import LookaheadCache

STATES = states_of(GATHER_COUNTERS)
LANE_FIELDS = {f.name for f in FIELD}


class Bench:
    """Runs tokens through a gather unit and keeps what the group got.

    Parameters
    ----------
    stage : Stage
    tokens : list of (slot, positions or None, base, items)
        With positions the token is listed.
    dut : Component, optional
        A gather unit with its memory behind it, in place of one with memories made here.
    """

    def __init__(self, stage, tokens, *, seed=0, stall=0.0, latency=8, errors=(), dut=None):
        self.stage, self.tokens, self.stall = stage, tokens, stall
        self.rng = np.random.default_rng(seed)
        hardware = stage.hardware
        self.dut = dut or GatherUnit(hardware=hardware, stage=0)
        self.memories = [
            LineMemory(
                client,
                self.rng,
                lines=stage.lines,
                line_bytes=stage.line_bytes,
                bus_bytes=hardware.memory.bus_bytes,
                latency=latency,
                stall=stall,
                errors=errors,
            )
            for client in (self.dut.memory if dut is None else ())
        ]
        self.stalls: defaultdict[str, float] = defaultdict(
            lambda: stall
        )  # by port, where they differ
        self.counters = dict.fromkeys(GATHER_COUNTERS, 0)
        self.items = []  # (slot, position, bytes by place)
        self.bad = []
        self.hold_fails = 0.0  # probability of one more cycle before a failure is taken
        self.bad_before = []  # how many were known when each item was finished
        self.fails = []
        self.cycle = 0
        self.item_cycles = []
        self.reads: deque[int] = deque()
        self.requested = 0
        self.flush_before = None

    @property
    def expected_items(self):
        """(slot, position) of every item, in order."""
        return [
            (slot, position)
            for slot, listed, base, items in self.tokens
            for position in (listed if listed is not None else range(base, base + items))
        ]

    async def _load(self, ctx, target, words, address=0):
        bus = self.stage.hardware.memory.bus_bytes

        async def send(**values):
            await idle(ctx, self.rng, self.stall / 4)
            ctx.set(self.dut.load, {"valid": 1, "target": target, **values})
            await ctx.tick()
            ctx.set(self.dut.load.valid, 0)

        await send(first=1, address=address)
        for word in words:
            padded = word + bytes(-len(word) % bus)
            for i in range(0, len(padded), bus):
                await send(data=int.from_bytes(padded[i : i + bus], "little"))

    async def load(self, ctx):
        """Fill steps and FIELD words, with another stage's segment in between."""
        stage = self.stage
        gather = stage.hardware.gather[0]
        lanes, made = stage.plan()
        words = [step_word(*step) for step in made]
        await self._load(ctx, target_id(Target.STEPS, 0), words)
        fields = target_id(Target.FIELDS, 0)
        apart = 1 << (gather.max_fields - 1).bit_length()
        for number, each in enumerate(lanes):
            words = [FIELD.pack(**{k: v for k, v in f.items() if k in LANE_FIELDS}) for f in each]
            await self._load(ctx, fields, words, number * apart)
        await self._load(ctx, target_id(Target.FIELDS, 1), [bytes(32)])
        await ctx.tick().repeat(2)

    async def static(self, ctx):
        """Background: each lane's rows in the static region, at addresses of its own."""
        ports, size = self.dut.static, self.stage.hardware.memory.bus_bytes
        while True:
            _, _, *seen = await ctx.tick().sample(*(v for p in ports for v in (p.en, p.addr)))
            for port, raw, en, at in zip(
                ports, self.stage.static, seen[::2], seen[1::2], strict=True
            ):
                if en:
                    word = raw[at * size : (at + 1) * size]
                    assert len(word) == size
                    ctx.set(port.data, int.from_bytes(word, "little"))

    async def producer(self, ctx):
        """Load, then send all tokens."""
        dut = self.dut
        ctx.set(dut.stage_entry, self.stage.entry())
        await self.load(ctx)
        for number, (slot, listed, base, items) in enumerate(self.tokens):
            if number == self.flush_before:
                ctx.set(dut.flush, 1)
                await ctx.tick()
                ctx.set(dut.flush, 0)
            token = {"slot": slot, "items": items, "listed": listed is not None, "base": base}
            token |= {"first": number & 1, "last": number >> 1 & 1}
            await stream_put(ctx, dut.token, token, rng=self.rng, stall=self.stalls["token"])

    async def positions(self, ctx):
        """Positions of listed tokens come one by one, or that there are none."""
        for _, listed, _, items in self.tokens:
            if items == 0:
                ctx.set(self.dut.empty, 1)
                await ctx.tick()
                ctx.set(self.dut.empty, 0)
            for position in listed or ():
                await stream_put(
                    ctx, self.dut.position, position, rng=self.rng, stall=self.stalls["position"]
                )

    async def feature_requests(self, ctx):
        """Background: the feature buffer takes reads."""
        while True:
            request = await stream_get(
                ctx, self.dut.feature.request, rng=self.rng, stall=self.stalls["request"]
            )
            raw = self.stage.slots[request.slot][0]
            size = self.stage.hardware.feature_read
            content = raw[request.address : request.address + size]
            junk = self.rng.bytes(size - len(content))
            self.reads.append(int.from_bytes(content + junk, "little"))
            self.requested += 1

    async def feature_responses(self, ctx):
        """Background: the feature buffer answers."""
        while True:
            if self.reads:
                answer = self.reads.popleft()
                await stream_put(
                    ctx,
                    self.dut.feature.response,
                    answer,
                    rng=self.rng,
                    stall=self.stalls["response"],
                )
            else:
                await ctx.tick()

    async def fail_sink(self, ctx):
        """Background: the controller takes failures, each after some cycles."""
        while True:
            await idle(ctx, self.rng, self.hold_fails)
            fail = await stream_get(ctx, self.dut.fail, rng=self.rng, stall=self.stalls["fail"])
            self.fails.append((fail.slot, fail.status))

    async def group(self, ctx):
        """Take starts and writes as a group would, and check their order."""
        dut, group = self.dut, self.dut.group
        width = self.stage.hardware.geometry(0).gather_bytes
        token, item = -1, 0
        written: dict[int, int] = {}
        expected = len(self.expected_items)
        while token + 1 < len(self.tokens) or len(self.items) < expected:
            start_ready = self.rng.random() >= self.stalls["start"]
            write_ready = self.rng.random() >= self.stalls["write"]
            ctx.set(group.start.ready, start_ready)
            ctx.set(group.write.ready, write_ready)
            _, _, starts, start, writes, write, done, position = await ctx.tick().sample(
                group.start.valid,
                group.start.payload,
                group.write.valid,
                group.write.payload,
                group.item_valid,
                group.item_position,
            )
            if done:
                assert not (starts and start_ready)
                self.items.append((self.tokens[token][0], position, written))
                self.item_cycles.append(self.cycle)
                item, written = item + 1, {}
            if starts and start_ready:
                assert token < 0 or item == self.tokens[token][3], "start before all items"
                token, item = token + 1, 0
                slot, _, _, items = self.tokens[token]
                assert (start.slot, start.items) == (slot, items)
                assert (start.first, start.last) == (token & 1, token >> 1 & 1)
            if writes and write_ready:
                assert write.item == item < self.tokens[token][3]
                for lane in range(width):
                    if write.mask >> lane & 1:
                        place = write.chunk * width + lane
                        assert place not in written, "byte written twice"
                        written[place] = write.data >> 8 * lane & 255
            self.cycle += 1
        ctx.set(group.start.ready, 0)
        ctx.set(group.write.ready, 0)
        await ctx.tick().repeat(12)
        requests = [memory.client.request for memory in self.memories]
        for port in (group.start, group.write, dut.feature.request, dut.fail, *requests):
            assert not ctx.get(port.valid)
        assert not ctx.get(dut.busy)

    async def count(self, ctx):
        """Background: counters."""
        dut = self.dut
        while True:
            _, _, counters, bad, done = await ctx.tick().sample(
                dut.counters, dut.bad_index, dut.group.item_valid
            )
            assert sum(counters[name] for name in STATES) == 1
            for name in self.counters:
                self.counters[name] += counters[name]
            if bad.valid:
                self.bad.append(bad.slot)
            if done:
                self.bad_before.append(len(self.bad))

    def run(self, timeout=60_000, background=()):
        """Simulate until the group has every item."""
        simulate(
            self.dut,
            self.producer,
            self.positions,
            self.group,
            background=[
                *(memory.take_requests for memory in self.memories),
                *(memory.answer for memory in self.memories),
                self.feature_requests,
                self.feature_responses,
                self.static,
                self.fail_sink,
                self.count,
                *background,
            ],
            timeout=timeout,
        )

    def check(self):
        """Compare the bytes of each item and the event counters with the golden model."""
        stage = self.stage
        assert [(s, p) for s, p, _ in self.items] == self.expected_items
        for number, (slot, position, written) in enumerate(self.items):
            assert written == stage.expected(slot, position), f"item {number}"
        golden = self.golden()
        events = {n: v for n, v in self.counters.items() if n not in STATES}
        assert events == golden.counters
        return golden

    def golden(self):
        """Counters of the golden model for these tokens."""
        gather = self.stage.hardware.gather[0]
        stage = self.stage
        caches = [
            LookaheadCache(
                lines=gather.cache_lines, ways=gather.cache_ways, lookahead=gather.lookahead
            )
            for _ in stage.lanes
        ]
        fields = [[stage.fields[n] for n in numbers] for numbers in stage.lanes]
        trace = GatherTrace(fields, caches)
        for number, (slot, listed, base, items) in enumerate(self.tokens):
            if number == self.flush_before:
                for cache in caches:
                    cache.flush()
            trace.token()
            for position in listed if listed is not None else range(base, base + items):
                values = stage.slots[slot][1][position]
                trace.item([[values[n] for n in numbers] for numbers in stage.lanes])
        return trace
