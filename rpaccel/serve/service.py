"""The service: queries in, answers out, whatever happens to the workers between."""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Literal

from rpaccel.errors import ConfigError
from rpaccel.serve.worker import Opener, work
from sw_model.query import Query, Ranking

__all__ = ["Answer", "Service", "Status"]

log = logging.getLogger(__name__)

WINDOW = 10_000
"""Latest answers of which live percentiles are taken."""
RESTARTS = 3
"""Times in a row that a worker may end before it is ready; it is given up then."""
PERCENTILES = (50.0, 95.0, 99.0, 99.9)


class Status(StrEnum):
    """What became of a query. There is no other end."""

    answered = "answered"
    shed = "shed"
    """Refused at once: as many queries as allowed were waiting."""
    expired = "expired"
    """Dropped: its deadline had passed when a device would have taken it."""
    failed = "failed"
    """The device or its driver refused it, or its worker ended with it."""


@dataclass(frozen=True)
class Answer:
    """The end of a query.

    Attributes
    ----------
    status : Status
    latency : float, seconds
        From :meth:`Service.submit` on.
    ranking : Ranking or None
        Where it was answered.
    reason : str
        Why there is none, else empty.
    """

    status: Status
    latency: float
    ranking: Ranking | None = None
    reason: str = ""


@dataclass
class _Job:
    number: int
    query: Query
    arrived: float
    expiry: float
    future: asyncio.Future[Answer]


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and the queries that it has."""

    process: BaseProcess
    connection: Connection
    outbox: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    jobs: dict[int, _Job] = field(default_factory=dict)
    ready: bool = False


class Service:
    """Devices in worker processes behind one queue. Use it as an asynchronous context.

    Queries wait in one FIFO queue and go to the worker that has the fewest, at most ``depth`` each.
    A worker that ends is replaced; its queries are reported as failed.

    Parameters
    ----------
    opener : callable
        Opens a device in a worker process.
    workers : int
    depth : int
        Queries that a device is given at a time.
    limit : int
        Queries that may wait beside those.
    full : {"shed", "wait"}
        What happens to a query that comes when so many wait: it is shed, or :meth:`submit` waits
        (back-pressure), which counts as latency and against its deadline.

    Raises
    ------
    ConfigError
        A number is not positive.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        workers: int = 1,
        depth: int = 4,
        limit: int = 64,
        full: Literal["shed", "wait"] = "shed",
    ) -> None:
        for name, value in ("workers", workers), ("depth", depth), ("limit", limit):
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more, not {value}")
        self._opener = opener
        self._count = workers
        self._depth = depth
        self._limit = limit
        self._full = full
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job] = deque()
        self._room = asyncio.Event()
        self._refused_starts = 0
        self._closing = False
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._counts: Counter[Status] = Counter()
        self._restarts = 0
        self._numbers = 0

    async def __aenter__(self) -> Service:
        self._loop = asyncio.get_running_loop()
        self._room.set()
        for _ in range(self._count):
            self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return tuple(w.process.pid for w in self._workers if w.process.pid is not None)

    async def submit(self, query: Query, *, deadline: float | None = None) -> Answer:
        """Run a query. Always comes to an answer; raises nothing of a query's own.

        Parameters
        ----------
        query : Query
        deadline : float, optional
            Seconds from now until which a device must have taken it.
        """
        arrived = time.monotonic()
        expiry = math.inf if deadline is None else arrived + deadline
        while self._full == "wait" and len(self._waiting) >= self._limit and not self._closing:
            self._room.clear()
            await self._room.wait()
        self._numbers += 1
        job = _Job(self._numbers, query, arrived, expiry, self._loop.create_future())
        if self._closing or not self._workers:
            self._finish(job, Status.failed, reason="the service has no workers")
        elif len(self._waiting) >= self._limit:
            self._finish(job, Status.shed, reason=f"{self._limit} queries wait")
        else:
            self._waiting.append(job)
            self._dispatch()
        return await job.future

    def stats(self) -> dict[str, Any]:
        """Tell what became of queries so far, what is under way, and live percentiles.

        Returns
        -------
        dict
            A count for each :class:`Status`, ``waiting``, ``running``, ``workers``, ``restarts``,
            and ``latency``: seconds by percentile, of the latest answers; empty without any.
        """
        ordered = sorted(self._latencies)
        return {
            **{status.value: self._counts[status] for status in Status},
            "waiting": len(self._waiting),
            "running": sum(len(worker.jobs) for worker in self._workers),
            "workers": len(self._workers),
            "restarts": self._restarts,
            "latency": {
                f"p{p:g}": ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in PERCENTILES
            }
            if ordered
            else {},
        }

    async def close(self) -> None:
        """Answer what is under way, fail what waits, and end the workers."""
        self._closing = True
        self._room.set()
        while self._waiting:
            self._finish(self._waiting.popleft(), Status.failed, reason="the service is closing")
        await asyncio.gather(*(job.future for w in self._workers for job in w.jobs.values()))
        ended, self._workers = self._workers, []
        for worker in ended:
            worker.outbox.put(None)
        for worker in ended:
            await asyncio.to_thread(worker.process.join, 5)
            if worker.process.is_alive():
                worker.process.kill()
                await asyncio.to_thread(worker.process.join)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends with the process
        worker = _Worker(process, ours)
        # Not an argument: a large one would block here for good if the process ends early.
        worker.outbox.put(self._opener)
        self._workers.append(worker)
        # Threads, for pipes block: large queries while the worker computes.
        for target in (self._send, self._receive):
            threading.Thread(target=target, args=(worker,), daemon=True).start()

    def _send(self, worker: _Worker) -> None:
        while True:
            message = worker.outbox.get()
            try:
                worker.connection.send(message)
            except OSError:  # it ended; the receiver says so
                return
            if message is None:
                return

    def _receive(self, worker: _Worker) -> None:
        while True:
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                break
            self._call(self._received, worker, *message)
        self._call(self._lost, worker)

    def _call(self, function: Any, *arguments: Any) -> None:
        """Go on in the event loop; nobody is interested any more when that is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return

    def _received(
        self, worker: _Worker, number: int | None, ranking: Ranking | None, reason: str
    ) -> None:
        if number is None:
            worker.ready = True
            self._refused_starts = 0
        else:
            job = worker.jobs.pop(number)
            status = Status.failed if ranking is None else Status.answered
            self._finish(job, status, ranking, reason)
        self._dispatch()

    def _lost(self, worker: _Worker) -> None:
        """A worker ended: its queries failed, another takes its place."""
        worker.outbox.put(None)
        for job in worker.jobs.values():
            self._finish(job, Status.failed, reason=f"worker {worker.process.pid} ended")
        worker.jobs.clear()
        if worker not in self._workers:  # it was told to
            return
        self._workers.remove(worker)
        if self._closing:
            return
        log.warning("worker %s ended", worker.process.pid)
        self._refused_starts += not worker.ready
        if self._refused_starts <= RESTARTS:
            self._restarts += 1
            self._start()
        elif not self._workers:
            log.error("workers end before they are ready: giving up")
            while self._waiting:
                self._finish(self._waiting.popleft(), Status.failed, reason="no workers are left")
            self._room.set()
        self._dispatch()

    def _dispatch(self) -> None:
        """Give waiting queries to workers that have room."""
        while self._waiting:
            able = [w for w in self._workers if w.ready and len(w.jobs) < self._depth]
            now = time.monotonic()
            if self._waiting[0].expiry < now:
                job = self._waiting.popleft()
                self._finish(job, Status.expired, reason="its deadline passed while it waited")
                continue
            if not able:
                break
            job = self._waiting.popleft()
            if job.future.cancelled():
                continue
            worker = min(able, key=lambda w: len(w.jobs))
            worker.jobs[job.number] = job
            worker.outbox.put((job.number, job.query))
        if len(self._waiting) < self._limit:
            self._room.set()

    def _finish(
        self, job: _Job, status: Status, ranking: Ranking | None = None, reason: str = ""
    ) -> None:
        latency = time.monotonic() - job.arrived
        self._counts[status] += 1
        if status == Status.answered:
            self._latencies.append(latency)
        if not job.future.done():
            job.future.set_result(Answer(status, latency, ranking, reason))
