"""The driver's link to a device: registers by name, errors, and waiting with time-outs."""

from __future__ import annotations

from collections.abc import Callable

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.counters import Counter, counters_of
from rpaccel.errors import ConfigError, DeviceError
from rpaccel.registers import DEVICE_ID, REGISTERS, DeviceErrorBit, Interrupt
from rpaccel.transport import Transport

__all__ = ["Link"]

WAIT_CYCLES = 100_000
"""Longest single wait: a time-out is noticed at least this often."""
INTERRUPT_CYCLES = 1000
"""What an interrupt counts towards a time-out where the device's clock does not tell."""


class Link:
    """Register access and waiting over a transport.

    Parameters
    ----------
    transport : Transport
    config : Config

    Attributes
    ----------
    on_interrupt : function
        Called whenever the interrupt was up and has been cleared, before errors are looked at.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self.transport = transport
        self.config = config
        self.on_interrupt: Callable[[], None] = lambda: None

    def read(self, name: str) -> int:
        """Read a register."""
        return self.transport.read32(REGISTERS[name].address)

    def write(self, name: str, value: int) -> None:
        """Write a register."""
        self.transport.write32(REGISTERS[name].address, value)

    def write_address(self, name: str, value: int) -> None:
        """Write both halves of an address register, such as ``"SQ_BASE"``."""
        self.write(f"{name}_LO", value & 0xFFFFFFFF)
        self.write(f"{name}_HI", value >> 32)

    def identify(self) -> None:
        """Check that the machine of the configuration is there.

        Raises
        ------
        ConfigError
            It is another machine.
        DeviceError
            It is none, or speaks another version.
        """
        identity, version = self.read("ID"), self.read("VERSION")
        if identity != DEVICE_ID:
            raise DeviceError(
                f"ID reads {identity:#010x}, not {DEVICE_ID:#010x}: no RPAccel is there"
            )
        if version >> 16 != abi.VERSION_MAJOR:
            raise DeviceError(
                f"the device has ABI version {version >> 16}.{version & 0xFFFF}, "
                f"this driver {abi.VERSION_MAJOR}.{abi.VERSION_MINOR}"
            )
        digest = self.config.hardware.digest()
        found = self.read("DIGEST_HI") << 32 | self.read("DIGEST_LO")
        if found != digest:
            raise ConfigError(
                f"the device is machine {found:#018x}, the configuration describes {digest:#018x}"
            )

    def counter(self, counter: Counter) -> int:
        """Read a 48-bit counter."""
        low = self.transport.read32(counter.address)  # latches the high word
        return self.transport.read32(counter.address + 4) << 32 | low

    def check_errors(self) -> None:
        """Clear ERROR.

        Raises
        ------
        DeviceError
            A bit was set; all that were are named.
        """
        errors = self.read("ERROR")
        if errors:
            self.write("ERROR", errors)
            names = [bit.name for bit in DeviceErrorBit if errors >> bit & 1]
            raise DeviceError(f"the device reports {', '.join(names)}")

    def progress(self, cycles: int) -> bool:
        """Let the device run until its interrupt is up, and serve it; whether it was up.

        Raises
        ------
        DeviceError
            The device reports an error.
        """
        if not self.transport.wait(cycles):
            return False
        # Cleared before looking at rings: what comes after the look raises it again.
        status = self.read("IRQ_STATUS")
        self.write("IRQ_STATUS", status)
        self.on_interrupt()
        if status >> Interrupt.ERROR & 1:
            self.check_errors()
        return True

    def until(
        self, condition: Callable[[], bool], what: str, timeout_cycles: int | None = None
    ) -> None:
        """Let the device run until a condition holds.

        Parameters
        ----------
        condition : function
        what : str
            What is waited for, for the error's text.
        timeout_cycles : int, optional
            By default the configuration's.

        Raises
        ------
        DeviceError
            It does not hold within the time-out, or the device reports an error.
        """
        limit = self.config.host.timeout_cycles if timeout_cycles is None else timeout_cycles
        clock = counters_of(self.config.hardware)["device.cycles"]
        waited = charge = 0
        last: int | None = None
        while not condition():
            now = self.counter(clock)
            if last is not None:
                waited += (now - last) or charge  # a clock that stands still must not hang us
            last = now
            if waited >= limit:
                raise DeviceError(f"time-out: waited {waited} cycles for {what}")
            step = min(WAIT_CYCLES, limit - waited)
            charge = min(step, INTERRUPT_CYCLES) if self.progress(step) else step
