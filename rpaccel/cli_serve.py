"""Commands for queries under load: the scheduler, a service, its clients.

Each imports what it needs itself, so that ``--help`` is instant.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rpaccel.cli_output import AsJson, ConfigPath, show
from rpaccel.errors import ConfigError

__all__ = ["load_", "schedule", "serve"]


class ServedBy(StrEnum):
    """What a service's workers run queries on."""

    golden = "golden"
    verilator = "verilator"
    icarus = "icarus"
    cpu = "cpu"


class Gaps(StrEnum):
    """How long it is from query to query."""

    exponential = "exponential"
    milliseconds = "milliseconds"


class WhenFull(StrEnum):
    """What a service does with queries when too many wait."""

    shed = "shed"
    wait = "wait"


def schedule(
    config: ConfigPath,
    qps: Annotated[float, typer.Option(help="Queries a second, Poisson arrivals.")],
    p99: Annotated[str, typer.Option(metavar="TIME", help="Tail latency, such as 25ms.")],
    quality: Annotated[
        float, typer.Option(help="Relative to the last stage's model alone on all items.")
    ] = 0.999,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            help="rpaccel (default), rpaccel-rtl (the same in Verilator, long), cpu or gpu (timed "
            "here; gpu is t4 if there is none), a shipped one (cascade-lake-64, t4, h100) or a "
            "profile (.json); may be repeated."
        ),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Table of quality (.json, or recpipe-criteo, published) in place of measuring.",
        ),
    ] = None,
    queries: Annotated[
        int, typer.Option(min=1, help="Queries to simulate, all plans together.")
    ] = 10_000_000,
    cache: Annotated[Path, typer.Option(metavar="DIR", help="For what is measured once.")] = Path(
        "build/schedule"
    ),
    as_json: AsJson = False,
) -> None:
    """Find models, items and platforms for a load, a tail latency and a quality, and say why."""
    from rpaccel.config import load
    from rpaccel.schedule.command import duration, run, text
    from rpaccel.schedule.search import Targets

    targets = Targets(qps, duration(p99), quality)
    report = run(
        load(config), targets, platform or ["rpaccel"], cache, table=qualities, queries=queries
    )
    show(report, text(report), as_json)


def serve(
    config: ConfigPath,
    device: Annotated[
        ServedBy, typer.Option(help="What runs it; cpu: float models, PyTorch (extra train).")
    ] = ServedBy.golden,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    workers: Annotated[int, typer.Option(min=1, help="Processes with a device each.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Queries that may wait.")] = 64,
    full: Annotated[
        WhenFull, typer.Option(help="Shed queries when so many wait, or let clients wait.")
    ] = WhenFull.shed,
    as_json: AsJson = False,
) -> None:
    """Answer queries on a socket, JSON a line, until interrupted; then tell what became of all."""
    import asyncio

    from rpaccel.config import load
    from rpaccel.serve.command import line
    from rpaccel.serve.command import serve as run_service

    stats = asyncio.run(
        run_service(
            load(config),
            device=device.value,
            host=host,
            port=port,
            workers=workers,
            limit=limit,
            full=full.value,
        )
    )
    show(stats, line(stats), as_json)


def load_(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Of `rpaccel serve`.")],
    qps: Annotated[float | None, typer.Option(help="Queries a second.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries to send.")] = 1000,
    gaps: Annotated[
        Gaps, typer.Option(help="milliseconds: whole ones, as RecPipe's artifact draws them.")
    ] = Gaps.exponential,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send at these times, one a line, and all of them."),
    ] = None,
    unit: Annotated[str, typer.Option(help="Of the trace's times: s, ms, us or ns.")] = "s",
    samples: Annotated[int, typer.Option(min=1, help="Sample queries to send in turns.")] = 1,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of each query, such as 25ms.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Send queries at a rate or at recorded times, whatever becomes of them; report latencies."""
    import asyncio

    import numpy as np

    from rpaccel.load import exponential_arrivals, millisecond_arrivals, read_trace
    from rpaccel.schedule.command import duration
    from rpaccel.serve.client import drive, text

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"address must be HOST:PORT, not {address!r}")
    if trace is not None and qps is None:
        arrivals = read_trace(trace, unit=unit)
    elif qps is not None and trace is None:
        draw = exponential_arrivals if gaps is Gaps.exponential else millisecond_arrivals
        arrivals = draw(queries, qps, np.random.default_rng(seed))
    else:
        raise ConfigError("give either --qps or --trace")
    report = asyncio.run(
        drive(
            host,
            int(port),
            arrivals,
            samples=samples,
            deadline=None if deadline is None else duration(deadline),
        )
    )
    show(report, text(report), as_json)
