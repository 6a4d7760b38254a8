"""An open-loop client of the service: sample queries at times given beforehand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError, LoadError
from rpaccel.load import summarise
from rpaccel.serve.server import LINE_BYTES

__all__ = ["drive", "text"]

LAG_SHARE, LEAST_LAG = 0.1, 2e-3
"""Requests may be sent so late on average: a share of the mean gap, or what sleeping costs."""


async def drive(
    host: str,
    port: int,
    arrivals: NDArray[np.float64],
    *,
    samples: int,
    deadline: float | None = None,
    lag_limit: float | None = None,
) -> dict[str, Any]:
    """Send queries at their times, whatever becomes of those before.

    Latencies count from the scheduled arrival, at this end of the connection.

    Parameters
    ----------
    host : str
    port : int
    arrivals : ndarray of float64, shape (queries,)
        Times of the queries in seconds, ascending (:mod:`rpaccel.load.arrivals`).
    samples : int
        Sample queries that the service has, sent in turns.
    deadline : float, optional
        Seconds.
    lag_limit : float, optional
        Seconds by which requests may be sent late on average; by default a tenth of the mean gap
        or 2 ms.

    Returns
    -------
    dict
        ``qps`` (of the arrivals), ``queries``, ``statuses`` (a count each), ``lag`` (mean,
        seconds), ``latency``: of the answered ones, as of
        :meth:`rpaccel.load.Summary.as_dict`; ``reasons``: of others, a count each; ``service``:
        its own :meth:`~rpaccel.serve.Service.stats`.

    Raises
    ------
    ConfigError
        Nobody listens there, ``samples`` is not positive, or all arrivals are at once.
    LoadError
        Requests were sent late, or the connection ended before all were answered.
    """
    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, not {samples}")
    queries, last = len(arrivals), float(arrivals[-1])
    if last <= 0:
        raise ConfigError(f"the last of {queries} queries must arrive later than at {last:g} s")
    qps = queries / last
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=LINE_BYTES)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror or error}") from None
    loop = asyncio.get_running_loop()
    begun = loop.time() + 0.05
    lag = 0.0
    done: dict[int, tuple[str, str, float]] = {}

    async def send() -> None:
        nonlocal lag
        for number, arrival in enumerate(arrivals.tolist()):
            await asyncio.sleep(max(0.0, begun + arrival - loop.time()))
            lag += max(0.0, loop.time() - begun - arrival)
            request: dict[str, Any] = {"id": number, "sample": number % samples}
            if deadline is not None:
                request["deadline_ms"] = deadline * 1e3
            writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()

    sending = asyncio.create_task(send())
    try:
        while len(done) < queries:
            reply = json.loads(await _line(reader, f"{len(done)} of {queries} were answered"))
            number = reply["id"]
            took = loop.time() - begun - float(arrivals[number])
            done[number] = reply["status"], reply.get("reason", ""), took
        writer.write(b'{"id": -1, "stats": true}\n')
        stats = json.loads(await _line(reader, "before it told its statistics"))["stats"]
    finally:
        sending.cancel()
        writer.close()
    limit = max(LAG_SHARE / qps, LEAST_LAG) if lag_limit is None else lag_limit
    if lag / queries > limit:
        raise LoadError(
            f"requests were sent {lag / queries * 1e3:.3g} ms late on average, more than "
            f"{limit * 1e3:.3g} ms: this computer does not keep up with {qps:g} QPS"
        )
    ordered = [done[number] for number in range(queries)]
    times = [took for status, _, took in ordered if status == "answered"]
    return {
        "qps": qps,
        "queries": queries,
        "statuses": dict(Counter(status for status, _, _ in ordered)),
        "reasons": dict(Counter(reason for _, reason, _ in ordered if reason)),
        "lag": lag / queries,
        "latency": summarise(times).as_dict(),
        "service": stats,
    }


async def _line(reader: asyncio.StreamReader, where: str) -> bytes:
    line = await reader.readline()
    if not line:
        raise LoadError(f"the service ended the connection: {where}")
    return line


def text(report: dict[str, Any]) -> str:
    """Lay a report out for people."""
    latency = report["latency"]
    counts = ", ".join(f"{name} {value}" for name, value in report["statuses"].items())
    lines = [
        f"{report['queries']} queries at {report['qps']:g} QPS, sent {report['lag'] * 1e3:.2g} ms "
        f"late on average: {counts}"
    ]
    lines += [f"  {value} times: {reason}" for reason, value in report["reasons"].items()]
    for name, each in latency["percentiles"].items():
        high = "-" if each["high"] is None else f"{each['high'] * 1e3:.3g}"
        lines.append(
            f"  {name} {each['value'] * 1e3:.3g} ms, {latency['confidence']:.0%} interval "
            f"{each['low'] * 1e3:.3g} to {high} ms"
        )
    return "\n".join([*lines, *([latency["reason"]] if latency["reason"] else [])])
