"""Checkpoints of a training that can be interrupted: a file, and Ctrl-C at a safe point."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rpaccel.errors import DataError

__all__ = ["interruption", "load_checkpoint", "save_checkpoint", "why_unread"]

log = logging.getLogger(__name__)

VERSION = 1


def save_checkpoint(torch: Any, path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before stays until the new one is complete.

    Parameters
    ----------
    torch : module
    path : Path
    state : dict
        Tensors, numbers, strings and containers of them.
    """
    part = path.with_name(path.name + ".part")
    torch.save({"version": VERSION, **state}, part)
    os.replace(part, path)


def load_checkpoint(torch: Any, path: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Parameters
    ----------
    torch : module
    path : Path
    settings : dict of str
        What the training depends on; the checkpoint's ``settings`` must be the same.

    Raises
    ------
    DataError
        The file is no checkpoint of a training, or is damaged, or was made with other settings:
        names the file and what differs.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise DataError(f"{path}: cannot be read as a checkpoint: {why_unread(error)}") from None
    found = state.get("settings") if isinstance(state, dict) else None
    if not isinstance(found, dict) or state.get("version") != VERSION:
        raise DataError(f"{path}: not a checkpoint of `rpaccel train`, version {VERSION}")
    differ = [key for key, value in settings.items() if found.get(key) != value]
    if differ:
        shown = "; ".join(f"{key} was {found.get(key)}, not {settings[key]}" for key in differ)
        raise DataError(
            f"{path}: made with other settings, so the training cannot go on from it: {shown}"
        )
    return state


def why_unread(error: Exception) -> str:
    """First line of what `torch.load` raises, without its advice to execute what is in a file."""
    reason, *_ = str(error).strip().splitlines() or [type(error).__name__]
    if reason.startswith("Weights only load failed"):
        return "it is a pickle that needs code to be executed, or none of torch.save"
    return reason


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C a request to stop, which the function given tells; a second one kills.

    In a thread other than the main one, which signals do not reach, nothing is ever requested.
    """
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: asked
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
