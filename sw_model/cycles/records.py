"""The state of the model: a record a unit, in arrays that compiled functions share.

Queues are counted, not filled: what is in them follows from the order of tokens, segments and rows,
which is known. Within a cycle consumers go first, so what a producer puts into a queue is seen in
the next cycle; ``popped`` is the cycle in which an entry was taken last, which makes no room before
the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

__all__ = ["FAR", "SOURCES", "compiled", "record", "wake", "wake_at"]

FAR = 1 << 60
"""A cycle that never comes."""

# Without reference counts, which nothing here needs: kernels allocate nothing. Five times faster.
_OPTIONS = {"_nrt": False, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of the model."""
    return njit(**_OPTIONS)(function)


def _sources() -> int:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int(digest.hexdigest()[:15], 16)


SOURCES = _sources()
"""Digest of the model's own text: compiled code that was kept is only good for the same."""


def record(fields: str, **arrays: int) -> np.dtype[Any]:
    """Type of a record of integers; ``arrays`` gives those that are arrays with their length."""
    kinds: list[Any] = [(name, np.int64) for name in fields.split()]
    return np.dtype(kinds + [(name, np.int64, (length,)) for name, length in arrays.items()])


@compiled
def wake(m):
    """Something changed: look at the next cycle, too."""
    m.clock[0].moved = 1


@compiled
def wake_at(m, cycle):
    """Something can change in a cycle to come."""
    m.clock[0].wake = min(m.clock[0].wake, cycle)
