"""Commands that run or measure what was made.

Each imports what it needs itself, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rpaccel.cli_output import AsJson, ConfigPath, make_folder, show

__all__ = ["predict", "quality", "run", "sweep", "verify"]


class DeviceKind(StrEnum):
    """What runs the queries."""

    golden = "golden"
    verilator = "verilator"
    icarus = "icarus"


def _device(value: str) -> str:
    """Refuse what is neither a DeviceKind nor serial:PORT."""
    if value in set(DeviceKind) or (value.startswith("serial:") and value != "serial:"):
        return value
    raise typer.BadParameter(f"{value!r} is not one of {', '.join(DeviceKind)}, serial:PORT")


class SimulatorKind(StrEnum):
    """Which simulator runs the RTL."""

    verilator = "verilator"
    icarus = "icarus"


def verify(
    config: ConfigPath,
    queries: Annotated[int, typer.Option(min=1, help="Queries to run.")] = 4,
    items: Annotated[
        int | None, typer.Option(min=1, help="Items of a query (default: the funnel's).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of models and queries.")] = 0,
    simulator: Annotated[SimulatorKind, typer.Option()] = SimulatorKind.verilator,
    as_json: AsJson = False,
) -> None:
    """Compare RTL with the golden model on random models and queries; exit 4 if they differ."""
    from rpaccel.config import load
    from rpaccel.verify import verify as run_verify

    report = run_verify(
        load(config), queries=queries, items=items, seed=seed, simulator=simulator.value
    )
    text = (
        f"{report['queries']} queries of {report['items']} items: ids and scores equal "
        f"({report['results']} results, {report['cycles']} cycles, seed {report['seed']})"
    )
    show(report, text, as_json)


def quality(
    config: ConfigPath,
    sub_batches: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of sub-batches; may be repeated (default: 1, 2, 4, 8)."),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Of each stage, in place of the configuration's."),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Test queries: of a click log in place of the configuration's period; of "
            "MovieLens at most so many users.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For quality.json, quality.png.")
    ] = Path("build/quality"),
    as_json: AsJson = False,
) -> None:
    """Measure quality over items a stage, filters and sub-batches, in float and int8."""
    from rpaccel.click_quality import with_test_queries
    from rpaccel.config import load, with_stages
    from rpaccel.sweep import SUB_BATCHES
    from rpaccel.sweep_report import draw_sweep, sweep_table
    from rpaccel.workflow import Workflow

    read = load(config)
    if queries is not None and read.data.periods is not None:
        read = with_test_queries(read, queries)
    work = Workflow(with_stages(read, stage) if stage else read, test_queries=queries)
    make_folder(output)
    report = work.sweep(sub_batches or SUB_BATCHES)
    (output / "quality.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_sweep(report, output / "quality.png")
    show(report, sweep_table(report), as_json)
    logging.getLogger(__name__).info("wrote quality.json and quality.png in %s", output)


def sweep(
    config: ConfigPath,
    dimension: Annotated[
        list[int] | None,
        typer.Option(help="Embedding dimension; may be repeated (default: 2, 4, 8, 16, 32)."),
    ] = None,
    mlp: Annotated[
        list[str] | None,
        typer.Option(help="Size of the MLPs; may be repeated (default: small, medium, large)."),
    ] = None,
    interaction: Annotated[
        list[str] | None, typer.Option(help="May be repeated (default: concat, dot).")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Models trained at a time, each by a thread.")
    ] = 2,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="For results; those there are kept."),
    ] = Path("build/sweep"),
    as_json: AsJson = False,
) -> None:
    """Train models of many sizes on a click log: error against work (needs the extra ``train``).

    A sweep that was interrupted goes on where it was.
    """
    from rpaccel.config import load
    from rpaccel.model_sweep import DIMENSIONS, INTERACTIONS, MLPS, Grid, sweep_models
    from rpaccel.model_sweep_report import draw, table

    grid = Grid(dimension or DIMENSIONS, mlp or tuple(MLPS), interaction or INTERACTIONS)
    read = load(config)
    make_folder(output)
    report = sweep_models(read, grid, output, workers=workers)
    draw(report, output / "sweep.png")
    show(report, table(report), as_json)
    logging.getLogger(__name__).info("wrote sweep.png in %s", output)


def run(
    config: ConfigPath,
    device: Annotated[
        str,
        typer.Option(
            help="What runs it: golden, verilator, icarus, or a board: serial:/dev/ttyUSB0.",
            callback=_device,
        ),
    ] = DeviceKind.verilator.value,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For report.json, report.png.")
    ] = Path("build/run"),
    waves: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the waveform (VCD) here.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write when each sub-batch was in which unit, and what units did (JSON trace "
            "events, for ui.perfetto.dev or chrome://tracing).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the data set's queries on a device, compare with the golden model, and report."""
    from rpaccel.config import load
    from rpaccel.report import draw, table
    from rpaccel.workflow import Workflow

    work = Workflow(load(config))
    make_folder(output)
    if trace is not None:
        make_folder(trace.absolute().parent)
    report = work.run(device=device, waves=waves, trace=trace)
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    written = ["report.json"]
    if draw(report, output / "report.png"):
        written.append("report.png")
    show(report, table(report), as_json)
    log = logging.getLogger(__name__)
    log.info("wrote %s", " and ".join(str(output / name) for name in written))


def predict(
    config: ConfigPath,
    hit_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of rows on chip, one a stage: draw hits in place of tracing the data set's "
            "queries. The result is statistical."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict the cycles of the data set's queries, and what limits them (extra ``bench``)."""
    from rpaccel.config import load
    from rpaccel.predict import Predictor, drawn_hits, report, text
    from rpaccel.workflow import Workflow

    work = Workflow(load(config))
    hits = drawn_hits(work.config, hit_rate) if hit_rate else None
    predictor = Predictor(work.config, work.quantised, work.image)
    if hits is None:
        jobs = [predictor.job(query) for query in work.queries]
    else:
        jobs = [predictor.untraced()] * work.config.data.queries
    found = report(predictor, jobs, hits)
    show(found, text(found), as_json)
