"""The driver over the golden device: results, rings, refusals, faults, time-outs."""

import dataclasses

import numpy as np
import pytest

from rpaccel import abi
from rpaccel.abi import Status
from rpaccel.compiler import compile_image
from rpaccel.counters import counters_of
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError, QueryError
from rpaccel.features import pack
from rpaccel.registers import REGISTERS, DeviceErrorBit, capability_values
from rpaccel.transport import MemoryLoader
from sw_model.controller import validate
from sw_model.device import GoldenTransport
from sw_model.funnel import Trace, rank
from sw_model.random_models import random_models, random_query
from sw_model.topk import filters_of
from tests.workloads import workload


class World:
    """A configuration with models, image and a golden device."""

    def __init__(self, rng, shuffle=None, host_bytes=1 << 20, **options):
        self.rng = rng
        self.config = workload(**options)
        self.models = random_models(self.config, rng)
        self.image = compile_image(self.config, self.models)
        self.transport = GoldenTransport(
            self.config, self.models, host_bytes=host_bytes, shuffle=shuffle
        )

    def device(self):
        return Device(self.transport, self.config, self.image)

    def query(self, items=40):
        return random_query(self.config.features, items, self.rng)

    def check(self, query, handle, keep=(20, 8), sub_batch=14, **stages):
        golden = rank(
            self.models, self.config.features, query, keep=keep, sub_batch=sub_batch, **stages
        )
        got = handle.result()
        assert got.positions.tolist() == golden.positions.tolist()
        assert got.scores.tolist() == golden.scores.tolist()


@pytest.mark.parametrize("shuffle", [None, 7])
@pytest.mark.parametrize("outstanding", [1, 2, 4, 9])
def test_run(rng, shuffle, outstanding):
    world = World(rng, shuffle)
    queries = [world.query() for _ in range(23)]
    told = []
    with world.device() as device:
        handles = device.run(
            queries, outstanding=outstanding, progress=lambda *numbers: told.append(numbers)
        )
    for query, handle in zip(queries, handles, strict=True):
        world.check(query, handle)
    assert told == sorted(set(told))
    assert told[-1] == (23, 23)


def test_completions_out_of_order(rng):
    world = World(rng, shuffle=3)
    queries = [world.query() for _ in range(40)]
    order = []
    with world.device() as device:
        handles = []
        for query in queries:
            handles.append(device.submit(query))
            order += [h.query_id for h in handles if h.done and h.query_id not in order]
        for handle in handles:
            device.wait(handle)
            order += [h.query_id for h in handles if h.done and h.query_id not in order]
    assert sorted(order) == list(range(40))
    assert order != sorted(order), "the golden device completed in order: nothing was shown"
    for query, handle in zip(queries, handles, strict=True):
        world.check(query, handle)


def test_ring_numbers_wrap_around(rng):
    """Heads and tails are modulo 2**16; the rings are a few entries."""
    world = World(rng)
    registers = world.transport._registers
    registers["SQ_HEAD"] = registers["SQ_TAIL"] = 65_530
    registers["CQ_TAIL"] = 65_533
    world.transport._completions = 65_533 + (5 << 16)
    queries = [world.query(9) for _ in range(20)]
    with world.device() as device:
        handles = device.run(queries, outstanding=4, keep=[5, 2], sub_batch=4)
    for query, handle in zip(queries, handles, strict=True):
        world.check(query, handle, [5, 2], 4)
    assert registers["SQ_HEAD"] == 65_550 % 65_536
    assert registers["CQ_TAIL"] == registers["CQ_HEAD"] == 65_553 % 65_536


def test_used_again(rng):
    """A second driver on the same device finds it in the middle of its counts."""
    world = World(rng)
    for _ in range(3):
        queries = [world.query() for _ in range(7)]
        with world.device() as device:
            for query, handle in zip(queries, device.run(queries), strict=True):
                world.check(query, handle)


def test_submit_poll_wait(rng):
    world = World(rng)
    query = world.query()
    with world.device() as device:
        handle = device.submit(query, keep=[12, 12], sub_batch=9)
        assert not handle.done
        with pytest.raises(DeviceError, match="query 0 is not complete"):
            handle.result()
        with pytest.raises(DeviceError, match="not complete"):
            _ = handle.status
        while not device.poll(handle):
            pass
        assert device.poll(handle)
        assert device.wait(handle) is handle
        assert handle.status == Status.OK
        assert handle.cycles >= 0
        world.check(query, handle, [12, 12], 9)


def test_parts_of_the_funnel(rng):
    world = World(rng)
    query = world.query()
    with world.device() as device:
        front = device.submit(query, last_stage=0, keep=[30])
        back = device.submit(query, first_stage=1, keep=[30])
        fewer = device.submit(small := world.query(6))
        for handle in (front, back, fewer):
            device.wait(handle)
    world.check(query, front, [30], 14, last_stage=0)
    world.check(query, back, [30], 14, first_stage=1)
    world.check(small, fewer, [6, 6], 2)


def test_one_item(rng):
    world = World(rng)
    query = world.query(1)
    with world.device() as device:
        handle = device.wait(device.submit(query))
    assert handle.result().positions.tolist() == [0]


def test_counters_and_capabilities(rng):
    world = World(rng)
    with world.device() as device:
        device.run([world.query() for _ in range(3)])
        counts = device.counters()
        assert device.capabilities() == capability_values(world.config.hardware)
    assert set(counts) == set(counters_of(world.config.hardware))
    assert counts["device.queries"] == 3
    assert counts["device.failed"] == 0
    assert counts["gather0.items"] == counts["topk0.candidates"] == 120
    assert counts["gather1.items"] == counts["topk0.released"] == 60
    assert counts["topk1.released"] == 24
    size = world.config.features.query_bytes + 40 * world.config.features.item_bytes
    assert counts["device.host_read_bytes"] == 3 * (64 + -(-size // 64) * 64)
    assert counts["device.host_write_bytes"] == 3 * (64 + 64)


def test_runs_until_a_cycle(rng):
    """The clock goes on to the cycle, and what completes meanwhile is taken."""
    world = World(rng)
    with world.device() as device:
        begin = device.cycles()
        now = device.run_until(begin + 5000)
        assert begin + 5000 <= now == device.cycles()
        assert device.run_until(now) == now
        query = world.query()
        handle = device.submit(query)
        device.run_until(now + 300)
        assert handle.done
    world.check(query, handle)


def test_wide_counters(rng):
    world = World(rng)
    with world.device() as device:
        world.transport._registers.counts["group0.macs"] = 0x1234_5678_9ABC
        assert device.counters()["group0.macs"] == 0x1234_5678_9ABC


def test_a_full_device_is_waited_for(rng):
    world = World(rng)
    with world.device() as device:
        queries = [world.query() for _ in range(12)]
        handles = [device.submit(query) for query in queries]
        assert sum(h.done for h in handles) >= 8  # the ring has 4 entries
        for query, handle in zip(queries, handles, strict=True):
            world.check(query, device.wait(handle))


def test_little_host_memory(rng):
    world = World(rng, host_bytes=4 * 128 + 2 * (2048 + 256) + 100)
    with world.device() as device:
        queries = [world.query() for _ in range(5)]
        for query, handle in zip(queries, device.run(queries, outstanding=4), strict=True):
            world.check(query, handle)
    tiny = World(rng, host_bytes=4 * 128 + 2048)
    with pytest.raises(ConfigError, match=r"host memory has 2560 bytes, but .* take 2816"):
        tiny.device().open()


# --- refused before anything is sent ----------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep": [20]}, r"keep must give a number for each of stages 0..1"),
        ({"keep": [0, 0]}, r"stage 0 keeps 0: it may keep 1..40 \(the items it gets\)"),
        ({"keep": [41, 5]}, r"stage 0 keeps 41: it may keep 1..40"),
        ({"keep": [10, 11]}, r"stage 1 keeps 11: it may keep 1..10"),
        ({"sub_batch": 0}, r"sub_batch must be 1..16384, not 0"),
        ({"sub_batch": 33}, r"up to 33 items at a time to stage 0, which takes 32 \(limited by ha"),
        ({"first_stage": 1, "last_stage": 0}, r"stages 1..0 are not among the image's 2"),
        ({"last_stage": 2}, r"stages 0..2 are not among"),
        ({"first_stage": -1}, r"stages -1..1 are not among"),
    ],
)
def test_refused_arguments(rng, options, message):
    world = World(rng)
    with world.device() as device:
        before = device.counters()
        with pytest.raises(QueryError, match=message):
            device.submit(world.query(), **options)
        assert device.counters() == before
        assert not device._pending


def test_refused_queries(rng):
    world = World(rng)
    with world.device() as device:
        query = world.query()
        query.indices["item"][3, 0] = 300
        with pytest.raises(QueryError, match=r"table 'item', item 3, slot 0: index 300 is outside"):
            device.submit(query)
        with pytest.raises(QueryError, match=r"items = 0"):
            device.submit(dataclasses.replace(world.query(), items=0))
        with pytest.raises(QueryError, match=r"take 2254 bytes, but hardware.feature_bytes = 2048"):
            device.submit(world.query(250))
        with pytest.raises(QueryError, match=r"stage 0 keeps 65: it may keep 1..64 \(its topk_d"):
            device.submit(world.query(100), keep=[65, 5])
        with pytest.raises(QueryError, match="outstanding must be positive"):
            device.run([query], outstanding=0)


def test_settings(rng):
    """A setting is written when a device is opened, and whenever it is changed."""
    groups = [{"at": [0, 0], "cols": 2, "stages": [0, 1]}]
    groups += [{"at": [0, col], "stages": [0, 1]} for col in range(2)]
    world = World(rng, groups=groups, hardware={"settings": [[0], [1, 2]]})
    at = REGISTERS["SETTING"].address
    world.transport.write32(at, 1)
    with world.device() as device:
        assert world.transport.read32(at) == 0
        queries = [world.query() for _ in range(3)]
        handles = [device.submit(queries[0])]
        device.regroup(1)
        handles += [device.submit(query) for query in queries[1:]]
        assert world.transport.read32(at) == 1
        for query, handle in zip(queries, handles, strict=True):
            world.check(query, device.wait(handle))
        with pytest.raises(ConfigError, match=r"must be one of 0\.\.1, the machine's, not 2"):
            device.regroup(2)
    with World(rng).device() as device:
        device.regroup(0)
        with pytest.raises(ConfigError, match=r"must be one of 0\.\.0, the machine's, not 1"):
            device.regroup(1)


def test_a_stage_with_bins(rng):
    """It chooses otherwise than an exact one, counts what fell short, and is never the last."""
    world = World(rng, hardware={"filter": ["bins", "exact"], "bins": 4}, threshold=[0.9, 0])
    filters = filters_of(world.config)
    queries = [world.query() for _ in range(6)]
    traces = [Trace() for _ in queries]
    with world.device() as device:
        with pytest.raises(QueryError, match="last_stage = 0 has a filter with bins; the last"):
            device.submit(queries[0], last_stage=0)
        handles = device.run(queries, keep=[20, 8], sub_batch=14)
        counters = device.counters()
    features, differ = world.config.features, 0
    for query, handle, trace in zip(queries, handles, traces, strict=True):
        world.check(query, handle, filters=filters)
        rank(
            world.models, features, query, keep=[20, 8], sub_batch=14, filters=filters, trace=trace
        )
        exact = rank(world.models, features, query, keep=[20, 8], sub_batch=14)
        differ += exact.positions.tolist() != handle.result().positions.tolist()
    below = [token.below for trace in traces for token in trace.tokens]
    assert counters["topk0.below"] == sum(below) > 0
    assert counters["topk0.short"] == sum(b > 0 for b in below) > 0
    assert counters["topk1.short"] == 0
    assert differ


def test_the_driver_refuses_what_the_device_refuses(rng):
    """Random descriptors: the driver accepts exactly those that the device would run."""
    world = World(
        rng,
        groups=[{"stages": [0]}, {"rows": 1, "cols": 2, "stages": [1]}],
        hardware={"activation_rows": 128, "topk_depth": [30, 9]},
    )
    limits = [s.max_items for s in world.image.stages]
    assert limits[1] < limits[0]
    stages = world.transport
    accepted = 0
    with world.device() as device:
        for _ in range(250):
            items = int(rng.integers(1, 60))
            first, last = sorted(rng.integers(0, 2, 2).tolist())
            keep = rng.integers(0, 34 if rng.random() < 0.3 else 12, last + 1 - first).tolist()
            sub_batch = int(rng.integers(0, 40))
            fields = {"first_stage": first, "last_stage": last, "items": items}
            fields |= {f"keep{first + i}": k for i, k in enumerate(keep)}
            fields |= {"sub_batch": sub_batch, "version": 1, "image_id": world.image.image_id}
            status = validate(
                abi.DESCRIPTOR.unpack(abi.DESCRIPTOR.pack(**fields)),
                hardware=world.config.hardware,
                image_id=world.image.image_id,
                stages=stages._stages,
            )
            try:
                handle = device.submit(
                    world.query(items),
                    keep=keep,
                    first_stage=first,
                    last_stage=last,
                    sub_batch=sub_batch,
                )
            except QueryError:
                assert status != Status.OK
            else:
                assert status == Status.OK
                device.wait(handle).result()
                accepted += 1
    assert 30 < accepted < 220


# --- refused by the device --------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, status",
    [
        ({"version": 2}, Status.BAD_DESCRIPTOR),
        ({"reserved0": 1}, Status.BAD_DESCRIPTOR),
        ({"features": 8}, Status.BAD_DESCRIPTOR),
        ({"last_stage": 2}, Status.BAD_DESCRIPTOR),
        ({"image_id": 1}, Status.BAD_IMAGE),
        ({"items": 0}, Status.BAD_ITEMS),
        ({"items": 16385}, Status.BAD_ITEMS),
        ({"keep0": 0}, Status.BAD_KEEP),
        ({"keep1": 21}, Status.BAD_KEEP),
        ({"sub_batch": 0}, Status.BAD_SUB_BATCH),
        ({"sub_batch": 33}, Status.BAD_SUB_BATCH),
        ({"features": 1 << 40}, Status.HOST_ERROR),
    ],
)
def test_raw_descriptors(rng, fields, status):
    world = World(rng)
    good = {"last_stage": 1, "items": 40, "sub_batch": 14, "keep0": 20, "keep1": 8}
    with world.device() as device:
        query = world.query()
        data = pack(world.config.features, query)
        before = device.submit_raw(good, data)
        handle = device.submit_raw(good | fields, data)
        after = device.submit_raw(good, data)
        for each in (before, handle, after):
            device.wait(each)
        counts = device.counters()
    world.check(query, before)
    world.check(query, after)
    assert handle.status == status
    assert handle.completion["count"] == 0
    with pytest.raises(DeviceError, match=f"query 1 ended with status {status.name}") as caught:
        handle.result()
    assert caught.value.status == status
    assert counts["device.queries"] == 2
    assert counts["device.failed"] == 1


def test_raw_index_beyond_its_table(rng):
    world = World(rng)
    good = {"last_stage": 1, "items": 40, "sub_batch": 14, "keep0": 20, "keep1": 8}
    with world.device() as device:
        query = world.query()
        data = pack(world.config.features, query)
        wrong = dataclasses.replace(query, indices={**query.indices, "user": np.array([30])})
        bad = device.submit_raw(good, pack(world.config.features, wrong, check=False))
        neighbour = device.submit_raw(good, data)
        device.wait(neighbour)
        counts = device.counters()
    assert bad.status == Status.BAD_INDEX
    assert bad.completion["bad_indices"] == 60  # 40 items of stage 0, 20 of stage 1
    assert counts["gather0.bad_indices"] + counts["gather1.bad_indices"] == 60
    with pytest.raises(DeviceError, match="BAD_INDEX, 60 bad indices"):
        bad.result()
    world.check(query, neighbour)


def test_raw_features_too_large(rng):
    world = World(rng)
    with world.device() as device:
        with pytest.raises(QueryError, match="2049 bytes of features do not fit"):
            device.submit_raw({}, bytes(2049))
        with pytest.raises(ValueError, match=r"descriptor.items takes"):
            device.submit_raw({"items": 1 << 16}, b"")
        query = world.query()
        world.check(query, device.wait(device.submit(query)))


def test_results_outside_host_memory(rng):
    world = World(rng)
    good = {"last_stage": 1, "items": 40, "sub_batch": 14, "keep0": 20, "keep1": 8}
    with world.device() as device:
        handle = device.submit_raw(
            good | {"results": 1 << 40}, pack(world.config.features, world.query())
        )
        with pytest.raises(DeviceError, match="the device reports HOST_WRITE"):
            device.wait(handle)
        assert handle.status == Status.HOST_ERROR


# --- opening ----------------------------------------------------------------------------------


class Changed(GoldenTransport):
    """A golden device some of whose registers read otherwise."""

    changes: dict[str, int] = {}
    closed = 0

    def read32(self, address):
        for name, value in self.changes.items():
            if address == REGISTERS[name].address:
                return value
        return super().read32(address)

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(
    "changes, kind, message",
    [
        ({"ID": 0xFFFFFFFF}, DeviceError, "ID reads 0xffffffff, not 0x43415052"),
        ({"VERSION": 0x20001}, DeviceError, "ABI version 2.1, this driver 1.0"),
        ({"DIGEST_LO": 1, "DIGEST_HI": 0}, ConfigError, "device is machine 0x0000000000000001, th"),
        ({"IMAGE_ID": 5}, DeviceError, "device memory holds image 0x00000005, not"),
        ({"ERROR": 4}, DeviceError, "the device reports IMAGE_DIGEST"),
    ],
)
def test_wrong_devices(rng, changes, kind, message):
    world = World(rng)
    world.transport = Changed(world.config, world.models)
    world.transport.changes = changes
    with pytest.raises(kind, match=message), world.device():
        raise AssertionError("opened")
    assert world.transport.closed == 1


def test_image_for_another_machine(rng):
    world = World(rng)
    other = World(rng, tile=(4, 6))
    device = Device(world.transport, world.config, other.image)
    with pytest.raises(ConfigError, match=r"the image is for machine .*, the configuration descr"):
        device.open()


@pytest.mark.parametrize(
    "at, bit",
    [(0, "IMAGE_MAGIC"), (4, "IMAGE_VERSION"), (8, "IMAGE_DIGEST"), (64, "IMAGE_MEMORY")],
)
def test_images_the_device_refuses(rng, at, bit):
    world = World(rng)
    data = bytearray(world.image.data)
    data[at] = 0xE7
    world.image = dataclasses.replace(world.image, data=bytes(data))
    with pytest.raises(DeviceError, match=f"the device reports {bit}"), world.device():
        raise AssertionError("opened")


def test_preloaded_memory(rng):
    """A transport that cannot load memory has the image in it; its address is the image's."""
    config = workload()
    models = random_models(config, rng)
    image = compile_image(config, models, address=4096)

    class Board(GoldenTransport):
        load_memory = None

    transport = Board(config, models, bytes(4096) + image.data)
    assert not isinstance(transport, MemoryLoader)
    query = random_query(config.features, 40, rng)
    with Device(transport, config, image) as device:
        got = device.wait(device.submit(query)).result()
    expected = rank(models, config.features, query, keep=[20, 8], sub_batch=14)
    assert got.positions.tolist() == expected.positions.tolist()


def test_open_and_close(rng):
    world = World(rng)
    world.transport = Changed(world.config, world.models)
    device = world.device()
    with pytest.raises(DeviceError, match="not open"):
        device.submit(world.query())
    assert device.open() is device
    with pytest.raises(DeviceError, match="opened once"):
        device.open()
    handle = device.submit(world.query())
    device.close()
    device.close()
    assert world.transport.closed == 1
    for call in (device.counters, device.capabilities, lambda: device.wait(handle)):
        with pytest.raises(DeviceError, match="not open"):
            call()
    with pytest.raises(DeviceError, match="opened once"):
        device.open()


# --- faults -----------------------------------------------------------------------------------


class Stuck(GoldenTransport):
    """A golden device that stops working when told so."""

    stuck = False
    clock_runs = True

    def wait(self, cycles):
        if not self.stuck:
            return super().wait(cycles)
        self._registers.counts["device.cycles"] += cycles * self.clock_runs
        return False


@pytest.mark.parametrize("clock_runs", [True, False])
def test_time_outs(rng, clock_runs):
    world = World(rng)
    world.transport = Stuck(world.config, world.models)
    world.transport.clock_runs = clock_runs
    query = world.query()
    with world.device() as device:
        world.transport.stuck = True
        handles = [device.submit(query) for _ in range(4)]
        with pytest.raises(DeviceError, match="time-out: waited 250000 cycles for query 2"):
            device.wait(handles[2], timeout_cycles=250_000)
        with pytest.raises(DeviceError, match="time-out: waited 1000 cycles for a query to comple"):
            device.submit(query, timeout_cycles=1000)
        assert not device.poll(handles[0])
        world.transport.stuck = False
        for handle in handles:  # they go on as if nothing had happened
            world.check(query, device.wait(handle))


def test_an_interrupt_that_stays_up(rng):
    world = World(rng)
    world.transport = Stuck(world.config, world.models)
    with world.device() as device:
        handle = device.submit(world.query())
        world.transport.wait = lambda cycles: True
        with pytest.raises(DeviceError, match=r"time-out: waited 20000000 cycles for query 0"):
            device.wait(handle)


def test_errors_of_the_device_reach_the_caller(rng):
    world = World(rng)
    query = world.query()
    with world.device() as device:
        handle = device.submit(query)
        world.transport._registers.error(DeviceErrorBit.HOST_READ)
        with pytest.raises(DeviceError, match="the device reports HOST_READ"):
            device.wait(handle)
        world.check(query, device.wait(handle))


def test_a_completion_of_nobody(rng):
    world = World(rng)
    with world.device() as device:
        handle = device.submit(world.query())
        device._pending.clear()
        with pytest.raises(DeviceError, match="names query 0, which is not running"):
            device.wait(handle)
