"""The serial bridge and a board behind it, functional: bytes in, bytes out (docs/serial.md)."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from rpaccel.registers import REGISTER_SPACE_BITS
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

__all__ = ["SerialBridge"]

REGISTER_SPACE = 1 << REGISTER_SPACE_BITS
MOST = REQUEST.bytes + MAX_DATA + CRC_BYTES


class SerialBridge:
    """A board that takes no time: what :class:`rtl_gen.serial_bridge.SerialBridge` answers.

    Parameters
    ----------
    read32, write32 : function
        The machine's registers.
    irq : function
        Whether the machine's interrupt is up.
    host_bytes, memory_bytes, clock_hz : int

    Attributes
    ----------
    host, memory : bytearray
        Contents of the memories.
    """

    def __init__(
        self,
        *,
        read32: Callable[[int], int],
        write32: Callable[[int, int], None],
        irq: Callable[[], bool],
        host_bytes: int,
        memory_bytes: int,
        clock_hz: int,
    ) -> None:
        self.read32, self.write32, self.irq = read32, write32, irq
        self.host, self.memory = bytearray(host_bytes), bytearray(memory_bytes)
        self.clock_hz = clock_hz
        self._last = 0
        self._sessions = [0, 0]  # before, now
        self._frame = bytearray()
        self._escaped = False
        self._dropped = True

    def feed(self, byte: int | None) -> bytes:
        """Take a byte from the line, None for a damaged one; return the reply's bytes, if any."""
        if byte is None:
            self._dropped = True
        elif byte == DELIMITER:
            frame, whole = bytes(self._frame), not (self._dropped or self._escaped)
            self._frame.clear()
            self._dropped = self._escaped = False
            if whole and len(frame) >= REQUEST.bytes + CRC_BYTES:
                content, crc = frame[:-CRC_BYTES], frame[-CRC_BYTES:]
                if zlib.crc32(content).to_bytes(CRC_BYTES, "little") == crc:
                    return _framed(self._serve(content))
        elif byte == ESCAPE and not self._escaped:
            self._escaped = True
        elif len(self._frame) == MOST:
            self._dropped = True
        else:
            self._frame.append(byte ^ ESCAPE_FLIP if self._escaped else byte)
            self._escaped = False
        return b""

    def _serve(self, content: bytes) -> bytes:
        request = REQUEST.unpack(content[: REQUEST.bytes])
        status, data = self._do(request, content[REQUEST.bytes :])
        header = REPLY.pack(status=status, irq=self.irq(), reply=1, sequence=request["sequence"])
        return header + data

    def _do(self, request: dict[str, int], data: bytes) -> tuple[ReplyStatus, bytes]:
        operation, sequence = request["operation"], request["sequence"]
        if operation == Operation.HELLO:
            return ReplyStatus.OK, self._hello(request["address"], sequence)
        if not self._sessions[1]:
            return ReplyStatus.NO_SESSION, b""
        again = sequence == self._last
        if not again and sequence != (self._last + 1) % 256:
            return ReplyStatus.BAD_SEQUENCE, b""
        self._last = sequence
        if operation == Operation.POLL:
            return ReplyStatus.OK, b""
        status = self._judge(request, len(data))
        if status != ReplyStatus.OK:
            return status, b""
        return status, self._access(request, data, again)

    def _hello(self, number: int, sequence: int) -> bytes:
        if number != self._sessions[1]:
            self._sessions = [self._sessions[1], number]
            self._last = sequence
        return HELLO.pack(
            session=number,
            before=self._sessions[0],
            version=PROTOCOL_VERSION,
            host_bytes=len(self.host),
            memory_bytes=len(self.memory),
            clock_hz=self.clock_hz,
        )

    def _judge(self, request: dict[str, int], size: int) -> ReplyStatus:
        operation, count, address = request["operation"], request["count"], request["address"]
        if operation not in set(Operation) or count > MAX_DATA:
            return ReplyStatus.BAD_REQUEST
        if size != (count if operation & 1 else 0):
            return ReplyStatus.BAD_REQUEST
        register = operation in (Operation.READ_REGISTER, Operation.WRITE_REGISTER)
        if register and (count != 4 or address % 4):
            return ReplyStatus.BAD_REQUEST
        room = REGISTER_SPACE if register else len(self._space(operation))
        return ReplyStatus.BAD_ADDRESS if address + count > room else ReplyStatus.OK

    def _space(self, operation: int) -> bytearray:
        host = operation in (Operation.READ_HOST, Operation.WRITE_HOST)
        return self.host if host else self.memory

    def _access(self, request: dict[str, int], data: bytes, again: bool) -> bytes:
        operation, address = request["operation"], request["address"]
        count = request["count"]
        if operation == Operation.READ_REGISTER:
            return self.read32(address).to_bytes(4, "little")
        if operation == Operation.WRITE_REGISTER:
            if not again:
                self.write32(address, int.from_bytes(data, "little"))
            return b""
        space = self._space(operation)
        if operation in (Operation.READ_HOST, Operation.READ_MEMORY):
            return bytes(space[address : address + count])
        if not again:
            space[address : address + count] = data
        return b""


def _framed(content: bytes) -> bytes:
    out = bytearray()
    for byte in content + zlib.crc32(content).to_bytes(CRC_BYTES, "little"):
        out += (
            bytes((ESCAPE, byte ^ ESCAPE_FLIP)) if byte in (DELIMITER, ESCAPE) else bytes((byte,))
        )
    return bytes((DELIMITER, *out, DELIMITER))
