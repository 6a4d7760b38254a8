"""MLPerf LoadGen over the golden device: matched completions, failures, runs that do not count."""

import json
import sys
import threading

import pytest

from rpaccel.compiler import compile_image
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError, LoadError, ToolError
from rpaccel.load import loadgen
from rpaccel.load.loadgen import run_server
from sw_model.device import GoldenTransport
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query
from tests.workloads import workload


class World:
    def __init__(self, rng):
        self.config = workload()
        self.models = random_models(self.config, rng)
        self.image = compile_image(self.config, self.models)
        self.queries = [random_query(self.config.features, 10, rng) for _ in range(5)]
        self.transport = GoldenTransport(self.config, self.models, host_bytes=1 << 20)

    def device(self):
        return Device(self.transport, self.config, self.image)

    def run(self, folder, **changes):
        options = {"name": "golden", "qps": 25.0, "latency_s": 5.0, "min_queries": 60}
        options |= {"min_seconds": 0.1} | changes
        with self.device() as device:
            return run_server(device, self.queries, folder, **options)


@pytest.fixture
def world(rng, monkeypatch):
    # Tests share the machine with others: a generator may be as late as the mean gap here.
    monkeypatch.setattr(loadgen, "LAG_SHARE", 1.0)
    return World(rng)


@pytest.fixture
def installed():
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")


@pytest.mark.usefixtures("installed")
def test_results_and_report(world, tmp_path):
    seen = []
    report = world.run(
        tmp_path / "logs",
        percentile=50.0,
        on_result=lambda number, handle: seen.append((number, handle)),
    )
    assert len(seen) >= 60
    assert {number for number, _ in seen} == set(range(5))
    for number, handle in seen:
        golden = rank(
            world.models, world.config.features, world.queries[number], keep=[10, 8], sub_batch=4
        )
        assert handle.result().positions.tolist() == golden.positions.tolist()
    assert report.valid, report.verdict
    assert report.failed == {}
    assert report.qps == pytest.approx(25, rel=0.5)
    assert 0.6 < report.cv < 1.5
    assert 0 < report.lag_p99_s < 0.5
    assert report.latency.queries == len(seen)
    assert "not a hardware latency" in report.clock
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["device"] == "golden"
    assert (tmp_path / "logs" / "mlperf_log_summary.txt").exists()


@pytest.mark.usefixtures("installed")
def test_a_generator_that_cannot_keep_up_is_rejected(world, tmp_path):
    with pytest.raises(LoadError, match="did not keep up at 50000 QPS"):
        world.run(tmp_path, qps=50_000.0, min_queries=300, min_seconds=0.001)


@pytest.mark.usefixtures("installed")
def test_missed_latency_bound_is_reported(world, tmp_path, monkeypatch):
    """That is the device's failure, not the generator's."""
    monkeypatch.setattr(loadgen, "LAG_SHARE", 1e6)
    report = world.run(tmp_path, latency_s=1e-6)
    assert not report.valid
    assert "Performance constraints satisfied : NO" in report.verdict


@pytest.mark.usefixtures("installed")
def test_failed_queries_are_counted(world, tmp_path, monkeypatch):
    wrong = {"items": 0, "sub_batch": 1, "last_stage": 1, "keep0": 1, "keep1": 1}
    monkeypatch.setattr(Device, "submit", lambda self, query: self.submit_raw(wrong, b""))
    report = world.run(tmp_path, min_queries=20)
    assert report.failed == {"BAD_ITEMS": report.latency.queries}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("call", "qps"),
    # The last: all queries wait already when it dies, none comes after.
    [("wait", 200.0), ("host_write", 200.0), ("host_write", 1e6)],
)
def test_a_device_that_dies_ends_the_run(world, tmp_path, call, qps, monkeypatch):
    works = getattr(world.transport, call)
    calls = []

    def dies(*arguments):
        calls.append(1)
        if len(calls) > 40:
            raise DeviceError("the cable is loose")
        return works(*arguments)

    monkeypatch.setattr(world.transport, call, dies)
    before = threading.active_count()
    with pytest.raises(DeviceError, match="the cable is loose"):
        world.run(tmp_path, qps=qps, min_queries=200, min_seconds=0.001)
    assert threading.active_count() == before


@pytest.mark.usefixtures("installed")
def test_each_query_must_be_accounted_for(world, tmp_path, monkeypatch):
    read = loadgen._read_trace

    def one_less(path):
        log = read(path)
        return loadgen._Log(log.arrivals[1:], log.latencies[1:], log.issued[1:])

    monkeypatch.setattr(loadgen, "_read_trace", one_less)
    with pytest.raises(DeviceError, match=r"LoadGen logged (\d+) queries; (\d+) were handed over"):
        world.run(tmp_path, min_queries=10)


@pytest.mark.usefixtures("installed")
def test_each_completion_must_be_accounted_for(world, tmp_path, monkeypatch):
    completes = loadgen._Serving._complete

    def forgets(self, sample, number, handle):
        completes(self, sample, number, handle)
        self.completed -= number == 0

    monkeypatch.setattr(loadgen._Serving, "_complete", forgets)
    with pytest.raises(DeviceError, match=r"were handed over and \d+ completed"):
        world.run(tmp_path, min_queries=30)


def test_empty_log(tmp_path):
    (tmp_path / "trace.json").write_text('{"traceEvents":[\n]}\n')
    with pytest.raises(DeviceError, match="trace.json: LoadGen logged no query"):
        loadgen._read_trace(tmp_path / "trace.json")


def test_missing_package(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[load\]'"):
        world.run(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qps": 0}, "qps must be a finite number above zero, not 0"),
        ({"latency_s": -1.0}, "latency_s"),
        ({"min_queries": 1}, "min_queries must be an integer of at least 2, not 1"),
        ({"min_seconds": 0}, "min_seconds"),
        ({"percentile": 100}, "percentile must be below 100, not 100"),
        ({"seed": -1}, "seed must be an integer of at least 0, not -1"),
        ({"outstanding": 0}, "outstanding must be an integer of at least 1, not 0"),
    ],
)
def test_refused(world, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        world.run(tmp_path, **options)


@pytest.mark.usefixtures("installed")
def test_no_queries(world, tmp_path):
    world.queries = []
    with pytest.raises(ConfigError, match="one query or more to draw from"):
        world.run(tmp_path)
