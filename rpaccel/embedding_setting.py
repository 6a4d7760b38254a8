"""Embedding memories and the traces they are measured with: training, test, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sw_model.criteo_like import TABLES, Popularity
from sw_model.line_layout import Layout, StageTables
from sw_model.lookups import Funnel, LearnedRanks, RatingTrace, Visit, criteo_like_visits
from sw_model.movielens import MovieLens, load
from sw_model.movielens_files import load_1m

__all__ = ["LIFETIME", "LINE_BYTES", "Setting", "criteo_like", "load_movielens", "movielens"]

LINE_BYTES = 64
ROW_BYTES = 4, 32  # of RM-small and RM-large in int8
NEUMF_BYTES = (128, 128, 32, 32), (128, 128, 512, 512)  # MF and MLP, NeuMF small and large for 1M
LIFETIME = 4_000_000
"""Impressions in which almost all rows of Criteo-like tables exchange their popularity."""
SEED = 1
FUNNEL = Funnel(4096, 512)


@dataclass(frozen=True)
class Setting:
    """A trace and the embedding memory that it is measured with.

    Attributes
    ----------
    name : str
    layout : Layout
    funnel : Funnel
    visits : callable
        From a range of queries to their visits.
    training, test, following : range
        Queries that the static region is chosen by and caches are warmed with; queries that are
        counted; queries behind them that only MIN knows of, so that it does not profit from the
        end of the trace.
    memory_bytes : int
        Static region and cache together.
    static_macros : int
        Macros of the static region where there is a cache.
    macro_bytes : int
    """

    name: str
    layout: Layout
    funnel: Funnel
    visits: Callable[[range], Iterator[Visit]]
    training: range
    test: range
    following: range
    memory_bytes: int
    static_macros: int
    macro_bytes: int

    @property
    def memory_lines(self) -> int:
        """Lines of the whole memory."""
        return self.memory_bytes // self.layout.line_bytes

    @property
    def macro_lines(self) -> int:
        """Lines of a macro."""
        return self.macro_bytes // self.layout.line_bytes

    @property
    def cache_lines(self) -> int:
        """Lines of the cache beside the static macros."""
        return self.memory_lines - self.static_macros * self.macro_lines

    @cached_property
    def lines(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Lines looked up in training, test and following queries, in order."""
        parts = []
        for queries in (self.training, self.test, self.following):
            found = [self.layout.lines(v).astype(np.int32) for v in self.visits(queries)]
            parts.append(np.concatenate([np.zeros(0, np.int32), *found]))
        return parts[0], parts[1], parts[2]


def criteo_like(
    *,
    lifetime: int | None = None,
    learned: bool = False,
    queries: tuple[int, int, int] = (128, 64, 32),
    funnel: Funnel = FUNNEL,
    tables: Sequence[Popularity] = TABLES,
    memory_bytes: int = 16 << 20,
    static_macros: int = 128,
    macro_bytes: int = 96 << 10,
) -> Setting:
    """RM-small and RM-large on Criteo-like impressions, by default with the paper's memory.

    Parameters
    ----------
    lifetime : int, optional
        Of popularity, in impressions; by default nothing drifts.
    learned : bool
        Rank rows by the training trace; by default as the generator does, as if by a very long log.
    queries : (int, int, int)
        Training, test and following.
    funnel, tables, memory_bytes, static_macros, macro_bytes
        As of :class:`Setting` and :func:`sw_model.lookups.criteo_like_visits`.
    """
    rows = tuple(table.rows for table in tables)
    ends = np.cumsum(queries).tolist()
    visits = partial(criteo_like_visits, seed=SEED, funnel=funnel, lifetime=lifetime, tables=tables)
    name = "stationary" if lifetime is None else "drifting"
    if learned:
        name = "ranks of the training trace" + ("" if lifetime is None else ", drifting")
        ranks = LearnedRanks(visits(range(ends[0])), rows)
    return Setting(
        f"Criteo-like, {name}",
        Layout([StageTables(rows, (size,) * len(rows)) for size in ROW_BYTES], LINE_BYTES),
        funnel,
        (lambda numbers: ranks(visits(numbers))) if learned else visits,
        range(ends[0]),
        range(ends[0], ends[1]),
        range(ends[1], ends[2]),
        memory_bytes,
        static_macros,
        macro_bytes,
    )


def movielens(data: MovieLens, name: str, *, drifting: bool, seed: int = SEED) -> Setting:
    """NeuMF small and large on ratings of MovieLens, 1,000 to 125, with a sixteenth of the memory.

    The first two thirds of the test half are counted. In the order of time, or shuffled.
    """
    funnel = Funnel(1000, 125)
    trace = RatingTrace(data, seed=None if drifting else seed)
    training, rest = trace.queries(funnel)
    end = rest.start + len(rest) * 2 // 3
    return Setting(
        f"{name}, " + ("in order of time" if drifting else "shuffled"),
        Layout([StageTables(trace.rows, sizes) for sizes in NEUMF_BYTES], LINE_BYTES),
        funnel,
        partial(trace.visits, funnel=funnel),
        training,
        range(rest.start, end),
        range(end, rest.stop),
        1 << 20,
        128,
        6 << 10,
    )


def load_movielens(folder: Path | None) -> tuple[MovieLens, str]:
    """MovieLens latest-small, or 1M where its folder is given, and its name."""
    return (load(), "MovieLens small") if folder is None else (load_1m(folder), "MovieLens 1M")
