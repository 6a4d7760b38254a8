"""The demo's ranking task: features, vocabularies and candidates made from MovieLens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig
from sw_model.dlrm import Inputs
from sw_model.movielens import LIKED, MIN_LIKED, MovieLens, Split, load, split_by_time
from sw_model.query import Query

__all__ = ["DENSE_RANGE", "DENSE_SCALE", "Candidates", "Dataset", "quantise_dense"]

DENSE_RANGE = 4.0
"""Dense inputs are standardised and clipped to this many standard deviations."""
DENSE_SCALE = DENSE_RANGE / 127
"""Real value of one step of an int8 dense input."""

RATING_PRIOR = 5.0
"""A movie's mean rating counts as if it had this many more ratings, all of them average."""
GENRE_PRIOR = 20.0
"""Likewise a user's share of each genre."""

USER_TABLES = ("user", "user_mf")

SECONDS_A_YEAR = 31_556_952


@dataclass(frozen=True)
class Candidates:
    """The movies to rank for one user.

    Attributes
    ----------
    user : int
    movies : int64, shape (items,)
        In random order, positions in :attr:`MovieLens.movie_ids`.
    relevant : bool, shape (items,)
        The held-out movies that the user liked.
    """

    user: int
    movies: NDArray[np.int64]
    relevant: NDArray[np.bool_]


class Dataset:
    """Features and candidates for models, all statistics from the training split only.

    Dense inputs of a query: log number of ratings, mean rating, mean log popularity and mean year
    of the movies rated, time of the last rating, share of each genre among the movies rated. Dense
    inputs of an item: log and square root of popularity, mean rating, year. Each is standardised.
    Features without dense inputs of a query, or of an item, have none.

    Tables: ``user`` (scope query), ``movie``, ``year`` and ``genres`` (scope item), as many of
    them as the features name; ``user_mf`` and ``movie_mf`` besides are the same users and movies,
    for a NeuMF whose product has tables of its own. Rows are in order of training ratings, the
    most first, so unseen movies come last. A movie with more genres than the bag has slots keeps
    the rarest.

    Parameters
    ----------
    features : FeaturesConfig
    data : MovieLens, optional
        By default the data that come with the package.

    Raises
    ------
    ConfigError
        The features do not fit the data: names the field and the value it must have.
    """

    def __init__(self, features: FeaturesConfig, data: MovieLens | None = None) -> None:
        self.features = features
        self.data = load() if data is None else data
        self.split = split_by_time(self.data)
        names = sorted({name for genres in self.data.genres for name in genres})
        number = {name: i for i, name in enumerate(names)}
        self._has_genre = np.zeros((self.movies, len(names)), dtype=bool)
        for movie, genres in enumerate(self.data.genres):
            self._has_genre[movie, [number[name] for name in genres]] = True
        self.dense_query = self._dense("dense_query", self._user_statistics())
        self.dense_item = self._dense("dense_item", self._movie_statistics())
        vocabularies = self._vocabularies()
        self._check(vocabularies)
        self.bags: dict[str, NDArray[np.int64]] = {
            t.name: _bags(vocabularies[t.name], t.lookups, t.empty_index) for t in features.tables
        }

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.data.user_ids)

    @property
    def movies(self) -> int:
        """Number of movies."""
        return len(self.data.movie_ids)

    def unrated(self, user: int) -> NDArray[np.int64]:
        """Movies that a user did not rate in any split, ascending."""
        order, starts = self._by_user
        mask = np.ones(self.movies, dtype=bool)
        mask[self.data.movies[order[starts[user] : starts[user + 1]]]] = False
        return np.flatnonzero(mask)

    @cached_property
    def _by_user(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ratings in order of users, and where each user's begin."""
        order = np.argsort(self.data.users, kind="stable")
        return order, np.searchsorted(self.data.users[order], np.arange(self.users + 1))

    def inputs(self, users: NDArray[np.int64], movies: NDArray[np.int64]) -> Inputs:
        """Real model inputs of pairs, ``users`` and ``movies`` of shape (n,)."""
        return Inputs(
            np.concatenate([self.dense_query[users], self.dense_item[movies]], axis=1),
            {
                t.name: self.bags[t.name][users if t.scope == "query" else movies]
                for t in self.features.tables
            },
        )

    def candidate_inputs(self, candidates: Candidates) -> Inputs:
        """Real model inputs of a query's candidates."""
        return self.inputs(
            np.full(len(candidates.movies), candidates.user, dtype=np.int64), candidates.movies
        )

    def query(self, candidates: Candidates) -> Query:
        """The query as a device gets it: dense inputs in int8, indices by table."""
        return Query(
            dense_query=quantise_dense(self.dense_query[candidates.user]),
            dense_item=quantise_dense(self.dense_item[candidates.movies]),
            indices={
                t.name: self.bags[t.name][
                    candidates.user if t.scope == "query" else candidates.movies
                ]
                for t in self.features.tables
            },
            items=len(candidates.movies),
        )

    def candidates(
        self, split: Split, *, items: int, count: int | None = None, seed: int = 0
    ) -> list[Candidates]:
        """Make queries, each of a user: what he liked in a split, among movies he did not rate.

        Candidates that are not relevant are drawn evenly from the movies that the user did not
        rate at all. Users are in random order; a user's candidates depend on ``items``, ``seed``
        and the split, not on ``count``.

        Parameters
        ----------
        split : Split
            ``CALIBRATION`` or ``TEST``.
        items : int
            Candidates of a query; at most half of them (but one at least) are relevant.
        count : int, optional
            At most so many queries; all users who liked a movie in that split by default.
        seed : int

        Raises
        ------
        DataError
            No user liked a movie in that split.
        ConfigError
            There are not that many movies.
        """
        mask = (self.split == split) & (self.data.ratings >= LIKED)
        order = np.lexsort((self.data.timestamps[mask], self.data.users[mask]))
        users, liked = self.data.users[mask][order], self.data.movies[mask][order]
        present = np.unique(users)
        if not len(present):
            raise DataError(
                f"the ratings give no query of the {split.name.lower()} split: no user rates "
                f"{MIN_LIKED} movies with {LIKED:g} or more"
            )
        chosen = np.random.default_rng([seed, split]).permutation(present)[:count]
        queries = []
        for user in chosen.tolist():
            rng = np.random.default_rng([seed, split, user])
            unrated = self.unrated(user)
            first, end = np.searchsorted(users, [user, user + 1])
            relevant = liked[first:end][: max(1, items // 2)]
            if items - len(relevant) > len(unrated):
                raise ConfigError(
                    f"funnel.items = {items}: user {self.data.user_ids[user]} has only "
                    f"{len(unrated)} movies that he did not rate"
                )
            others = rng.choice(unrated, items - len(relevant), replace=False)
            movies = rng.permutation(np.concatenate([relevant, others]))
            queries.append(Candidates(user, movies, np.isin(movies, relevant)))
        return queries

    def _counts(self) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Training ratings: which, how many a user, how many a movie."""
        train = self.split == Split.TRAIN
        return (
            train,
            np.bincount(self.data.users[train], minlength=self.users),
            np.bincount(self.data.movies[train], minlength=self.movies),
        )

    def _dense(self, key: str, statistics: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardised statistics, or none of them if the features have no such inputs."""
        wanted = getattr(self.features, key)
        if wanted not in (0, statistics.shape[1]):
            raise ConfigError(
                f"features.{key} must be {statistics.shape[1]} for MovieLens, or 0, not {wanted}"
            )
        return _standardise(statistics)[:, :wanted]

    def _years(self) -> NDArray[np.float64]:
        known = self.data.years > 0
        mean = self.data.years[known].mean() if known.any() else 0.0
        return np.where(known, self.data.years, mean)

    def _user_statistics(self) -> NDArray[np.float64]:
        train, count, popularity = self._counts()
        users, movies = self.data.users[train], self.data.movies[train]
        last = np.zeros(self.users)
        np.maximum.at(last, users, self.data.timestamps[train] / SECONDS_A_YEAR)
        shares = np.zeros((self.users, self._has_genre.shape[1]))
        np.add.at(shares, users, self._has_genre[movies])
        shares += GENRE_PRIOR * self._has_genre[movies].mean(axis=0)
        shares /= (count + GENRE_PRIOR)[:, None]

        def mean(values: NDArray) -> NDArray[np.float64]:
            return np.bincount(users, values, minlength=self.users) / np.maximum(count, 1)

        columns = [
            np.log1p(count),
            mean(self.data.ratings[train]),
            mean(np.log1p(popularity)[movies]),
            mean(self._years()[movies]),
            last,
        ]
        return np.column_stack([*columns, shares])

    def _movie_statistics(self) -> NDArray[np.float64]:
        train, _, popularity = self._counts()
        ratings = self.data.ratings[train]
        total = np.bincount(self.data.movies[train], ratings, minlength=self.movies)
        mean = (total + RATING_PRIOR * ratings.mean()) / (popularity + RATING_PRIOR)
        return np.column_stack([np.log1p(popularity), np.sqrt(popularity), mean, self._years()])

    def _vocabularies(self) -> dict[str, tuple[int, list[list[int]]]]:
        """By table: number of rows, and the ranks (hottest first) of each user or movie."""
        train, count, popularity = self._counts()
        years, year = np.unique(self.data.years, return_inverse=True)
        movies = self.data.movies[train]
        user_rank, movie_rank = _ranks(count), _ranks(popularity)
        year_rank = _ranks(np.bincount(year[movies], minlength=len(years)))
        genre_rank = _ranks(self._has_genre[movies].sum(axis=0))
        genres = [sorted(genre_rank[has].tolist()) for has in self._has_genre]
        user = self.users, user_rank[:, None].tolist()
        movie = self.movies, movie_rank[:, None].tolist()
        return {
            "user": user,
            "user_mf": user,
            "movie": movie,
            "movie_mf": movie,
            "year": (len(years), year_rank[year][:, None].tolist()),
            "genres": (self._has_genre.shape[1], genres),
        }

    def _check(self, vocabularies: dict[str, tuple[int, list[list[int]]]]) -> None:
        for table in self.features.tables:
            if table.name not in vocabularies:
                raise ConfigError(
                    f"features.tables: MovieLens has the tables {list(vocabularies)}, "
                    f"not {table.name!r}"
                )
            wanted = {
                "rows": vocabularies[table.name][0],
                "scope": "query" if table.name in USER_TABLES else "item",
            }
            for key, value in wanted.items():
                if getattr(table, key) != value:
                    raise ConfigError(
                        f"features.tables: {key} of {table.name!r} must be {value!r} for "
                        f"MovieLens, not {getattr(table, key)!r}"
                    )


def quantise_dense(values: NDArray[np.floating]) -> NDArray[np.int8]:
    """Dense inputs in int8, as docs/numerics.md quantises a real value."""
    whole = np.floor(np.asarray(values, dtype=np.float64) / DENSE_SCALE + 0.5)
    return np.clip(whole, -128, 127).astype(np.int8)


def _standardise(values: NDArray[np.float64]) -> NDArray[np.float32]:
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.clip(scaled, -DENSE_RANGE, DENSE_RANGE).astype(np.float32)


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each entry by count, the largest first, equal counts in order."""
    ranks = np.empty(len(counts), dtype=np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return ranks


def _bags(vocabulary: tuple[int, list[list[int]]], lookups: int, empty: int) -> NDArray[np.int64]:
    """Ranks of each entity, the last (coldest) ``lookups`` of them, filled with empty slots."""
    bags = np.full((len(vocabulary[1]), lookups), empty, dtype=np.int64)
    for bag, ranks in zip(bags, vocabulary[1], strict=True):
        kept = ranks[-lookups:]
        bag[: len(kept)] = kept
    return bags
