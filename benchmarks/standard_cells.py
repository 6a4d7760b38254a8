"""A unit in OSU's standard cells of 180 nm: area, and its longest path by OpenSTA."""

import json
import re
import shutil
import subprocess

from rpaccel.errors import BuildError
from rpaccel.silicon import library
from sim.ecp5 import read, yosys
from sim.toolchain import require

PERIOD = 100.0
FAN_OUT = 8
BUFFER = "BUFX4"


def mapped(unit, folder, cells, apart, *, fast):
    """Cells of a library that a unit is made of; ``fast`` leaves out what only timing needs."""
    shutil.copy(cells.path, folder / "cells.lib")
    (folder / "map.abc").write_text("strash\n&get -n\n&nf\n&put\n")
    steps = read(unit, folder, apart)
    steps += ["synth -flatten -booth -noshare -noabc -top unit", "dfflibmap -liberty cells.lib"]
    steps.append(f"abc -liberty cells.lib {'-script map.abc' if fast else '-D 4000'}")
    # The library says which ports of its cells are inputs.
    steps += ["setundef -zero", "opt_clean -purge", "read_liberty -lib -ignore_miss_func cells.lib"]
    steps.append("write_json net.json")
    return yosys("; ".join(steps), folder)


def cell_area(unit, folder, *, cells, apart=None, logic=False):
    """Area in um2 under the keys of :func:`benchmarks.array_area.area`: no multipliers."""
    found = mapped(unit, folder, cells, apart, fast=True)
    sums = {"luts": 0.0, "ffs": 0.0, "multipliers": 0}
    for name, count in found.items():
        if name in cells.cells:
            key = "ffs" if name == library.FLIP_FLOP else "luts"
            sums[key] += count * cells.cells[name].um2
    return sums


def buffered(module):
    """Add trees of buffers where an output drives more inputs than :data:`FAN_OUT`, in place.

    ABC does not buffer what registers drive. ``module`` is one of Yosys' JSON; the clock's net
    stays as it is.
    """
    cells, clock = module["cells"], module["ports"]["clk"]["bits"][0]
    sinks = {}
    for cell in cells.values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input" and bits[0] != clock:
                sinks.setdefault(bits[0], []).append((cell, port))
    used = [bit for net in module["netnames"].values() for bit in net["bits"]]
    number = max(bit for bit in used if isinstance(bit, int))
    for bit, driven in sinks.items():
        while isinstance(bit, int) and len(driven) > FAN_OUT:
            above = []
            for first in range(0, len(driven), FAN_OUT):
                number += 1
                for cell, port in driven[first : first + FAN_OUT]:
                    cell["connections"][port] = [number]
                cells[f"buffer_{number}"] = made = {
                    "type": BUFFER,
                    "parameters": {},
                    "attributes": {},
                    "port_directions": {"A": "input", "Y": "output"},
                    "connections": {"A": [bit], "Y": [number]},
                }
                above.append((made, "A"))
            driven = above


def path_ns(unit, folder, cells):
    """Longest path between two registers of a unit, setup included, by OpenSTA."""
    mapped(unit, folder, cells, None, fast=False)
    netlist = json.loads((folder / "net.json").read_text())
    buffered(netlist["modules"]["unit"])
    (folder / "net.json").write_text(json.dumps(netlist))
    steps = "read_json net.json; splitnets -ports; write_verilog -noattr -noexpr -simple-lhs net.v"
    yosys(steps, folder)
    (folder / "path.tcl").write_text(
        "read_liberty cells.lib\nread_verilog net.v\nlink_design unit\n"
        f"create_clock -name clk -period {PERIOD} [get_ports clk]\n"
        "report_checks -path_delay max\nexit\n"
    )
    command = [str(require("sta")), "-no_splash", "-exit", "path.tcl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    match = re.search(r"(\S+)\s+slack", done.stdout)
    if match is None:
        raise BuildError(f"OpenSTA found no path:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return PERIOD - float(match[1])
