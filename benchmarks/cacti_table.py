"""The table of SRAM macros that :mod:`rpaccel.silicon.sram` works with, made by CACTI.

CACTI (https://github.com/HewlettPackard/cacti, version 7) is not part of this project: build it,
and give its folder. Macros have one port, of itrs-lstp cells and periphery in 22 nm at 300 K; each
is the organisation with the least of area, energy and cycle time, weighted 100 : 30 : 30.

    python -m benchmarks.cacti_table FOLDER
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

from rpaccel.silicon.sram import TABLE

WIDTHS = (32, 64, 128, 256, 512)
DEPTHS = (32, 64, 128, 256, 512, 1024, 2048)

SETTINGS = {
    "associativity": "1",
    "read-write port": "1",
    "exclusive read port": "0",
    "exclusive write port": "0",
    "technology (u)": "0.022",
    "operating temperature (K)": "300",
    "cache type": '"ram"',
    "design objective (weight delay, dynamic power, leakage power, cycle time, area)": (
        "0:30:0:30:100"
    ),
    "deviate (delay, dynamic power, leakage power, cycle time, area)": (
        "1000:100000:100000:1000:1000"
    ),
    "Optimize ED or ED^2 (ED, ED^2, NONE):": '"NONE"',
    **{
        f"{array} array {part} type -": '"itrs-lstp"'
        for array in ("Data", "Tag")
        for part in ("cell", "peripheral")
    },
}
"""Lines of CACTI's ``cache.cfg`` that are replaced."""

FOUND = {
    "cycle_ns": r"Cycle time \(ns\):\s*(\S+)",
    "read_nj": r"Total dynamic read energy per access \(nJ\):\s*(\S+)",
    "write_nj": r"Total dynamic write energy per access \(nJ\):\s*(\S+)",
    "leakage_mw": r"Total leakage power of a bank \(mW\):\s*(\S+)",
    "size_mm": r"Cache height x width \(mm\):\s*(\S+ x \S+)",
}


def configuration(template, width, depth):
    """A configuration of CACTI for a macro."""
    settings = SETTINGS | {
        "size (bytes)": str(width * depth // 8),
        "block size (bytes)": str(width // 8),
        "output/input bus width": str(width),
    }
    for name, value in settings.items():
        template, count = re.subn(rf"(?m)^-{re.escape(name)} .*$", f"-{name} {value}", template)
        if not count:
            raise SystemExit(f"cache.cfg has no line -{name}")
    return template


def macro(folder, template, width, depth):
    """What CACTI says of a macro; nothing if it finds none."""
    with tempfile.NamedTemporaryFile("w", suffix=".cfg", dir=folder) as file:
        file.write(configuration(template, width, depth))
        file.flush()
        command = ["./cacti", "-infile", file.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    texts = {name: re.search(pattern, done.stdout) for name, pattern in FOUND.items()}
    if not all(texts.values()):
        return None
    values = {name: match[1] for name, match in texts.items()}
    height, breadth = map(float, values.pop("size_mm").split(" x "))
    bits = width * depth
    return {
        "um2_per_bit": height * breadth * 1e6 / bits,
        "read_fj_per_bit": float(values["read_nj"]) * 1e6 / width,
        "write_fj_per_bit": float(values["write_nj"]) * 1e6 / width,
        "leakage_pw_per_bit": float(values["leakage_mw"]) * 1e9 / bits,
        "cycle_ns": float(values["cycle_ns"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the program cacti and its cache.cfg")
    folder = parser.parse_args().folder
    template = (folder / "cache.cfg").read_text()
    rows = []
    for width in WIDTHS:
        for depth in DEPTHS:
            found = macro(folder, template, width, depth)
            if found is not None:
                rounded = {name: float(f"{value:.4g}") for name, value in found.items()}
                rows.append({"width": width, "depth": depth, **rounded})
    TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
