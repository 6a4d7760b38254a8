"""``rpaccel serve``: a configuration's device on a socket until interrupted."""

from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial
from typing import Any, Literal

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.schedule.cpu import import_torch
from rpaccel.serve.cpu import CpuFunnel
from rpaccel.serve.server import Server
from rpaccel.serve.service import Service
from rpaccel.serve.worker import Opener, open_device
from rpaccel.workflow import Workflow

__all__ = ["line", "serve"]

log = logging.getLogger(__name__)

REPORT_SECONDS = 5.0


async def serve(
    config: Config,
    *,
    device: str,
    host: str,
    port: int,
    workers: int,
    limit: int,
    full: Literal["shed", "wait"],
) -> dict[str, Any]:
    """Serve until SIGINT or SIGTERM, telling live percentiles in the log.

    Returns
    -------
    dict
        The last :meth:`Service.stats`.
    """
    work = Workflow(config)
    opener: Opener
    if device == "cpu":
        if work.dataset is None:
            raise ConfigError("data.source = 'random' has no trained models for device cpu")
        import_torch()  # or every worker would say that it is missing
        opener = partial(CpuFunnel, config, work.float_models)
    else:
        opener = partial(open_device, device, config, work.quantised, work.image)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    depth = 1 if device == "cpu" else config.hardware.query_slots
    async with Service(opener, workers=workers, depth=depth, limit=limit, full=full) as service:
        server = await Server(service, config.features, work.queries).start(host, port)
        where = server.sockets[0].getsockname()
        log.info("serving %s on %s:%s (device: %s)", config.name, *where[:2], device)
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), REPORT_SECONDS)
            except TimeoutError:
                log.info(line(service.stats()))
        server.close()
    return service.stats()


def line(stats: dict[str, Any]) -> str:
    """Statistics in a line."""
    counts = ", ".join(f"{name} {value}" for name, value in stats.items() if name != "latency")
    times = ", ".join(f"{name} {value * 1e3:.3g} ms" for name, value in stats["latency"].items())
    return f"{counts}; {times or 'no latencies yet'}"
