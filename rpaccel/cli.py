"""The command line. Each command imports what it needs itself, so that ``--help`` is instant."""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rpaccel.cli_bench import bench
from rpaccel.cli_output import AsJson, ConfigPath, OutputDir, Picture, make_folder, show
from rpaccel.errors import ConfigError, RPAccelError

__all__ = ["app"]


class Commands(TyperGroup):
    """Ends a command that fails with one line and an exit code, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RPAccelError as error:
            print(f"rpaccel: error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:  # whoever read our output has seen enough: no error of ours
            raise
        except OSError as error:
            print(f"rpaccel: error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("rpaccel: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


class CurrentStderr(logging.StreamHandler):
    """Writes to what stderr is now: while there is a progress bar, it puts lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


app = typer.Typer(
    name="rpaccel",
    cls=Commands,
    help="RPAccel: hardware for multi-stage recommendation.",
    epilog="Exit codes: 2 bad usage, configuration or data; 3 missing tool; 4 gateware and golden "
    "model differ; 5 build, simulator or device failure; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


class ServedBy(StrEnum):
    """What a service's workers run queries on."""

    golden = "golden"
    verilator = "verilator"
    icarus = "icarus"
    cpu = "cpu"


class SimulatorKind(StrEnum):
    """Which simulator runs the RTL."""

    verilator = "verilator"
    icarus = "icarus"


class WhenFull(StrEnum):
    """What a service does with queries when too many wait."""

    shed = "shed"
    wait = "wait"


@app.callback()
def common(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")] = False,
) -> None:
    """RPAccel: hardware for multi-stage recommendation."""
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", handlers=[CurrentStderr()])
    for noisy in ("matplotlib", "PIL", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@app.command()
def generate(config: ConfigPath, output: OutputDir) -> None:
    """Write the machine's Verilog, its SRAM macros' models and its description."""
    from rpaccel.config import load
    from rtl_gen.generate import write

    for path in write(load(config), output):
        print(path)


@app.command()
def build(
    config: ConfigPath,
    board: Annotated[
        str, typer.Option(metavar="NAME", help="An ECP5 board of amaranth-boards: ulx3s_85f, ...")
    ],
    output: OutputDir,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Build a machine's bitstream for a board (needs the extra ``board``); tell size and clock."""
    from rpaccel.board_build import build_board, check_timing
    from rpaccel.board_report import draw, text
    from rpaccel.config import load
    from rpaccel.workflow import Workflow

    work = Workflow(load(config))
    make_folder(output)
    if picture is not None:
        make_folder(picture.parent)
    report = build_board(work.config, work.image, board, output)
    show(report, text(report), as_json)
    if picture is not None:
        draw(report, picture)
    check_timing(report)


@app.command()
def train(
    config: ConfigPath,
    output: OutputDir,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run in DIR stopped.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="Where PyTorch computes: cuda is a GPU.")
    ] = "cpu",
) -> None:
    """Train the configuration's models (needs the extra ``train``) and write float weights.

    Ctrl-C leaves a checkpoint in DIR.
    """
    from rpaccel.config import load
    from rpaccel.train import train as train_models

    for path in train_models(load(config), output, resume=resume, device=device):
        print(path)


@app.command(name="import")
def import_(
    config: ConfigPath,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of one of its models.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help=".h5 of Neural Collaborative Filtering, .pt of DLRM, .onnx of either.",
        ),
    ],
    output: OutputDir,
) -> None:
    """Turn another project's trained weights into MODEL.safetensors, or say what does not fit."""
    from rpaccel.config import load
    from rpaccel.importer import import_model

    imported = import_model(load(config), model, source)
    make_folder(output)
    path = output / f"{model}.safetensors"
    imported.save(path)
    print(path)


@app.command()
def quantise(config: ConfigPath, output: OutputDir, as_json: AsJson = False) -> None:
    """Quantise the models to int8, write them, and tell what each tensor loses."""
    from rpaccel.config import load
    from rpaccel.report import error_table
    from rpaccel.workflow import Workflow

    work = Workflow(load(config))
    make_folder(output)
    report: dict[str, Any] = {}
    errors = work.tensor_errors()
    for model in work.quantised:
        file = str(output / f"{model.name}.npz")
        model.save(file)
        each = {name: error._asdict() for name, error in errors.get(model.name, {}).items()}
        report[model.name] = {"file": file, "scales": model.scales, "errors": each}
    files = [str(entry["file"]) for entry in report.values()]
    show(report, "\n".join(files) + (f"\n\n{error_table(errors)}" if errors else ""), as_json)


@app.command(name="compile")
def compile_(
    config: ConfigPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where to write.")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Print tiles, placement, limits, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compile the quantised models to a memory image with tile programs."""
    from rpaccel.compiler import explain as explain_image
    from rpaccel.config import load
    from rpaccel.workflow import Workflow

    image = Workflow(load(config)).image
    report: dict[str, Any] = {"image_id": image.image_id, "bytes": len(image.data)}
    if output is not None:
        make_folder(output)
        path = output / "image.bin"
        image.save(path)
        report["file"] = str(path)
    text = "\n".join(f"{key}: {value}" for key, value in report.items())
    if explain:
        report["explain"] = explain_image(image)
        text += "\n\n" + report["explain"]
    show(report, text, as_json)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def schedule(
    config: ConfigPath,
    qps: Annotated[float, typer.Option(help="Queries a second, Poisson arrivals.")],
    p99: Annotated[str, typer.Option(metavar="TIME", help="Tail latency, such as 25ms.")],
    quality: Annotated[
        float, typer.Option(help="Relative to the last stage's model alone on all items.")
    ] = 0.999,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            help="rpaccel (default), rpaccel-rtl (the same in Verilator, long), cpu or gpu (timed "
            "here; gpu is t4 if there is none), a shipped one (cascade-lake-64, t4, h100) or a "
            "profile (.json); may be repeated."
        ),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Table of quality (.json, or recpipe-criteo, published) in place of measuring.",
        ),
    ] = None,
    queries: Annotated[
        int, typer.Option(min=1, help="Queries to simulate, all plans together.")
    ] = 10_000_000,
    cache: Annotated[Path, typer.Option(metavar="DIR", help="For what is measured once.")] = Path(
        "build/schedule"
    ),
    as_json: AsJson = False,
) -> None:
    """Find models, items and platforms for a load, a tail latency and a quality, and say why."""
    from rpaccel.config import load
    from rpaccel.schedule.command import duration, run, text
    from rpaccel.schedule.search import Targets

    targets = Targets(qps, duration(p99), quality)
    report = run(
        load(config), targets, platform or ["rpaccel"], cache, table=qualities, queries=queries
    )
    show(report, text(report), as_json)


@app.command()
def serve(
    config: ConfigPath,
    device: Annotated[
        ServedBy, typer.Option(help="What runs it; cpu: float models, PyTorch (extra train).")
    ] = ServedBy.golden,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    workers: Annotated[int, typer.Option(min=1, help="Processes with a device each.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Queries that may wait.")] = 64,
    full: Annotated[
        WhenFull, typer.Option(help="Shed queries when so many wait, or let clients wait.")
    ] = WhenFull.shed,
    as_json: AsJson = False,
) -> None:
    """Answer queries on a socket, JSON a line, until interrupted; then tell what became of all."""
    import asyncio

    from rpaccel.config import load
    from rpaccel.serve.command import line
    from rpaccel.serve.command import serve as run_service

    stats = asyncio.run(
        run_service(
            load(config),
            device=device.value,
            host=host,
            port=port,
            workers=workers,
            limit=limit,
            full=full.value,
        )
    )
    show(stats, line(stats), as_json)


@app.command(name="load")
def load_(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Of `rpaccel serve`.")],
    qps: Annotated[float, typer.Option(help="Queries a second, Poisson arrivals.")],
    queries: Annotated[int, typer.Option(min=1, help="Queries to send.")] = 1000,
    samples: Annotated[int, typer.Option(min=1, help="Sample queries to send in turns.")] = 1,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of each query, such as 25ms.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Send queries to a service at a rate, whatever becomes of them, and report latencies."""
    import asyncio

    from rpaccel.schedule.command import duration
    from rpaccel.serve.client import drive, text

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"address must be HOST:PORT, not {address!r}")
    report = asyncio.run(
        drive(
            host,
            int(port),
            qps=qps,
            queries=queries,
            samples=samples,
            deadline=None if deadline is None else duration(deadline),
            seed=seed,
        )
    )
    show(report, text(report), as_json)


app.add_typer(bench, name="bench")
