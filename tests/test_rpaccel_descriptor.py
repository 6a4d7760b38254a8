"""Queries that the driver refuses, and descriptors that the device does."""

import dataclasses

import numpy as np
import pytest

from rpaccel import abi
from rpaccel.abi import Status
from rpaccel.errors import DeviceError, QueryError
from rpaccel.features import pack
from sw_model.controller import validate
from tests.golden_world import World


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
