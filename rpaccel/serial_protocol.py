"""The serial protocol between a host and a board: what docs/serial.md describes, in constants."""

from __future__ import annotations

from enum import IntEnum

from rpaccel.layout import Field, Layout

__all__ = [
    "CRC_BYTES",
    "DELIMITER",
    "ESCAPE",
    "ESCAPE_FLIP",
    "HELLO",
    "MAX_DATA",
    "PROTOCOL_VERSION",
    "REPLY",
    "REQUEST",
    "Operation",
    "ReplyStatus",
]

PROTOCOL_VERSION = 1
DELIMITER = 0x7E
"""Byte before and behind each frame; nowhere else."""
ESCAPE = 0x7D
"""Byte before a DELIMITER or ESCAPE of the content, whose ESCAPE_FLIP bits are flipped then."""
ESCAPE_FLIP = 0x20
CRC_BYTES = 4
"""CRC-32 (ISO-HDLC, that of zlib) of header and data, little-endian, at the end of a frame."""
MAX_DATA = 1024
"""Most data bytes in a frame."""


class Operation(IntEnum):
    """What a request asks for: the high half names a space of addresses, bit 0 is set to write."""

    HELLO = 0x01
    """Begin a session. `address` is its number, not 0; the reply brings a HELLO."""
    POLL = 0x02
    """Nothing but the interrupt's state."""
    READ_REGISTER = 0x10
    WRITE_REGISTER = 0x11
    """One register: `count` is 4."""
    READ_HOST = 0x20
    WRITE_HOST = 0x21
    """The board's host memory, any bytes of it."""
    READ_MEMORY = 0x30
    WRITE_MEMORY = 0x31
    """Device memory, any bytes of it."""


class ReplyStatus(IntEnum):
    """What became of a request."""

    OK = 0
    NO_SESSION = 1
    """There was no HELLO since the board's reset: nothing was done."""
    BAD_SEQUENCE = 2
    """Neither the next request nor the last one again: nothing was done."""
    BAD_REQUEST = 3
    """Unknown operation, or a count that does not fit it: nothing was done."""
    BAD_ADDRESS = 4
    """Not all of it lies in the space of addresses: nothing was done."""


REQUEST = Layout(
    "REQUEST",
    64,
    Field("operation", 8, "see Operation"),
    Field("sequence", 8, "one more than that of the request before, modulo 256"),
    Field("count", 16, "bytes to read, or data bytes that follow"),
    Field("address", 32, "first byte"),
)
"""Header of a request."""

REPLY = Layout(
    "REPLY",
    16,
    Field("status", 6, "see ReplyStatus"),
    Field("irq", 1, "the machine's interrupt is up"),
    Field("reply", 1, "one: tells a reply from a request that comes back on a looped line"),
    Field("sequence", 8, "of the request"),
)
"""Header of a reply."""

HELLO = Layout(
    "HELLO",
    192,
    Field("session", 32, "`address` of the request"),
    Field("before", 32, "number of the session before this one, 0: none since the board's reset"),
    Field("version", 32, "PROTOCOL_VERSION"),
    Field("host_bytes", 32, "size of host memory"),
    Field("memory_bytes", 32, "size of device memory"),
    Field("clock_hz", 32, "the machine's clock"),
)
"""Data of the reply to a HELLO."""
