"""Area and cycles of the filter units on ECP5: what docs/decisions/0005-filter.md is made of.

Each unit, with its ports, goes through ``synth_ecp5``; its cycles are counted in Amaranth's
simulator (a full release of the unit's depth, after scores in random order). A chain of more than
64 cells takes minutes to simulate and is not.

    python -m benchmarks.filter [--depths 64 256 512 1024] [--units chain exact bins] [--json FILE]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

from benchmarks.ecp5 import luts, yosys
from benchmarks.filter_chain import Chain
from rpaccel.config import HardwareConfig
from rtl_gen.bins import Bins
from rtl_gen.topk import TopK
from sim.pysim import simulate, stream_put

UNITS = {"chain": Chain, "exact": TopK, "bins": Bins}
PAPER_LUTS = 868
PAPER_UNITS = 1024
SIMULATED_CHAIN = 64


def hardware(depth):
    """A machine whose first stage has a filter of a depth; no RAM is a macro."""
    gather = {"cache_lines": 4}
    return HardwareConfig.model_validate(
        {
            "groups": [{"stages": [0, 1]}],
            "gather": [gather] * 2,
            "topk_depth": [depth, depth],
            "sram_macro_bits": 1 << 40,
        }
    )


def area(unit, folder):
    """Cells of a unit after ``synth_ecp5``: LUT4, flip-flops, block RAMs of 18 Kbit."""
    (folder / "unit.il").write_text(rtlil.convert(unit, name="unit"))
    cells = yosys("read_rtlil unit.il; synth_ecp5 -top unit", folder)
    return {
        "luts": luts(cells),
        "ffs": cells.get("TRELLIS_FF", 0),
        "block_rams": cells.get("DP16KD", 0),
    }


def cycles(unit, depth, items):
    """Cycles in which scores were held up, and from the last score to the last candidate."""
    rng = np.random.default_rng(depth)
    positions, scores = rng.permutation(items), rng.integers(-(2**15), 2**15, size=items)
    held, taken, left = [], [], []

    async def put(ctx):
        beats = zip(positions.tolist(), scores.tolist(), strict=True)
        ctx.set(dut.i.valid, 1)
        cycle = 0
        for number, (position, score) in enumerate(beats):
            last = number == items - 1
            beat = {"position": position, "score": score, "keep": 1, "last": last}
            ctx.set(dut.i.payload, beat)
            while not (await ctx.tick().sample(dut.i.ready))[2]:
                held.append(cycle)
                cycle += 1
            cycle += 1
        ctx.set(dut.i.valid, 0)
        taken.append(cycle)

    async def plan(ctx):
        await stream_put(ctx, dut.plan, {"emit": 1, "count": depth, "candidates": items})

    async def get(ctx):
        ctx.set(dut.survivor.ready, 1)
        cycle = count = 0
        while count < depth:
            count += (await ctx.tick().sample(dut.survivor.valid))[2]
            cycle += 1
        left.append(cycle)

    dut = unit
    simulate(dut, put, plan, get)
    return {"held_up": len(held), "after_last": left[0] - taken[0]}


def measure(name, depth, folder):
    """One row of the table."""
    unit = UNITS[name]
    row = {"unit": name, "depth": depth, **area(unit(hardware=hardware(depth), stage=0), folder)}
    if name != "chain" or depth <= SIMULATED_CHAIN:
        row |= cycles(unit(hardware=hardware(depth), stage=0), depth, 2 * depth + depth // 2 + 1)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 256, 512, 1024])
    parser.add_argument("--units", choices=UNITS, nargs="+", default=list(UNITS))
    parser.add_argument("--folder", type=Path, default=Path("build/filter"))
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    print("| unit | k | LUT4 | flip-flops | DP16KD | held up | last after the last score |")
    print("|---|---|---|---|---|---|---|")
    for depth in options.depths:
        for name in options.units:
            row = measure(name, depth, options.folder)
            rows.append(row)
            shown = [
                f"{row[key]:,}" if key in row else "-"
                for key in ("luts", "ffs", "block_rams", "held_up", "after_last")
            ]
            print(f"| {name} | {depth} | {' | '.join(shown)} |", flush=True)
    paper = PAPER_LUTS * PAPER_UNITS
    for row in rows:
        row["of_paper"] = row["luts"] / paper
    print(f"\nThe paper's {PAPER_UNITS} units of {PAPER_LUTS} LUT4: {paper:,} LUT4, no buffer.")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"paper_luts": paper, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
