"""The embedding memory's figures as tables and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpaccel.verdicts import verdict_lines

__all__ = ["draw", "table"]


def table(report: Mapping[str, Any]) -> str:
    """Lay the figures out as Markdown tables."""
    lines = verdict_lines(report["targets"])
    for trace in report.get("fetches", ()):
        lines += _fetches(trace)
    if "access_times" in report:
        lines += _access_times(report["access_times"])
    if "splits" in report:
        lines += _splits(report["splits"])
    if "gather" in report:
        lines += _gather(report["gather"])
    if "machine" in report:
        lines += _machine(report["machine"])
    return "\n".join(lines)


def _fetches(trace: Mapping[str, Any]) -> list[str]:
    return [
        f"{trace['trace']}: {trace['lookups']:,.0f} lines looked up a query, "
        f"{trace['memory_bytes'] / 2**20:.0f} MB, {trace['static_hits']:.1%} of them in the static "
        f"part ({trace['front_macros']} macros for the front end).",
        "",
        "| memory | lines fetched a query | bytes | / MIN | / MIN, same start | useless |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['memory']} | {row['lines']:,.0f} | {row['bytes']:,.0f} "
            f"| {row['over_min']:.3f} | {row['over_min_same_start']:.3f} "
            f"| {'' if row['useless'] is None else _share(row['useless'])} |"
            for row in trace["rows"]
        ),
        "",
    ]


def _access_times(traces: list[Mapping[str, Any]]) -> list[str]:
    lines = [
        "AMAT in cycles, hit 1 and miss 100, and the share of the misses' latency that is hidden:",
        "",
        "| trace | items ahead | AMAT | against static only | hidden, front | hidden, back |",
        "|---|---|---|---|---|---|",
    ]
    for trace in traces:
        lines.append(f"| {trace['trace']} | static only | {trace['static_only']:.2f} | | | |")
        lines += [
            f"| {trace['trace']} | {row['ahead']} | {row['amat']:.2f} "
            f"| {row['over_static_only']:+.1%} | {_share(row['hidden_front'])} "
            f"| {_share(row['hidden_back'])} |"
            for row in trace["rows"]
        ]
    return [*lines, ""]


def _share(value: float) -> str:
    return f"{round(value, 3) + 0:.1%}"  # adding zero makes no share negative zero


def _splits(rows: list[Mapping[str, Any]]) -> list[str]:
    shares = list(dict.fromkeys(row["front_share"] for row in rows))
    names = ["by hits" if share is None else f"{share:.0%}" for share in shares]
    lines = [
        "Static region alone, AMAT in cycles by the front end's share of its macros (figure 10c):",
        "",
        f"| MB | survivors | {' | '.join(names)} | hits, even split | hits, by hits |",
        "|" + "---|" * (len(names) + 4),
    ]
    for size, ratio in dict.fromkeys((r["bytes"], r["items_a_survivor"]) for r in rows):
        of = {
            r["front_share"]: r
            for r in rows
            if (r["bytes"], r["items_a_survivor"]) == (size, ratio)
        }
        cells = [f"{of[share]['amat']:.2f}" for share in shares]
        lines.append(
            f"| {size / 2**20:.0f} | 1/{ratio} | {' | '.join(cells)} | {of[0.5]['hits']:.1%} "
            f"| {of[None]['hits']:.1%} |"
        )
    return [*lines, ""]


def _gather(runs: list[Mapping[str, Any]]) -> list[str]:
    lines = [
        "The gather unit alone, RTL in Amaranth's simulator, every byte compared:",
        "",
        "| lanes | rows | write | lookups | cycles an item | of the peak bandwidth |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        peak = f"{run['of_peak']:.1%}" if "of_peak" in run else ""
        lines.append(
            f"| {run['lanes']} | {run['rows']} B | {run['write_bytes']:,} B | all {run['all']} "
            f"| {run['cycles_per_item']:.3f} | {peak} |"
        )
    return [*lines, ""]


def _machine(rows: list[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Whole machines, queries back to back, empty caches at first; by the cycle model, in RTL "
        "too where it says equal:",
        "",
        "| machine | memory | uniform ids | stages | lines in SSD | fetched there | on chip | AMAT "
        "| hidden, back | waits an item | latency | cycles a query | RTL |",
        "|" + "---|" * 13,
    ]
    for row in rows:
        lines.append(
            f"| {row['machine']} | {'static only' if row['static_only'] else 'look-ahead'}"
            f"{', banks' if row['banked'] else ''} "
            f"| {row['uniform']:.0%} | {'one' if row['one_stage'] else 'two'} "
            f"| {row['spilled']:.0%} | {row['from_ssd']:.1%} | {row['hits']:.1%} "
            f"| {row['amat']:.2f} "
            f"| {'' if row['hidden_back'] is None else _share(row['hidden_back'])} "
            f"| {row['item_wait']:.2f} | {row['latency']:,.0f} | {row['cycles_per_query']:,.0f} "
            f"| {'equal' if row['rtl'] else ''} |"
        )
    return [*lines, ""]


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw fetches over MIN, AMAT by the stages' split, and AMAT by look-ahead (PNG)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.6, 1, 1])
    memories = [row["memory"] for row in report["fetches"][0]["rows"]]
    height = 0.8 / len(report["fetches"])
    for number, trace in enumerate(report["fetches"]):
        at = [place + number * height for place in range(len(memories))]
        left.barh(at, [row["over_min"] for row in trace["rows"]], height, label=trace["trace"])
    left.set_yticks([place + 0.3 for place in range(len(memories))], memories, fontsize=7)
    left.invert_yaxis()
    left.axvline(1.25, color="black", linewidth=0.8, linestyle="--")
    left.set(
        xlabel="lines fetched / MIN that has seen the training trace", xscale="log", xlim=(0.9, 60)
    )
    left.legend(fontsize=7)
    for colour, size in enumerate(dict.fromkeys(row["bytes"] for row in report["splits"])):
        for style, ratio in zip(("-", "--", ":"), (4, 8, 16), strict=True):
            rows = [
                row
                for row in report["splits"]
                if (row["bytes"], row["items_a_survivor"]) == (size, ratio)
                and row["front_share"] is not None
            ]
            middle.plot(
                [row["front_share"] for row in rows],
                [row["amat"] for row in rows],
                style,
                color=f"C{colour}",
                label=f"{size / 2**20:.0f} MB" if ratio == 4 else None,
            )
    middle.set(xlabel="front end's share of the static region", ylabel="AMAT (cycles)")
    middle.set(yscale="log", title="Survivors 1/4 (-), 1/8 (--), 1/16 (:)")
    middle.legend(fontsize=7)
    for trace in report["access_times"]:
        names = ["static only", *(str(row["ahead"]) for row in trace["rows"])]
        values = [trace["static_only"], *(row["amat"] for row in trace["rows"])]
        right.plot(names, values, "o-", label=trace["trace"])
    right.set(xlabel="items the walker may be ahead", ylabel="AMAT (cycles)", ylim=(0, None))
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
