"""Memory and host as they are simulated: section ``simulation``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rpaccel.section import Natural, Positive, Section

__all__ = ["DramConfig", "SimulationConfig", "SsdConfig"]


class DramConfig(Section):
    """Banks of each channel of simulated memory; times in cycles of the device clock.

    ``row_bytes`` of a bank are open at a time. The defaults are some 15 ns each, and 48 ns from one
    activation of a bank to the next, at 250 MHz.
    """

    banks: Annotated[int, Field(ge=1, le=256)] = 16
    row_bytes: Annotated[int, Field(ge=64, le=65536)] = 2048
    t_rcd: Annotated[int, Field(ge=0, le=1000)] = 4
    t_rp: Annotated[int, Field(ge=0, le=1000)] = 4
    t_cas: Annotated[int, Field(ge=0, le=1000)] = 4
    t_rc: Annotated[int, Field(ge=0, le=1000)] = 12


class SsdConfig(Section):
    """An SSD behind simulated memory: it holds the memory lines from ``first_line`` on.

    ``latency`` in cycles; ``cycles_per_byte`` is of all channels together, each has its share of
    the bandwidth. The defaults are 20 us and 0.1 GB/s at 250 MHz.
    """

    first_line: Natural
    latency: Annotated[int, Field(ge=0, le=1_000_000)] = 5000
    cycles_per_byte: Annotated[float, Field(ge=0, le=10_000)] = 2.5


class SimulationConfig(Section):
    """Memory and host behaviour in simulation: cycles of the device clock, percentages.

    Memory answers ``memory_latency`` cycles after a request, a beat a channel in ``memory_gap`` + 1
    cycles; with ``memory_reorder`` in any order. With ``dram`` or ``ssd`` the latency is what comes
    on top of theirs, and reordering is by when data are there (the head of ``sim/axi_memory.v``).

    ``host_latency`` is from a read's address to its first data, and from a write's last data to
    its response; ``host_rate`` is how many bytes a cycle go each way, by default what the host bus
    carries.
    """

    memory_latency: Annotated[int, Field(ge=1, le=10_000)] = 40
    memory_gap: Annotated[int, Field(ge=0, le=255)] = 0
    memory_reorder: bool = True
    memory_stall: Annotated[int, Field(ge=0, le=90)] = 0
    dram: DramConfig | None = None
    ssd: SsdConfig | None = None
    host_latency: Annotated[int, Field(ge=1, le=100_000)] = 8
    host_rate: Annotated[float, Field(ge=0.01, le=64)] | None = None
    host_stall: Annotated[int, Field(ge=0, le=90)] = 0
    seed: Positive = 1
