"""Area and cycles of filters and of a chain: what docs/decisions/0005-filter.md is made of.

Each unit, with its ports, goes through ``synth_ecp5``; its cycles are counted in Amaranth's
simulator (a full release of the unit's depth, after scores in random order). A chain of more than
64 cells takes minutes to simulate and is not. ``rpaccel bench topk`` is without the chain.

    python -m benchmarks.filter [--depths 64 256 512 1024] [--units chain exact bins]
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.filter_chain import Chain
from rpaccel.bench_topk import area, hardware, pace, unit

UNITS = ("chain", "exact", "bins")
SIMULATED_CHAIN = 64


def made(name, depth):
    """A unit."""
    if name == "chain":
        return Chain(hardware=hardware(depth), stage=0)
    return unit(name, depth)


def measure(name, depth, folder):
    """One row of the table."""
    row = {"unit": name, "depth": depth, **area(made(name, depth), folder)}
    if name != "chain" or depth <= SIMULATED_CHAIN:
        rng = np.random.default_rng(depth)
        lists = [(2 * depth + depth // 2 + 1, depth)]
        row["held_up"], (row["after_last"],) = pace(made(name, depth), rng, lists, spread=1 << 15)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 256, 512, 1024])
    parser.add_argument("--units", choices=UNITS, nargs="+", default=list(UNITS))
    parser.add_argument("--folder", type=Path, default=Path("build/filter"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| unit | k | LUT4 | flip-flops | DP16KD | held up | last after the last score |")
    print("|---|---|---|---|---|---|---|")
    for depth in options.depths:
        for name in options.units:
            row = measure(name, depth, options.folder)
            shown = [
                f"{row[key]:,}" if key in row else "-"
                for key in ("luts", "ffs", "block_rams", "held_up", "after_last")
            ]
            print(f"| {name} | {depth} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
