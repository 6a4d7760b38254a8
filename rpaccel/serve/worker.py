"""A worker: a process that has a device to itself and runs queries on it through its driver."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any, Protocol

from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import RPAccelError
from rpaccel.image import Image
from sw_model.quantised import QuantisedModel
from sw_model.query import Query, Ranking

__all__ = ["Opener", "Runner", "open_device", "work"]


class Runner(Protocol):
    """What a worker needs of a device; :class:`rpaccel.driver.Device` is one."""

    def submit(self, query: Query) -> Any:
        """Begin a query, and give a handle of it."""
        ...

    def poll(self, handle: Any) -> bool:
        """Let the device run for a moment; whether the query is complete."""
        ...


Opener = Callable[[], AbstractContextManager[Runner]]
"""Opens a device in the worker; must be picklable."""


def open_device(
    kind: str, config: Config, models: Sequence[QuantisedModel], image: Image
) -> Device:
    """Open a device with models and image that were made before; see :func:`open_transport`."""
    from rpaccel.devices import open_transport

    return Device(open_transport(kind, config, models, image), config, image)


def work(connection: Connection) -> None:
    """Run queries until told to stop: the whole life of a worker.

    It is sent an :data:`Opener`, then ``(number, query)`` and None to stop, and sends
    ``(number, ranking, reason)`` in the order of completion: a ranking or why there is none. Its
    first message is ``(None, None, "")``, when the device is open.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: it is the service that ends
    try:
        opener: Opener = connection.recv()
        with opener() as device:
            connection.send((None, None, ""))
            running: dict[int, Any] = {}
            while _take(connection, device, running):
                for number, handle in list(running.items()):
                    done, ranking, reason = _poll(device, handle)
                    if done:
                        del running[number]
                        connection.send((number, ranking, reason))
    except (EOFError, BrokenPipeError):
        pass  # whoever asked is gone


def _take(connection: Connection, device: Runner, running: dict[int, Any]) -> bool:
    """Submit what has come; wait for it if nothing runs. False: stop."""
    while connection.poll(0 if running else None):
        message = connection.recv()
        if message is None:
            return False
        number, query = message
        try:
            running[number] = device.submit(query)
        except RPAccelError as error:
            connection.send((number, None, str(error)))
    return True


def _poll(device: Runner, handle: Any) -> tuple[bool, Ranking | None, str]:
    try:
        if not device.poll(handle):
            return False, None, ""
        return True, handle.result(), ""
    except RPAccelError as error:
        return True, None, str(error)
