"""``rpaccel bench``: figures of the machine's parts. Each command imports what it needs itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rpaccel.cli_output import AsJson, make_folder, show

__all__ = ["bench"]

bench = typer.Typer(no_args_is_help=True, help="Figures of the machine's parts, each by a command.")


@bench.command()
def array(
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures here (PNG).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cycles and utilisation of the array at the size of the paper's Table 3, from its model."""
    from rpaccel.bench_array import bench as figures
    from rpaccel.bench_array import draw, table

    report = figures()
    show(report, table(report), as_json)
    if picture is not None:
        make_folder(picture.parent)
        draw(report, picture)


@bench.command()
def embedding(
    movielens: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of MovieLens 1M, to be measured too."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures here (PNG).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lines that the embedding memory fetches, and access times (needs the extra ``bench``)."""
    from rpaccel.bench_embedding import bench as figures
    from rpaccel.embedding_report import draw, table

    if picture is not None:
        make_folder(picture.parent)
    report = figures(movielens)
    show(report, table(report), as_json)
    if picture is not None:
        draw(report, picture)


@bench.command()
def topk(
    streams: Annotated[
        int, typer.Option(min=1, help="Adversarial streams for the exact ranking.")
    ] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Filters: cycles of the gateware, the ranking against brute force, area (extra ``area``)."""
    from rpaccel.bench_topk import CASES, LIMIT, table
    from rpaccel.bench_topk import bench as figures
    from rpaccel.progress import progress_bar

    with progress_bar() as bar:
        tasks = {
            "cycles": bar.add_task("filters", total=len(CASES) * len(LIMIT)),
            "streams": bar.add_task("streams", total=streams),
        }
        report = figures(streams, progress=lambda what, n: bar.advance(tasks[what], n))
    show(report, table(report), as_json)


@bench.command(name="schedule")
def bench_schedule(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="With RecPipe's models.")] = Path(
        "examples/recpipe.toml"
    ),
    as_json: AsJson = False,
) -> None:
    """RecPipe's figure 14 for Criteo on the scheduler's platforms, and how fast it screens."""
    from rpaccel.config import load
    from rpaccel.schedule.bench import bench as figures
    from rpaccel.schedule.bench import table

    report = figures(load(config))
    show(report, table(report), as_json)


@bench.command()
def pipeline(
    machine: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="By default a preset, Table 3.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="By default a preset of that size.")
    ] = None,
    queries: Annotated[
        tuple[int, int], typer.Option(min=2, help="Back to back on each; half are measured.")
    ] = (16, 4),
    as_json: AsJson = False,
) -> None:
    """The whole machine against the baseline, in RTL with everything live; half an hour."""
    from rpaccel.bench_pipeline import bench as figures
    from rpaccel.bench_pipeline import table
    from rpaccel.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("pipeline", total=None)
        report = figures(
            machine,
            baseline,
            queries=queries,
            say=lambda text: bar.update(task, description=text),
        )
    show(report, table(report), as_json)


@bench.command()
def ablation(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="With all features; by default small.")
    ] = None,
    queries: Annotated[int, typer.Option(min=4, help="Back to back; half are measured.")] = 12,
    as_json: AsJson = False,
) -> None:
    """What each feature of RPAccel is worth, alone and on top of others, in RTL; minutes."""
    from rpaccel.bench_ablation import bench as figures
    from rpaccel.bench_ablation import table
    from rpaccel.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("ablation", total=None)
        report = figures(
            config, queries=queries, say=lambda text: bar.update(task, description=text)
        )
    show(report, table(report), as_json)


@bench.command()
def area(
    machine: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="By default a preset, Table 3.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="By default a preset of that size.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures here (PNG).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Silicon area and power by block, beside the baseline (extra ``area``, a cell library)."""
    from rpaccel.area_report import draw, table
    from rpaccel.bench_area import bench as figures
    from rpaccel.progress import progress_bar

    if picture is not None:
        make_folder(picture.parent)
    with progress_bar() as bar:
        task = bar.add_task("area", total=None)
        report = figures(machine, baseline, say=lambda text: bar.update(task, description=text))
    show(report, table(report), as_json)
    if picture is not None:
        draw(report, picture)
