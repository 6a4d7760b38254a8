"""The array's figures as tables and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpaccel.bench_array import ITEMS, MODELS, SURVIVORS
from rpaccel.bench_groups import SLOTS
from rpaccel.verdicts import verdict_lines

__all__ = ["draw", "draw_settings", "draw_sizes", "table"]

ELSEWHERE = (
    "In RTL: `rpaccel bench array --rtl` (these arrays) and `rpaccel bench pipeline` (the whole "
    "machine). Area: `python -m benchmarks.array_area`. Time to generate, build and run: "
    "`python -m benchmarks.full_size`."
)


def table(report: Mapping[str, Any]) -> str:
    """Lay the figures out as Markdown tables."""
    dot = report["dot"]
    lines = [
        *verdict_lines(report["targets"]),
        ELSEWHERE,
        "",
        f"One array, {ITEMS} items, concat interaction, by cycle model:",
        "",
        "| array | model | tiles | tile bound | cycles | over | utilisation | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["fixed"]:
        paper = row["paper_utilisation"]
        lines.append(
            f"| {row['array']} | {row['model']} | {row['tiles']} | {row['bound']:,} "
            f"| {row['cycles']:,} | {row['over_bound']:.2%} | {row['utilisation']:.1%} "
            f"| {'' if paper is None else f'{paper:.1%}'} |"
        )
    lines += [
        "",
        f"RM-small {ITEMS} -> RM-large {SURVIVORS} on 128x128, steady state, by cycle model:",
        "",
        "| setting | cycles a query | utilisation |",
        "|---|---|---|",
        *(
            f"| {row['setting']} | {row['cycles']:,.0f} | {row['utilisation']:.1%} |"
            for row in report["funnel"]
        ),
        "",
        "The same with dot interaction, by cycle model:",
        "",
        "| setting | multipliers of the units | tile bound | cycles a query | utilisation "
        "| with concat | over it |",
        "|---|---|---|---|---|---|---|",
        f"| {dot['setting']} | {' + '.join(map(str, dot['multipliers']))} "
        f"| {dot['tile_bound']:,} | {dot['cycles']:,.0f} | {dot['utilisation']:.1%} "
        f"| {dot['concat_cycles']:,.0f} | {dot['over_concat']:.3f} |",
        "",
        f"With concat, each sub-batch on one group, {SLOTS} queries in flight, by cycle model:",
        "",
        "| setting | sub-batches | cycles a query | utilisation | cycles of a query alone |",
        "|---|---|---|---|---|",
        *(
            f"| {row['setting']} | {row['sub_batches']} | {row['cycles']:,.0f} "
            f"| {row['utilisation']:.1%} | {row['latency']:,} |"
            for row in report["groups"]
        ),
        "",
        f"RM-large on {SURVIVORS} items alone, 64 of 16x16 in fours, by cycle model: "
        f"{report['alone']['cycles']:,} cycles, {report['alone']['utilisation']:.1%}.",
    ]
    return "\n".join(lines)


def draw_sizes(axes: Any, arrays: Sequence[Mapping[str, Any]]) -> None:
    """Draw utilisation by array size beside the paper's figure 10a.

    Parameters
    ----------
    axes : matplotlib axes
    arrays : sequence of mappings
        ``array``, ``model``, ``utilisation`` and ``paper_utilisation``, None where there is none.
    """
    for name, colour in zip(MODELS, ("C0", "C1", "C2"), strict=True):
        rows = [row for row in arrays if row["model"] == name]
        sizes = [str(row["array"]) for row in rows]
        axes.plot(sizes, [row["utilisation"] for row in rows], "o-", color=colour, label=name)
        known = [row for row in rows if row["paper_utilisation"] is not None]
        axes.plot(
            [str(row["array"]) for row in known],
            [row["paper_utilisation"] for row in known],
            "x--",
            color=colour,
            alpha=0.6,
            label=f"{name}, paper",
        )
    axes.set(xlabel="array (rows = columns)", ylabel="utilisation", ylim=(0, 1.02))
    axes.legend(fontsize=8)


def draw_settings(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw utilisation by setting, with cycles a query.

    Parameters
    ----------
    axes : matplotlib axes
    rows : sequence of mappings
        ``setting``, ``utilisation`` and ``cycles``.
    """
    places = range(len(rows))
    bars = axes.barh(places, [row["utilisation"] for row in rows])
    axes.set_yticks(places, [row["setting"] for row in rows])
    axes.bar_label(bars, [f"{row['cycles']:,.0f} cycles" for row in rows], label_type="center")
    axes.set(xlim=(0, 1), xlabel="utilisation")


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw utilisation by array size, as the paper's figure 10a does, and of the funnel (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_sizes(left, report["fixed"])
    left.set_title(f"One array, {ITEMS} items")
    flows = [
        row | {"setting": f"{row['setting']}, {row['sub_batches']} sub-batches"}
        for row in report["groups"]
    ]
    draw_settings(right, [*report["funnel"], *flows])
    right.set_title(f"RM-small {ITEMS} -> RM-large {SURVIVORS}, 128x128", fontsize=10)
    figure.savefig(path, dpi=120)
