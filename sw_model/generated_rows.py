"""Rows of tables that nobody stores: a function of table, row and element (docs/numerics.md)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GeneratedRows", "table_key"]


def table_key(model: str, table: str) -> int:
    """What tells the rows of a model's table from those of others."""
    return zlib.crc32(f"{model}.{table}".encode())


@dataclass(frozen=True)
class GeneratedRows:
    """Rows in place of an int8 array: indexed by row numbers, a slice of them, or one.

    Attributes
    ----------
    key : int
        See :func:`table_key`.
    shape : (int, int)
        Rows and elements of a row.
    """

    key: int
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> NDArray[np.int8]:
        """Make rows; int8 of the shape of ``rows`` and one axis more.

        Raises
        ------
        IndexError
            There is no such row.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        numbers = np.asarray(rows, np.int64)
        if ((numbers < 0) | (numbers >= len(self))).any():
            raise IndexError(f"rows must be 0..{len(self) - 1}")
        words = np.arange(-(-self.shape[1] // 4), dtype=np.uint32) * np.uint32(0x85EBCA77)
        v = numbers.astype(np.uint32)[..., None] * np.uint32(0x9E3779B1) + words
        v += np.uint32(self.key)
        v = (v ^ v >> np.uint32(16)) * np.uint32(0x7FEB352D)
        v = (v ^ v >> np.uint32(15)) * np.uint32(0x846CA68B)
        v = (v ^ v >> np.uint32(16)).astype("<u4")
        return v.view(np.int8)[..., : self.shape[1]]
