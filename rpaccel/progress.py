"""The progress bar of everything that takes longer than two seconds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

__all__ = ["progress_bar", "telling"]


def progress_bar() -> Progress:
    """A progress bar beside the log, silent where the log is."""
    quiet = not logging.getLogger("rpaccel").isEnabledFor(logging.INFO)
    return Progress(console=Console(stderr=True), transient=True, disable=quiet)


@contextmanager
def telling(what: str) -> Iterator[Callable[[str], None]]:
    """Show a bar without an end; what is given tells what is going on."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda text: bar.update(task, description=text)
