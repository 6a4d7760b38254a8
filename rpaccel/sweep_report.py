"""A quality sweep as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rpaccel.report import grid, relative
from sw_model.bootstrap import LEVEL

__all__ = ["draw_sweep", "sweep_table"]

Report = dict[str, Any]

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")


def _name(row: Report) -> str:
    """``front 1024 -> back 128``: what each stage ranks."""
    counts = [row["items"], *row["keep"]]
    return " -> ".join(f"{n} {count}" for n, count in zip(row["stages"], counts, strict=False))


def _funnel(row: Report) -> str:
    """``front, back, 1024 items``: a line of funnels that keep more or fewer."""
    return f"{', '.join(row['stages'])}, {row['items']} items"


def _relative(row: Report, against: str) -> list[str]:
    """A difference and its interval, relative to what it is a difference to."""
    gap = row["int8"][against]
    base = row["int8"]["ndcg"]["mean"] - gap["mean"]
    return [relative(gap[key], base) for key in ("mean", "low", "high")]


def sweep_table(report: Report) -> str:
    """Lay a report of :func:`rpaccel.sweep.sweep` out as text."""
    k = report["k"]
    body = []
    for row in report["settings"]:
        int8 = row["int8"]
        body.append(
            [
                ("* " if row["configured"] else "  ") + _name(row),
                "/".join(dict.fromkeys(row["filters"])),
                str(row["sub_batches"]),
                f"{row['macs'] / 1e6:.2f}",
                f"{row['float']['ndcg']['mean']:.4f}",
                *(f"{int8['ndcg'][key]:.4f}" for key in ("mean", "low", "high")),
                f"{int8['ndcg_constant']['mean']:.4f}",
                *_relative(row, "against_last"),
                *(_relative(row, "against_exact") if _differs(row) else [""] * 3),
            ]
        )
    head = [
        "", "filter", "sub-batches", "M MACs", "float", "int8", "from", "to", "constant",
        "- last alone", "from", "to", "- exact, unbatched", "from", "to",
    ]  # fmt: skip
    title = (
        f"{report['name']}: NDCG@{k} of {report['queries']} queries, {LEVEL:.0%} intervals; "
        f"relative differences query by query, in int8, to {report['stages'][-1]} alone on all "
        f"items and to the same with exact filters and one sub-batch; * the configuration"
    )
    return grid(title, head, body) + "\n" + _loss(report)


def _differs(row: Report) -> bool:
    """Whether a setting has sub-batches or a filter that is not exact."""
    return row["sub_batches"] > 1 or "bins" in row["filters"]


def _loss(report: Report) -> str:
    """What the configuration loses to the exact, unbatched funnel."""
    (own,) = [row for row in report["settings"] if row["configured"]]
    mean, low, high = _relative(own, "against_exact")
    found = f"{mean}, from {low} to {high}" if mean else "cannot be told, it is 0 there"
    return (
        f"The configuration against the same with exact filters and one sub-batch, int8: "
        f"NDCG@{report['k']} {found}"
    )


def draw_sweep(report: Report, path: Path) -> None:
    """Draw quality against work, and what sub-batches cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    whole = len(report["stages"])
    funnels = [row for row in report["settings"] if len(row["stages"]) == whole > 1]
    figure, axes = plt.subplots(
        1, 1 + bool(funnels), figsize=(6.5 * (1 + bool(funnels)), 4.8), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    _draw_work(axes[0][0], report)
    if funnels:
        _draw_batches(axes[0][1], report, funnels)
    figure.suptitle(
        f"{report['name']}: {report['queries']} queries, int8, {LEVEL:.0%} intervals over queries"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_work(axis: Any, report: Report) -> None:
    """NDCG against multiply-accumulates a query, a line for each stage alone and the funnel.

    Funnels that leave a stage out have one line, with all items.
    """
    groups: dict[str, list[Report]] = {}
    most = max(row["items"] for row in report["settings"])
    for row in report["settings"]:
        alone = len(row["stages"]) == 1
        if not _differs(row) and (
            alone or row["items"] == most or len(row["stages"]) == len(report["stages"])
        ):
            name = f"{row['stages'][0]} alone" if alone else _funnel(row)
            groups.setdefault(name, []).append(row)
    for number, (name, rows) in enumerate(groups.items()):
        rows = sorted(rows, key=lambda row: row["macs"])
        ndcg = [row["int8"]["ndcg"] for row in rows]
        axis.errorbar(
            [row["macs"] / 1e6 for row in rows],
            [value["mean"] for value in ndcg],
            yerr=[
                [value["mean"] - value["low"] for value in ndcg],
                [value["high"] - value["mean"] for value in ndcg],
            ],
            marker="s" if "alone" in name else "o",
            linestyle="--" if "alone" in name else "-",
            capsize=2,
            color=f"C{number % 10}",
            label=name,
        )
    axis.set_xscale("log")
    axis.set_xlabel("million multiply-accumulates a query")
    axis.set_ylabel(f"NDCG@{report['k']}, held-out")
    axis.set_title("Quality against work, unbatched")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _draw_batches(axis: Any, report: Report, funnels: list[Report]) -> None:
    """Loss of filters and sub-batches to an exact, unbatched funnel, for all items ranked."""
    most = max(row["items"] for row in funnels)
    rows = [row for row in funnels if row["items"] == most and _differs(row)]
    keeps = sorted({tuple(row["keep"]) for row in rows})
    kinds = sorted({("/".join(dict.fromkeys(row["filters"])), row["sub_batches"]) for row in rows})
    for number, (filters, count) in enumerate(kinds):
        at, gaps = [], []
        for row in rows:
            if ("/".join(dict.fromkeys(row["filters"])), row["sub_batches"]) == (filters, count):
                shift = (number - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
                at.append(keeps.index(tuple(row["keep"])) + shift)
                gaps.append(row["int8"]["against_exact"])
        axis.errorbar(
            at,
            [gap["mean"] for gap in gaps],
            yerr=[
                [gap["mean"] - gap["low"] for gap in gaps],
                [gap["high"] - gap["mean"] for gap in gaps],
            ],
            fmt="s" if "bins" in filters else "o",
            capsize=3,
            color=COLOURS[count.bit_length() % len(COLOURS)],
            label=f"{filters}, {count} sub-batch{'es' if count > 1 else ''}",
        )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(
        range(len(keeps)), [" → ".join(str(k) for k in (most, *keep)) for keep in keeps]
    )
    axis.set_ylabel(f"NDCG@{report['k']}, difference to exact and unbatched")
    axis.set_title("What filters and sub-batches cost, query by query")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize="small")
