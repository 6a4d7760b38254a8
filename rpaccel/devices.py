"""Devices by their kind: the golden device, a simulator, a board on a serial port."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError
from rpaccel.image import Image
from rpaccel.transport import Transport
from sw_model.quantised import QuantisedModel
from sw_model.query import Query

if TYPE_CHECKING:
    from sim.trace import Trace

__all__ = ["open_transport", "traced"]


def open_transport(
    kind: str,
    config: Config,
    models: Sequence[QuantisedModel],
    image: Image,
    *,
    waves: str | Path | None = None,
    trace: str | Path | None = None,
) -> Transport:
    """Open a device.

    Parameters
    ----------
    kind : {"golden", "verilator", "icarus", "serial:PORT"}
        The functional golden device, the RTL in a simulator, or a board on a serial port
        (:func:`rpaccel.serial.open_port`).
    config : Config
    models : sequence of QuantisedModel
        What the golden device computes with.
    image : Image
        What the RTL finds in its memory.
    waves : path, optional
        Where the simulator writes its waveform.
    trace : path, optional
        Where it writes what the machine does in each cycle, for :mod:`sim.trace`.

    Raises
    ------
    ConfigError
        A waveform or a trace is wanted of what is no simulator.
    """
    if kind not in ("verilator", "icarus"):
        what = "the golden device" if kind == "golden" else "a board"
        for option, file, thing in ("waves", waves, "waveform"), ("trace", trace, "time to trace"):
            if file is not None:
                raise ConfigError(
                    f"{option} = {file}: {what} has no {thing}; "
                    "give a simulator as the device (verilator, icarus)"
                )
    if kind.startswith("serial:"):
        from rpaccel.serial import SerialTransport, open_port

        return SerialTransport(open_port(kind.removeprefix("serial:"), config.board.baud))
    if kind == "golden":
        from sw_model.device import GoldenTransport

        return GoldenTransport(config, models)
    from sim.transport import SimulatedTransport

    return SimulatedTransport(
        config, image.data, tables=image.generated, simulator=kind, waves=waves, trace=trace
    )


def traced(
    config: Config, models: Sequence[QuantisedModel], image: Image, queries: Sequence[Query]
) -> Trace:
    """Run queries in Verilator, all submitted before the device begins, and trace them.

    Raises
    ------
    QueryError
        One of them failed.
    ToolError, BuildError
        There is no Verilator, or it fails.
    """
    from sim.trace import read

    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        transport = open_transport("verilator", config, models, image, trace=record)
        with Device(transport, config, image) as device:
            with device.held():
                handles = [device.submit(query) for query in queries]
            for handle in handles:
                device.wait(handle).result()
        return read(config.hardware, record)
