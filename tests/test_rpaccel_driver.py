"""The driver over the golden device: results, rings, settings, opening and closing."""

import pytest

from rpaccel.abi import Status
from rpaccel.compiler import compile_image
from rpaccel.counters import counters_of
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError, QueryError
from rpaccel.registers import REGISTERS, capability_values
from rpaccel.transport import MemoryLoader
from sw_model.device import GoldenTransport
from sw_model.funnel import Trace, rank
from sw_model.random_models import random_models, random_query
from sw_model.topk import filters_of
from tests.golden_world import Changed, World
from tests.workloads import workload


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


# --- refused by the device --------------------------------------------------------------------


# --- opening ----------------------------------------------------------------------------------


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
