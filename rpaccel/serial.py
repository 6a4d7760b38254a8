"""The driver's transport to a board on a serial line; the protocol is in docs/serial.md."""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from rpaccel.errors import DeviceError, ToolError
from rpaccel.serial_protocol import (
    CRC_BYTES,
    DELIMITER,
    ESCAPE,
    ESCAPE_FLIP,
    HELLO,
    MAX_DATA,
    PROTOCOL_VERSION,
    REPLY,
    REQUEST,
    Operation,
    ReplyStatus,
)

__all__ = ["Frames", "Line", "PortLine", "SerialTransport", "frame", "open_port"]

TRIES = 8
"""How often a request is sent before the device is given up."""
PORT_READ = 0.02
PORT_SLACK = 0.25
"""Seconds that operating system and USB adapter may take."""
LONGEST_FRAME = 2 * (REQUEST.bytes + MAX_DATA + CRC_BYTES) + 2


class Line(Protocol):
    """Bytes to and from a board; they may be damaged, lost or repeated, but not overtake.

    ``baud`` is in bits a second; ``slack`` the seconds that a reply may take besides the time that
    its bytes and the request's take on the line.
    """

    baud: int
    slack: float

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def read(self, seconds: float) -> bytes:
        """Take what has come; if nothing has, wait for something, at most about so long."""
        ...

    def now(self) -> float:
        """Time in seconds, from any moment on, by the clock that ``read`` waits by."""
        ...

    def close(self) -> None:
        """Let go of the line; harmless when done twice."""
        ...


class PortLine:
    """A line on a port of pyserial.

    Parameters
    ----------
    port : serial.SerialBase
        Open. Its time-outs are set here, once: setting them means to set the port up again.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self.baud = port.baudrate
        self.slack = PORT_SLACK
        port.timeout, port.write_timeout = PORT_READ, 5.0

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._port.write(data)

    def read(self, seconds: float) -> bytes:
        """Take what has come, or wait for a byte, at most ``PORT_READ`` seconds."""
        return self._port.read(max(1, self._port.in_waiting))

    def now(self) -> float:
        """Seconds of the computer's clock."""
        return time.monotonic()

    def close(self) -> None:
        """Close the port."""
        self._port.close()


def open_port(name: str, baud: int) -> PortLine:
    """Open a serial port.

    Parameters
    ----------
    name : str
        A port (``/dev/ttyUSB0``, ``COM3``) or a URL of pyserial; ``@`` and a number behind it are
        another speed.
    baud : int
        Bits a second.

    Raises
    ------
    ToolError
        pyserial is not installed.
    DeviceError
        There is no such port, or it cannot be opened, or not with that speed.
    """
    try:
        import serial
    except ImportError:
        raise ToolError("pyserial is not installed: pip install -e '.[board]'") from None
    port, at, speed = name.partition("@")
    if at and not (speed.isdigit() and int(speed)):
        raise DeviceError(f"serial:{name}: {speed!r} is no number of bits a second")
    try:
        return PortLine(serial.serial_for_url(port, baudrate=int(speed or baud), exclusive=True))
    except (OSError, ValueError) as error:
        raise DeviceError(f"serial:{name}: cannot be opened: {error}") from None


def frame(content: bytes) -> bytes:
    """Make a frame: delimiters, content and CRC with escapes."""
    whole = content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    out = bytearray([DELIMITER])
    for byte in whole:
        if byte in (DELIMITER, ESCAPE):
            out += bytes((ESCAPE, byte ^ ESCAPE_FLIP))
        else:
            out.append(byte)
    out.append(DELIMITER)
    return bytes(out)


class Frames:
    """Finds frames in what a line brings; what is none is dropped.

    Bytes before the first delimiter are no frame. Memory is bounded whatever comes.
    """

    def __init__(self) -> None:
        self._raw: bytearray | None = None  # since the last delimiter

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; yield the content of each frame that is whole, without its CRC."""
        for byte in data:
            if byte == DELIMITER:
                raw, self._raw = self._raw, bytearray()
                if raw:
                    content = _content(raw)
                    if content is not None:
                        yield content
            elif self._raw is not None:
                self._raw.append(byte)
                if len(self._raw) > LONGEST_FRAME:
                    self._raw = None


def _content(raw: bytearray) -> bytes | None:
    """Content of what lies between delimiters, or None if it is damaged."""
    out = bytearray()
    escaped = False
    for byte in raw:
        if byte == ESCAPE and not escaped:
            escaped = True
        else:
            out.append(byte ^ ESCAPE_FLIP if escaped else byte)
            escaped = False
    content, crc = bytes(out[:-CRC_BYTES]), bytes(out[-CRC_BYTES:])
    if escaped or not content or zlib.crc32(content) != int.from_bytes(crc, "little"):
        return None
    return content


class SerialTransport:
    """A board at the other end of a line, as the driver sees any device.

    A request is sent again until its reply comes, ``TRIES`` times; the board does a request once,
    however often it arrives. After an error or an interruption it is not known whether the request
    was done; the next one begins a session of its own.

    Parameters
    ----------
    line : Line
        Closed with the transport.

    Attributes
    ----------
    host_bytes, memory_bytes, clock_hz : int
        What the board said of itself.
    repeated : int
        Requests that had to be sent again, for reports.

    Raises
    ------
    DeviceError
        Nothing answers, or it speaks another version of the protocol.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.repeated = 0
        self._frames = Frames()
        self._sequence = 0
        self._number = 0  # of the session
        self._session = False
        self._irq = False
        self._closed = False
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        """Begin a session."""
        number = 1 + secrets.randbelow(2**32 - 1)
        data = self._exchange(Operation.HELLO, number, expected=HELLO.bytes)
        hello = HELLO.unpack(data)
        if hello.pop("session") != number:
            raise DeviceError("the board answers for another session")
        if hello["version"] != PROTOCOL_VERSION:
            raise DeviceError(
                f"the board speaks version {hello['version']} of the serial protocol, "
                f"this driver {PROTOCOL_VERSION}"
            )
        if hello.pop("before") != self._number and self._number:
            self._number = 0
            raise DeviceError("the board was reset and has lost what was loaded")
        self._number = number
        self.host_bytes, self.memory_bytes = hello["host_bytes"], hello["memory_bytes"]
        self.clock_hz = hello["clock_hz"]
        self._session = True

    def _call(
        self, operation: Operation, address: int = 0, data: bytes = b"", expected: int = 0
    ) -> bytes:
        if self._closed:
            raise DeviceError("the device is closed")
        if not self._session:
            self._greet()
        self._session = False  # until this has ended well
        reply = self._exchange(operation, address, data, expected)
        self._session = True
        return reply

    def _exchange(
        self, operation: Operation, address: int, data: bytes = b"", expected: int = 0
    ) -> bytes:
        """Send a request until its reply is there."""
        self._sequence = (self._sequence + 1) % 256
        count = len(data) or expected
        if operation is Operation.HELLO:
            count = 0
        request = frame(
            REQUEST.pack(operation=operation, sequence=self._sequence, count=count, address=address)
            + data
        )
        # Every byte may be escaped; ten bits a byte.
        bits = 10 * (len(request) + 2 * (REPLY.bytes + expected + CRC_BYTES) + 2)
        seconds = self.line.slack + 2 * bits / self.line.baud
        for attempt in range(TRIES):
            self.repeated += attempt > 0
            try:
                self.line.write(request)
                reply = self._reply(expected, self.line.now() + seconds)
            except OSError as error:
                raise DeviceError(f"the serial line is gone: {error}") from None
            if reply is not None:
                return reply
        raise DeviceError(
            f"the board does not answer {operation.name} at {address:#x}: "
            f"{TRIES} tries of {seconds:.2g} s"
        )

    def _reply(self, expected: int, deadline: float) -> bytes | None:
        """The reply to the request sent last, or None if it does not come in time."""
        while (left := deadline - self.line.now()) > 0:
            for content in self._frames.feed(self.line.read(left)):
                if len(content) < REPLY.bytes:
                    continue
                header = REPLY.unpack(content[: REPLY.bytes])
                if not header["reply"] or header["sequence"] != self._sequence:
                    continue  # of an earlier try, or our own request come back
                self._irq = bool(header["irq"])
                if header["status"] != ReplyStatus.OK:
                    raise DeviceError(f"the board refuses: {_status(header['status'])}")
                if len(content) != REPLY.bytes + expected:
                    raise DeviceError(
                        f"the board sent {len(content) - REPLY.bytes} bytes, not {expected}"
                    )
                return content[REPLY.bytes :]
        return None

    def _read(self, operation: Operation, address: int, size: int) -> bytes:
        parts = [
            self._call(operation, at, expected=min(MAX_DATA, address + size - at))
            for at in range(address, address + size, MAX_DATA)
        ]
        return b"".join(parts)

    def _write(self, operation: Operation, address: int, data: bytes) -> None:
        for at in range(0, len(data), MAX_DATA):
            self._call(operation, address + at, bytes(data[at : at + MAX_DATA]))

    def read32(self, address: int) -> int:
        """Read a 32-bit register."""
        return int.from_bytes(self._call(Operation.READ_REGISTER, address, expected=4), "little")

    def write32(self, address: int, value: int) -> None:
        """Write a 32-bit register."""
        self._call(Operation.WRITE_REGISTER, address, value.to_bytes(4, "little"))

    def host_read(self, address: int, size: int) -> bytes:
        """Read the board's host memory."""
        return self._read(Operation.READ_HOST, address, size)

    def host_write(self, address: int, data: bytes) -> None:
        """Write the board's host memory."""
        self._write(Operation.WRITE_HOST, address, data)

    def load_memory(self, address: int, data: bytes) -> None:
        """Write device memory.

        Raises
        ------
        DeviceError
            It is too small, or the line fails.
        """
        if address + len(data) > self.memory_bytes:
            raise DeviceError(
                f"the image takes {len(data)} bytes from {address:#x} on, "
                f"but the board's device memory has {self.memory_bytes}"
            )
        self._write(Operation.WRITE_MEMORY, address, data)

    def memory_read(self, address: int, size: int) -> bytes:
        """Read device memory, to check what was loaded."""
        return self._read(Operation.READ_MEMORY, address, size)

    def wait(self, cycles: int) -> bool:
        """Let the device run until its interrupt is up, at most so many of its cycles.

        Returns
        -------
        up : bool
            Whether the interrupt is up.
        """
        deadline = self.line.now() + cycles / self.clock_hz
        while True:
            self._call(Operation.POLL)
            if self._irq or self.line.now() >= deadline:
                return self._irq

    def close(self) -> None:
        """Let go of the line; harmless when done twice."""
        self._closed = True
        self.line.close()


def _status(value: int) -> str:
    if value == ReplyStatus.NO_SESSION:
        return "it was reset and has lost what was loaded (NO_SESSION)"
    known = {status.value: status.name for status in ReplyStatus}
    return known.get(value, f"status {value}")
