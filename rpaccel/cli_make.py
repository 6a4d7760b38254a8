"""Commands that make something: Verilog, bitstreams, models, images.

Each imports what it needs itself, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rpaccel.cli_output import AsJson, ConfigPath, OutputDir, Picture, make_folder, show

__all__ = ["build", "compile_", "generate", "import_", "quantise", "train"]


def generate(config: ConfigPath, output: OutputDir) -> None:
    """Write the machine's Verilog, its SRAM macros' models and its description."""
    from rpaccel.config import load
    from rtl_gen.generate import write

    for path in write(load(config), output):
        print(path)


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


def compile_(
    config: ConfigPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where to write.")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Print tiles, placement, limits, and why.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compile the quantised models to a memory image with tile programs."""
    from rpaccel.config import load
    from rpaccel.explain import explain as explain_image
    from rpaccel.explain import explain_sub_batches
    from rpaccel.progress import telling
    from rpaccel.sub_batches import alternatives
    from rpaccel.workflow import Workflow

    work = Workflow(load(config))
    image = work.image
    report: dict[str, Any] = {"image_id": image.image_id, "bytes": len(image.data)}
    if output is not None:
        make_folder(output)
        path = output / "image.bin"
        image.save(path)
        report["file"] = str(path)
    text = "\n".join(f"{key}: {value}" for key, value in report.items())
    if explain:
        with telling("sub-batches"):
            rows = alternatives(work.config, work.quantised)
        others = explain_sub_batches(work.config.funnel.sub_batches, rows)
        report["explain"] = f"{explain_image(image)}\n\n{others}"
        text += "\n\n" + report["explain"]
    show(report, text, as_json)
