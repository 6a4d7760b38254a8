"""RecPipe's figures 7, 8, 12, 13 and 14 in one picture: ours as lines, published as crosses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw"]

COLOURS = [f"C{n}" for n in range(10)] + ["black", "gold"]


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw p99 in ms of all figures (PNG).

    Parameters
    ----------
    report : mapping
        Of :func:`rpaccel.schedule.bench.bench` and :func:`rpaccel.schedule.figures.figures`.
    path : Path
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 8), layout="constrained")
    axes = figure.subplots(2, 3).flat
    fourteen = [row | {"name": f"{row['platform']}, {row['stages']}"} for row in report["figure14"]]
    seven = [row | {"name": _stages(row["stages"])} for row in report["figure7"]]
    panels = [
        ("Figure 7: stages on the CPU, iso-quality", seven, "name", "qps"),
        ("Figure 8: platforms, iso-quality", report["figure8"]["tails"], "platforms", "qps"),
        ("Figure 12, top: stages", report["figure12"]["top"], "machine", "qps"),
        ("Figure 12, bottom: settings", report["figure12"]["bottom"], "machine", "qps"),
        ("Figure 13: tables that spill", report["figure13"], "machine", "scale"),
        ("Figure 14: platform, stages", fourteen, "name", "qps"),
    ]
    for each, (title, rows, name, x) in zip(axes, panels, strict=True):
        _panel(each, rows, name, x)
        each.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)


def _stages(count: int) -> str:
    return f"{count} stage{'s' * (count > 1)}"


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, x: str) -> None:
    """Draw a line for each name; what is published has the line's colour."""
    for number, each in enumerate(dict.fromkeys(row[name] for row in rows)):
        mine = [row for row in rows if row[name] == each]
        colour = COLOURS[number % len(COLOURS)]
        for key, style, label in ("p99", "o-", str(each)), ("published", "x", None):
            points = [(row[x], row[key]) for row in mine if row[key] is not None]
            if points:
                xs, seconds = zip(*points, strict=True)
                values = [1e3 * value for value in seconds]
                axes.plot(xs, values, style, color=colour, label=label, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel=x.upper() if x == "qps" else x, ylabel="p99, ms")
    if rows:
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
