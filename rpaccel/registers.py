"""The device's registers: AXI4-Lite, 32 bits each, byte addresses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpaccel.hardware import HardwareConfig

__all__ = [
    "CAPABILITIES",
    "CAPABILITY_BASE",
    "DEVICE_ID",
    "REGISTERS",
    "REGISTER_SPACE_BITS",
    "Control",
    "DeviceErrorBit",
    "DeviceStatus",
    "Interrupt",
    "Register",
    "Setting",
    "capability_values",
]

DEVICE_ID = 0x43415052
"""ASCII "RPAC", little-endian."""
REGISTER_SPACE_BITS = 13
"""Room for the counters of a machine of 4 stages, 64 groups and 4 memory channels."""


@dataclass(frozen=True)
class Register:
    """A register: address in bytes, access (``ro``, ``rw``, ``w1c``: write one to clear)."""

    name: str
    address: int
    access: str
    doc: str


REGISTERS = {
    r.name: r
    for r in (
        Register("ID", 0x00, "ro", 'ASCII "RPAC"'),
        Register("VERSION", 0x04, "ro", "ABI version, major << 16 | minor"),
        Register("DIGEST_LO", 0x08, "ro", "machine digest, low half"),
        Register("DIGEST_HI", 0x0C, "ro", "machine digest, high half"),
        Register("CONTROL", 0x10, "rw", "see Control; LOAD reads as zero"),
        Register("STATUS", 0x14, "ro", "see DeviceStatus"),
        Register("ERROR", 0x18, "w1c", "see DeviceErrorBit"),
        Register("IMAGE_ADDRESS_LO", 0x1C, "rw", "byte address of the image in device memory"),
        Register("IMAGE_ADDRESS_HI", 0x20, "rw", "its high half"),
        Register("IMAGE_ID", 0x24, "ro", "identity of the loaded image, 0 without one"),
        Register("IRQ_ENABLE", 0x28, "rw", "see Interrupt"),
        Register("IRQ_STATUS", 0x2C, "w1c", "see Interrupt"),
        Register("SQ_BASE_LO", 0x30, "rw", "submission ring in host memory, 64-byte aligned"),
        Register("SQ_BASE_HI", 0x34, "rw", "its high half"),
        Register("SQ_LOG2", 0x38, "rw", "log2 of the submission ring's entries, 1..12"),
        Register("SQ_TAIL", 0x3C, "rw", "doorbell: entries submitted, modulo 65,536"),
        Register("SQ_HEAD", 0x40, "ro", "entries fetched, modulo 65,536"),
        Register("CQ_BASE_LO", 0x44, "rw", "completion ring in host memory, 64-byte aligned"),
        Register("CQ_BASE_HI", 0x48, "rw", "its high half"),
        Register("CQ_LOG2", 0x4C, "rw", "log2 of the completion ring's entries, 1..12"),
        Register("CQ_TAIL", 0x50, "ro", "entries completed, modulo 65,536"),
        Register("CQ_HEAD", 0x54, "rw", "doorbell: entries consumed, modulo 65,536"),
        Register("DISPATCH_0", 0x58, "rw", "bit 4 * g + s keeps tokens of stage s from group g"),
        Register("DISPATCH_1", 0x5C, "rw", "the same for groups 8..15"),
        Register("DISPATCH_2", 0x60, "rw", "the same for groups 16..23"),
        Register("DISPATCH_3", 0x64, "rw", "the same for groups 24..31"),
        *(
            Register(
                f"DISPATCH_{n}",
                0x58 + 4 * n,
                "rw",
                f"the same for groups {8 * n}..{8 * n + 7}, in a machine of more than 32 groups",
            )
            for n in range(4, 8)
        ),
        Register("SETTING", 0x78, "rw", "see Setting; zero in a machine without settings"),
    )
}


class Control(IntEnum):
    """Bits of CONTROL."""

    ENABLE = 0
    """Fetch and run submissions. Ring bases and sizes are set before, never during."""
    LOAD = 1
    """Write one: load the image at IMAGE_ADDRESS. Only while idle."""


class DeviceStatus(IntEnum):
    """Bits of STATUS."""

    IMAGE_LOADED = 0
    LOADING = 1
    IDLE = 2
    """No query is in flight and no submission is being fetched."""


class Setting(IntEnum):
    """Bits of SETTING."""

    NUMBER = 0
    """Bits 3:0, which of ``hardware.settings`` is to be; a number that is not there means 0."""
    CHANGING = 31
    """Read-only: groups of the setting wait for others, whose sub-arrays they need, to be empty."""


class DeviceErrorBit(IntEnum):
    """Bits of ERROR; each raises Interrupt.ERROR."""

    IMAGE_MAGIC = 0
    IMAGE_VERSION = 1
    IMAGE_DIGEST = 2
    """The image is for another machine."""
    IMAGE_MEMORY = 3
    """A memory read failed while an image was loaded, or a segment names no target."""
    RING_OVERRUN = 4
    """SQ_TAIL ran more than the ring's size ahead of SQ_HEAD: the doorbell was ignored."""
    HOST_READ = 5
    """A submission could not be read from host memory; it was skipped."""
    HOST_WRITE = 6
    """A result or completion could not be written to host memory."""
    LOAD_BUSY = 7
    """LOAD was written while the device was not idle; it was ignored."""


class Interrupt(IntEnum):
    """Bits of IRQ_ENABLE and IRQ_STATUS."""

    COMPLETION = 0
    LOADED = 1
    """An image was loaded, or its loading failed."""
    ERROR = 2


CAPABILITY_BASE = 0x100
CAPABILITIES = (
    "stages",
    "groups",
    "tile_rows",
    "tile_cols",
    "macs",
    "max_items",
    "query_slots",
    "feature_bytes",
    "memory_channels",
    "memory_bus_bytes",
    "memory_line_bytes",
    "host_bus_bytes",
)
"""Read-only words at CAPABILITY_BASE, in this order."""


def capability_values(hardware: HardwareConfig) -> dict[str, int]:
    """Values of the capability words of a machine."""
    return {
        "stages": hardware.stages,
        "groups": len(hardware.groups),
        "tile_rows": hardware.tile_rows,
        "tile_cols": hardware.tile_cols,
        "macs": hardware.macs,
        "max_items": 16_384,
        "query_slots": hardware.query_slots,
        "feature_bytes": hardware.feature_bytes,
        "memory_channels": hardware.memory.channels,
        "memory_bus_bytes": hardware.memory.bus_bytes,
        "memory_line_bytes": hardware.memory.line_bytes,
        "host_bus_bytes": hardware.host_bus_bytes,
    }
