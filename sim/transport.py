"""The driver's transport to a simulated device: RTL in a simulator process, AXI only."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rpaccel.config import Config
from rpaccel.errors import BuildError, ConfigError, DeviceError
from rpaccel.image import GeneratedTable
from sim.build import build
from sim.generated import generated
from sim.process import Simulation
from sim.testbench import (
    HOST_MEMORY,
    channel_files,
    generated_plusargs,
    host_plusargs,
    memory_plusargs,
    testbench,
)

__all__ = ["SimulatedTransport", "accept"]

HOST_BYTES = 1 << 24
START_SECONDS = 60.0


class SimulatedTransport:
    """A device in a simulator, as the driver sees any device.

    Registers and host memory are reached over AXI; device memory is preloaded with the image.
    Simulated time passes only inside calls, so a run does not depend on the host's speed.

    Parameters
    ----------
    config : Config
    memory : bytes
        Content of device memory from address 0 on.
    tables : sequence of GeneratedTable
        What else is in it.
    simulator : {"verilator", "icarus"}
    waves : path, optional
        File to write: VCD, or, if it ends in ``.saif``, how often each bit changed (Verilator).
    memory_model : {"compiled", "cocotbext-axi"}
        What answers memory and host ports: the Verilog models with latency, bandwidth, reordering,
        stalls, banks, SSD and link of ``config.simulation``, or cocotbext-axi's memory, which knows
        the stalls only.
    memory_error : (int, int), optional
        First and last byte of a channel that the compiled model answers with SLVERR.
    sources : dict of str, optional
        Verilog to simulate instead of the generated one (for tests that break it).
    optimise : str, optional
        C++ optimisation; see :func:`sim.build.build`.
    trace : path, optional
        File to write what the design does in each cycle, for :mod:`sim.trace`. Needs the compiled
        memory model.

    Raises
    ------
    ConfigError
        There are generated tables, but no compiled memory, which alone can make them.
    ToolError, BuildError
        The simulator is missing, cannot be built or does not start.
    """

    host_bytes = HOST_BYTES

    def __init__(
        self,
        config: Config,
        memory: bytes,
        *,
        tables: Sequence[GeneratedTable] = (),
        simulator: str = "verilator",
        waves: str | Path | None = None,
        memory_model: str = "compiled",
        memory_error: tuple[int, int] | None = None,
        sources: dict[str, str] | None = None,
        optimise: str | None = None,
        trace: str | Path | None = None,
    ) -> None:
        hardware = config.hardware
        compiled = memory_model == "compiled"
        if tables and not compiled:
            raise ConfigError(
                f"the image has {len(tables)} generated tables, which only memory_model = "
                f'"compiled" can make, not {memory_model!r}'
            )
        text = dict(sources or generated(hardware))
        toplevel = "rpaccel"
        if compiled:
            text |= testbench(
                text["rpaccel.v"],
                hardware,
                len(memory),
                self.host_bytes,
                trace=trace is not None,
            )
            toplevel = "testbench"
        simulator_build = build(
            text,
            toplevel,
            simulator=simulator,
            waves=_waves(waves),
            public=HOST_MEMORY if compiled else None,
            optimise=optimise,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="rpaccel-")
        folder = Path(self._folder.name)
        files = channel_files(hardware, memory, folder)
        plusargs: dict[str, object] = {}
        if compiled:
            plusargs |= memory_plusargs(hardware, files, config.simulation, memory_error)
            plusargs |= generated_plusargs(hardware, tables, folder)
            plusargs |= host_plusargs(hardware, config.simulation)
        if trace is not None:
            plusargs["trace"] = Path(trace).absolute()
        address = str(folder / "socket")
        environment = {
            "RPACCEL_SOCKET": address,
            "RPACCEL_HOST_BYTES": str(self.host_bytes),
            "RPACCEL_HOST_STALL": str(config.simulation.host_stall),
            "RPACCEL_STALL_SEED": str(config.simulation.seed),
            "RPACCEL_MEMORY_FILES": "" if compiled else os.pathsep.join(map(str, files)),
            "COCOTB_LOG_LEVEL": "WARNING",
        }
        self._connection: Connection | None = None
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen(1)
            self._simulation = simulator_build.start(
                "sim.tb_rpaccel",
                work=folder,
                env=environment,
                seed=config.simulation.seed,
                plusargs=plusargs,
                waves=waves,
            )
            try:
                self._connection = accept(server, self._simulation)
            except BaseException:
                self._simulation.kill()
                self._folder.cleanup()
                raise

    def _call(self, operation: str, *values: Any) -> Any:
        if self._connection is None:
            raise DeviceError("the device is closed")
        try:
            self._connection.send((operation, *values))
            return self._connection.recv()
        except (EOFError, OSError):
            self._end_badly()
        except BaseException:  # interrupted: request and answer no longer match
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Kill the simulation, whatever it is doing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._simulation.kill()
        self._folder.cleanup()

    def _end_badly(self) -> None:
        """The simulator ended while it was needed: say why."""
        try:
            self._simulation.wait(10.0)
        finally:
            log = self._simulation.log.read_text(errors="replace")
            self.close()
        raise BuildError("the simulator ended unexpectedly; its log ends:\n" + log[-2000:])

    def read32(self, address: int) -> int:
        """Read a 32-bit register."""
        return self._call("read32", address)

    def write32(self, address: int, value: int) -> None:
        """Write a 32-bit register."""
        self._call("write32", address, value)

    def host_read(self, address: int, size: int) -> bytes:
        """Read host memory."""
        return self._call("host_read", address, size)

    def host_write(self, address: int, data: bytes) -> None:
        """Write host memory."""
        self._call("host_write", address, bytes(data))

    def wait(self, cycles: int) -> bool:
        """Let the device run until its interrupt is up, at most so many cycles.

        Returns
        -------
        up : bool
            Whether the interrupt is up.
        """
        return self._call("wait", cycles)

    def close(self) -> None:
        """End the simulation; harmless when it has ended."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            try:
                self._simulation.wait(30.0)
            finally:
                self._folder.cleanup()

    def __enter__(self) -> SimulatedTransport:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandon()
        else:
            self.close()


def _waves(file: str | Path | None) -> bool | Literal["saif"]:
    """What a simulator must be able to record for a file."""
    if file is not None and Path(file).suffix == ".saif":
        return "saif"
    return file is not None


def accept(server: socket.socket, simulation: Simulation) -> Connection:
    """Take the simulator's connection, or fail when it ends or does not come."""
    server.settimeout(0.2)
    for _ in range(int(START_SECONDS / 0.2)):
        try:
            client, _ = server.accept()
        except TimeoutError:
            if not simulation.running:
                simulation.wait()
        else:
            client.setblocking(True)
            return Connection(client.detach())
    raise BuildError(
        f"the simulator did not start within {START_SECONDS:g} s, see {simulation.log}"
    )
