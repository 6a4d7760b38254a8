"""The controller with host port and feature buffer against golden planner and validation."""

import pytest

from rpaccel.abi import Status
from rpaccel.registers import DeviceErrorBit
from tests.controller_bench import IMAGE_ID, Bench
from tests.machines import small_hardware


@pytest.mark.parametrize(
    "stages, bus_bytes, slots, stall",
    [(1, 8, 1, 0.0), (2, 16, 2, 0.0), (2, 32, 3, 0.5), (4, 64, 4, 0.3), (3, 16, 1, 0.4)],
)
def test_random_queries(rng, stages, bus_bytes, slots, stall):
    """Good, refused and failing queries in any mixture; both rings wrap around."""
    hardware = small_hardware(stages, host_bus_bytes=bus_bytes, query_slots=slots)
    bench = Bench(hardware, rng, stall=stall)
    for number in range(14):
        kind = number if number < 5 else int(rng.integers(8))
        if kind == 0:
            bench.add(items=0)
        elif kind == 1:
            job = bench.add()
            if job.planned:
                job.fails[int(rng.choice(job.used))] = Status.MEMORY_ERROR
        elif kind == 2:
            job = bench.add(image_id=IMAGE_ID ^ 1 << int(rng.integers(32)))
            assert job.status == Status.BAD_IMAGE
        else:
            bench.add()
    bench.run()
    assert bench.errors == 0


BAD = {
    Status.BAD_DESCRIPTOR: [
        {"version": 2},
        {"reserved0": 0x800},
        {"reserved": 1},
        {"reserved": 1 << 191},
        {"features": 0x20},
        {"results": 0x01},
        {"first_stage": 1, "last_stage": 0},
        {"first_stage": 0, "last_stage": 3},
        {"first_stage": 4, "last_stage": 4},
        {"version": 0, "image_id": 1, "items": 0},
    ],
    Status.BAD_IMAGE: [
        {"image_id": IMAGE_ID + 1},
        {"image_id": 0, "items": 0},
        {"first_stage": 1, "last_stage": 2, "keep1": 0},
    ],
    Status.BAD_ITEMS: [
        {"items": 0, "keep0": 0},
        {"items": 16_385, "sub_batch": 0},
        {"items": 65_535},
        {"first_stage": 0, "last_stage": 0, "items": 340, "keep0": 1, "sub_batch": 40},
    ],
    Status.BAD_KEEP: [
        {"first_stage": 0, "last_stage": 1, "items": 30, "keep0": 0, "keep1": 0},
        {"first_stage": 0, "last_stage": 1, "items": 30, "keep0": 7, "keep1": 0, "sub_batch": 0},
        {"first_stage": 0, "last_stage": 1, "items": 30, "keep0": 7, "keep1": 8},
        {"first_stage": 0, "last_stage": 1, "items": 30, "keep0": 31, "keep1": 8},
        {"first_stage": 0, "last_stage": 0, "items": 100, "keep0": 65, "sub_batch": 90},
        {"first_stage": 1, "last_stage": 1, "items": 30, "keep1": 2**15 + 3},
    ],
    Status.BAD_SUB_BATCH: [
        {"first_stage": 0, "last_stage": 1, "items": 30, "keep0": 7, "keep1": 7, "sub_batch": 0},
        {"first_stage": 0, "last_stage": 0, "items": 49, "keep0": 7, "sub_batch": 49},
        {"first_stage": 0, "last_stage": 0, "items": 64, "keep0": 7, "sub_batch": 65_535},
        # ceil(40 * 31 / 50) = 25 items for stage 1, which takes 24
        {"first_stage": 0, "last_stage": 1, "items": 50, "keep0": 40, "keep1": 9, "sub_batch": 31},
    ],
    Status.OK: [
        {"first_stage": 0, "last_stage": 0, "items": 339, "keep0": 64, "sub_batch": 48},
        {"first_stage": 0, "last_stage": 1, "items": 50, "keep0": 40, "keep1": 9, "sub_batch": 30},
        {"first_stage": 1, "last_stage": 1, "items": 24, "keep1": 24, "sub_batch": 65_535},
    ],
}


def test_validation(rng):
    """Each status for its own cause and at its border, the first one where several apply."""
    hardware = small_hardware(3, query_slots=2)
    bench = Bench(hardware, rng, sq_log2=4, cq_log2=4)
    bench.stages[2]["steps"] = 0
    good = {"first_stage": 0, "last_stage": 0, "items": 8, "keep0": 3, "sub_batch": 4}
    for status, cases in BAD.items():
        for case in cases:
            job = bench.add(**good | case)
            assert job.status == status, case
    bench.run()
    ring = range(bench.sq_base, bench.sq_base + 16 * 64)
    blocks = sum(-(-len(job.features) // 64) for job in bench.jobs if job.planned)
    assert len([a for a in bench.memory.read_addresses if a in ring]) == len(bench.jobs)
    assert len([a for a in bench.memory.read_addresses if a not in ring]) == blocks


def test_a_query_ends_in_an_exact_stage(rng):
    hardware = small_hardware(3, filter=["exact", "bins", "exact"])
    bench = Bench(hardware, rng, sq_log2=4, cq_log2=4)
    for first in range(3):
        for last in range(first, 3):
            job = bench.add(first_stage=first, last_stage=last)
            assert job.status == (Status.BAD_DESCRIPTOR if last == 1 else Status.OK)
    bench.run()


def test_random_validation(rng):
    """Random descriptors, most of them close to a border, against the golden validation."""
    bench = Bench(small_hardware(4, query_slots=2), rng, sq_log2=4, cq_log2=4)
    for _ in range(40):
        items = int(rng.integers(1, 90))
        keep = sorted((int(k) for k in rng.integers(1, 66, size=4)), reverse=True)
        funnel = {f"keep{s}": k for s, k in enumerate(keep)}
        bench.add(items=items, sub_batch=int(rng.integers(items // 5, 52)), **funnel)
    statuses = {job.status for job in bench.jobs}
    assert statuses >= {Status.OK, Status.BAD_KEEP, Status.BAD_SUB_BATCH}
    bench.run()


def test_without_image(rng):
    bench = Bench(small_hardware(1), rng)
    job = bench.add()
    job.status, job.done = Status.BAD_IMAGE, {}
    job.bad_indices, job.saturations = {}, {}

    async def unload(ctx):
        await ctx.tick()
        ctx.set(bench.dut.image_loaded, 0)

    bench.run(unload)


def test_full_completion_ring(rng):
    """Nothing is completed beyond the ring's size; what waits is completed later."""
    bench = Bench(small_hardware(2, query_slots=2), rng, sq_log2=3, cq_log2=1)
    for number in range(8):
        bench.add(items=5 if number % 3 else 0)
    bench.patience = 1300

    async def check(ctx):
        await ctx.tick().repeat(1000)
        assert ctx.get(bench.dut.cq_tail) == 2
        assert not ctx.get(bench.dut.idle)

    bench.run(check)


def test_failing_queries(rng):
    """A failing query completes with its first cause and no results; its neighbours are exact."""
    bench = Bench(small_hardware(2, query_slots=2), rng, stall=0.2)
    funnel = {"first_stage": 0, "last_stage": 1}
    causes = (Status.MEMORY_ERROR, Status.BAD_INDEX)
    for fails in ({}, dict(enumerate(causes)), {}, dict(enumerate(causes[::-1])), {1: 7}, {}):
        bench.add(**funnel).fails.update(fails)
    bench.run()
    assert [job.final_status for job in bench.jobs] == [0, 7, 0, 6, 7, 0]


def test_queries_overlap_and_overtake(rng):
    """A query runs and completes while an earlier one still waits in its last stage."""
    bench = Bench(small_hardware(2, query_slots=2), rng)
    slow = bench.add(first_stage=0, last_stage=1)
    fast = [bench.add(first_stage=0, last_stage=0) for _ in range(3)]
    slow.rank_after = fast[-1]
    bench.run()
    order = [entry["query_id"] for entry in bench.completions]
    assert order == [job.descriptor["query_id"] for job in (*fast, slow)]


@pytest.mark.parametrize("slots", [1, 2])
def test_host_errors(rng, slots):
    """Memory errors at features, descriptors, results and completions; neighbours are exact."""
    bench = Bench(small_hardware(2, query_slots=slots), rng, stall=0.2, cq_log2=2)
    bench.memory.stores_bad = True
    good = {"first_stage": 0, "items": 40}
    bench.add(**good)
    unreadable = bench.add(**good)
    bench.memory.bad_reads.add(unreadable.descriptor["features"])
    # The pipeline runs for it as for any other; only its completion tells.
    unreadable.failed.append((-1, 0, Status.HOST_ERROR))
    bench.add(**good).unread = True
    bench.add(**good)
    unwritable = bench.add(first_stage=1, last_stage=1, items=20, keep1=20)
    bench.memory.bad_writes.add(unwritable.descriptor["results"] + 64)
    bench.add(**good)
    last = bench.add(**good)
    bench.memory.bad_writes.add(bench.cq_base + 64 * 1)
    unwritable.failed.append((1 << 40, 0, Status.HOST_ERROR))
    bench.run()
    assert bench.completed(last)
    assert bench.errors == 1 << DeviceErrorBit.HOST_READ | 1 << DeviceErrorBit.HOST_WRITE


def test_enable_and_hold(rng):
    """No submission is fetched while disabled or held; queries in flight go on."""
    bench = Bench(small_hardware(2), rng, stall=0.2)
    dut = bench.dut
    for _ in range(12):
        bench.add(items=6)

    async def toggle(ctx):
        for signal, value in ((dut.enable, 0), (dut.hold, 1)):
            await ctx.tick().repeat(100)
            ctx.set(signal, value)
            while not ctx.get(dut.idle):
                await ctx.tick()
            head = ctx.get(dut.sq_head)
            assert head < 12
            await ctx.tick().repeat(100)
            assert ctx.get(dut.idle)
            assert ctx.get(dut.sq_head) == head
            ctx.set(signal, 1 - value)

    bench.run(toggle)


def test_throughput(rng):
    """A result is taken each cycle, and the cycle count is what it says."""
    bench = Bench(small_hardware(1), rng)
    dut = bench.dut
    bench.add(first_stage=0, last_stage=0, items=64, keep0=64, sub_batch=48)
    taken, fetched, completed = [], 0, 0

    async def watch(ctx):
        nonlocal fetched, completed
        now = 0
        while not completed:
            _, _, valid, ready, head, done = await ctx.tick().sample(
                dut.ranked[0].valid, dut.ranked[0].ready, dut.sq_head, dut.completion
            )
            now += 1
            if valid & ready:
                taken.append(now)
            fetched = fetched or now * head
            completed = now * done

    bench.run(watch)
    assert taken == list(range(taken[0], taken[0] + 64))
    # The entry is made before it is written: the write's round trip is not in it.
    assert completed - fetched - 20 < bench.completions[0]["cycles"] < completed - fetched
