"""Tables of a funnel: how they lie in lines, in which lanes, and what of them is held on chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.gather_plan import GatherPlan, plan_gather
from rpaccel.image import table_layout, table_lines
from rpaccel.placement import macro_heat, share_evenly, share_hottest, share_macros
from sw_model.generated_rows import GeneratedRows
from sw_model.quantised import QuantisedModel

__all__ = ["PlacedTable", "StageTables", "plan_tables"]

Hotness = Sequence[Mapping[str, ArrayLike]]


class PlacedTable(NamedTuple):
    """A table's rows, and how they lie in lines of memory."""

    rows: NDArray[np.int8] | GeneratedRows
    line_bytes: int

    @property
    def log2_rows(self) -> int:
        """See :func:`rpaccel.image.table_layout`."""
        return table_layout(self.rows.shape[1], self.line_bytes)[0]

    @property
    def lines_per_row(self) -> int:
        """See :func:`rpaccel.image.table_layout`."""
        return table_layout(self.rows.shape[1], self.line_bytes)[1]

    @property
    def size(self) -> int:
        """Lines of all rows."""
        return -(-len(self.rows) >> self.log2_rows) * self.lines_per_row

    @property
    def generated(self) -> bool:
        """It is nowhere as a whole."""
        return isinstance(self.rows, GeneratedRows)

    def rows_in(self, lines: int) -> int:
        """Rows in the first lines, of whole rows."""
        return min(len(self.rows), (lines << self.log2_rows) // self.lines_per_row)

    def first(self, lines: int) -> NDArray[np.uint8]:
        """The first lines, of whole rows."""
        return table_lines(self.rows[: self.rows_in(lines)], self.line_bytes)


class StageTables(NamedTuple):
    """Tables of a stage.

    Attributes
    ----------
    tables : list of PlacedTable
    gather : GatherPlan
        Their lanes.
    macros : list of int
        Static macros of each lane.
    static : list of int
        Lines of each table in the static region.
    begins : list of int
        Where they begin there, all macros counted.
    """

    tables: list[PlacedTable]
    gather: GatherPlan
    macros: list[int]
    static: list[int]
    begins: list[int]


def plan_tables(
    config: Config, models: Sequence[QuantisedModel], hotness: Hotness | None
) -> list[StageTables]:
    """Deal the tables of each stage to lanes, static macros to the lanes, their lines to tables.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    hotness : sequence of mappings, optional
        See :func:`rpaccel.compiler.compile_image`.

    Raises
    ------
    ConfigError
        ``hotness`` does not fit the models, or the gather units do not take the tables.
    """
    hardware = config.hardware
    macro_lines = hardware.macro_lines
    stages, lanes = [], []
    for number, model in enumerate(models):
        tables = [PlacedTable(t.rows, hardware.memory.line_bytes) for t in model.tables]
        gather = plan_gather(config, number, model)
        heat = None if hotness is None else _heat(model, tables, hotness[number])
        stages.append((tables, gather, heat))
        lanes += [(tables, own, heat) for own in gather.lanes]
    sizes = [-(-sum(tables[t].size for t in own) // macro_lines) for tables, own, _ in lanes]
    heats = [
        macro_heat([heat[t] for t in own], [tables[t].lines_per_row for t in own], macro_lines)
        for tables, own, heat in lanes
        if heat is not None
    ]
    macros = share_macros(hardware.static_macros, sizes, heats if hotness is not None else None)
    found, at, given = [], 0, iter(macros)
    for tables, gather, heat in stages:
        mine = [next(given) for _ in gather.lanes]
        static, begins = [0] * len(tables), [0] * len(tables)
        for own, count in zip(gather.lanes, mine, strict=True):
            line = at * macro_lines
            shares = _lines(count * macro_lines, tables, own, heat)
            for table, lines in zip(own, shares, strict=True):
                static[table], begins[table] = lines, line
                line += lines
            at += count
        found.append(StageTables(tables, gather, mine, static, begins))
    return found


def _heat(
    model: QuantisedModel, tables: Sequence[PlacedTable], hotness: Mapping[str, ArrayLike]
) -> list[NDArray[np.float64]]:
    """Accesses to each unit of each table: a line where rows share lines, else a row.

    Raises
    ------
    ConfigError
        ``hotness`` does not name each table, or gives numbers for more rows than it has.
    """
    heat = []
    for table, placed in zip(model.tables, tables, strict=True):
        if table.name not in hotness:
            raise ConfigError(f"hotness is not given for {model.name}.{table.name}")
        accesses = np.asarray(hotness[table.name], np.float64)
        if accesses.ndim != 1 or not 1 <= len(accesses) <= len(table.rows):
            raise ConfigError(
                f"hotness of {model.name}.{table.name}: shape must be ({len(table.rows)},) or "
                f"less, not {accesses.shape}"
            )
        first = np.arange(0, len(accesses), 1 << placed.log2_rows)
        heat.append(np.add.reduceat(accesses, first))
    return heat


def _lines(
    available: int,
    tables: Sequence[PlacedTable],
    own: Sequence[int],
    heat: Sequence[NDArray[np.float64]] | None,
) -> list[int]:
    """Lines of each table of a lane, given by their numbers, in the lane's macros."""
    units = [tables[n].lines_per_row for n in own]
    if heat is None:
        return share_evenly(available, [tables[n].size for n in own], units)
    return share_hottest(available, [heat[n] for n in own], units)
