"""A bench around the controller: host memory, host port, feature buffer and a made-up pipeline."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from rpaccel import abi
from rtl_gen.controller import PARTS, Controller
from rtl_gen.features import FeatureBuffer
from rtl_gen.host import HostPort
from sim.pysim import idle, simulate, stream_get, stream_put
from sw_model.controller import validate
from sw_model.planner import plan
from tests.host_memory import HostMemory

__all__ = ["Bench", "Job", "Machine"]

GUARD = 0xAA
IMAGE_ID = 0x1BADB002


@dataclass
class Job:
    """A query as the bench sees it: what is sent, what happens to it, what must come back."""

    descriptor: dict[str, int]
    features: bytes
    ranking: list[tuple[int, int]]
    bad_indices: dict[int, int] = field(default_factory=dict)
    saturations: dict[int, int] = field(default_factory=dict)
    fails: dict[int, int] = field(default_factory=dict)
    status: int = abi.Status.OK
    reserved: int = 0
    unread: bool = False  # the descriptor cannot be read
    rank_after: Job | None = None  # its ranking waits until that one has completed
    slot: int | None = None
    done: dict[int, int] = field(default_factory=dict)
    failed: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def planned(self) -> bool:
        """Whether it gets tokens."""
        return not self.unread and self.status == abi.Status.OK

    @property
    def used(self) -> range:
        """Its stages."""
        return range(self.descriptor["first_stage"], self.descriptor["last_stage"] + 1)

    @property
    def final_status(self) -> int:
        """Status of its completion."""
        return min(self.failed)[2] if self.failed else self.status


class Machine(wiring.Elaboratable):
    """Controller, host port and feature buffer."""

    def __init__(self, hardware):
        self.controller = Controller(hardware)
        self.host = HostPort(hardware)
        self.features = FeatureBuffer(hardware)

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = self.controller
        m.submodules.host = self.host
        m.submodules.features = self.features
        connect(m, self.controller.host, self.host.client)
        connect(m, self.controller.feature_write, self.features.write)
        m.d.comb += self.features.arriving.eq(self.controller.arriving)
        return m


class Bench:
    """Run jobs on a controller.

    Parameters
    ----------
    hardware : HardwareConfig
    rng : random generator
    stall : float
        Probability of each idle cycle, on every port.
    sq_log2, cq_log2 : int
    """

    def __init__(self, hardware, rng, *, stall=0.0, sq_log2=2, cq_log2=1):
        self.hardware, self.rng, self.stall = hardware, rng, stall
        self.machine = Machine(hardware)
        self.dut = self.machine.controller
        self.memory = HostMemory(
            self.machine.host.read, self.machine.host.write, rng=rng, stall=stall, size=1 << 18
        )
        self.stages = [
            {"steps": 3, "query_bytes": 5, "item_bytes": 3, "max_items": 48 >> s}
            for s in range(hardware.stages)
        ]
        self.sq_log2, self.cq_log2 = sq_log2, cq_log2
        # Rings are aligned to blocks only.
        self.sq_base = self.memory.base + 0x40
        self.cq_base = self.memory.base + 0x1040
        self.free_address = self.memory.base + 0x2000
        self.jobs: list[Job] = []
        self.patience = 0  # cycles until the first completion is consumed
        self.in_flight: set[int] = set()
        self.now = self.errors = 0
        self.completions: list[dict[str, int]] = []
        self.counted = {"queries": 0, "failed": 0, "active": 0}
        self.stalls = defaultdict(lambda: stall)  # by port of a stage, where they differ
        host = self.machine.host
        steps = {"host_read": host.read_counters, "host_write": host.write_counters}
        self.steps = steps | {name: self.dut.parts[name] for name in PARTS}
        self.states: dict[str, Counter] = {name: Counter() for name in self.steps}

    def allocate(self, size: int) -> int:
        """Address of a block-aligned piece of host memory."""
        address = self.free_address
        self.free_address += -(-size // abi.BLOCK_BYTES) * abi.BLOCK_BYTES
        return address

    def add(self, *, reserved: int = 0, **changes: Any) -> Job:
        """Add a random query with some descriptor fields given; its status is the golden one."""
        rng, stages = self.rng, self.hardware.stages
        first = int(rng.integers(stages))
        last = int(rng.integers(first, stages))
        first, last = changes.get("first_stage", first), changes.get("last_stage", last)
        items = changes.get("items", int(rng.choice([1, rng.integers(1, 40), 48])))
        keep, above = [int(k) for k in rng.integers(2**16, size=4)], max(1, items)
        for stage in range(first, min(last, stages - 1) + 1):
            above = keep[stage] = int(rng.choice([1, above, rng.integers(1, above + 1)]))
        bound = max(1, min(48 >> stages - 1, items))
        values = {
            "version": abi.VERSION_MAJOR,
            "first_stage": first,
            "last_stage": last,
            "query_id": int(rng.integers(2**32)),
            "items": items,
            "sub_batch": int(rng.integers(max(1, bound // 3), bound + 1)),
            **{f"keep{stage}": kept for stage, kept in enumerate(keep)},
            "image_id": IMAGE_ID,
            "global_release": int(rng.choice([0, rng.integers(16)])),
        } | changes
        size = min(5 + 3 * items, self.hardware.feature_bytes)
        features = rng.bytes(size)
        values.setdefault("features", self.allocate(size))
        count = values.get(f"keep{last}", 0) if last < stages else 0
        ranking = list(
            zip(
                rng.integers(2**16, size=count).tolist(),
                rng.integers(-(2**15), 2**15, size=count).tolist(),
                strict=True,
            )
        )
        values.setdefault("results", self.allocate(4 * count + 2 * abi.BLOCK_BYTES))
        status = validate(
            {"reserved0": 0, "reserved": reserved} | values,
            hardware=self.hardware,
            image_id=IMAGE_ID,
            stages=self.stages,
        )
        job = Job(values, features, ranking, status=status, reserved=reserved)
        if job.planned:
            for counts in (job.bad_indices, job.saturations):
                counts.update((s, int(rng.integers(3))) for s in job.used)
            job.done = dict.fromkeys(job.used, 0)
        self.jobs.append(job)
        return job

    def completed(self, job: Job) -> bool:
        """Whether the completion of a job was seen."""
        return any(e["query_id"] == job.descriptor["query_id"] for e in self.completions)

    def run(self, *others, timeout: int = 60_000) -> None:
        """Simulate until every job has completed, then compare everything."""
        for job in self.jobs:
            if job.descriptor["features"] % abi.BLOCK_BYTES == 0:
                self.memory.put(job.descriptor["features"], job.features)
            if job.descriptor["results"] % abi.BLOCK_BYTES == 0:
                size = -(-4 * len(job.ranking) // 64) * 64 + abi.BLOCK_BYTES
                self.memory.put(job.descriptor["results"], bytes([GUARD]) * size)
        benches = [self._setup, self._submit, self._complete, self._watch]
        benches += [self._stage(s) for s in range(self.hardware.stages)]
        simulate(self.machine, *benches, *self.memory.testbenches, *others, timeout=timeout)
        self._compare()

    async def _setup(self, ctx):
        dut = self.dut
        for stage, values in enumerate(self.stages):
            ctx.set(dut.stages[stage], values)
        ctx.set(dut.image_loaded, 1)
        ctx.set(dut.image_id, IMAGE_ID)
        ctx.set(dut.sq_base, self.sq_base)
        ctx.set(dut.sq_log2, self.sq_log2)
        ctx.set(dut.cq_base, self.cq_base)
        ctx.set(dut.cq_log2, self.cq_log2)
        await ctx.tick()
        ctx.set(dut.enable, 1)

    async def _submit(self, ctx):
        for number, job in enumerate(self.jobs):
            while number - ctx.get(self.dut.sq_head) >= 1 << self.sq_log2:
                await ctx.tick()
            address = self.sq_base + 64 * (number % (1 << self.sq_log2))
            block = abi.DESCRIPTOR.pack_int(job.descriptor)
            block |= job.reserved << abi.DESCRIPTOR.bits - abi.DESCRIPTOR.reserved_bits
            self.memory.put(address, block.to_bytes(abi.DESCRIPTOR.bytes, "little"))
            ctx.set(self.dut.sq_tail, number + 1)
            await idle(ctx, self.rng, self.stall)
            if job.unread:
                self.memory.bad_reads.add(address)
                while ctx.get(self.dut.sq_head) <= number:
                    await ctx.tick()
                self.memory.bad_reads.remove(address)

    async def _complete(self, ctx):
        want = sum(not job.unread for job in self.jobs)
        for number in range(want):
            address = self.cq_base + 64 * (number % (1 << self.cq_log2))
            while True:
                entry = abi.COMPLETION.unpack(self.memory.get(address, 64))
                if entry["sequence"] == number + 1:
                    break
                await ctx.tick()
            self.completions.append(entry)
            delay = int(self.rng.integers(40)) if self.stall else 0
            for _ in range(delay if number else self.patience):
                await ctx.tick()
            # The ring is full while this is late; nothing may be overwritten.
            assert abi.COMPLETION.unpack(self.memory.get(address, 64)) == entry
            ctx.set(self.dut.cq_head, number + 1)
        await ctx.tick().repeat(30)
        assert ctx.get(self.dut.idle)
        assert ctx.get(self.dut.cq_tail) == want
        for stage in range(self.hardware.stages):
            assert not ctx.get(self.dut.token[stage].valid)
            assert not ctx.get(self.dut.plan[stage].valid)
        self.memory.running = False

    async def _watch(self, ctx):
        """Interrupts only for completions that are in memory; errors and counters collected."""
        seen = 0
        dut = self.dut
        request = dut.host.read_request
        waiting = None
        while self.memory.running:
            _, _, pulse, errors, counters, valid, ready, payload, *steps = await ctx.tick().sample(
                dut.completion,
                dut.error,
                dut.counters,
                request.valid,
                request.ready,
                request.payload,
                *self.steps.values(),
            )
            for states, step in zip(self.states.values(), steps, strict=True):
                now = [name for name, _ in step.shape() if step[name]]
                assert len(now) == 1
                states.update(now)
            assert waiting is None or (valid and payload == waiting), "a request was replaced"
            waiting = payload if valid and not ready else None
            self.now += 1
            self.errors |= errors
            for name in self.counted:
                self.counted[name] += counters[name]
            if pulse:
                address = self.cq_base + 64 * (seen % (1 << self.cq_log2))
                seen += 1
                sequence = abi.COMPLETION.unpack(self.memory.get(address, 64))["sequence"]
                assert sequence == seen or address in self.memory.bad_writes

    def _stage(self, stage):
        async def stage_bench(ctx):
            for job in self.jobs:
                if not job.planned or stage not in job.used:
                    continue
                d = job.descriptor
                keep = [d[f"keep{s}"] for s in job.used]
                once = [s - job.used[0] for s in job.used if d["global_release"] >> s & 1]
                for step in plan(d["items"], d["sub_batch"], keep, once):
                    if step.stage == stage - job.used[0]:
                        await self._token(ctx, stage, job, step)

        return stage_bench

    async def _token(self, ctx, stage, job, step):
        """One token through a stage: compare, use the features, report events, rank."""
        dut, rng = self.dut, self.rng
        token = await stream_get(ctx, dut.token[stage], rng=rng, stall=self.stalls["token"])
        if job.slot is None:
            job.slot = token.slot
            assert job.slot not in self.in_flight, "two queries in one slot"
            self.in_flight.add(job.slot)
        inner = stage != job.used[0]
        assert token.slot == job.slot
        assert (token.first, token.last) == (step.sub_batch == 0, step.last)
        assert (token.items, token.listed, token.base) == (step.items, inner, step.base)
        while inner and job.done[stage - 1] <= step.sub_batch:
            await ctx.tick()
        await self._check_features(ctx, stage, job)
        if step.sub_batch == 0:
            await self._pulses(ctx, dut.bad_index[stage], job.slot, job.bad_indices[stage])
            await self._pulses(ctx, dut.saturated[stage], job.slot, job.saturations[stage])
            if stage in job.fails:
                job.failed.append((self.now, stage, job.fails[stage]))
                event = {"slot": job.slot, "status": job.fails[stage]}
                await stream_put(ctx, dut.fail[stage], event)
        release = await stream_get(ctx, dut.plan[stage], rng=rng, stall=self.stalls["plan"])
        final = stage == job.used[-1]
        assert (release.slot, release.emit, release.final) == (job.slot, step.emit, final)
        assert release.count == step.count
        job.done[stage] += 1
        if final and step.emit:
            assert release.count == len(job.ranking)
            while job.rank_after and not self.completed(job.rank_after):
                await ctx.tick()
            for number, (position, score) in enumerate(job.ranking):
                last = number + 1 == len(job.ranking)
                if last:
                    self.in_flight.discard(job.slot)
                beat = {"position": position, "score": score, "keep": 1, "slot": job.slot}
                beat |= {"last": last}
                await stream_put(ctx, dut.ranked[stage], beat, rng=rng, stall=self.stalls["ranked"])

    async def _pulses(self, ctx, port, slot, count):
        for _ in range(count):
            ctx.set(port, {"valid": 1, "slot": slot})
            await ctx.tick()
        ctx.set(port.valid, 0)

    async def _check_features(self, ctx, stage, job):
        port, width = self.machine.features.port[stage], self.hardware.host_bus_bytes
        at = int(self.rng.integers(len(job.features)))
        await stream_put(ctx, port.request, {"slot": job.slot, "address": at})
        word = await stream_get(ctx, port.response)
        want = job.features[at : at + width]
        assert word.to_bytes(width, "little")[: len(want)] == want

    def _compare(self):
        by_id = {entry["query_id"]: entry for entry in self.completions}
        sent = [job for job in self.jobs if not job.unread]
        assert len(by_id) == len(sent)
        for job in sent:
            entry = by_id[job.descriptor["query_id"]]
            good = job.final_status == abi.Status.OK
            assert entry["status"] == job.final_status, job
            assert entry["count"] == (len(job.ranking) if good else 0)
            assert entry["bad_indices"] == sum(job.bad_indices.values())
            assert entry["saturations"] == sum(job.saturations.values())
            assert entry["reserved"] == 0
            assert 0 < entry["cycles"] < self.memory.now
            self._compare_results(job, good)
        ok = sum(job.final_status == abi.Status.OK for job in sent)
        assert (self.counted["queries"], self.counted["failed"]) == (ok, len(sent) - ok)
        assert 0 < self.counted["active"] < self.memory.now

    def _compare_results(self, job, good):
        address = job.descriptor["results"]
        blocks = -(-4 * len(job.ranking) // 64)
        if address % abi.BLOCK_BYTES or self.memory.bad_writes & set(
            range(address, address + 64 * blocks, 64)
        ):
            return
        blocks *= good
        got = self.memory.get(address, 64 * blocks + 64)
        want = b"".join(abi.RESULT.pack(position=p, score=s) for p, s in job.ranking if good).ljust(
            64 * blocks, b"\0"
        )
        assert got == want + bytes([GUARD]) * 64, job
