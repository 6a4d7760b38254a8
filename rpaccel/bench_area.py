"""What RPAccel costs in silicon, beside the baseline: area and power by block (figure 11).

All modules of both machines' Verilog are synthesised, each by itself, and summed over their
instances; memories are SRAM macros of :mod:`rpaccel.silicon.sram`. Energies follow from bits and
accesses counted in RTL of two smaller machines, scaled to what the machines of full size do.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rpaccel.bench_pipeline import preset
from rpaccel.config import Config, load, parse
from rpaccel.silicon import library
from rpaccel.silicon.blocks import BLOCKS
from rpaccel.silicon.energy import Energy, energies
from rpaccel.silicon.machine import places
from rpaccel.silicon.netlist import parse as read_netlist
from rpaccel.silicon.runs import expect, monolithic, observe, reduced
from rpaccel.silicon.technology import CLOCK_HZ, PAPER

__all__ = ["MACHINES", "bench", "with_memory_of"]

MACHINES = ("baseline", "rpaccel")

Say = Callable[[str], object]


def with_memory_of(baseline: Config, machine: Config) -> Config:
    """A baseline with as much memory in its array as another machine (the paper's has, too)."""
    values = baseline.model_dump()
    ours, theirs = machine.hardware, baseline.hardware
    buffers = sum(
        2 * len(group.stages) * group.rows * group.cols * ours.geometry(n).row_bytes
        for n, group in enumerate(ours.groups)
    )
    weights = sum(ours.geometry(n).weight_tiles for n in range(len(ours.groups)))
    values["hardware"] |= {
        "activation_rows": buffers * ours.activation_rows // (2 * theirs.geometry(0).row_bytes),
        "weight_rows": weights
        * ours.tile_cols
        * ours.weight_rows
        // (theirs.geometry(0).weight_tiles * theirs.tile_cols),
    }
    return parse(values | {"name": f"{baseline.name}, memory as {machine.name}"})


def _machine(config: Config, small: Any, progress: Callable[[int, int], object]) -> dict[str, Any]:
    """Area and energies of a machine."""
    from rtl_gen.generate import TOP
    from sim.generated import generated

    netlist = read_netlist(generated(config.hardware)[f"{TOP}.v"], TOP)
    found = places(netlist, config.hardware, library.read(), progress)
    full = expect(config)
    by_block: dict[str, Energy] = energies(found, small, full)
    return {
        "name": config.name,
        "cycles_per_query": full.cycles_per_query,
        "queries_per_second": CLOCK_HZ / full.cycles_per_query,
        "utilisation": sum(v for n, v in full.counts.items() if n.endswith(".macs"))
        / (config.hardware.macs * full.counts["device.cycles"]),
        "slowest_macro_ns": max(p.store.macro.cycle_ns for p in found if p.store is not None),
        "blocks": {name: by_block[name].report() for name in BLOCKS if name in by_block},
    }


def _sums(run: dict[str, Any]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for block in run["blocks"].values():
        total.update(block)
    return dict(total)


def bench(
    machine: Path | None = None, baseline: Path | None = None, *, say: Say = lambda text: None
) -> dict[str, Any]:
    """Measure both machines.

    Parameters
    ----------
    machine, baseline : path, optional
        Configurations of full size, by default those of ``rpaccel bench pipeline``.
    say : function
        Told what is going on.

    Returns
    -------
    dict
        Plain values: for each machine ``blocks`` (mm2, bits, uJ a query by kind, W) and their
        ``total``; ``ratios`` over the baseline and over one with as much memory; ``paper``.

    Raises
    ------
    ToolError
        The library, Yosys, or a tool of the simulator is missing.
    """
    begin = time.perf_counter()
    library.read()
    configs = {
        name: load(path or preset(name))
        for name, path in zip(MACHINES, (baseline, machine), strict=True)
    }
    configs["equal"] = with_memory_of(configs["baseline"], configs["rpaccel"])
    scaled = reduced(load(preset("scaled")))
    small = {"rpaccel": observe(scaled, say), "baseline": observe(monolithic(scaled), say)}
    small["equal"] = small["baseline"]
    report: dict[str, Any] = {"paper": PAPER, "machines": {}}
    done: defaultdict[str, int] = defaultdict(int)
    for name, config in configs.items():

        def progress(count: int, total: int, name: str = name) -> None:
            done[name] += count
            say(f"{name}: {done[name]} of {total} modules")

        run = _machine(config, small[name], progress)
        report["machines"][name] = run | {"total": _sums(run)}
    report["activity"] = {
        name: {"machine": run.config.name, "cycles_per_query": run.cycles_per_query}
        for name, run in small.items()
        if name != "equal"
    }
    report["ratios"] = {
        over: _ratios(report["machines"]["rpaccel"], report["machines"][over])
        for over in ("baseline", "equal")
    }
    report["seconds"] = time.perf_counter() - begin
    return report


def _ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """What a machine takes over another, relative."""
    mine, other = ours["total"], theirs["total"]
    rate = ours["queries_per_second"] / theirs["queries_per_second"]
    # At the rate of the slower one it does the same work in each query and idles between them.
    idle = mine["idle_watts"] + (mine["watts"] - mine["idle_watts"]) / rate
    return {
        "area": mine["mm2"] / other["mm2"] - 1,
        "logic": mine["logic_mm2"] / other["logic_mm2"] - 1,
        "sram": mine["sram_mm2"] / other["sram_mm2"] - 1,
        "watts": mine["watts"] / other["watts"] - 1,
        "watts_same_rate": idle / other["watts"] - 1,
        "energy_per_query": mine["uj"] / other["uj"] - 1,
        "throughput": rate,
    }
