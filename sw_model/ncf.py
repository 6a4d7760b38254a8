"""The leave-one-out test split of Neural Collaborative Filtering (He et al. 2017).

Two files: ``NAME.test.rating`` has a line ``user item rating time`` for each user, his held-out
item; ``NAME.test.negative`` has on the same line ``(user,item)`` and the items that are ranked
against it. Both may be ``.gz``.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError

__all__ = ["LeaveOneOut", "load_leave_one_out"]

_PAIR = re.compile(r"\((\d+),(\d+)\)")


@dataclass(frozen=True)
class LeaveOneOut:
    """A query for each user: his held-out item among others.

    The held-out item is the last candidate: where its score ties with another's it ranks behind,
    so a coarse score gains nothing. Where it was drawn among its own negatives, that one is no
    candidate (``used`` is False).

    Attributes
    ----------
    users : int64, shape (queries,)
    items : int64, shape (queries, candidates)
    used : bool, shape (queries, candidates)
        Whether there is a candidate in that place.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    used: NDArray[np.bool_]

    @property
    def relevant(self) -> NDArray[np.bool_]:
        """Which candidate is the held-out item, shape (queries, candidates)."""
        relevant = np.zeros(self.items.shape, dtype=bool)
        relevant[:, -1] = True
        return relevant


def load_leave_one_out(folder: str | Path, name: str = "ml-1m") -> LeaveOneOut:
    """Read a test split.

    Parameters
    ----------
    folder : path
    name : str
        How the names of the files begin.

    Raises
    ------
    DataError
        A file is missing or damaged, or has a line that makes no sense: names file and line.
    """
    rating = _find(Path(folder), f"{name}.test.rating")
    held = np.array(
        [
            [_number(rating, n, text) for text in _fields(rating, n, line, 2)[:2]]
            for n, line in _lines(rating)
        ],
        dtype=np.int64,
    )
    negative = _find(Path(folder), f"{name}.test.negative")
    rows: list[list[int]] = []
    for n, line in _lines(negative):
        pair, *others = _fields(negative, n, line, 2)
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise DataError(f"{negative}, line {n}: must begin with (user,item), not {pair!r}")
        if n > len(held) or [int(match[1]), int(match[2])] != held[n - 1].tolist():
            raise DataError(f"{negative}, line {n}: {pair} is not user and item of that line "
                            f"of {rating}")  # fmt: skip
        if rows and len(others) != len(rows[0]):
            raise DataError(
                f"{negative}, line {n}: has {len(others)} items after {pair}, "
                f"but line 1 has {len(rows[0])}"
            )
        rows.append([_number(negative, n, text) for text in others])
    if len(rows) != len(held) or not rows:
        raise DataError(f"{negative}: has {len(rows)} lines, {rating} has {len(held)}")
    negatives = np.array(rows, dtype=np.int64)
    items = np.concatenate([negatives, held[:, 1:]], axis=1)
    used = items != held[:, 1:]
    used[:, -1] = True
    return LeaveOneOut(held[:, 0], items, used)


def _find(folder: Path, name: str) -> Path:
    for path in folder / name, folder / f"{name}.gz":
        if path.exists():
            return path
    raise DataError(f"{folder / name}: missing, and so is {name}.gz")


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return list(enumerate(text.splitlines(), start=1))


def _fields(path: Path, line: int, text: str, least: int) -> list[str]:
    fields = text.split("\t")
    if len(fields) < least:
        raise DataError(
            f"{path}, line {line}: needs at least {least} fields separated by tabs, "
            f"not {len(fields)}"
        )
    return fields


def _number(path: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{path}, line {line}: {text!r} is no id, which is a number from 0 on")
    return int(text)
