"""Bad queries and faults, on the golden device and on RTL: own status, neighbours exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from rpaccel import abi
from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError
from rpaccel.features import pack
from rpaccel.handle import Handle
from rpaccel.registers import REGISTERS, Control
from rpaccel.verify import compare
from sim.transport import SimulatedTransport
from sw_model.device import GoldenTransport
from sw_model.funnel import rank
from sw_model.query import Query
from sw_model.random_models import random_models, random_query
from tests.workloads import workload

CONFIG = workload()
KEEP, SUB_BATCH = [20, 8], 14


class Bench:
    """A device with random models, and how to check its answers."""

    def __init__(self, kind: str, config: Config = CONFIG, **transport: object) -> None:
        self.rng = np.random.default_rng(7)
        self.config = config
        self.models = random_models(config, self.rng)
        self.image = compile_image(config, self.models)
        self.kind = kind
        if kind == "golden":
            self.transport = GoldenTransport(config, self.models)
        else:
            self.transport = SimulatedTransport(config, self.image.data, **transport)
        self.device = Device(self.transport, config, self.image)

    def __enter__(self) -> Bench:
        self.device.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.device.__exit__(*error)

    def query(self, items: int = 40) -> Query:
        return random_query(self.config.features, items, self.rng)

    def submit(self, query: Query, **changes: int) -> Handle:
        """Submit a query past the driver's checks."""
        values = {"last_stage": 1, "items": query.items, "sub_batch": SUB_BATCH}
        values |= {"keep0": KEEP[0], "keep1": KEEP[1]}
        data = pack(self.config.features, query)
        return self.device.submit_raw(values | changes, data)

    def check(self, query: Query, handle: Handle) -> None:
        golden = rank(self.models, self.config.features, query, keep=KEEP, sub_batch=SUB_BATCH)
        compare(0, golden, self.device.wait(handle).result())


@pytest.fixture(params=["golden", "verilator"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with Bench(request.param) as bench:
        yield bench


FAULTS = [
    ({"version": 9}, abi.Status.BAD_DESCRIPTOR),
    ({"reserved0": 1}, abi.Status.BAD_DESCRIPTOR),
    ({"first_stage": 1, "last_stage": 0}, abi.Status.BAD_DESCRIPTOR),
    ({"last_stage": 2}, abi.Status.BAD_DESCRIPTOR),
    ({"results": 8}, abi.Status.BAD_DESCRIPTOR),
    ({"image_id": 1}, abi.Status.BAD_IMAGE),
    ({"items": 0}, abi.Status.BAD_ITEMS),
    ({"items": 16_385}, abi.Status.BAD_ITEMS),
    ({"items": 16_000}, abi.Status.BAD_ITEMS),
    ({"keep0": 0}, abi.Status.BAD_KEEP),
    ({"keep1": 0}, abi.Status.BAD_KEEP),
    ({"keep1": 21}, abi.Status.BAD_KEEP),
    ({"items": 19, "sub_batch": 7}, abi.Status.BAD_KEEP),
    ({"sub_batch": 0}, abi.Status.BAD_SUB_BATCH),
    ({"sub_batch": 33}, abi.Status.BAD_SUB_BATCH),
    ({"features": 1 << 40}, abi.Status.HOST_ERROR),
]


def test_bad_descriptors_end_with_their_status_and_harm_nobody(bench: Bench) -> None:
    for changes, status in FAULTS:
        before, bad, after = bench.query(), bench.query(), bench.query()
        handles = [bench.submit(before), bench.submit(bad, **changes), bench.submit(after)]
        bench.check(before, handles[0])
        assert bench.device.wait(handles[1]).status == status, changes
        assert handles[1].completion["count"] == 0
        with pytest.raises(DeviceError, match=status.name) as caught:
            handles[1].result()
        assert caught.value.status == status
        bench.check(after, handles[2])


@pytest.mark.parametrize("table, index", [("item", 300), ("item", 2**24 - 2), ("user", 30)])
def test_index_beyond_its_table(bench: Bench, table: str, index: int) -> None:
    queries = [bench.query() for _ in range(4)]
    bad = queries[1].indices[table].copy()
    bad.flat[bad.size // 2] = index
    damaged = Query(
        queries[1].dense_query,
        queries[1].dense_item,
        queries[1].indices | {table: bad},
        queries[1].items,
    )
    record = pack(CONFIG.features, damaged, check=False)
    values = {"last_stage": 1, "items": 40, "sub_batch": SUB_BATCH, "keep0": 20, "keep1": 8}
    handles = [bench.submit(queries[0])]
    handles.append(bench.device.submit_raw(values, record))
    handles += [bench.submit(query) for query in queries[2:]]
    assert bench.device.wait(handles[1]).status == abi.Status.BAD_INDEX
    assert handles[1].completion["bad_indices"] > 0
    for i in (0, 2, 3):
        bench.check(queries[i], handles[i])
    assert bench.device.counters()["gather0.bad_indices"] > 0


@pytest.mark.slow
def test_bad_index_where_nobody_survives(rng: np.random.Generator) -> None:
    """A query ends after all of its sub-batches, also those that the next stage gets nothing of.

    Of 20 sub-batches the first one's item survives; the bad index is in the last one, and memory is
    slow. The stages have groups of their own.
    """
    groups = [{"cols": 2, "stages": [stage]} for stage in range(2)]
    values = workload(groups=groups).model_dump()
    values["simulation"] |= {"memory_latency": 500}
    config = Config.model_validate(values)
    models = random_models(config, rng)
    image = compile_image(config, models)
    how = {"keep": [1, 1], "sub_batch": 2}
    queries = [random_query(config.features, 40, rng) for _ in range(5)]
    bad = queries[1].indices["item"].copy()
    bad.flat[-1] = 300
    damaged = replace(queries[1], indices=queries[1].indices | {"item": bad})
    record = pack(config.features, damaged, check=False)
    raw = {"last_stage": 1, "items": 40, "sub_batch": 2, "keep0": 1, "keep1": 1}
    with Device(SimulatedTransport(config, image.data), config, image) as device:
        handles = [
            device.submit_raw(raw, record) if query is queries[1] else device.submit(query, **how)
            for query in queries
        ]
        assert device.wait(handles[1]).status == abi.Status.BAD_INDEX
        assert handles[1].completion["bad_indices"] == 1
        for query, handle in zip(queries, handles, strict=True):
            if query is not queries[1]:
                golden = rank(models, config.features, query, **how)
                compare(0, golden, device.wait(handle).result())


@pytest.mark.parametrize("error", ["RING_OVERRUN", "LOAD_BUSY"])
def test_what_the_device_ignores(bench: Bench, error: str) -> None:
    """A doorbell beyond the ring and a load while it runs: told, and nothing else happens."""
    queries = [bench.query() for _ in range(4)]
    handles = [bench.submit(query) for query in queries[:3]]
    read, write = bench.transport.read32, bench.transport.write32
    tail, control = (REGISTERS[name].address for name in ("SQ_TAIL", "CONTROL"))
    if error == "RING_OVERRUN":
        write(tail, read(REGISTERS["SQ_HEAD"].address) + 100 & 0xFFFF)  # the ring has 4
    else:
        write(control, 1 << Control.ENABLE | 1 << Control.LOAD)
    with pytest.raises(DeviceError, match=f"the device reports {error}$"):
        bench.device.wait(handles[-1])
    handles.append(bench.submit(queries[3]))
    for query, handle in zip(queries, handles, strict=True):
        bench.check(query, handle)


@pytest.mark.parametrize("kind", ["golden", "verilator"])
def test_image_for_another_machine(kind: str) -> None:
    other = workload(hardware={"query_slots": 2})
    models = random_models(other, np.random.default_rng(0))
    image = compile_image(other, models)
    refused = pytest.raises(ConfigError, match="machine")
    with refused, Device(GoldenTransport(CONFIG, models), CONFIG, image):
        pass  # the driver sees it first
    passed = replace(image, digest=CONFIG.hardware.digest())
    if kind == "golden":
        transport = GoldenTransport(CONFIG, models)
    else:
        transport = SimulatedTransport(CONFIG, image.data)
    with pytest.raises(DeviceError, match="IMAGE_DIGEST"), Device(transport, CONFIG, passed):
        pass
    transport.close()


def test_memory_error_ends_the_queries_that_read_it() -> None:
    # The image ends with the back end's tables: 300 items, then 20 tags, a line each.
    bench = Bench("golden")
    end, line = len(bench.image.data), bench.image.line_bytes
    with Bench("verilator", memory_error=(end - 30 * line, end - 20 * line - 1)) as bench:
        good = [bench.query() for _ in range(3)]
        for query in good:
            query.indices["item"][:, 0] = bench.rng.permutation(120)[:40]
        bad = bench.query()
        bad.indices["item"][:, 0] = 299
        order = [good[0], bad, good[1], bad, good[2]]
        handles = [bench.submit(query) for query in order]
        for query, handle in zip(order, handles, strict=True):
            if query is bad:
                assert bench.device.wait(handle).status == abi.Status.MEMORY_ERROR
            else:
                bench.check(query, handle)


def test_cocotbext_axi_memory_on_the_memory_ports() -> None:
    config = workload(hardware={"memory": {"channels": 2, "line_bytes": 32, "bus_bytes": 8}})
    with Bench("verilator", config, memory_model="cocotbext-axi") as bench:
        queries = [bench.query() for _ in range(3)]
        handles = [bench.submit(query) for query in queries]
        for query, handle in zip(queries, handles, strict=True):
            bench.check(query, handle)
