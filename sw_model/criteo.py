"""Criteo Kaggle click logs: reading the file in blocks, vocabularies in order of popularity."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError

__all__ = [
    "CATEGORIES",
    "COLUMNS",
    "DENSE",
    "MISSING",
    "Block",
    "Vocabulary",
    "build_vocabulary",
    "read",
]

DENSE = tuple(f"I{i}" for i in range(1, 14))
"""Names of the columns of counts."""
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
"""Names of the columns of ids."""
COLUMNS = ("label", *DENSE, *CATEGORIES)
"""Names of all columns, in the order of the file, which has no header."""

MISSING = -1
"""Stands for an empty id."""

LABEL = rb"[01]"
INTEGER = rb"-?[0-9]{1,18}|"
HEX = rb"[0-9a-fA-F]{1,8}|"
ROW = re.compile(
    b"\t".join([LABEL, *[b"(?:%b)" % INTEGER] * len(DENSE), *[b"(?:%b)" % HEX] * len(CATEGORIES)])
)
ACCEPTED = (
    (re.compile(LABEL), "0 or 1"),
    *[(re.compile(INTEGER), "an integer of at most 18 digits or empty")] * len(DENSE),
    *[(re.compile(HEX), "1 to 8 hexadecimal digits or empty")] * len(CATEGORIES),
)
"""What a field may be, a column at a time: a pattern and its description."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a click log.

    Attributes
    ----------
    labels : int8, shape (n,)
        1 for a click.
    dense : float32, shape (n, 13)
        log(x + 1) of I1..I13. Missing and negative counts are taken for 0.
    categories : int64, shape (n, 26)
        Ids of C1..C26, 0 to 2**32 - 1, or :data:`MISSING`.
    """

    labels: NDArray[np.int8]
    dense: NDArray[np.float32]
    categories: NDArray[np.int64]


def read(path: str | Path, *, rows: int = 65_536) -> Iterator[Block]:
    """Read a click log of the Criteo Kaggle challenge, plain or ``.gz``, a block at a time.

    A line is a label, 13 integers and 26 hexadecimal ids between tabs, as in ``train.txt``. What
    a block holds depends on ``rows`` only; no more than a block is in memory at once.

    Parameters
    ----------
    path : str or Path
    rows : int
        Rows of a block, 1 or more; the last block may have fewer.

    Raises
    ------
    DataError
        The file is missing, empty or damaged, or a line makes no sense: names file, line and
        column. Blocks of earlier lines have been given by then.
    """
    if rows < 1:
        raise ValueError(f"rows must be a positive integer, not {rows!r}")
    path = Path(path)
    line = 0
    try:
        with _open(path) as file:
            while lines := _lines(file, rows, path, line):
                yield _block(lines, path, line)
                line += len(lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if line == 0:
        raise DataError(f"{path}, line 1: there are no rows")


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _lines(file: Iterable[bytes], rows: int, path: Path, line: int) -> list[bytes]:
    lines: list[bytes] = []
    try:
        lines.extend(islice(file, rows))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}, after line {line + len(lines)}: the compressed file is damaged: {error}"
        ) from None
    return lines


def _block(lines: list[bytes], path: Path, line: int) -> Block:
    labels, counts, ids = [], [], []
    for number, text in enumerate(lines, start=line + 1):
        row = text.rstrip(b"\r\n")
        if not ROW.fullmatch(row):
            raise DataError(f"{path}, line {number}{_complaint(row)}")
        label, *fields = row.split(b"\t")
        labels.append(label == b"1")
        counts.append([max(int(x), 0) if x else 0 for x in fields[: len(DENSE)]])
        ids.append([int(x, 16) if x else MISSING for x in fields[len(DENSE) :]])
    return Block(
        np.array(labels, dtype=np.int8),
        np.log1p(np.array(counts, dtype=np.float64)).astype(np.float32),
        np.array(ids, dtype=np.int64),
    )


def _complaint(row: bytes) -> str:
    fields = row.split(b"\t")
    if len(fields) != len(COLUMNS):
        return f": {len(COLUMNS)} columns expected, not {len(fields)}"
    for number, (name, field, (pattern, accepted)) in enumerate(
        zip(COLUMNS, fields, ACCEPTED, strict=True), start=1
    ):
        if not pattern.fullmatch(field):
            text = field.decode("ascii", "backslashreplace")
            return f", column {number} ({name}): must be {accepted}, not {text!r}"
    raise AssertionError("the row is right")


@dataclass(frozen=True)
class Vocabulary:
    """Ranks of ids by popularity, made by :func:`build_vocabulary`.

    Attributes
    ----------
    ids : tuple of int64 arrays
        For each column its known ids, the hottest first: the position of an id is its rank.
    counts : tuple of int64 arrays
        How often each was seen, descending.
    hash_size : int or None
        Ids were taken modulo this number first.
    """

    ids: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]
    hash_size: int | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each embedding table: the known ids, and one for all others, which is last."""
        return tuple(len(ids) + 1 for ids in self.ids)

    def ranks(self, categories: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ranks of raw ids, both of shape (n, columns); an unknown id has the last rank."""
        hashed = _hashed(categories, self.hash_size)
        ranks = np.empty_like(hashed)
        for column, (ids, rank) in enumerate(self._by_id):
            at = np.searchsorted(ids[:-1], hashed[:, column])
            known = ids[at] == hashed[:, column]
            ranks[:, column] = np.where(known, rank[at], len(ids) - 1)
        return ranks

    @cached_property
    def _by_id(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each column the known ids, ascending, and their ranks.

        One entry more, which is no id, for what is above the largest known one.
        """
        orders = [np.argsort(ids) for ids in self.ids]
        return [
            (np.append(ids[order], MISSING - 1), np.append(order, len(ids)))
            for ids, order in zip(self.ids, orders, strict=True)
        ]


def build_vocabulary(
    blocks: Iterable[NDArray[np.int64]], *, threshold: int = 1, hash_size: int | None = None
) -> Vocabulary:
    """Count the ids of each column and order them by popularity, ties by who was seen first.

    A missing id is an id like any other: in some columns it is the hottest. Ids seen fewer than
    ``threshold`` times are not known, and share the last rank with those never seen. Memory grows
    with the distinct ids, which ``hash_size`` limits.

    Parameters
    ----------
    blocks : iterable of int64 arrays, shape (n, columns)
        Raw ids, such as :attr:`Block.categories`.
    threshold : int
    hash_size : int, optional
        Take ids modulo this number before they are counted; missing stays missing.

    Raises
    ------
    DataError
        There are no rows to count.
    """
    for name, value in (("threshold", threshold), ("hash_size", hash_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be a positive integer, not {value!r}")
    seen: list[dict[int, int]] = []
    for block in blocks:
        hashed = _hashed(block, hash_size)
        seen = seen or [{} for _ in range(block.shape[1])]
        for column, counted in zip(hashed.T, seen, strict=True):
            ids, first, counts = np.unique(column, return_index=True, return_counts=True)
            # A dictionary keeps the order of insertion, so ids go in as they came.
            order = np.argsort(first)
            for key, count in zip(ids[order].tolist(), counts[order].tolist(), strict=True):
                counted[key] = counted.get(key, 0) + count
    if not seen:
        raise DataError("a vocabulary needs rows to count")
    ids_by_column, counts_by_column = [], []
    for counted in seen:
        ids = np.fromiter(counted.keys(), dtype=np.int64, count=len(counted))
        counts = np.fromiter(counted.values(), dtype=np.int64, count=len(counted))
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] >= threshold]
        ids_by_column.append(ids[order])
        counts_by_column.append(counts[order])
    return Vocabulary(tuple(ids_by_column), tuple(counts_by_column), hash_size)


def _hashed(categories: NDArray[np.int64], hash_size: int | None) -> NDArray[np.int64]:
    if hash_size is None:
        return categories
    return np.where(categories == MISSING, MISSING, categories % hash_size)
