"""Embedding tables of a funnel in memory lines, and the static region that holds some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sw_model.lookups import Visit

__all__ = ["Layout", "StageTables"]


@dataclass(frozen=True)
class StageTables:
    """Tables of a stage: how many rows each has, and the bytes of a row of each."""

    rows: tuple[int, ...]
    row_bytes: tuple[int, ...]


class Layout:
    """Where rows lie, by the rule of the memory image.

    As many rows share a line as is a power of two and fits; a longer row has lines of its own. All
    stages' tables are one behind the other.

    Parameters
    ----------
    stages : sequence of StageTables
    line_bytes : int

    Attributes
    ----------
    tables : list of (int, int)
        Stage and table of each table, in the order of memory.
    first : int64, shape (tables + 1,)
        First line of each, and the end of the last.
    """

    def __init__(self, stages: Sequence[StageTables], line_bytes: int) -> None:
        self.stages, self.line_bytes = tuple(stages), line_bytes
        self.tables = [(s, t) for s, stage in enumerate(stages) for t in range(len(stage.rows))]
        self._per_line, self._lines_per_row, sizes = [], [], []
        for stage in stages:
            for rows, size in zip(stage.rows, stage.row_bytes, strict=True):
                lines = -(-size // line_bytes)
                per_line = 1 << (line_bytes // size).bit_length() - 1 if lines == 1 else 1
                self._per_line.append(per_line)
                self._lines_per_row.append(lines)
                sizes.append(-(-rows // per_line) * lines)
        self.first = np.concatenate([[0], np.cumsum(sizes)])

    def lines(self, visit: Visit) -> NDArray[np.int64]:
        """Lines that a visit reads, in order; int64, shape (n,)."""
        start = self.tables.index((visit.stage, 0))
        columns = []
        for t, rows in enumerate(visit.rows.T, start=start):
            lines = rows // self._per_line[t] * self._lines_per_row[t] + self.first[t]
            columns += [lines + part for part in range(self._lines_per_row[t])]
        return np.stack(columns, axis=1).ravel()

    def table_of(self, lines: NDArray[np.integer]) -> NDArray[np.int64]:
        """Position in :attr:`tables` of the table that each line is of."""
        return np.searchsorted(self.first, lines, side="right") - 1

    def heat(self, lines: NDArray[np.integer], macro_lines: int) -> list[NDArray[np.int64]]:
        """For each table, accesses to the lines of each of the macros that it would fill."""
        sizes = -(-np.diff(self.first) // macro_lines)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        table = self.table_of(lines)
        macro = starts[table] + (lines - self.first[table]) // macro_lines
        return np.split(np.bincount(macro, minlength=int(starts[-1])), starts[1:-1])

    def held(
        self, lines: NDArray[np.integer], macros: NDArray[np.int64], macro_lines: int
    ) -> NDArray[np.bool_]:
        """Which lines are in a static region with so many macros a table."""
        end = self.first[:-1] + macros * macro_lines
        return np.asarray(lines < end[self.table_of(lines)])

    def accesses_per_item(self, stage: int) -> int:
        """Lines read for an item of a stage."""
        start = self.tables.index((stage, 0))
        return sum(self._lines_per_row[start : start + len(self.stages[stage].rows)])
