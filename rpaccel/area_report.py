"""How the report of :mod:`rpaccel.bench_area` is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rpaccel.bench_area import watts_at
from rpaccel.report import grid
from rpaccel.silicon.blocks import BLOCKS

__all__ = ["draw", "table"]

RATIOS = (
    ("area", "area", "at most +7 %", "+7 %"),
    ("area of logic alone", "logic", "", ""),
    ("area of SRAM alone", "sram", "", ""),
    ("power, each at its own full load", "watts", "at most +15 %", "+27 %"),
    ("power, both at the baseline's full load", "watts_same_rate", "at most +15 %", "+27 %"),
    ("energy of a query", "energy_per_query", "", ""),
)
"""Label, key of the report's ``ratios``, target, paper."""
KINDS = {
    "clock": "clock_uj",
    "logic": "logic_uj",
    "of it, by means of blocks": "by_means_uj",
    "SRAM": "sram_uj",
    "leakage": "leakage_uj",
}


_NOTHING = {"mm2": 0.0, "watts": 0.0, "idle_watts": 0.0}


def _rows(report: dict[str, Any], keys: tuple[str, str]) -> list[list[str]]:
    """Two figures of each block of each machine, and of all."""
    rows = []
    for name in (*BLOCKS, "all"):
        row = [name]
        for run in report["machines"].values():
            block = run["total"] if name == "all" else run["blocks"].get(name)
            row += ["-" if block is None else f"{block[key]:.3f}" for key in keys]
        rows.append(row)
    return rows


def _differences(report: dict[str, Any]) -> list[list[str]]:
    """What each block takes more than in the baseline with as much memory."""
    theirs, ours = (report["machines"][name] for name in ("equal", "rpaccel"))
    rate = 1 / report["ratios"]["equal"]["throughput"]
    area, power = (theirs["total"][key] for key in ("mm2", "watts"))
    rows = []
    for name in (*BLOCKS, "all"):
        mine, other = (
            run["total"] if name == "all" else run["blocks"].get(name, _NOTHING)
            for run in (ours, theirs)
        )
        mm2, watts = (mine[key] - other[key] for key in ("mm2", "watts"))
        same = watts_at(mine, rate) - other["watts"]
        values = (mm2, watts, same)
        shares = (mm2 / area, watts / power, same / power)
        pairs = zip(values, shares, strict=True)
        rows.append([name, *(text for v, s in pairs for text in (f"{v:+.3f}", f"{s:+.1%}"))])
    return rows


def table(report: dict[str, Any]) -> str:
    """Lay the report out as text."""
    machines = report["machines"]
    names = [run["name"] for run in machines.values()]
    theirs, ours = machines["baseline"], machines["rpaccel"]
    ratios = [
        [label, *(f"{report['ratios'][o][key]:+.1%}" for o in ("baseline", "equal")), *beside]
        for label, key, *beside in RATIOS
    ]
    kinds = [
        [kind, *(f"{run['total'][key]:.2f}" for run in machines.values())]
        for kind, key in KINDS.items()
    ]
    slowest = max(run["slowest_macro_ns"] for run in machines.values())
    seen = "; ".join(
        f"{run['machine']} at {run['cycles_per_query']:,.0f} cycles a query, "
        f"{run['utilisation']:.0%} utilised"
        for run in report["activity"].values()
    )
    return "\n\n".join(
        [
            grid(
                f"Area in mm2 of 12 nm, logic and SRAM: {'; '.join(names)}",
                ["", *["logic", "SRAM"] * len(names)],
                _rows(report, ("logic_mm2", "sram_mm2")),
            ),
            grid(
                "Energy of a query in uJ, and W at full load, of the same",
                ["", *["uJ", "W"] * len(names)],
                _rows(report, ("uj", "watts")),
            ),
            grid("Energy of a query by kind, uJ", ["", *names], kinds),
            grid(
                f"{ours['name']} less {machines['equal']['name']}: mm2, W at full load of each, "
                "W at the baseline's",
                ["", "mm2", "of area", "W", "of power", "W", "of power"],
                _differences(report),
            ),
            grid(
                f"{ours['name']} over {theirs['name']}, and over one with as much memory",
                ["", "over it", "as much memory", "target", "paper"],
                ratios,
            ),
            f"Full load: {theirs['queries_per_second']:,.0f} and "
            f"{ours['queries_per_second']:,.0f} queries a second, "
            f"{theirs['cycles_per_query']:,.0f} and {ours['cycles_per_query']:,.0f} cycles a query "
            f"that the array needs ({theirs['utilisation']:.0%} and {ours['utilisation']:.0%} "
            f"utilised). "
            f"Activity from RTL of {seen}. Slowest SRAM macro {slowest:.2f} ns. "
            f"{report['method']}. Made in {report['seconds']:.0f} s, less what the cache had.",
        ]
    )


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw area and power by block, and the paper's totals, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(1, 2)
    machines = report["machines"].values()
    names = [run["name"].replace(", ", ",\n") for run in machines]
    labels = [*names, "paper,\nbaseline", "paper,\nRPAccel"]
    shown = (("mm2", "mm²", "area_mm2"), ("watts", "W at full load", "watts"))
    for place, (key, unit, paper) in zip(axes, shown, strict=True):
        tops = [0.0] * len(names)
        for number, name in enumerate(BLOCKS):
            values = [run["blocks"].get(name, {}).get(key, 0.0) for run in machines]
            style = {"color": f"C{number % 10}", "hatch": "//" if number >= 10 else None}
            place.bar(range(len(names)), values, bottom=tops, label=name, **style)
            tops = [top + value for top, value in zip(tops, values, strict=True)]
        tops = [*tops, *report["paper"][paper]]
        place.bar(range(len(names), len(labels)), report["paper"][paper], color="0.7")
        for x, top in enumerate(tops):
            place.text(x, top, f"{top:.2f}", ha="center", va="bottom", fontsize=8)
        place.set_ylim(top=1.06 * max(tops))
        place.set_xticks(range(len(labels)), labels, fontsize=7)
        place.set_ylabel(unit)
    handles, blocks = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], blocks[::-1], loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)
