"""The design with compiled memory behind its ports, as Verilog for a simulator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

from rpaccel.errors import BuildError
from rpaccel.hardware import HardwareConfig
from rpaccel.image import GeneratedTable, channel_data
from rpaccel.simulation import SimulationConfig, SsdConfig
from rtl_gen.trace import TRACE, trace_layout

__all__ = [
    "HOST_MEMORY",
    "channel_files",
    "generated_plusargs",
    "host_plusargs",
    "memory_plusargs",
    "testbench",
]

MODULE = "testbench"
READ_PORTS = (
    *("arid", "araddr", "arlen", "arsize", "arburst", "arvalid", "arready"),
    *("rid", "rdata", "rresp", "rlast", "rvalid", "rready"),
)
WRITE_PORTS = (
    *("awid", "awaddr", "awlen", "awsize", "awburst", "awvalid", "awready"),
    *("wdata", "wstrb", "wlast", "wvalid", "wready", "bid", "bresp", "bvalid", "bready"),
)
HOST_MEMORY = {"axi_host": ["mem"]}
"""Module and signal that the host's program reaches past the ports."""
SMALLEST_MEMORY = 1 << 20
"""Memories are at least this large, so that most images of a machine share a simulator."""


def testbench(
    design: str, hardware: HardwareConfig, memory_bytes: int, host_bytes: int, *, trace: bool
) -> dict[str, str]:
    """Wrap a design: its registers stay, the other ports get compiled models of memory.

    Parameters
    ----------
    design : str
        Verilog of module ``rpaccel``.
    hardware : HardwareConfig
    memory_bytes : int
        Bytes of device memory that must exist, over all channels.
    host_bytes : int
        Bytes of host memory.
    trace : bool
        Watch what the design does: see ``trace_monitor.v``.

    Returns
    -------
    dict of str
        Verilog text by file name; the top level is module ``testbench``.
    """
    memory = hardware.memory
    size = SMALLEST_MEMORY
    while size * memory.channels < memory_bytes:
        size *= 2
    outside, inside, connections = [], [], []
    id_bits = 1
    for direction, width, name in _ports(design):
        connections.append(f".{name}({'reset' if name == 'rst' else name})")
        declaration = f"wire [{width - 1}:0] {name}"
        if name.startswith("m_axi_"):
            inside.append(f"  {declaration};")
            if name.startswith("m_axi_mem") and name.endswith("_arid"):
                id_bits = width
        else:
            outside.append(f"  {direction} {declaration}")
    memories = []
    for channel in range(memory.channels):
        prefix = f"m_axi_mem{channel}"
        wired = ", ".join(f".{port}({prefix}_{port})" for port in READ_PORTS)
        memories.append(
            f"  axi_memory #(.DATA_BYTES({memory.bus_bytes}), .ADDR_BITS({memory.address_bits}), "
            f'.ID_BITS({id_bits}), .SIZE_BYTES({size}), .NAME("mem{channel}"), '
            f".LINE_BYTES({memory.line_bytes}), .CHANNELS({memory.channels}), "
            f".CHANNEL({channel}))\n"
            f"    memory{channel} (.clk(clk), .rst(reset), {wired}, .bursts(), .beats());"
        )
    wired = ", ".join(f".{port}(m_axi_host_{port})" for port in (*READ_PORTS, *WRITE_PORTS))
    memories.append(
        f"  axi_host #(.DATA_BYTES({hardware.host_bus_bytes}), .SIZE_BYTES({host_bytes}))\n"
        f"    host (.clk(clk), .rst(reset), {wired});"
    )
    if trace:
        bits = trace_layout(hardware).size
        memories.append(
            f"  trace_monitor #(.BITS({bits})) monitor (.clk(clk), .rst(reset), "
            f".watched(dut.{TRACE}));"
        )
    text = "\n".join(
        [
            f"module {MODULE} (",
            ",\n".join(outside),
            ");",
            # A register keeps the reset out of the logic that Verilator repeats for inputs.
            "  reg reset = 1'b1;",
            "  always @(posedge clk) reset <= rst;",
            *inside,
            f"  rpaccel dut ({', '.join(connections)});",
            *memories,
            "endmodule",
            "",
        ]
    )
    models = ["axi_memory.v", "axi_host.v", *["trace_monitor.v"] * trace]
    read = {name: files("sim").joinpath(name).read_text(encoding="utf-8") for name in models}
    return {"testbench.v": text, **read}


def _ports(design: str) -> list[tuple[str, int, str]]:
    """Direction, width and name of the ports of module ``rpaccel`` in generated Verilog."""
    module = re.search(r"^module \\?rpaccel\b.*?^endmodule", design, re.MULTILINE | re.DOTALL)
    if module is None:
        raise BuildError("no module rpaccel in the Verilog sources")
    body = module.group()
    found = re.findall(r"^\s*(input|output)\s+(?:\[(\d+):0\]\s+)?(\w+)\s*;", body, re.MULTILINE)
    return [(direction, int(high or 0) + 1, name) for direction, high, name in found]


def channel_files(hardware: HardwareConfig, memory: bytes, folder: Path) -> list[Path]:
    """Write what each memory channel holds into files of its own."""
    paths = []
    for channel, data in enumerate(channel_data(hardware, memory)):
        paths.append(folder / f"memory{channel}.bin")
        paths[-1].write_bytes(data)
    return paths


def memory_plusargs(
    hardware: HardwareConfig,
    paths: list[Path],
    simulation: SimulationConfig,
    error: tuple[int, int] | None,
) -> dict[str, object]:
    """Plusargs of the memory models: contents, timing, and an address range that fails."""
    arguments: dict[str, object] = {}
    for channel, path in enumerate(paths):
        name = f"mem{channel}"
        arguments |= {
            f"{name}_image": path,
            f"{name}_latency": simulation.memory_latency,
            f"{name}_gap_num": simulation.memory_gap + 1,
            f"{name}_gap_den": 1,
            f"{name}_stall": simulation.memory_stall,
            f"{name}_reorder": int(simulation.memory_reorder),
            f"{name}_seed": simulation.seed + channel,
        }
        if simulation.dram is not None:
            arguments |= {f"{name}_{key}": value for key, value in simulation.dram}
        if simulation.ssd is not None:
            ssd = _ssd(hardware, simulation.ssd, channel)
            arguments |= {f"{name}_ssd_{key}": value for key, value in ssd.items()}
        if error is not None:
            arguments[f"{name}_error_first"] = f"{error[0]:x}"
            arguments[f"{name}_error_last"] = f"{error[1]:x}"
    return arguments


def host_plusargs(hardware: HardwareConfig, simulation: SimulationConfig) -> dict[str, object]:
    """Plusargs of the host's model: its link, and its pauses."""
    bus = hardware.host_bus_bytes
    beat = max(Fraction(1), bus / Fraction(simulation.host_rate or bus).limit_denominator(1000))
    return {
        "host_latency": simulation.host_latency,
        "host_gap_num": beat.numerator,
        "host_gap_den": beat.denominator,
        "host_stall": simulation.host_stall,
        "host_seed": simulation.seed,
    }


def generated_plusargs(
    hardware: HardwareConfig, tables: Sequence[GeneratedTable], folder: Path
) -> dict[str, object]:
    """Write down which tables the memory models make themselves, and the plusargs that say so."""
    if not tables:
        return {}
    path = folder / "tables.txt"
    lines = [" ".join(map(str, astuple(table))) for table in tables]
    path.write_text("\n".join([str(len(lines)), *lines, ""]))
    return {f"mem{channel}_tables": path for channel in range(hardware.memory.channels)}


def _ssd(hardware: HardwareConfig, ssd: SsdConfig, channel: int) -> dict[str, object]:
    """A channel's share of an SSD: from which of its addresses on, latency, cycles a byte."""
    channels = hardware.memory.channels
    lines = max(0, -(-(ssd.first_line - channel) // channels))  # before it, of this channel
    rate = Fraction(ssd.cycles_per_byte).limit_denominator(1000) * channels
    return {
        "first": f"{lines * hardware.memory.line_bytes:x}",
        "latency": ssd.latency,
        "num": rate.numerator,
        "den": rate.denominator,
    }
