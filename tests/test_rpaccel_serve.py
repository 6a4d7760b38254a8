"""The service: no query is lost, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial

import numpy as np
import pytest

from rpaccel.errors import ConfigError, QueryError
from rpaccel.serve import Answer, Service, Status
from rpaccel.serve.worker import open_device
from rpaccel.workflow import Workflow
from sw_model.query import Query, Ranking
from tests.workloads import workload


class Slow:
    """A device that ranks nothing, one query after the other, each for so many seconds."""

    def __init__(self, seconds: float, dies: bool = False) -> None:
        self.seconds = seconds
        self.dies = dies

    def __enter__(self) -> Slow:
        if self.dies:
            os._exit(1)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, query: Query) -> Slow:
        if query.items == 13:
            raise QueryError("13 items are refused")
        self.items = query.items
        return self

    def poll(self, handle: Slow) -> bool:
        time.sleep(self.seconds)
        return True

    def result(self) -> Ranking:
        return Ranking(np.arange(3), np.array([3, 2, 1]))


def query(items: int = 3) -> Query:
    return Query(np.empty(0, np.int8), np.empty((items, 0), np.int8), {}, items)


async def ready(service: Service) -> None:
    """A first answer: the workers have begun."""
    assert (await service.submit(query())).status == Status.answered


def statuses(answers: list[Answer]) -> dict[str, int]:
    return {s.value: n for s in Status if (n := sum(a.status == s for a in answers))}


def test_queries_are_answered_and_counted() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.0)) as service:
            answers = await asyncio.gather(*(service.submit(query()) for _ in range(20)))
            assert statuses(answers) == {"answered": 20}
            assert all(a.ranking is not None and a.latency > 0 for a in answers)
            stats = service.stats()
            assert stats["answered"] == 20
            assert stats["waiting"] == stats["running"] == 0
            latencies = sorted(a.latency for a in answers)
            assert stats["latency"]["p50"] == pytest.approx(latencies[9])
            assert stats["latency"]["p99"] == pytest.approx(latencies[19])

    asyncio.run(run())


def test_what_the_driver_refuses_is_failed_with_its_reason() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.0)) as service:
            bad, good = await asyncio.gather(service.submit(query(13)), service.submit(query()))
            assert (bad.status, bad.reason) == (Status.failed, "13 items are refused")
            assert good.status == Status.answered

    asyncio.run(run())


def test_too_many_are_shed() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.02), depth=1, limit=4) as service:
            await ready(service)
            answers = await asyncio.gather(*(service.submit(query()) for _ in range(12)))
            assert statuses(answers) == {"answered": 5, "shed": 7}  # one runs, four wait

    asyncio.run(run())


def test_back_pressure_loses_nothing() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.001), depth=1, limit=2, full="wait") as service:
            answers = await asyncio.gather(*(service.submit(query()) for _ in range(40)))
            assert statuses(answers) == {"answered": 40}

    asyncio.run(run())


def test_deadlines_expire_in_the_queue() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.05), depth=1) as service:
            await ready(service)
            answers = await asyncio.gather(
                *(service.submit(query(), deadline=0.12) for _ in range(6))
            )
            found = statuses(answers)
            assert found["answered"] + found["expired"] == 6
            assert 1 <= found["answered"] < 6

    asyncio.run(run())


def test_killing_a_worker_in_mid_load_loses_no_query() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.005), workers=2, limit=1000) as service:
            await ready(service)
            tasks = [asyncio.create_task(service.submit(query())) for _ in range(150)]
            await asyncio.sleep(0.1)
            victim = max(service.processes)
            os.kill(victim, signal.SIGKILL)
            answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
            found = statuses(list(answers))
            assert found["answered"] + found.get("failed", 0) == 150
            assert found.get("failed", 0) <= 4  # what it had
            assert all(
                a.reason == f"worker {victim} ended" for a in answers if a.status == Status.failed
            )
            # and the service goes on, with as many workers
            await ready(service)
            assert service.stats()["workers"] == 2
            assert service.stats()["restarts"] == 1
            assert victim not in service.processes

    asyncio.run(run())


def test_workers_that_cannot_begin_are_given_up() -> None:
    async def run() -> None:
        async with Service(partial(Slow, 0.0, dies=True)) as service:
            answer = await asyncio.wait_for(service.submit(query()), 60)
            assert (answer.status, answer.reason) == (Status.failed, "no workers are left")
            answer = await service.submit(query())
            assert answer.status == Status.failed

    asyncio.run(run())


def test_a_worker_that_dies_before_a_large_opener_is_read_blocks_nothing() -> None:
    async def run() -> None:
        opener = partial(_ballast, bytes(1 << 24))
        async with Service(opener) as service:
            victim = service.processes[0]
            os.kill(victim, signal.SIGKILL)
            answer = await asyncio.wait_for(service.submit(query()), 60)
            assert answer.status == Status.answered
            assert victim not in service.processes

    asyncio.run(run())


def _ballast(weight: bytes) -> Slow:
    return Slow(0.0 * len(weight))


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ConfigError, match="depth must be 1 or more, not 0"):
        Service(partial(Slow, 0.0), depth=0)


def test_a_device_is_served_through_its_driver() -> None:
    config = workload()
    work = Workflow(config)
    opener = partial(open_device, "golden", config, work.quantised, work.image)

    async def run() -> None:
        async with Service(opener, depth=config.hardware.query_slots) as service:
            queries = work.queries[:6]
            answers = await asyncio.gather(*(service.submit(q) for q in queries))
            for each, answer in zip(queries, answers, strict=True):
                assert answer.ranking is not None, answer.reason
                expected = work.golden(each)
                assert np.array_equal(answer.ranking.positions, expected.positions)
                assert np.array_equal(answer.ranking.scores, expected.scores)

    asyncio.run(run())
