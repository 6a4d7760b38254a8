"""An FPGA board: section ``board``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rpaccel.section import Section

__all__ = ["SDRAM_BYTES", "SDRAM_HZ", "BoardConfig"]

SDRAM_BYTES = (2**24, 2**25, 2**26)
"""Sizes of SDRAM chips: four banks of 8,192 rows of 16-bit words."""
SDRAM_HZ = 50_000_000
"""Half a cycle, 10 ns, must hold an access time of 6 ns and the delays of the pins."""


class BoardConfig(Section):
    """An FPGA board: its clock, its serial line, and its memories.

    ``host_bytes``, on chip, is what rings, features and results lie in; ``memory_bytes`` is what
    the image lies in, on chip or in an SDRAM.
    """

    clock_hz: Annotated[int, Field(ge=1_000_000, le=500_000_000)] = 25_000_000
    baud: Annotated[int, Field(ge=1200)] = 1_000_000
    host_bytes: Annotated[int, Field(ge=1024, le=2**20, multiple_of=64)] = 16384
    memory: Literal["chip", "sdram"] = "chip"
    memory_bytes: Annotated[int, Field(ge=1024, le=2**26, multiple_of=128)] = 131072

    @model_validator(mode="after")
    def _fits(self) -> BoardConfig:
        if self.memory == "sdram" and self.memory_bytes not in SDRAM_BYTES:
            raise ValueError(
                f"memory_bytes must be one of {', '.join(map(str, SDRAM_BYTES))} for an SDRAM, "
                f"not {self.memory_bytes}"
            )
        if self.memory == "sdram" and self.clock_hz > SDRAM_HZ:
            raise ValueError(f"clock_hz must be at most {SDRAM_HZ} with an SDRAM")
        if self.divisor < 4 or abs(self.clock_hz / self.divisor / self.baud - 1) > 0.02:
            raise ValueError(
                f"baud = {self.baud} cannot be made of clock_hz = {self.clock_hz}: it must be the "
                f"clock divided by a whole number of at least 4, to 2 %"
            )
        return self

    @property
    def divisor(self) -> int:
        """Clock cycles in a bit of the serial line."""
        return round(self.clock_hz / self.baud)
