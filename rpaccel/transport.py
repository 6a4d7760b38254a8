"""What the driver needs of a device: registers, host memory, time."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["MemoryLoader", "Transport"]


class Transport(Protocol):
    """A way to a device: a simulator, the golden model, a board.

    Host memory is one region of ``host_bytes`` from address 0 on, in which the driver places
    rings, features and results. On a simulated device time may pass only inside calls.
    """

    @property
    def host_bytes(self) -> int:
        """Size of host memory."""
        ...

    def read32(self, address: int) -> int:
        """Read a 32-bit register."""
        ...

    def write32(self, address: int, value: int) -> None:
        """Write a 32-bit register."""
        ...

    def host_read(self, address: int, size: int) -> bytes:
        """Read host memory."""
        ...

    def host_write(self, address: int, data: bytes) -> None:
        """Write host memory."""
        ...

    def wait(self, cycles: int) -> bool:
        """Let the device run until its interrupt is up, at most so many cycles.

        Returns
        -------
        up : bool
            Whether the interrupt is up.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when done twice."""
        ...


@runtime_checkable
class MemoryLoader(Protocol):
    """A transport that can write device memory; with others, the image is there already."""

    def load_memory(self, address: int, data: bytes) -> None:
        """Write device memory from a byte address on."""
        ...
