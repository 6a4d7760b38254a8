"""Golden model of the registers: what reads and writes over AXI4-Lite do, and the counters."""

from __future__ import annotations

from rpaccel import abi
from rpaccel.counters import counters_of
from rpaccel.hardware import HardwareConfig
from rpaccel.registers import (
    CAPABILITY_BASE,
    DEVICE_ID,
    REGISTERS,
    Control,
    DeviceErrorBit,
    DeviceStatus,
    Interrupt,
    capability_values,
)

__all__ = ["Registers"]

_LOW16 = 0xFFFF
_NAMES = {r.address: r.name for r in REGISTERS.values()}
_MASKS = {"SQ_TAIL": _LOW16, "CQ_HEAD": _LOW16, "SQ_LOG2": 15, "CQ_LOG2": 15, "IRQ_ENABLE": 7}
"""Bits that a narrow register keeps of what is written."""


class Registers:
    """The registers of a machine, by name; the device behind them reads and sets them.

    Parameters
    ----------
    hardware : HardwareConfig

    Attributes
    ----------
    counts : dict of int
        Counters by name. States stay zero: a functional device does not know what its units do in a
        cycle.
    idle : bool
        What STATUS tells.
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        digest = hardware.digest()
        self._masks = _MASKS | {"SETTING": 15 if hardware.settings else 0}
        self._masks |= {f"DISPATCH_{n}": 0 for n in range(hardware.group_room // 8, 8)}
        self._values = dict.fromkeys(REGISTERS, 0)
        self._values |= {
            "ID": DEVICE_ID,
            "VERSION": abi.VERSION,
            "DIGEST_LO": digest & 0xFFFFFFFF,
            "DIGEST_HI": digest >> 32,
        }
        self._capabilities = list(capability_values(hardware).values())
        self._counters = {c.address: c.name for c in counters_of(hardware).values()}
        self.counts = dict.fromkeys(self._counters.values(), 0)
        self._copies = dict(self.counts)
        self.idle = True

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._values[name] = value

    def address(self, name: str) -> int:
        """A 64-bit address register, such as ``"SQ_BASE"``."""
        return self[f"{name}_HI"] << 32 | self[f"{name}_LO"]

    @property
    def enabled(self) -> bool:
        """Submissions are fetched."""
        return bool(self["CONTROL"] >> Control.ENABLE & 1)

    @property
    def submitted(self) -> bool:
        """There is a submission to fetch."""
        return self["SQ_HEAD"] != self["SQ_TAIL"]

    @property
    def interrupt(self) -> bool:
        """The interrupt is up."""
        return bool(self["IRQ_STATUS"] & self["IRQ_ENABLE"])

    def interrupted(self, interrupt: Interrupt) -> None:
        """Set an interrupt's status."""
        self["IRQ_STATUS"] |= 1 << interrupt

    def error(self, bit: DeviceErrorBit) -> None:
        """Set an error bit and its interrupt."""
        self["ERROR"] |= 1 << bit
        self.interrupted(Interrupt.ERROR)

    def read(self, address: int) -> int:
        """Read a word; unknown addresses read zero, the cycles' low word copies all counters."""
        address &= ~3
        name = _NAMES.get(address)
        if name == "STATUS":
            loaded = bool(self["IMAGE_ID"])
            return loaded << DeviceStatus.IMAGE_LOADED | self.idle << DeviceStatus.IDLE
        if name is not None:
            return self[name]
        number, odd = divmod(address - CAPABILITY_BASE, 4)
        if not odd and 0 <= number < len(self._capabilities):
            return self._capabilities[number]
        counter = self._counters.get(address)
        if counter == "device.cycles":
            self._copies = dict(self.counts)
        if counter is not None:
            return self._copies[counter] & 0xFFFFFFFF
        if address - 4 in self._counters:
            return self._copies[self._counters[address - 4]] >> 32 & _LOW16
        return 0

    def write(self, address: int, value: int) -> bool:
        """Write a word; writes to unknown and read-only addresses are ignored.

        Returns
        -------
        load : bool
            An image is to be loaded.
        """
        name = _NAMES.get(address & ~3)
        if name is None or REGISTERS[name].access == "ro":
            return False
        if REGISTERS[name].access == "w1c":
            self[name] &= ~value
        elif name == "CONTROL":
            self[name] = value & 1 << Control.ENABLE
            return bool(value >> Control.LOAD & 1)
        elif name == "SQ_TAIL" and (value - self["SQ_HEAD"] & _LOW16) > 1 << self["SQ_LOG2"]:
            self.error(DeviceErrorBit.RING_OVERRUN)
        else:
            self[name] = value & self._masks.get(name, 0xFFFFFFFF)
        return False
