"""A serial line to a simulated board: its two pins, clock and reset are all that is touched."""

from __future__ import annotations

import socket
import tempfile
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rpaccel.config import Config
from rtl_gen.generate import SERIAL_TOP
from sim.build import build
from sim.generated import generated_serial
from sim.transport import accept

__all__ = ["SimulatedLine"]


BENCH = """module serial_bench(input wire clk, rst, rx, output wire tx);
    wire [2:0] command;
    wire [1:0] bank, mask;
    wire [12:0] address;
    wire [15:0] data, read;
    wire drive;
    {top} board (
        .clk(clk), .rst(rst), .rx(rx), .tx(tx), .sdram__command(command), .sdram__bank(bank),
        .sdram__address(address), .sdram__mask(mask), .sdram__data(data), .sdram__drive(drive),
        .sdram__read(read)
    );
    sdram #(.COLUMN_BITS({columns}), .PERIOD_PS({period})) chip (
        .clk(!clk), .command(command), .bank(bank), .address(address), .mask(mask), .data(data),
        .drive(drive), .read(read)
    );
endmodule
"""
"""A machine and the SDRAM at its pins."""


class SimulatedLine:
    """A :class:`rpaccel.serial.Line` to a :class:`rtl_gen.serial_machine.SerialMachine`.

    Its clock is the simulation's, which stands still outside of calls.

    Parameters
    ----------
    config : Config
    divisor : int
        Clock cycles in a bit, fewer than on a board to save time.
    sources : dict of str, optional
        Verilog to simulate instead of the generated one.

    Raises
    ------
    ToolError, BuildError
        The simulator is missing, cannot be built or does not start.
    """

    def __init__(
        self, config: Config, *, divisor: int = 4, sources: dict[str, str] | None = None
    ) -> None:
        text, top = dict(sources or generated_serial(config, divisor)), SERIAL_TOP
        if config.board.memory == "sdram":
            text["bench.v"] = BENCH.format(
                top=SERIAL_TOP,
                columns=config.board.memory_bytes.bit_length() - 17,
                period=10**12 // config.board.clock_hz,
            )
            text["sdram.v"] = files("sim").joinpath("sdram.v").read_text(encoding="utf-8")
            top = "serial_bench"
        simulator = build(text, top)
        self.slack = 200e-6
        self.baud = config.board.clock_hz // divisor
        self._time = 0.0
        # The simulation's clock has 40 ns; ours goes as fast as the board's.
        self._scale = 25e6 / config.board.clock_hz
        self._folder = tempfile.TemporaryDirectory(prefix="rpaccel-")
        folder = Path(self._folder.name)
        address = str(folder / "socket")
        environment = {
            "RPACCEL_SOCKET": address,
            "RPACCEL_DIVISOR": str(divisor),
            "COCOTB_LOG_LEVEL": "WARNING",
        }
        self._connection: Connection | None = None
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen(1)
            self._simulation = simulator.start("sim.tb_serial", work=folder, env=environment)
            try:
                self._connection = accept(server, self._simulation)
            except BaseException:
                self._simulation.kill()
                self._folder.cleanup()
                raise

    def _call(self, operation: str, value: Any) -> Any:
        if self._connection is None:
            raise OSError("the simulation has ended")
        try:
            self._connection.send((operation, value))
            reply, nanoseconds = self._connection.recv()
        except EOFError:
            raise OSError(f"the simulation ended, see {self._simulation.log}") from None
        except BaseException:  # interrupted: request and answer no longer match
            self.kill()
            raise
        self._time = nanoseconds * 1e-9 * self._scale
        return reply

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._call("write", bytes(data))

    def read(self, seconds: float) -> bytes:
        """Take what has come, or wait for a byte."""
        return self._call("read", max(0, int(seconds / self._scale * 1e9)))

    def now(self) -> float:
        """Simulated seconds."""
        return self._time

    def kill(self) -> None:
        """End the simulation, whatever it is doing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._simulation.kill()
        self._folder.cleanup()

    def close(self) -> None:
        """End the simulation; harmless when it has ended."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            try:
                self._simulation.wait(30.0)
            finally:
                self._folder.cleanup()
