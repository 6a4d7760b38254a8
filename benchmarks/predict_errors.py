"""How far the cycle model is from RTL, by the rows of :mod:`benchmarks.predict_agreement`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def states(row: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Cycles of each state by RTL and by the model; those of starving are what is left."""
    both = {
        name: (row["rtl"]["counts"][name], cycles)
        for name, cycles in row["model"]["counts"].items()
    }
    return {name: pair for name, pair in both.items() if ".starved" not in name and any(pair)}


def events(row: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Counts of the gather units' lookups by RTL and by the model."""
    model = row["model"]["events"]
    return {name: (row["rtl"]["counts"][name], count) for name, count in model.items()}


def _errors(row: Mapping[str, Any], what: str) -> list[float]:
    rtl, model = row["rtl"][what], row["model"][what]
    if isinstance(rtl, dict):
        rtl, model = list(rtl.values()), [model[name] for name in rtl]
    return [(m - r) / max(1, r) for r, m in zip(rtl, model, strict=True)]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of the rows of a file."""
    queries, layers = (
        np.abs([error for row in rows for error in _errors(row, what)])
        for what in ("queries", "layers")
    )
    stalls = [_stalled(row) for row in rows]
    exact, counted = (
        [all(rtl == model for rtl, model in what(row).values()) for row in rows]
        for what in (states, events)
    )
    return {
        "machines": len({row["seed"] for row in rows}),
        "configurations": len(rows),
        "exact_configurations": float(np.mean(exact)),
        "exact_counters": float(np.mean(counted)),
        "queries": len(queries),
        "exact_queries": float((queries == 0).mean()),
        "query_error": _distribution(queries),
        "layers": len(layers),
        "exact_layers": float((layers == 0).mean()),
        "layer_error": _distribution(layers),
        "same_cause": float(np.mean([same for same, _ in stalls])),
        "moved_cycles": float(np.mean([moved for _, moved in stalls])),
    }


def _distribution(errors: np.ndarray) -> dict[str, float]:
    named = {"median": 50, "p90": 90, "p99": 99, "max": 100}
    return {name: float(np.percentile(errors, q)) for name, q in named.items()}


def _stalled(row: Mapping[str, Any]) -> tuple[float, float]:
    """Share of units whose longest stall is the same, and of cycles in another state."""
    units: dict[str, list[tuple[str, int, int]]] = {}
    for name, (rtl, model) in states(row).items():
        unit, _, state = name.partition(".")
        units.setdefault(unit, []).append((state, rtl, model))
    same, moved, total = [], 0, 0
    for mine in units.values():
        stalls = [s for s in mine if s[0].startswith("stall_")]
        if stalls:
            same.append(max(stalls, key=lambda s: s[1])[0] == max(stalls, key=lambda s: s[2])[0])
        moved += sum(abs(rtl - model) for _, rtl, model in mine)
        total += row["rtl"]["counts"]["device.active"]
    return float(np.mean(same)), moved / total


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the errors of all queries."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    rtl, model = (
        np.array([cycles for row in rows for cycles in row[by]["queries"]])
        for by in ("rtl", "model")
    )
    error = (model - rtl) / rtl
    axes[0].loglog(rtl, model, ".", markersize=3)
    axes[0].set(xlabel="RTL, cycles a query", ylabel="model")
    axes[1].plot(np.sort(np.abs(error)) * 100, np.linspace(0, 1, len(error)))
    axes[1].axvline(3, linestyle=":")
    axes[1].set(xlabel="error, %", ylabel="share of queries", xscale="symlog")
    figure.savefig(path, dpi=120)
