"""What commands have in common: arguments, and how results leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rpaccel.errors import ConfigError

__all__ = ["AsJson", "ConfigPath", "OutputDir", "Picture", "make_folder", "show"]

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration file (TOML).")]
OutputDir = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the figures here (PNG).")]


def show(report: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a report, for people or for programs."""
    print(json.dumps(report, indent=2) if as_json else text)


def make_folder(folder: Path) -> None:
    """Make a folder for results, before the work that they come from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
