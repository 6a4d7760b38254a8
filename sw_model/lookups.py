"""Traces of embedding lookups of a two-stage funnel: which rows each stage reads, in order.

A trace is a stream of visits, one for each sub-batch and stage, so that nothing is in memory but
the query at hand. Sub-batch i of the front end is followed by sub-batch i of the back end, whose
items are those that the front end's scores let through, best first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sw_model.criteo_like import TABLES, Popularity
from sw_model.movielens import MovieLens
from sw_model.planted import clicks, truth

__all__ = ["Funnel", "LearnedRanks", "RatingTrace", "Visit", "criteo_like_visits", "flatten"]


@dataclass(frozen=True)
class Funnel:
    """Items of a query, those that reach the back end, and the sub-batches it is cut into.

    Each sub-batch releases its share of the survivors, the first ones rounded up, as the machine's
    planner does.
    """

    items: int = 4096
    survivors: int = 512
    sub_batches: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.survivors <= self.items:
            raise ValueError(f"survivors must be 1..{self.items}, not {self.survivors!r}")
        if not 1 <= self.sub_batches <= self.items:
            raise ValueError(f"sub_batches must be 1..{self.items}, not {self.sub_batches!r}")

    def visits(
        self, query: int, rows: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> Iterator[Visit]:
        """Visits of a query, from its items' table rows (items, tables) and scores (items,)."""
        edges = np.arange(self.sub_batches + 1) * self.items // self.sub_batches
        released = -(-self.survivors * edges // self.items)
        for part, first in enumerate(edges[:-1]):
            items = np.arange(first, edges[part + 1])
            yield Visit(query, 0, items, rows[items])
            best = items[np.argsort(-scores[items], kind="stable")]
            kept = best[: released[part + 1] - released[part]]
            yield Visit(query, 1, kept, rows[kept])


@dataclass(frozen=True)
class Visit:
    """One stage's lookups for one sub-batch, item by item and within an item table by table.

    Attributes
    ----------
    query, stage : int
    items : int64, shape (n,)
        Positions in the query.
    rows : int64, shape (n, tables)
        Rows of the tables, by popularity.
    """

    query: int
    stage: int
    items: NDArray[np.int64]
    rows: NDArray[np.int64]


def flatten(visits: Iterable[Visit]) -> Iterator[NDArray[np.int64]]:
    """Write visits out as lookups: int64, shape (n, 5), query, stage, item, table, row."""
    for visit in visits:
        n, tables = visit.rows.shape
        yield np.stack(
            [
                np.full(n * tables, visit.query),
                np.full(n * tables, visit.stage),
                np.repeat(visit.items, tables),
                np.tile(np.arange(tables), n),
                visit.rows.ravel(),
            ],
            axis=1,
        )


def criteo_like_visits(
    queries: range,
    *,
    seed: int,
    funnel: Funnel = Funnel(),
    lifetime: int | None = None,
    factors: int = 4,
    tables: Sequence[Popularity] = TABLES,
) -> Iterator[Visit]:
    """Look up Criteo-like impressions, query q being the impressions from q x items on.

    The front end is the planted truth cut to its first latent factors, which is the best that a
    model with so many dimensions a table can know (:mod:`sw_model.planted`). The trace depends on
    its arguments alone, so that a test trace may be taken from behind a training trace.

    Parameters
    ----------
    queries : range
    seed : int
    funnel : Funnel
    lifetime : int, optional
        Of popularity, in impressions; see :func:`sw_model.criteo_like.trace`. Rows keep the rank
        they have at impression 0: with drift the ranking is stale.
    factors : int
        Latent factors that the front end knows.
    tables : sequence of Popularity
    """
    rows = range(queries.start * funnel.items, queries.stop * funnel.items)
    blocks = clicks(rows, seed=seed, block=funnel.items, lifetime=lifetime, tables=tables)
    for query, block in zip(queries, blocks, strict=True):
        scores = truth(block.ranks, block.dense, factors=factors)
        yield from funnel.visits(query, block.ranks, scores)


class LearnedRanks:
    """Ranks by how often a trace's front end reads each row, in place of those that rows have.

    Rows that are not read at all come last, in an order that has nothing to do with their old rank.

    Parameters
    ----------
    visits : iterable of Visit
        The trace to learn from.
    rows : sequence of int
        Rows of each table.
    """

    STEP = 2_654_435_761  # a prime above every table: multiples of it are a permutation of rows

    def __init__(self, visits: Iterable[Visit], rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        front = [visit.rows for visit in visits if visit.stage == 0]
        self._seen, self._rank = [], []
        for column, size in enumerate(self.rows):
            mixed = np.concatenate([part[:, column] for part in front]) * self.STEP % size
            seen, counts = np.unique(mixed, return_counts=True)
            self._seen.append(seen)
            self._rank.append(_ranks(counts))

    def __call__(self, visits: Iterable[Visit]) -> Iterator[Visit]:
        """Give the rows of visits their learned ranks."""
        for visit in visits:
            columns = []
            for column, size in enumerate(self.rows):
                mixed = visit.rows[:, column] * self.STEP % size
                seen, rank = self._seen[column], self._rank[column]
                at = np.searchsorted(seen, mixed)
                known = np.append(seen, size)[at] == mixed
                columns.append(np.where(known, np.append(rank, 0)[at], len(seen) + mixed - at))
            yield replace(visit, rows=np.stack(columns, axis=1))


class RatingTrace:
    """Lookups for the ratings of MovieLens in the order of time, so many to a query.

    The first half of the ratings is the training trace. Users and movies are ranked by their
    ratings in it, equal ones by number. The front end is a model of the training half too: the
    movie's mean rating, drawn to the mean of all as by ``PRIOR`` ratings. Each stage reads a row
    of the user and a row of the movie twice, as NeuMF does (columns user, movie, user, movie).

    Parameters
    ----------
    data : MovieLens
    seed : int, optional
        Shuffles the ratings first, so that nothing drifts; by default the order is that of time.
    """

    PRIOR = 10.0

    def __init__(self, data: MovieLens, *, seed: int | None = None) -> None:
        order = np.lexsort((data.movies, data.users, data.timestamps))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        users, movies = data.users[order], data.movies[order]
        self.training = len(order) // 2
        half = slice(self.training)
        sizes = len(data.user_ids), len(data.movie_ids)
        self.rows = (*sizes, *sizes)
        columns = [
            _ranks(np.bincount(ids[half], minlength=n))[ids]
            for ids, n in zip((users, movies), sizes, strict=True)
        ]
        self._rows = np.stack([*columns, *columns], axis=1)
        stars = data.ratings[order].astype(np.float64)
        mean = stars[half].mean()
        count = np.bincount(movies[half], minlength=sizes[1])
        total = np.bincount(movies[half], stars[half] - mean, minlength=sizes[1])
        self._scores = (total / (count + self.PRIOR))[movies]

    def queries(self, funnel: Funnel) -> tuple[range, range]:
        """Numbers of the training and of the test queries."""
        first = self.training // funnel.items
        return range(first), range(first, len(self._rows) // funnel.items)

    def visits(self, queries: range, funnel: Funnel) -> Iterator[Visit]:
        """Look up the ratings of queries."""
        for query in queries:
            part = slice(query * funnel.items, (query + 1) * funnel.items)
            yield from funnel.visits(query, self._rows[part], self._scores[part])


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each entry by count, the largest first, equal counts in order."""
    ranks = np.empty(len(counts), dtype=np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return ranks
