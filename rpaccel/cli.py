"""The command line: its commands, and how they end. They are in modules by what they do."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rpaccel.cli_bench import bench
from rpaccel.cli_make import build, compile_, generate, import_, quantise, train
from rpaccel.cli_measure import predict, quality, run, sweep, verify
from rpaccel.cli_serve import load_, schedule, serve
from rpaccel.errors import RPAccelError

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


COMMANDS: dict[str, Callable[..., None]] = {
    "generate": generate,
    "build": build,
    "train": train,
    "import": import_,
    "quantise": quantise,
    "compile": compile_,
    "verify": verify,
    "quality": quality,
    "sweep": sweep,
    "run": run,
    "predict": predict,
    "schedule": schedule,
    "serve": serve,
    "load": load_,
}
for name, command in COMMANDS.items():
    app.command(name=name)(command)
app.add_typer(bench, name="bench")
