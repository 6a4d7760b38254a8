"""The service on a socket, and the client that drives it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.errors import ConfigError, LoadError, QueryError
from rpaccel.load import exponential_arrivals, millisecond_arrivals
from rpaccel.serve import Service, client
from rpaccel.serve.client import drive, text
from rpaccel.serve.server import Server, parse_query
from rpaccel.serve.worker import open_device
from rpaccel.workflow import Workflow
from sw_model.query import Query
from tests.test_rpaccel_serve import Slow, query
from tests.workloads import workload


def plain(each: Query) -> dict[str, Any]:
    return {
        "dense_query": each.dense_query.tolist(),
        "dense_item": each.dense_item.tolist(),
        "indices": {name: rows.tolist() for name, rows in each.indices.items()},
    }


def serving(service: Service, body: Callable[[int], Awaitable[None]], samples: list[Query]) -> None:
    async def run() -> None:
        async with service:
            assert (await service.submit(samples[0])).ranking is not None
            server = await Server(service, workload().features, samples).start("127.0.0.1", 0)
            try:
                await body(server.sockets[0].getsockname()[1])
            finally:
                server.close()

    asyncio.run(run())


def times(queries: int, qps: float) -> NDArray[np.float64]:
    return exponential_arrivals(queries, qps, np.random.default_rng(0))


async def ask(port: int, *lines: bytes) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(b"".join(line + b"\n" for line in lines))
    writer.write_eof()
    replies = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    return replies


def test_queries_come_back_as_they_are() -> None:
    work = Workflow(workload())
    for each in work.queries[:3]:
        found = parse_query(work.config.features, json.loads(json.dumps(plain(each))))
        assert found.items == each.items
        assert np.array_equal(found.dense_query, each.dense_query)
        assert np.array_equal(found.dense_item, each.dense_item)
        assert set(found.indices) == set(each.indices)
        for name, rows in each.indices.items():
            assert np.array_equal(found.indices[name], rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q.pop("indices"), "must be an object with indices"),
        (lambda q: q["indices"].pop("item"), "indices.item is missing"),
        (lambda q: q["indices"].update(more=[1]), "no table of the features: more"),
        (lambda q: q["indices"]["item"].pop(), "items, tables before it"),
        (lambda q: q["indices"].update(item=[[1], [1, 2]]), "must be of equal length"),
        (lambda q: q["indices"].update(user=[1.5]), "must be lists of integers"),
        (lambda q: q["indices"].update(user=[1, 2]), "indices.user must be 1 rows, not"),
        (lambda q: q.update(dense_query=[1]), r"dense_query must be of shape \(2,\)"),
        (lambda q: q.update(dense_query=[1, 200]), "must be int8, -128..127, not 1..200"),
        (lambda q: q.update(more=1), "unknown keys: more"),
    ],
)
def test_bad_queries_are_named(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    work = Workflow(workload())
    values = plain(work.queries[0])
    change(values)
    with pytest.raises(QueryError, match=message):
        parse_query(work.config.features, values)


def test_a_device_answers_on_the_socket() -> None:
    config = workload()
    work = Workflow(config)
    opener = partial(open_device, "golden", config, work.quantised, work.image)

    async def body(port: int) -> None:
        first, second = work.queries[:2]
        replies = await ask(
            port,
            json.dumps({"id": "a", "query": plain(first)}).encode(),
            json.dumps({"id": "b", "sample": 1}).encode(),
        )
        found = {reply["id"]: reply for reply in replies}
        for name, each in (("a", first), ("b", second)):
            expected = work.golden(each)
            assert found[name]["status"] == "answered"
            assert found[name]["positions"] == expected.positions.tolist()
            assert found[name]["scores"] == expected.scores.tolist()

    serving(Service(opener), body, work.queries[:2])


def test_requests_that_make_no_sense_are_refused() -> None:
    async def body(port: int) -> None:
        for request, message in (
            (b"{", "not valid JSON"),
            (b"\xff", "not valid JSON"),
            (b"[]", "must be an object"),
            (b'{"id": 7}', "must be an object with indices"),
            (b'{"id": 7, "sample": 2}', r"sample must be 0..1, not 2"),
            (b'{"id": 7, "sample": true}', "sample must be a number"),
            (b'{"id": 7, "sample": 0, "deadline_ms": "x"}', "deadline_ms must be a number"),
        ):
            (reply,) = await ask(port, request)
            assert reply["status"] == "refused"
            assert message in reply["reason"]
        (reply,) = await ask(port, b'{"id": 1, "stats": true}')
        assert reply["stats"]["answered"] == 1

    serving(Service(partial(Slow, 0.0)), body, [query(), query()])


def test_the_client_counts_every_query_while_a_worker_is_killed() -> None:
    service = Service(partial(Slow, 0.002), workers=2, limit=10_000)

    async def body(port: int) -> None:
        async def kill() -> None:
            await asyncio.sleep(1.0)
            os.kill(service.processes[0], signal.SIGKILL)

        killing = asyncio.create_task(kill())
        found = await drive("127.0.0.1", port, times(500, 200), samples=2, lag_limit=1.0)
        await killing
        counts = found["statuses"]
        assert sum(counts.values()) == 500
        assert counts["answered"] + counts.get("failed", 0) == 500
        assert found["service"]["restarts"] == 1
        assert found["service"]["waiting"] == found["service"]["running"] == 0
        assert f"answered {counts['answered']}" in text(found)

    serving(service, body, [query(), query()])


def test_deadlines_reach_the_service() -> None:
    async def body(port: int) -> None:
        found = await drive(
            "127.0.0.1", port, times(60, 400), samples=1, deadline=0.02, lag_limit=1.0
        )
        assert found["statuses"]["expired"] > 0
        assert sum(found["statuses"].values()) == 60

    serving(Service(partial(Slow, 0.02), depth=1), body, [query()])


def test_client_names_what_is_wrong() -> None:
    async def gone() -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(leave, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LoadError, match="ended the connection: 0 of 5"):
            await drive("127.0.0.1", port, times(5, 10), samples=1)
        server.close()
        await asyncio.sleep(0.05)
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            await drive("127.0.0.1", port, times(5, 10), samples=1)

    asyncio.run(gone())


def test_a_client_that_does_not_keep_up_is_rejected() -> None:
    async def body(port: int) -> None:
        with pytest.raises(LoadError, match="does not keep up with 100 QPS"):
            await drive("127.0.0.1", port, np.arange(1, 21) / 100, samples=1, lag_limit=1e-9)

    serving(Service(partial(Slow, 0.0)), body, [query()])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--qps", "50"], times(1000, 50)),
        (
            ["--qps", "50", "--queries", "9", "--gaps", "milliseconds", "--seed", "3"],
            millisecond_arrivals(9, 50, np.random.default_rng(3)),
        ),
        (["--trace", "FILE", "--unit", "ms"], np.array([0, 0.5e-3, 2e-3])),
        (["--trace", "FILE", "--qps", "5"], "give either --qps or --trace"),
        ([], "give either --qps or --trace"),
        (["--trace", "FILE", "--unit", "h"], "unit must be one of s, ms, us, ns, not 'h'"),
        (["--trace", "none"], "none: No such file"),
    ],
)
def test_the_command_sends_at_the_times_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], expected: Any
) -> None:
    sent = []

    async def recorded(host: str, port: int, arrivals: NDArray[np.float64], **how: Any) -> Any:
        sent.append(arrivals)
        raise ConfigError(f"{host} {port} {how}")

    monkeypatch.setattr(client, "drive", recorded)
    file = tmp_path / "trace"
    file.write_text("3 # the first\n3.5\n5\n")
    options = [str(file) if each == "FILE" else each for each in options]
    result = CliRunner().invoke(app, ["load", "localhost:80", *options])
    assert result.exit_code == 2
    if isinstance(expected, str):
        assert expected in result.output
        assert not sent
    else:
        assert "localhost 80 {'samples': 1, 'deadline': None}" in result.output
        np.testing.assert_allclose(sent[0], expected)


def test_arrivals_that_are_all_at_once() -> None:
    with pytest.raises(ConfigError, match="the last of 3 queries must arrive later than at 0 s"):
        asyncio.run(drive("localhost", 1, np.zeros(3), samples=1))
