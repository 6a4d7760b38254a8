"""The design with compiled memory behind its memory ports, as Verilog for a simulator."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from rpaccel.config import HardwareConfig, SimulationConfig
from rpaccel.errors import BuildError
from rpaccel.image import channel_data
from rtl_gen.trace import TRACE, trace_layout

__all__ = ["channel_files", "memory_plusargs", "testbench"]

MODULE = "testbench"
READ_PORTS = (
    *("arid", "araddr", "arlen", "arsize", "arburst", "arvalid", "arready"),
    *("rid", "rdata", "rresp", "rlast", "rvalid", "rready"),
)
SMALLEST_MEMORY = 1 << 20
"""Memories are at least this large, so that most images of a machine share a simulator."""


def testbench(
    design: str, hardware: HardwareConfig, memory_bytes: int, *, trace: bool
) -> dict[str, str]:
    """Wrap a design: its other ports stay, its memory ports get the compiled memory model.

    Parameters
    ----------
    design : str
        Verilog of module ``rpaccel``.
    hardware : HardwareConfig
    memory_bytes : int
        Bytes of device memory that must exist, over all channels.
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
        connections.append(f".{name}({name})")
        declaration = f"wire [{width - 1}:0] {name}"
        if name.startswith("m_axi_mem"):
            inside.append(f"  {declaration};")
            if name.endswith("_arid"):
                id_bits = width
        else:
            outside.append(f"  {direction} {declaration}")
    memories = []
    for channel in range(memory.channels):
        prefix = f"m_axi_mem{channel}"
        wired = ", ".join(f".{port}({prefix}_{port})" for port in READ_PORTS)
        memories.append(
            f"  axi_memory #(.DATA_BYTES({memory.bus_bytes}), .ADDR_BITS({memory.address_bits}), "
            f'.ID_BITS({id_bits}), .SIZE_BYTES({size}), .NAME("mem{channel}"))\n'
            f"    memory{channel} (.clk(clk), .rst(rst), {wired}, .bursts(), .beats());"
        )
    if trace:
        bits = trace_layout(hardware).size
        memories.append(
            f"  trace_monitor #(.BITS({bits})) monitor (.clk(clk), .rst(rst), "
            f".watched(dut.{TRACE}));"
        )
    text = "\n".join(
        [
            f"module {MODULE} (",
            ",\n".join(outside),
            ");",
            *inside,
            f"  rpaccel dut ({', '.join(connections)});",
            *memories,
            "endmodule",
            "",
        ]
    )
    models = ["axi_memory.v", *["trace_monitor.v"] * trace]
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
    paths: list[Path], simulation: SimulationConfig, error: tuple[int, int] | None
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
        if error is not None:
            arguments[f"{name}_error_first"] = f"{error[0]:x}"
            arguments[f"{name}_error_last"] = f"{error[1]:x}"
    return arguments
