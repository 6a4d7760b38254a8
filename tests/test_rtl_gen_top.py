"""The whole machine in Verilog: control of loading and fetching, and progress of shared groups."""

from pathlib import Path

import numpy as np
import pytest

from rpaccel import abi
from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.counters import counters_of
from rpaccel.driver import Device
from rpaccel.registers import REGISTERS, Control, DeviceErrorBit, DeviceStatus, Interrupt
from rpaccel.states import shares
from rpaccel.verify import compare
from sim.transport import SimulatedTransport
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture
def config():
    """Two stages on one group; memory so slow that stages run at very different paces."""
    values = load(TINY).model_dump()
    values |= {"simulation": {"memory_latency": 300, "memory_stall": 30}}
    return parse(values | {"host": {"ring_entries": 4, "timeout_cycles": 300_000}})


def test_releases_of_nothing_in_a_shared_group(rng, config):
    """Most sub-batches release nothing: the group must not wait for items it has yet to rank."""
    models = random_models(config, rng)
    image = compile_image(config, models)
    queries = [random_query(config.features, items, rng) for items in (24, 1, 17, 24)]
    with Device(SimulatedTransport(config, image.data), config, image) as device:
        keeps = [[min(2, q.items), 1] for q in queries]
        handles = [
            device.submit(q, keep=k, sub_batch=2) for q, k in zip(queries, keeps, strict=True)
        ]
        for number, (query, keep, handle) in enumerate(zip(queries, keeps, handles, strict=True)):
            golden = rank(models, config.features, query, keep=keep, sub_batch=2)
            compare(number, golden, device.wait(handle).result())


def test_nothing_is_fetched_before_it_may_be(rng, config):
    image = compile_image(config, random_models(config, rng))
    transport = SimulatedTransport(config, image.data)

    def read(name):
        return transport.read32(REGISTERS[name].address)

    def write(name, value):
        transport.write32(REGISTERS[name].address, value)

    def status(bit):
        return read("STATUS") >> bit & 1

    def host_bytes():
        counters = counters_of(config.hardware)
        transport.read32(counters["device.cycles"].address)  # copies them
        return transport.read32(counters["device.host_read_bytes"].address)

    def load_image(address):
        write("IMAGE_ADDRESS_LO", address)
        write("CONTROL", 1 << Control.LOAD | enable)
        assert status(DeviceStatus.LOADING) or read("IRQ_STATUS") >> Interrupt.LOADED & 1
        assert read("SQ_HEAD") == 0
        while not read("IRQ_STATUS") >> Interrupt.LOADED & 1:
            assert read("SQ_HEAD") == 0
            transport.wait(20)
        write("IRQ_STATUS", 1 << Interrupt.LOADED)

    try:
        assert (status(DeviceStatus.IMAGE_LOADED), status(DeviceStatus.IDLE)) == (0, 1)
        for name, value in {"SQ_LOG2": 2, "CQ_LOG2": 2, "CQ_BASE_LO": 4096, "SQ_TAIL": 1}.items():
            write(name, value)
        transport.wait(200)
        assert (read("SQ_HEAD"), host_bytes()) == (0, 0)

        enable = 0
        load_image(config.hardware.memory.line_bytes // 2)
        assert read("ERROR") == 1 << DeviceErrorBit.IMAGE_MEMORY
        assert not status(DeviceStatus.IMAGE_LOADED)
        load_image(config.hardware.memory.line_bytes)
        assert read("ERROR") == 1 << DeviceErrorBit.IMAGE_MEMORY | 1 << DeviceErrorBit.IMAGE_MAGIC
        write("ERROR", 0xFFFF)
        load_image(0)
        assert read("ERROR") == 0
        assert status(DeviceStatus.IMAGE_LOADED)
        assert read("IMAGE_ID") == image.image_id
        assert (read("SQ_HEAD"), host_bytes()) == (0, 0)

        # An empty descriptor: fetched, refused, and completed.
        write("CONTROL", 1 << Control.ENABLE)
        transport.wait(500)
        assert (read("SQ_HEAD"), read("CQ_TAIL")) == (1, 1)
        assert host_bytes() == abi.BLOCK_BYTES
        completion = abi.COMPLETION.unpack(transport.host_read(4096, abi.COMPLETION.bytes))
        assert completion["status"] == abi.Status.BAD_DESCRIPTOR
        assert status(DeviceStatus.IDLE)
    finally:
        transport.close()


def test_loading_holds_fetching_back(rng, config):
    """LOAD and ENABLE in one write, with a submission waiting: the image comes first."""
    image = compile_image(config, random_models(config, rng))
    transport = SimulatedTransport(config, image.data)
    address = {name: register.address for name, register in REGISTERS.items()}
    try:
        for name, value in {"SQ_LOG2": 2, "CQ_LOG2": 2, "CQ_BASE_LO": 4096, "SQ_TAIL": 1}.items():
            transport.write32(address[name], value)
        transport.write32(address["CONTROL"], 1 << Control.LOAD | 1 << Control.ENABLE)
        while not transport.read32(address["STATUS"]) >> DeviceStatus.IMAGE_LOADED & 1:
            assert transport.read32(address["SQ_HEAD"]) == 0
        transport.wait(500)
        assert transport.read32(address["SQ_HEAD"]) == 1
    finally:
        transport.close()


SLOW = {
    # what is slow: units whose named stalls grow
    "memory": (
        {"memory_latency": 150},
        {"memory0": "memory", "gather0": "memory", "gather1": "memory"},
    ),
    "memory's data": (
        {"memory_gap": 30},
        {"memory0": "memory", "gather0": "memory", "gather1": "memory"},
    ),
    "host": (
        {"host_stall": 80},
        {"host_read": "host", "host_write": "host", "fetcher": "host", "admission": "host"},
    ),
}


@pytest.mark.parametrize("what", SLOW)
def test_what_is_slow_is_told(rng, config, what):
    """States of all units in real runs: they add up, and the slow thing's name is what grows."""
    models = random_models(config, rng)
    image = compile_image(config, models)
    queries = [random_query(config.features, 24, rng) for _ in range(4)]
    seen = []
    for slow in {}, SLOW[what][0]:
        values = config.model_dump() | {"simulation": {"memory_latency": 1} | slow}
        changed = parse(values)
        with Device(SimulatedTransport(changed, image.data), changed, image) as device:
            before = device.counters()
            device.run(queries)
            after = device.counters()
        counts = {name: after[name] - before[name] for name in after}
        seen.append((counts["device.cycles"], shares(config.hardware, counts)))
    assert seen[1][0] > 1.2 * seen[0][0]
    for unit, cause in SLOW[what][1].items():
        grown = {
            name: seen[1][1][unit][name] * seen[1][0] - seen[0][1][unit][name] * seen[0][0]
            for name in seen[0][1][unit]
            if name.startswith("stall_")
        }
        assert max(grown, key=lambda name: grown[name]) == f"stall_{cause}", (unit, grown)


def test_results_do_not_depend_on_the_seed(config):
    """Another memory timing gives the same ranking; it is the counters' cycles that change."""
    rng = np.random.default_rng(3)
    models = random_models(config, rng)
    image = compile_image(config, models)
    query = random_query(config.features, 24, rng)
    seen = set()
    for seed in (1, 2):
        values = config.model_dump()
        values["simulation"] |= {"seed": seed}
        changed = parse(values)
        with Device(SimulatedTransport(changed, image.data), changed, image) as device:
            ranking = device.wait(device.submit(query)).result()
            counters = device.counters()
        units = {n: v for n, v in counters.items() if n.split(".")[1] in ("misses", "released")}
        seen.add((tuple(ranking.positions), tuple(ranking.scores), tuple(units.items())))
    assert len(seen) == 1
