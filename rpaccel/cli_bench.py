"""``rpaccel bench``: figures of the machine's parts. Each command imports what it needs itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rpaccel.cli_output import AsJson, Picture, make_folder, show

__all__ = ["bench"]

bench = typer.Typer(no_args_is_help=True, help="Figures of the machine's parts, each by a command.")


@bench.command()
def array(
    rtl: Annotated[
        bool, typer.Option("--rtl", help="From whole machines in Verilator (hours).")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART", help="Of --rtl: sizes (figure 10a) or settings; repeatable. Else all."
        ),
    ] = None,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Cycles and utilisation of the array at the size of the paper's Table 3, from its model."""
    from rpaccel import array_report, bench_array, bench_array_rtl
    from rpaccel.bench_groups import SETTINGS
    from rpaccel.errors import ConfigError
    from rpaccel.progress import telling

    parts = only or list(bench_array_rtl.PARTS)
    if not set(parts) <= set(bench_array_rtl.PARTS):
        raise ConfigError(f"--only must be of {', '.join(bench_array_rtl.PARTS)}, not {parts}")
    if only and not rtl:
        raise ConfigError("--only goes with --rtl")
    if picture is not None:
        make_folder(picture.parent)
    if rtl:
        with telling("array") as say:
            report = bench_array_rtl.bench(
                tuple(bench_array_rtl.ITEMS) if "sizes" in parts else (),
                tuple(SETTINGS) if "settings" in parts else (),
                say=say,
            )
        show(report, bench_array_rtl.table(report), as_json)
    else:
        report = bench_array.bench()
        show(report, array_report.table(report), as_json)
    if picture is not None:
        (bench_array_rtl if rtl else array_report).draw(report, picture)


@bench.command()
def embedding(
    movielens: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of MovieLens 1M, to be measured too."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART", help="traces, splits, gather, machine or rtl; repeatable. Else all."
        ),
    ] = None,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """The embedding memory against its targets: models and RTL (needs the extra ``bench``)."""
    from rpaccel.bench_embedding import PARTS
    from rpaccel.bench_embedding import bench as figures
    from rpaccel.embedding_report import draw, table
    from rpaccel.errors import ConfigError
    from rpaccel.progress import telling

    parts = only or PARTS
    if picture is not None:
        if not {"traces", "splits"} <= set(parts):
            raise ConfigError(f"a picture shows traces and splits, not {', '.join(parts)} alone")
        make_folder(picture.parent)
    with telling("embedding") as say:
        report = figures(movielens, parts, say=say)
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
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """RecPipe's figures 7, 8, 12, 13 and 14 for Criteo on the scheduler's platforms."""
    from rpaccel.config import load
    from rpaccel.schedule.bench import bench as figure14
    from rpaccel.schedule.bench import table
    from rpaccel.schedule.figures import figures, text
    from rpaccel.schedule.pictures import draw

    if picture is not None:
        make_folder(picture.parent)
    loaded = load(config)
    report = figure14(loaded) | figures(loaded)
    show(report, f"{table(report)}\n\n{text(report)}", as_json)
    if picture is not None:
        draw(report, picture)


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
    from rpaccel.progress import telling

    with telling("pipeline") as say:
        report = figures(
            machine,
            baseline,
            queries=queries,
            say=say,
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
    from rpaccel.progress import telling

    with telling("ablation") as say:
        report = figures(config, queries=queries, say=say)
    show(report, table(report), as_json)


@bench.command()
def arrivals(
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `rpaccel bench pipeline --json`; else as shipped."),
    ] = None,
    queries: Annotated[
        tuple[int, int], typer.Option(min=1, help="At random times on each machine.")
    ] = (40, 4),
    as_json: AsJson = False,
) -> None:
    """Both machines of ``pipeline`` in RTL, under queries that come at random and in pairs."""
    from rpaccel.bench_arrivals import bench as figures
    from rpaccel.bench_arrivals import table
    from rpaccel.progress import telling
    from rpaccel.recorded import read

    known = read(record)
    with telling("arrivals") as say:
        report = figures(known, at_random=queries, say=say)
    show(report, table(report), as_json)


@bench.command()
def headline(
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `rpaccel bench pipeline --json`; else as shipped."),
    ] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `rpaccel bench arrivals --json`; else as shipped."),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Of held-out quality, for ratio B; else as shipped."),
    ] = None,
    queries: Annotated[int, typer.Option(min=100_000, help="Of each simulation.")] = 10_000_000,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw p99 over load here (PNG).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """RPAccel against the baseline under load: queries a second and tails, from RTL cycles."""
    from rpaccel.bench_headline import bench as figures
    from rpaccel.bench_headline import draw, table

    if picture is not None:
        make_folder(picture.parent)
    report = figures(record, arrivals, qualities=qualities, queries=queries)
    show(report, table(report), as_json)
    if picture is not None:
        draw(report, picture)


@bench.command()
def cpu(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="With trained models and a funnel.")
    ] = Path("examples/demo.toml"),
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Of each stage, in place of the configuration's."),
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="At random times, each funnel.")] = 2000,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes of one thread (0: a processor less).")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """One stage against the funnel on this computer's CPU, really run (needs the extra train)."""
    from rpaccel.bench_cpu import bench as figures
    from rpaccel.bench_cpu import of_stages, table
    from rpaccel.config import load

    read = load(config)
    report = figures(of_stages(read, stage) if stage else read, queries=queries, workers=workers)
    show(report, table(report), as_json)


@bench.command()
def provision(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="By default the machine of Table 3.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1000, help="Of the day.")] = 20_000,
    as_json: AsJson = False,
) -> None:
    """Regrouping the array while the load changes over a day, from predicted cycles."""
    from rpaccel.bench_provision import bench as figures
    from rpaccel.bench_provision import table

    report = figures(config, queries=queries)
    show(report, table(report), as_json)


@bench.command(name="plans")
def bench_plans(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="With trained models.")] = Path(
        "examples/demo.toml"
    ),
    qps: Annotated[
        float | None, typer.Option(min=0.001, help="By default half of what the best can do.")
    ] = None,
    quality: Annotated[float, typer.Option(help="Relative, as of `rpaccel schedule`.")] = 0.99,
    queries: Annotated[int, typer.Option(min=320, help="Of each plan.")] = 600,
    cache: Annotated[Path, typer.Option(metavar="DIR", help="For what is measured once.")] = Path(
        "build/schedule"
    ),
    as_json: AsJson = False,
) -> None:
    """The scheduler's ten best plans for this CPU, run for real, beside what it predicts."""
    from rpaccel.bench_plans import bench as figures
    from rpaccel.bench_plans import table
    from rpaccel.config import load

    report = figures(load(config), cache, qps=qps, quality=quality, queries=queries)
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
    from rpaccel.progress import telling

    if picture is not None:
        make_folder(picture.parent)
    with telling("area") as say:
        report = figures(machine, baseline, say=say)
    show(report, table(report), as_json)
    if picture is not None:
        draw(report, picture)
