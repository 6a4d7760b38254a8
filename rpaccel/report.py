"""What a run reports: a table for people, a picture for colleagues. The JSON is the report."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from rpaccel.quality import METRICS
from rpaccel.states import state_rows
from sw_model.bootstrap import LEVEL
from sw_model.quantisation_error import TensorError

__all__ = ["draw", "error_table", "grid", "quality_tables", "relative", "table"]

Report = dict[str, Any]

CACHE_PARTS = {"static": "static region", "lookahead": "look-ahead cache", "miss": "memory"}


def grid(
    title: str, header: list[str], rows: Iterable[list[str]], *, left: Container[int] = (0,)
) -> str:
    """Lay out a small table as plain text; the columns of ``left`` are aligned to the left."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def show(line: list[str]) -> str:
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  " + "  ".join(cells).rstrip()

    rule = "  " + "  ".join("-" * w for w in widths)
    return "\n".join([title, show(header), rule, *map(show, lines[1:])])


def relative(difference: float, base: float) -> str:
    """A difference in percent of what it is a difference to; empty where that is zero."""
    return f"{difference / base:+.2%}" if base else ""


def quality_tables(report: Report, k: int) -> list[str]:
    """Lay ``quality`` and ``quality_differences`` of a report out as text: two tables.

    Parameters
    ----------
    report : dict
        Also with ``quality_queries``.
    k : int
        Length of the served lists.
    """
    means = grid(
        f"Quality on held-out ratings ({report['quality_queries']} queries), "
        f"NDCG with its {LEVEL:.0%} interval",
        ["", f"NDCG@{k}", "from", "to", *(METRICS[m] for m in METRICS if m != "ndcg")],
        [
            [
                name,
                *(f"{value:.4f}" for value in q["ndcg"].values()),
                *(f"{q[m]['mean']:.4f}" for m in METRICS if m != "ndcg"),
            ]
            for name, q in report["quality"].items()
        ],
    )
    gaps = grid(
        f"NDCG@{k}, difference query by query, with its {LEVEL:.0%} interval",
        ["", "difference", "from", "to", "relative"],
        [
            [
                f"{d['of']} - {d['against']}",
                *(f"{d[key]:+.4f}" for key in ("mean", "low", "high")),
                relative(d["mean"], report["quality"][d["against"]]["ndcg"]["mean"]),
            ]
            for d in report["quality_differences"]
        ],
    )
    return [means, gaps]


def error_table(errors: Mapping[str, Mapping[str, TensorError]]) -> str:
    """Lay the errors of quantisation out as text, by model and tensor."""
    return grid(
        "Errors of int8 tensors, relative to the float tensor (root mean squares)",
        ["", "added here", "in total", "clamped"],
        [
            [f"{model}.{name}", f"{e.added:.2%}", f"{e.total:.2%}", f"{e.clamped:.2%}"]
            for model, tensors in errors.items()
            for name, e in tensors.items()
        ],
    )


def table(report: Report) -> str:
    """Lay a report of :meth:`rpaccel.workflow.Workflow.run` out as text."""
    queries, k = report["queries"], report["quality_k"]
    keep = " -> ".join(str(n) for n in [report["items"], *report["keep"]])
    parts = [
        f"{report['name']}: {queries} queries of {report['items']} items on {report['device']}, "
        f"funnel {keep}, {report['sub_batches']} sub-batches, "
        f"{report['outstanding']} queries outstanding"
    ]
    if report["quality"]:
        parts += quality_tables(report, k)
    parts.append(
        f"Results: {report['compared']} ids and scores equal to the golden model's, to the bit"
    )
    if report.get("stages"):
        parts.append(
            grid(
                "Embedding rows",
                ["stage", "lookups", "static", "look-ahead", "missed", "evictions"],
                [
                    [
                        name,
                        str(s["lookups"]),
                        f"{s['static_rate']:.1%}",
                        f"{s['lookahead_rate']:.1%}",
                        f"{s['miss_rate']:.1%}",
                        str(s["evictions"]),
                    ]
                    for name, s in report["stages"].items()
                ],
            )
        )
        parts.append(
            grid(
                "Array",
                ["group", "MACs", "useful MACs", "utilisation"],
                [
                    [name, str(g["size"]), str(g["macs"]), f"{g['utilisation']:.1%}"]
                    for name, g in report["groups"].items()
                ],
            )
        )
        cycles, states = report["cycles"], report["states"]
        parts.append(
            grid(
                f"Units, shares of {states['cycles']} cycles, "
                f"{cycles['total']} of them with queries in flight",
                ["unit", "busy", "stalled", "starved", "stalled by"],
                state_rows(states["units"]),
                left=(0, 4),
            )
        )
        moved = report["bytes_per_query"]
        parts.append(
            f"Cycles: {cycles['per_query']:.0f} a query in steady state, {cycles['latency']:.0f} "
            f"from descriptor to completion, {cycles['total']} for all\n"
            f"Array utilisation: {report['utilisation']:.1%} of all MACs\n"
            f"Bytes a query: host read {moved['host_read']:.0f}, host write "
            f"{moved['host_write']:.0f}, memory read {moved['memory_read']:.0f}"
        )
    return "\n\n".join(parts)


def draw(report: Report, path: str | Path) -> bool:
    """Draw a report as a PNG: quality, where rows came from, where array cycles went.

    Returns
    -------
    drawn : bool
        False if the report has nothing to draw (random data on the golden device).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [_draw_quality] if report["quality"] else []
    if report.get("stages"):
        panels += [_draw_rows, _draw_array]
    if not panels:
        return False
    count = len(panels)
    figure, axes = plt.subplots(
        1, count, figsize=(5.0 * count, 4.2), layout="constrained", squeeze=False
    )
    for panel, axis in zip(panels, axes[0], strict=True):
        panel(axis, report)
    keep = " → ".join(str(n) for n in [report["items"], *report["keep"]])
    figure.suptitle(
        f"{report['name']}: funnel {keep}, {report['queries']} queries, "
        f"{report['compared']} results equal to the golden model"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def _draw_quality(axis: Any, report: Report) -> None:
    names = list(report["quality"])
    ndcg = [report["quality"][name]["ndcg"] for name in names]
    values = [value["mean"] for value in ndcg]
    error = [
        [value["mean"] - value["low"] for value in ndcg],
        [value["high"] - value["mean"] for value in ndcg],
    ]
    colours = ["#7f7f7f" if "alone" in name else "#1f77b4" for name in names]
    bars = axis.barh(names, values, color=colours, xerr=error, error_kw={"capsize": 2})
    axis.bar_label(bars, fmt="%.4f", padding=3)
    axis.invert_yaxis()
    axis.set_xlim(0, max(value["high"] for value in ndcg) * 1.25 or 1)
    axis.set_xlabel(f"NDCG@{report['quality_k']}, held-out ratings, {LEVEL:.0%} intervals")
    axis.set_title("Quality")


def _draw_rows(axis: Any, report: Report) -> None:
    left = [0.0] * len(report["stages"])
    names = list(report["stages"])
    colours = ["#2ca02c", "#98df8a", "#d62728"]
    for (key, label), colour in zip(CACHE_PARTS.items(), colours, strict=True):
        shares = [report["stages"][name][f"{key}_rate"] * 100 for name in names]
        axis.barh(names, shares, left=left, label=label, color=colour)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axis.invert_yaxis()
    axis.set_xlabel("embedding rows found in, %")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)
    axis.set_title("Gather units")


def _draw_array(axis: Any, report: Report) -> None:
    names = list(report["groups"])
    shares = [report["groups"][name]["utilisation"] * 100 for name in names]
    busy = [report["groups"][name]["busy"] * 100 for name in names]
    axis.barh(names, busy, color="#c7c7c7", label="an item entering")
    bars = axis.barh(names, shares, color="#1f77b4", label="useful MACs", height=0.5)
    axis.bar_label(bars, fmt="%.0f %%", padding=3)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("% of cycles with queries in flight")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    cycles = report["cycles"]
    axis.set_title(f"Array, {cycles['per_query']:,.0f} cycles a query")
