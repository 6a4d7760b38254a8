"""SCALE-Sim 3 beside this project's array, layer by layer, weight-stationary.

    python -m benchmarks.scalesim [--items M] [--arrays A ...] [--folder DIR] [--json]

SCALE-Sim loads a tile's weights, streams the items through it, and lets them leave, tile after
tile: (3 A + M - 2) x tiles - 1 cycles on A x A MACs. Here the next tile's weights are loaded while
items pass the one before (shadow loading). Beside both is the cycle model of the array with that
turned off: each tile is loaded alone and waits until the one before has left.

SCALE-Sim gets an environment of its own in DIR (``build/scalesim``; NumPy below 2.3, with which
alone its version 3.0.0 works), installed from PyPI the first time.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_array import MODELS, PASS_ITEMS, layer_programs
from rpaccel.report import grid
from sw_model.group_cycles import GroupCycles, latency

PACKAGES = ("scalesim==3.0.0", "numpy<2.3")
CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {array}
ArrayWidth = {array}
IfmapSramSzkB = 8192
FilterSramSzkB = 8192
OfmapSramSzkB = 8192
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 1000
Dataflow = ws
MemoryBanks = 1
ReadRequestBuffer = 512
WriteRequestBuffer = 512
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def closed_form(array: int, items: int, tiles: int) -> int:
    """Cycles that SCALE-Sim has for a layer, weight-stationary, without stalls."""
    return (3 * array + items - 2) * tiles - 1


def tiles(array: int, inputs: int, outputs: int) -> int:
    """Tiles of a layer of which every one is full but the last of its row and column."""
    return -(-inputs // array) * -(-outputs // array)


def layers(array: int, items: int) -> list[dict[str, Any]]:
    """Every layer of the paper's models on one array, by closed form and by the cycle model.

    Cycles of the model are from the first load to the last result. ``alone`` is without shadow
    loading: a tile's items wait until its weights are all there, and its load until the items of
    the tile before have left.
    """
    here = np.full(items, -1, np.int64)
    rows = []
    for name in MODELS:
        geometry, programs = layer_programs(array, name)
        (shape,) = geometry.shapes
        through = latency(array, shape)
        for number, (inputs, outputs, program) in enumerate(programs):
            made = GroupCycles(geometry).walk(program, shape, items, taken=0, inputs=here)
            alone = 0
            for command in program:
                (one,) = GroupCycles(geometry).walk([command], shape, items, taken=0, inputs=here)
                # the model's first row follows a cycle after the load began
                alone += array - 1 + int(one.rows[-1]) + through - one.loads
            rows.append(
                {
                    "layer": f"{name} {number}",
                    "array": array,
                    "items": items,
                    "inputs": inputs,
                    "outputs": outputs,
                    "tiles": tiles(array, inputs, outputs),
                    "closed_form": closed_form(array, items, tiles(array, inputs, outputs)),
                    "our_tiles": len(program),
                    "alone": alone,
                    "shadow": int(made[-1].rows[-1]) + through - made[0].loads,
                }
            )
    return rows


def environment(folder: Path) -> Path:
    """The Python that has SCALE-Sim; made if there is none."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"installing {', '.join(PACKAGES)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        done.touch()
    return python


def simulate(python: Path, folder: Path, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Run SCALE-Sim on layers of one array: total cycles of each."""
    array, items = rows[0]["array"], rows[0]["items"]
    there = (folder / f"{array}x{array}-{items}").resolve()
    there.mkdir(parents=True, exist_ok=True)
    (there / "scale.cfg").write_text(CONFIG.format(array=array))
    lines = ["layer,M,N,K,"]
    lines += [f"L{n},{items},{r['outputs']},{r['inputs']}," for n, r in enumerate(rows)]
    (there / "layers.csv").write_text("\n".join(lines) + "\n")
    # a layout file must be there, with a line a layer of as many numbers, and is not used
    lines = ["layout,", *(f"L{n},{'1,' * 20}" for n in range(len(rows)))]
    (there / "layout.csv").write_text("\n".join(lines) + "\n")
    call = [python.absolute(), "-m", "scalesim.scale", "-i", "gemm", "-s", "N"]
    call += ["-c", "scale.cfg", "-t", "layers.csv", "-l", "layout.csv", "-p", "out"]
    done = subprocess.run(call, cwd=there, capture_output=True, text=True, check=False)
    reports = list(there.glob("out/*/COMPUTE_REPORT.csv"))
    if done.returncode or not reports:
        raise SystemExit(f"SCALE-Sim failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    with reports[0].open() as file:
        found = list(csv.reader(file))[1:]
    return [round(float(line[2])) for line in found]


COLUMNS = ("tiles", "scalesim", "closed_form", "our_tiles", "alone", "shadow")


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Every layer, and sums over the layers of each model."""
    sums: dict[tuple[int, str], dict[str, Any]] = {}
    for row in rows:
        model = row["layer"].split()[0]
        whole = sums.setdefault(
            (row["array"], model),
            {"array": row["array"], "layer": model, **dict.fromkeys(COLUMNS, 0)},
        )
        for name in COLUMNS:
            whole[name] += row[name]
    header = ["array", "layer", "tiles", "SCALE-Sim", "closed form"]
    header += ["our tiles", "not shadowed", "shadowed", "SCALE-Sim / shadowed"]

    def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
        return [
            [
                str(row["array"]),
                row["layer"],
                *(f"{row[name]:,}" for name in COLUMNS),
                f"{row['scalesim'] / row['shadow']:.2f}",
            ]
            for row in rows
        ]

    return "\n\n".join(
        grid(f"Cycles, {what}, {rows[0]['items']} items", header, lines(part), left=(1,))
        for what, part in (("by layer", rows), ("by model", list(sums.values())))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=PASS_ITEMS)
    parser.add_argument("--arrays", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--folder", type=Path, default=Path("build/scalesim"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not 1 <= given.items <= PASS_ITEMS:
        raise SystemExit(f"--items must be 1..{PASS_ITEMS}, not {given.items}")
    python, rows = environment(given.folder / "environment"), []
    for array in given.arrays:
        made = layers(array, given.items)
        cycles = simulate(python, given.folder, made)
        rows += [row | {"scalesim": found} for row, found in zip(made, cycles, strict=True)]
    print(json.dumps(rows) if given.json else text(rows))


if __name__ == "__main__":
    main()
