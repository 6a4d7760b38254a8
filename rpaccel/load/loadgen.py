"""MLPerf LoadGen's Server scenario, driving a device through its driver, in wall time.

LoadGen schedules single queries with exponential gaps and measures from the *scheduled* time to
the completion, so queueing on the host is in the latency and a slow device cannot slow the
schedule down. What is measured is the wall time of the transport at hand: of NumPy for the golden
device, of the simulation for RTL in a simulator. Neither is a latency of hardware, and the report
says so. This is no MLPerf submission: the rules of one ask for its models and data.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.abi import Status
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, DeviceError, LoadError, ToolError
from rpaccel.handle import Handle
from rpaccel.load.arrivals import gap_statistics
from rpaccel.load.checks import check_count, check_positive
from rpaccel.load.tails import Summary, summarise
from sw_model.query import Query

__all__ = ["ServerReport", "run_server"]

CLOCKS = {
    "golden": "wall time of the golden model in NumPy on this computer; not a hardware latency",
    "verilator": "wall time of an RTL simulation on this computer; not a hardware latency",
    "icarus": "wall time of an RTL simulation on this computer; not a hardware latency",
}
LAG_SHARE = 0.1
_IDLE_S = 0.01
_SWITCH_S = 5e-5
_TRACE = "mlperf_log_trace.json"
_SUMMARY = "mlperf_log_summary.txt"


@dataclass(frozen=True)
class ServerReport:
    """What a run measured.

    Attributes
    ----------
    device : str
        What ran the queries.
    clock : str
        What its times are.
    qps, cv : float
        Of the arrivals as scheduled: rate, and coefficient of variation of the gaps.
    lag_p99_s : float
        How late the generator handed queries over: 99 % were not later.
    valid : bool
        LoadGen's verdict: its latency bound and its minima were met, by queries enough to tell.
    verdict : tuple of str
        The verdict's details, in LoadGen's words.
    failed : dict of int
        Queries whose status was not OK, by status; their times are in the latencies.
    latency : Summary
        Seconds from scheduled arrival to completion.
    folder : Path
        LoadGen's own logs.
    """

    device: str
    clock: str
    qps: float
    cv: float
    lag_p99_s: float
    valid: bool
    verdict: tuple[str, ...]
    failed: dict[str, int]
    latency: Summary
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return vars(self) | {
            "verdict": list(self.verdict),
            "latency": self.latency.as_dict(),
            "folder": str(self.folder),
        }


def run_server(
    device: Device,
    queries: Sequence[Query],
    folder: str | Path,
    *,
    name: str,
    qps: float,
    latency_s: float,
    percentile: float = 99.0,
    min_queries: int = 1000,
    min_seconds: float = 1.0,
    seed: int = 0,
    outstanding: int | None = None,
    on_result: Callable[[int, Handle], None] | None = None,
) -> ServerReport:
    """Drive an open device with LoadGen's Server scenario.

    LoadGen runs in a thread; the device is driven in the caller's. If that fails, queries still
    to come are answered at once, the schedule runs out, and the error is raised.

    Parameters
    ----------
    device : Device
    queries : sequence of Query
        LoadGen draws from them, with repetition.
    folder : path
        For LoadGen's logs; made if needed.
    name : str
        What the device is: "golden", "verilator", "icarus", or what the report should say.
    qps : float
        Mean rate of arrivals.
    latency_s : float
        LoadGen's bound on the latency at ``percentile``.
    percentile : float
    min_queries : int
    min_seconds : float
        A run is at least so long, in queries and in scheduled time.
    seed : int
        Of the schedule and of the choice of queries.
    outstanding : int, optional
        Queries in the device at a time, by default as many as its rings have entries.
    on_result : function, optional
        Called with the number of the query in ``queries`` and its complete handle.

    Raises
    ------
    ToolError
        mlcommons-loadgen is not installed.
    ConfigError
        A number out of range, or no queries.
    LoadError
        The generator did not keep up: queries were handed over later, than scheduled, by more than
        a tenth of the mean gap on average, or more than a tenth of ``latency_s`` for 1 % of them.
    DeviceError
        The device failed, or LoadGen's log does not account for each query.
    """
    try:
        import mlperf_loadgen as loadgen
    except ImportError:
        raise ToolError(
            "MLPerf LoadGen is missing: pip install -e '.[load]' (mlcommons-loadgen)"
        ) from None
    if not queries:
        raise ConfigError("queries: LoadGen needs one query or more to draw from")
    if outstanding is None:
        outstanding = device.config.host.ring_entries
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = check_positive("qps", qps)
    settings.server_target_latency_ns = round(check_positive("latency_s", latency_s) * 1e9)
    settings.server_target_latency_percentile = check_positive("percentile", percentile) / 100
    settings.min_query_count = check_count("min_queries", min_queries, 2)
    settings.min_duration_ms = round(check_positive("min_seconds", min_seconds) * 1e3)
    check_count("seed", seed, 0)
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = seed
    if percentile >= 100:
        raise ConfigError(f"percentile must be below 100, not {percentile}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    serving = _Serving(loadgen, device, queries, check_count("outstanding", outstanding), on_result)
    _test(loadgen, serving, settings, folder)
    log = _read_trace(folder / _TRACE)
    if not len(log.arrivals) == len(serving.handed) == serving.completed:
        raise DeviceError(
            f"LoadGen logged {len(log.arrivals)} queries; {len(serving.handed)} were handed over "
            f"and {serving.completed} completed"
        )
    lag = _lags(log, np.array(serving.handed))
    _check_pace(lag, qps, latency_s)
    rate, cv = gap_statistics(log.arrivals)
    verdict = _verdict((folder / _SUMMARY).read_text())
    clock = CLOCKS.get(name, f"wall time of {name} as its driver on this computer sees it")
    return ServerReport(
        name,
        clock,
        rate,
        cv,
        float(np.quantile(lag, 0.99)),
        verdict[0] == "Result is : VALID",
        verdict[1:],
        serving.failed,
        summarise(log.latencies),
        folder,
    )


class _Serving:
    """Passes samples from LoadGen's thread to the device and completions back."""

    def __init__(
        self,
        loadgen: Any,
        device: Device,
        queries: Sequence[Query],
        outstanding: int,
        on_result: Callable[[int, Handle], None] | None,
    ) -> None:
        self.loadgen, self.device, self.queries = loadgen, device, queries
        self.outstanding, self.on_result = outstanding, on_result
        self.incoming: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self.handed: list[int] = []
        self.completed = 0
        self.failed: dict[str, int] = {}
        self.given_up = False

    def issue(self, samples: Sequence[Any]) -> None:
        """Take samples; called in LoadGen's thread, which must not be held up."""
        self.handed.append(time.time_ns())
        for sample in samples:
            self.incoming.put((sample.id, sample.index))
        if self.given_up:
            self.drain()

    def answer(self, sample: int) -> None:
        """Tell LoadGen that a sample is complete."""
        self.loadgen.QuerySamplesComplete([self.loadgen.QuerySampleResponse(sample, 0, 0)])

    def drain(self) -> None:
        """Answer what waits without serving it, so that LoadGen can end."""
        while not self.incoming.empty():
            try:
                sample, _ = self.incoming.get_nowait()
            except Empty:  # the other thread was quicker
                return
            self.answer(sample)

    def serve(self, running: Callable[[], bool]) -> None:
        """Drive the device until LoadGen has ended and nothing is left."""
        pending: list[tuple[int, int, Handle]] = []
        try:
            while pending or running() or not self.incoming.empty():
                self._submit(pending)
                if not pending:
                    continue
                self.device.poll(pending[0][2])
                left = []
                for sample, number, handle in pending:
                    if handle.done:
                        self._complete(sample, number, handle)
                    else:
                        left.append((sample, number, handle))
                pending = left
        except BaseException:
            self.given_up = True
            for sample, _, _ in pending:
                self.answer(sample)
            self.drain()
            raise

    def _submit(self, pending: list[tuple[int, int, Handle]]) -> None:
        while len(pending) < self.outstanding:
            try:
                sample, number = self.incoming.get(block=not pending, timeout=_IDLE_S)
            except Empty:
                return
            try:
                pending.append((sample, number, self.device.submit(self.queries[number])))
            except BaseException:
                self.answer(sample)
                raise

    def _complete(self, sample: int, number: int, handle: Handle) -> None:
        self.answer(sample)
        self.completed += 1
        if handle.status != Status.OK:
            status = handle.status.name
            self.failed[status] = self.failed.get(status, 0) + 1
        if self.on_result is not None:
            self.on_result(number, handle)


@contextmanager
def _quick_threads() -> Iterator[None]:
    """Let LoadGen's thread in soon: Python's default lets another run for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _test(loadgen: Any, serving: _Serving, settings: Any, folder: Path) -> None:
    """Run LoadGen in a thread, and the device here, to the end of the schedule."""
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = True
    count = len(serving.queries)
    sut = loadgen.ConstructSUT(serving.issue, lambda: None)
    qsl = loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    audit = str(folder / "audit.config")
    thread = threading.Thread(
        target=loadgen.StartTestWithLogSettings,
        args=(sut, qsl, settings, logs, audit),
        daemon=True,
    )
    try:
        with _quick_threads():
            thread.start()
            try:
                serving.serve(thread.is_alive)
            finally:
                thread.join()
    finally:
        if not thread.is_alive():  # after a second interrupt it still is, and uses them
            loadgen.DestroyQSL(qsl)
            loadgen.DestroySUT(sut)


@dataclass
class _Log:
    """LoadGen's record of a run, in the order of the schedule; times in seconds."""

    arrivals: NDArray[np.float64]
    latencies: NDArray[np.float64]
    issued: NDArray[np.float64] = field(repr=False)


def _read_trace(path: Path) -> _Log:
    """Read scheduled times, latencies and delays of issue out of LoadGen's trace."""
    rows = []
    with open(path) as lines:
        for line in lines:
            if line.startswith('{"name":"Sample",') and '"ph":"b"' in line:
                event = json.loads(line.rstrip().rstrip(","))
                about = event["args"]
                rows.append(
                    (
                        about["query_seq"],
                        event["ts"] * 1e-6,
                        about["complete_ns"] * 1e-9,
                        about["issue_start_ns"] * 1e-9,
                    )
                )
    if not rows:
        raise DeviceError(f"{path}: LoadGen logged no query")
    rows.sort()
    _, arrivals, latencies, issued = np.array(rows).T
    return _Log(arrivals, latencies, issued)


def _verdict(summary: str) -> tuple[str, ...]:
    """The lines of LoadGen's summary from its result to the next rule."""
    lines = [line.strip(" *") for line in summary.partition("=\nAdditional Stats")[0].splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("Result is"))
    return tuple(line for line in lines[first:] if line.strip("="))


def _check_pace(lag: NDArray[np.float64], qps: float, latency_s: float) -> None:
    """Reject a run in which queries were handed over too late."""
    mean, worst = float(lag.mean()), float(np.quantile(lag, 0.99))
    if mean > LAG_SHARE / qps or worst > LAG_SHARE * latency_s:
        raise LoadError(
            f"the generator did not keep up at {qps:g} QPS: queries were handed over "
            f"{mean * 1e3:.3g} ms late on average ({LAG_SHARE / qps * 1e3:.3g} are allowed, "
            f"a tenth of the mean gap) and {worst * 1e3:.3g} ms or more for 1 % of them "
            f"({LAG_SHARE * latency_s * 1e3:.3g} are allowed, a tenth of the latency bound)"
        )


def _lags(log: _Log, handed_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """How late each query was handed over, in seconds.

    LoadGen logs when it began to hand a query over, which then waits for Python. The origins of
    the two clocks (both the system's time) are aligned at the query that waited least.
    """
    behind = handed_ns * 1e-9 - log.arrivals
    behind += float(log.issued.min() - behind.min())
    return np.maximum(behind, log.issued)
