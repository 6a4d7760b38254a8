"""The driver with devices that are wrong, broken or stuck."""

import dataclasses

import pytest

from rpaccel.abi import Status
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError
from rpaccel.features import pack
from rpaccel.registers import DeviceErrorBit
from sw_model.device import GoldenTransport
from tests.golden_world import Changed, World


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
