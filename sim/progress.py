"""Progress of steps that take longer than a moment, on the terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["status"]


@contextmanager
def status(label: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show that something is going on, on standard error.

    A terminal shows a spinner, the running time and the latest detail; a log file gets one line at
    the start and one at the end.

    Parameters
    ----------
    label : str
        What is being done.
    quiet : bool
        Show nothing.

    Yields
    ------
    say : function of a str
        Replaces the detail that is shown after the label.
    """
    if quiet:
        yield lambda detail: None
        return
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(label) as spinner:

            def say(detail: str) -> None:
                spinner.update(f"{label}: {detail} ({time.monotonic() - started:.0f} s)")

            yield say
    else:
        print(f"{label} ...", file=sys.stderr, flush=True)
        yield lambda detail: None
    print(f"{label}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
