"""This computer's GPU as the scheduler's platform: times, and scores beside the CPU's.

    python -m benchmarks.gpu [CONFIG ...] [--json] [--save NAME FILE]

For each model and number of items of the configurations' funnels, milliseconds of a query from
pinned host memory and back: as a CUDA graph, which is what the platform ``gpu`` does, and kernel by
kernel; and the largest difference of a score from that of the same model on the CPU. ``--save``
writes the first configuration's profile under a name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rpaccel.config import Config, load
from rpaccel.report import grid
from rpaccel.schedule.cpu import import_torch, scorer
from rpaccel.schedule.gpu import GpuScorer, measure_gpu
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import sizes


def difference(config: Config) -> dict[str, dict[str, float]]:
    """Of each model's scores on all items: the largest distance to the CPU's, and their spread."""
    found = {}
    for model in config.models:
        here = scorer(config, model, 0)(config.funnel.items)
        there = [GpuScorer(config, model, 0, graphs=g)(config.funnel.items) for g in (True, False)]
        worst = max(float((each - here).abs().max()) for each in there)
        found[model.name] = {"largest": worst, "standard_deviation": float(here.std())}
    return found


def measured(config: Config) -> tuple[Profile, dict[str, Any]]:
    profiles = [measure_gpu(config, sizes(config), graphs=graphs) for graphs in (True, False)]
    rows = [
        {"model": a.model, "items": a.items, "graph": a.seconds, "kernels": b.seconds}
        for a, b in zip(*(p.points for p in profiles), strict=True)
    ]
    return profiles[0], {
        "config": config.name,
        "machine": profiles[0].machine,
        "source": profiles[0].source,
        "rows": rows,
        "differences": difference(config),
    }


def text(report: dict[str, Any]) -> str:
    title = f"{report['config']}: ms a query, {report['machine']}; {report['source']}"
    header = ["model", "items", "CUDA graph", "kernel by kernel"]
    rows = [
        [r["model"], str(r["items"]), f"{r['graph'] * 1e3:.4f}", f"{r['kernels'] * 1e3:.4f}"]
        for r in report["rows"]
    ]
    lines = [grid(title, header, rows)]
    for name, found in report["differences"].items():
        lines.append(
            f"{name}: scores differ from the CPU's by {found['largest']:.2g} at most "
            f"(standard deviation {found['standard_deviation']:.2g})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="*", default=["examples/recpipe.toml"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", nargs=2, metavar=("NAME", "FILE"))
    given = parser.parse_args()
    if not import_torch().cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here")
    found = [measured(load(name)) for name in given.config]
    if given.save:
        name, path = given.save
        found[0][0].model_copy(update={"name": name}).save(Path(path))
    reports = [report for _, report in found]
    print(json.dumps(reports) if given.json else "\n\n".join(map(text, reports)))


if __name__ == "__main__":
    main()
