"""Ranking tasks made of click logs: Criteo Kaggle's, or Criteo-like clicks with a planted truth.

A query is so many consecutive impressions, its relevant items those that were clicked. A log is cut
into a training, a calibration and a test period, in this order in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.dataset import PeriodsConfig
from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig
from sw_model.criteo import CATEGORIES, DENSE, Vocabulary, build_vocabulary, read
from sw_model.criteo_like import TABLES
from sw_model.dataset import DENSE_RANGE, quantise_dense
from sw_model.dlrm import Inputs
from sw_model.movielens import Split
from sw_model.planted import Periods, clicks
from sw_model.query import Query

__all__ = ["ClickLog", "Impressions"]

Rows = tuple[NDArray, NDArray, NDArray]
"""Labels (n,), log(x + 1) of counts (n, 13), and rows of the tables (n, 26)."""


@dataclass(frozen=True)
class Impressions:
    """Consecutive impressions of a log, as a query.

    Attributes
    ----------
    inputs : Inputs
    relevant : bool, shape (items,)
        What was clicked.
    """

    inputs: Inputs
    relevant: NDArray[np.bool_]


class ClickLog:
    """A click log in three periods, with features for models.

    Dense inputs are log(x + 1) of the 13 counts, standardised by the training period and clipped.
    The features' 26 tables are C1..C26 in their order. Of a log that is read, the vocabulary is
    that of the training period, and a table's last row stands for all ids that have none; of
    Criteo-like clicks a table has its hottest ids only.

    Parameters
    ----------
    features : FeaturesConfig
    periods : PeriodsConfig
        Rows of each period.
    path : path, optional
        A file of Criteo Kaggle; Criteo-like clicks by default.
    seed : int
        Of Criteo-like clicks.
    threshold, hash_size : int, optional
        Of the file's vocabulary, see :func:`sw_model.criteo.build_vocabulary`.

    Raises
    ------
    ConfigError
        The features do not fit a click log: names the field and the value it must have.
    DataError
        The file is missing, is damaged, or has fewer rows than the periods.
    """

    def __init__(
        self,
        features: FeaturesConfig,
        periods: PeriodsConfig,
        *,
        path: str | Path | None = None,
        seed: int = 0,
        threshold: int | None = None,
        hash_size: int | None = None,
    ) -> None:
        self.features, self.path, self.seed = features, path, seed
        self.periods = Periods.of(periods.training, periods.calibration, periods.test)
        self._check()
        self._tables = tuple(
            replace(law, rows=min(law.rows, table.rows))
            for law, table in zip(TABLES, features.tables, strict=True)
        )
        self._vocabulary: Vocabulary | None = None
        if path is not None:
            training = (block.categories for block in _cut(read(path), self.periods.training))
            self._vocabulary = build_vocabulary(
                training, threshold=threshold or 1, hash_size=hash_size
            )
        count, total, squares = 0, np.zeros(len(DENSE)), np.zeros(len(DENSE))
        for _, dense, _ in self._rows(self.periods.training):
            count += len(dense)
            total += dense.sum(axis=0, dtype=np.float64)
            squares += (dense.astype(np.float64) ** 2).sum(axis=0)
        self._mean = total / max(1, count)
        spread = np.sqrt(np.maximum(squares / max(1, count) - self._mean**2, 0))
        self._spread = np.where(spread > 0, spread, 1)

    def training(self) -> Iterator[tuple[Inputs, NDArray[np.bool_]]]:
        """Go through the training period, a block of inputs and labels at a time."""
        for labels, dense, ranks in self._rows(self.periods.training):
            yield self._inputs(dense, ranks), labels.astype(bool)

    def candidates(
        self, split: Split, *, items: int, count: int | None = None, seed: int = 0
    ) -> list[Impressions]:
        """The queries of :meth:`stream`, at least one.

        Parameters
        ----------
        split : Split
            ``CALIBRATION`` or ``TEST``.
        items : int
            Impressions of a query.
        count : int, optional
            At most so many, the first; all by default.
        seed : int
            Not used: there is nothing to draw.

        Raises
        ------
        ConfigError
            The period has not enough rows for a query, or no query has a click.
        """
        found = list(self.stream(split, items=items, count=count))
        if not found:
            name, period = self._period(split)
            raise ConfigError(
                f"data.periods.{name} = {len(period)} gives no query of {items} items with a click"
            )
        return found

    def stream(
        self, split: Split, *, items: int, count: int | None = None
    ) -> Iterator[Impressions]:
        """Cut a period into queries; those without a click, which have no quality, are left out.

        Parameters are those of :meth:`candidates`. Holds a block of the log at a time.
        """
        _, period = self._period(split)
        queries = len(period) // items
        if count is not None:
            queries = min(queries, count)
        used = range(period.start, period.start + queries * items)
        waiting: Rows | None = None
        for block in self._rows(used) if queries else ():
            rows = block if waiting is None else _joined(waiting, block)
            whole = len(rows[0]) // items * items
            for at in range(0, whole, items):
                labels, dense, ranks = _part(rows, at, at + items)
                if labels.any():
                    yield Impressions(self._inputs(dense, ranks), labels.astype(bool))
            waiting = _part(rows, whole, len(rows[0]))

    def candidate_inputs(self, candidates: Impressions) -> Inputs:
        """Real model inputs of a query's candidates."""
        return candidates.inputs

    def query(self, candidates: Impressions) -> Query:
        """The query as a device gets it: dense inputs in int8, indices by table."""
        inputs = candidates.inputs
        return Query(
            dense_query=np.zeros(0, np.int8),
            dense_item=quantise_dense(inputs.dense),
            indices=inputs.indices,
            items=len(inputs),
        )

    def _period(self, split: Split) -> tuple[str, range]:
        name = "calibration" if split == Split.CALIBRATION else "test"
        return name, getattr(self.periods, name)

    def _inputs(self, dense: NDArray, ranks: NDArray) -> Inputs:
        scaled = np.clip((dense - self._mean) / self._spread, -DENSE_RANGE, DENSE_RANGE)
        names = [t.name for t in self.features.tables]
        return Inputs(
            scaled.astype(np.float32),
            {name: ranks[:, i : i + 1] for i, name in enumerate(names)},
        )

    def _rows(self, period: range) -> Iterator[Rows]:
        """Blocks of a period, table rows within the features' tables."""
        if self._vocabulary is None:
            for drawn in clicks(period, seed=self.seed, tables=self._tables):
                yield drawn.labels, drawn.dense, drawn.ranks
            return
        last = np.array([t.rows for t in self.features.tables]) - 1
        assert self.path is not None
        for block in _cut(read(self.path), period):
            ranks = self._vocabulary.ranks(block.categories)
            unknown = ranks == np.array(self._vocabulary.rows) - 1
            ranks = np.where(unknown, last, np.minimum(ranks, last))
            yield block.labels, block.dense, ranks

    def _check(self) -> None:
        for key, wanted in ("dense_query", 0), ("dense_item", len(DENSE)):
            if getattr(self.features, key) != wanted:
                raise ConfigError(
                    f"features.{key} must be {wanted} for a click log, "
                    f"not {getattr(self.features, key)}"
                )
        tables = self.features.tables
        if len(tables) != len(CATEGORIES):
            raise ConfigError(
                f"features.tables must be {len(CATEGORIES)} for a click log, not {len(tables)}"
            )
        for table, law in zip(tables, TABLES, strict=True):
            for key, value in ("scope", "item"), ("lookups", 1):
                if getattr(table, key) != value:
                    raise ConfigError(
                        f"features.tables: {key} of {table.name!r} must be {value!r} for a click "
                        f"log, not {getattr(table, key)!r}"
                    )
            if table.rows < 2 or (self.path is None and table.rows > law.rows):
                most = f"2..{law.rows}" if self.path is None else "2 or more"
                raise ConfigError(
                    f"features.tables: rows of {table.name!r} must be {most}, not {table.rows}"
                )


def _part(rows: Rows, first: int, end: int) -> Rows:
    labels, dense, ranks = rows
    return labels[first:end], dense[first:end], ranks[first:end]


def _joined(first: Rows, then: Rows) -> Rows:
    labels, dense, ranks = (np.concatenate(pair) for pair in zip(first, then, strict=True))
    return labels, dense, ranks


def _cut(blocks: Iterator, period: range) -> Iterator:
    """Blocks of a file cut to the rows of a period."""
    first = 0
    for block in blocks:
        rows = range(max(period.start, first), min(period.stop, first + len(block.labels)))
        if rows:
            part = slice(rows.start - first, rows.stop - first)
            yield replace(block, **{name: values[part] for name, values in vars(block).items()})
        first += len(block.labels)
        if first >= period.stop:
            return
    raise DataError(f"the click log has {first} rows, and the periods need {period.stop} or more")
