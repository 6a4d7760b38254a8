"""The golden device's registers and rings, without the driver."""

import pytest

from rpaccel import abi
from rpaccel.compiler import compile_image
from rpaccel.features import pack
from rpaccel.image_layout import IMAGE_HEADER, image_block_bytes, pairs_target
from rpaccel.registers import (
    CAPABILITY_BASE,
    DEVICE_ID,
    REGISTERS,
    Control,
    DeviceErrorBit,
    DeviceStatus,
)
from sw_model.device import GoldenTransport
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query
from tests.workloads import workload

R = {name: register.address for name, register in REGISTERS.items()}
RUN, LOAD = 1 << Control.ENABLE, 1 << Control.LOAD
CQ, FEATURES, RESULTS = 0x1000, 0x2000, 0x4000


@pytest.fixture
def world(rng):
    config = workload()
    models = random_models(config, rng)
    image = compile_image(config, models)
    device = GoldenTransport(config, models, image.data, host_bytes=1 << 16)
    device.write32(R["CQ_BASE_LO"], CQ)
    device.write32(R["SQ_LOG2"], 1)
    device.write32(R["CQ_LOG2"], 1)
    return config, models, image, device


def descriptor(image, **changes):
    values = {"version": 1, "last_stage": 1, "items": 20, "sub_batch": 8, "keep0": 9, "keep1": 4}
    values |= {"features": FEATURES, "results": RESULTS, "image_id": image.image_id}
    return abi.DESCRIPTOR.pack(**(values | changes))


def test_identity(world):
    config, _, _, device = world
    assert device.read32(R["ID"]).to_bytes(4, "little") == b"RPAC"
    digest = device.read32(R["DIGEST_HI"]) << 32 | device.read32(R["DIGEST_LO"])
    assert digest == config.hardware.digest()
    device.write32(R["ID"], 5)
    assert device.read32(R["ID"]) == DEVICE_ID
    device.write32(0x80, 5)
    assert device.read32(0x80) == 0
    assert device.read32(CAPABILITY_BASE + 4) == 1


def test_a_query_by_hand(world, rng):
    config, models, image, device = world
    assert device.read32(R["STATUS"]) == 1 << DeviceStatus.IDLE
    device.write32(R["CONTROL"], LOAD)
    assert device.read32(R["CONTROL"]) == 0
    assert device.read32(R["STATUS"]) == 1 << DeviceStatus.IDLE | 1 << DeviceStatus.IMAGE_LOADED
    assert device.read32(R["IMAGE_ID"]) == image.image_id
    query = random_query(config.features, 20, rng)
    device.host_write(FEATURES, pack(config.features, query))
    device.host_write(0, descriptor(image, query_id=77))
    device.host_write(RESULTS, b"\xff" * 128)
    device.write32(R["SQ_TAIL"], 1)
    assert not device.wait(100)  # not enabled
    device.write32(R["CONTROL"], RUN)
    assert not device.read32(R["STATUS"]) >> DeviceStatus.IDLE & 1
    device.write32(R["IRQ_STATUS"], 7)
    device.write32(R["IRQ_ENABLE"], 1)
    assert device.wait(100)
    assert device.read32(R["IRQ_STATUS"]) == 1
    device.write32(R["IRQ_STATUS"], 1)
    assert not device.wait(100)
    golden = rank(models, config.features, query, keep=[9, 4], sub_batch=8)
    entry = abi.COMPLETION.unpack(device.host_read(CQ, 64))
    assert (entry["sequence"], entry["query_id"], entry["status"], entry["count"]) == (1, 77, 0, 4)
    results = device.host_read(RESULTS, 128)
    for i, (position, score) in enumerate(zip(golden.positions, golden.scores, strict=True)):
        result = abi.RESULT.unpack(results[4 * i : 4 * i + 4])
        assert (result["position"], result["score"]) == (position, score)
    assert results[16:] == bytes(48) + b"\xff" * 64
    assert device.read32(R["SQ_HEAD"]) == device.read32(R["CQ_TAIL"]) == 1
    assert device.read32(R["STATUS"]) >> DeviceStatus.IDLE & 1


def test_full_completion_ring_waits(world, rng):
    config, _, image, device = world
    device.write32(R["CONTROL"], LOAD | RUN)
    device.host_write(FEATURES, pack(config.features, random_query(config.features, 20, rng)))
    for number in range(4):
        device.host_write(64 * (number % 2), descriptor(image, query_id=number))
        device.write32(R["SQ_TAIL"], number + 1)
        device.wait(10)
    assert device.read32(R["SQ_HEAD"]) == 4
    assert device.read32(R["CQ_TAIL"]) == 2
    assert not device.read32(R["STATUS"]) >> DeviceStatus.IDLE & 1
    device.write32(R["CQ_HEAD"], 1)
    device.wait(10)
    assert device.read32(R["CQ_TAIL"]) == 3
    assert abi.COMPLETION.unpack(device.host_read(CQ, 64))["query_id"] == 2


def test_errors(world):
    device = world[3]

    def errors():
        found = device.read32(R["ERROR"])
        device.write32(R["ERROR"], found)
        assert device.read32(R["ERROR"]) == 0
        return [bit for bit in DeviceErrorBit if found >> bit & 1]

    device.write32(R["SQ_TAIL"], 3)
    assert errors() == [DeviceErrorBit.RING_OVERRUN]
    assert device.read32(R["SQ_TAIL"]) == 0
    device.write32(R["CONTROL"], RUN | LOAD)
    device.write32(R["SQ_TAIL"], 1)
    device.write32(R["CONTROL"], RUN | LOAD)
    assert errors() == [DeviceErrorBit.LOAD_BUSY]
    device.wait(10)
    assert abi.COMPLETION.unpack(device.host_read(CQ, 64))["status"] == abi.Status.BAD_DESCRIPTOR
    device.write32(R["SQ_BASE_LO"], 1 << 20)
    device.write32(R["SQ_TAIL"], 2)
    device.wait(10)
    assert errors() == [DeviceErrorBit.HOST_READ]
    device.write32(R["SQ_BASE_LO"], 0)
    device.write32(R["CQ_BASE_LO"], 1 << 20)
    device.write32(R["SQ_TAIL"], 3)
    device.wait(10)
    assert errors() == [DeviceErrorBit.HOST_WRITE]
    device.write32(R["IMAGE_ADDRESS_LO"], 1 << 30)
    device.write32(R["CONTROL"], RUN | LOAD)
    assert errors() == [DeviceErrorBit.IMAGE_MEMORY]
    assert device.read32(R["IMAGE_ID"]) == 0


def test_stage_that_the_image_has_not(rng):
    config = workload(
        models=[{"name": "m", "dimensions": 2, "bottom": [2], "top": [1]}],
        keep=[5],
        groups=[{"stages": [0, 1]}],
        hardware={
            "gather": [{"cache_lines": 4}] * 2,
            "topk_depth": [64, 64],
        },
    )
    models = random_models(config, rng)
    image = compile_image(config, models)
    device = GoldenTransport(config, models, image.data)
    device.write32(R["CQ_BASE_LO"], CQ)
    device.write32(R["SQ_LOG2"], 1)
    device.write32(R["CQ_LOG2"], 1)
    device.write32(R["CONTROL"], LOAD | RUN)
    device.host_write(0, descriptor(image))
    device.write32(R["SQ_TAIL"], 1)
    device.wait(10)
    assert abi.COMPLETION.unpack(device.host_read(CQ, 64))["status"] == abi.Status.BAD_IMAGE


@pytest.mark.parametrize("units", [[0], [1], [1, 0]])
def test_segments_of_dot_interaction_units(rng, units):
    """An image may fill the units that the machine has, and no others."""
    unit = {"vectors": 4, "dimension": 2, "macs": 9}
    dot = {"dimensions": 2, "bottom": [2], "top": [1], "interaction": "dot"}
    plain = {"dimensions": 2, "bottom": [2], "top": [1]}
    kinds = [dot if stage in units else plain for stage in range(2)]
    models = [{"name": f"m{stage}", **kind} for stage, kind in enumerate(kinds)]
    dots = [{"stage": stage, **unit} for stage in units]
    config = workload(models=models, hardware={"dot": dots})
    image = compile_image(config, random_models(config, rng))
    device = GoldenTransport(config, [], image.data)
    device.write32(R["CONTROL"], LOAD)
    assert device.read32(R["IMAGE_ID"]) == image.image_id

    data = bytearray(image.data)
    block = image_block_bytes(config.hardware.memory.line_bytes)
    targets = [data[n * block] for n in range(1, IMAGE_HEADER.unpack(image.data)["segments"])]
    number = 1 + targets.index(pairs_target(units[0]))
    missing = next(stage for stage in (0, 1, 2) if stage not in units)
    data[number * block] = pairs_target(missing)
    device.load_memory(0, bytes(data))
    device.write32(R["CONTROL"], LOAD)
    assert device.read32(R["ERROR"]) == 1 << DeviceErrorBit.IMAGE_MEMORY


def test_host_memory_is_bounded(world):
    device = world[3]
    with pytest.raises(ValueError, match="host memory has 65536 bytes, not 2 at 0xffff"):
        device.host_read(65535, 2)
    with pytest.raises(ValueError, match="host memory"):
        device.host_write(-1, b"x")
