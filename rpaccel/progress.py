"""The progress bar of everything that takes longer than two seconds."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.progress import Progress

__all__ = ["progress_bar"]


def progress_bar() -> Progress:
    """A progress bar beside the log, silent where the log is."""
    quiet = not logging.getLogger("rpaccel").isEnabledFor(logging.INFO)
    return Progress(console=Console(stderr=True), transient=True, disable=quiet)
