"""A hyperparameter sweep as text and as a picture."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from rpaccel.report import grid
from sw_model.bootstrap import LEVEL

__all__ = ["draw", "table"]

Report = dict[str, Any]

COLOURS = {"concat": "#1f77b4", "dot": "#d62728"}
MARKERS = {"small": "o", "medium": "s", "large": "^"}
FAR = 4
"""An error is far if it is so many times farther from the median than the least one."""

COSTS = {"macs": "multiply-accumulates an item", "parameters": "parameters"}


def table(report: Report) -> str:
    """Lay a report of :func:`rpaccel.model_sweep.sweep_models` out as text."""
    body = [
        [
            row["name"],
            str(row["macs"]),
            str(row["parameters"]),
            *(f"{row['error'][key]:.4f}" for key in ("mean", "low", "high")),
            *(f"{row[metric]['mean']:.4f}" for metric in ("log_loss", "auc", "ndcg")),
            "*" if row["best_macs"] else "",
            "*" if row["best_parameters"] else "",
            f"{row['seconds']:.0f}",
        ]
        for row in report["models"]
    ]
    head = [
        "", "MACs", "parameters", "error", "from", "to", "log loss", "AUC", f"NDCG@{report['k']}",
        "best for MACs", "for parameters", "CPU s",
    ]  # fmt: skip
    title = (
        f"{report['name']}: {len(body)} models, {report['training']} impressions, tested on "
        f"{report['queries']} queries, {LEVEL:.0%} intervals; * none with as few or fewer is better"
    )
    return grid(title, head, body)


def draw(report: Report, path: Path) -> None:
    """Draw error against work and against size, with the best of each.

    An error far from the others is at the upper edge, with its value.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", sharey=True)
    errors = [100 * row["error"]["mean"] for row in report["models"]]
    # a model whose training failed would leave no room for the others
    top = statistics.median(errors) + FAR * (statistics.median(errors) - min(errors))
    for axis, (cost, title) in zip(axes, COSTS.items(), strict=True):
        for row in report["models"]:
            interaction, mlp, dimension = row["name"].split("-")
            error = 100 * row["error"]["mean"]
            shown = min(error, top)
            axis.scatter(
                row[cost],
                shown,
                color=COLOURS[interaction],
                marker=MARKERS[mlp],
                s=36,
            )
            axis.annotate(
                dimension if shown == error else f"{dimension}: {error:.2f} %",
                (row[cost], shown),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize="x-small",
            )
        best = sorted((r for r in report["models"] if r[f"best_{cost}"]), key=lambda r: r[cost])
        axis.step(
            [row[cost] for row in best],
            [100 * row["error"]["mean"] for row in best],
            where="post",
            color="black",
            linewidth=0.8,
        )
        axis.set_xscale("log")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("error on held-out impressions, %")
    for name, colour in COLOURS.items():
        axes[1].scatter([], [], color=colour, label=name)
    for name, marker in MARKERS.items():
        axes[1].scatter([], [], color="grey", marker=marker, label=f"{name} MLPs")
    axes[1].legend(fontsize="small", loc="upper right")
    figure.suptitle(
        f"{report['name']}: {len(report['models'])} models by embedding dimension, "
        f"{report['training']:,} impressions"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
