"""MovieLens ratings: reading the file, and splitting each user's ratings by time."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError

__all__ = ["DATA", "LIKED", "MIN_LIKED", "WEIGHTS", "MovieLens", "Split", "load", "split_by_time"]

DATA = Path(__file__).parent / "data"
"""Folder of the data that come with the package."""

WEIGHTS = DATA
"""Folder of the trained weights that come with the package, a file for each model of the demo."""

LIKED = 4.0
"""A movie rated this high or higher is relevant to the user; a lower rating is not."""

COLUMNS = ["movieId", "title", "year", "genres", "userId", "rating", "timestamp"]
NO_GENRES = "(no genres listed)"

TEST_SHARE = 0.2
CALIBRATION_SHARE = 0.1
MIN_LIKED = 5
"""Users with fewer liked movies have all their ratings in the training split."""


@dataclass(frozen=True)
class MovieLens:
    """Ratings by dense user and movie numbers, in the order of the original ids.

    Attributes
    ----------
    users, movies : int64, shape (ratings,)
        Who rated what: positions in ``user_ids`` and ``movie_ids``.
    ratings : float32, shape (ratings,)
        0.5 to 5 stars.
    timestamps : int64, shape (ratings,)
        Seconds since 1970.
    user_ids, movie_ids : int64
        Original ids, ascending.
    titles : list of str
    years : int64, shape (movies,)
        Year of release, 0 where it is unknown.
    genres : list of tuples of str
        Empty for a movie without genres.
    """

    users: NDArray[np.int64]
    movies: NDArray[np.int64]
    ratings: NDArray[np.float32]
    timestamps: NDArray[np.int64]
    user_ids: NDArray[np.int64]
    movie_ids: NDArray[np.int64]
    titles: list[str]
    years: NDArray[np.int64]
    genres: list[tuple[str, ...]]


class Split(IntEnum):
    """What a rating is used for."""

    TRAIN = 0
    CALIBRATION = 1
    """Early stopping of the training, and ranges of the quantisation."""
    TEST = 2


def load(path: str | Path = DATA / "movielens.csv.gz") -> MovieLens:
    """Read ratings from a CSV file with a line for each rating, plain or ``.gz``.

    Raises
    ------
    DataError
        The file is missing, is damaged, or has a line that makes no sense: names file and line.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    header = next(reader, [])
    if header != COLUMNS:
        raise DataError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}, not {header}")
    described: dict[int, tuple[str, int, tuple[str, ...]]] = {}
    rated: set[tuple[int, int]] = set()
    rows = []
    try:
        for row in reader:
            user, movie, rating, timestamp, description = _parse(row)
            if described.setdefault(movie, description) != description:
                raise ValueError(f"movie {movie} is described in two ways")
            if (user, movie) in rated:
                raise ValueError(f"user {user} rates movie {movie} again")
            rated.add((user, movie))
            rows.append((user, movie, rating, timestamp))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    if not rows:
        raise DataError(f"{path}, line {reader.line_num}: there are no ratings")
    users, movies, ratings, timestamps = zip(*rows, strict=True)
    user_ids, user_numbers = np.unique(users, return_inverse=True)
    movie_ids, movie_numbers = np.unique(movies, return_inverse=True)
    titles, years, genres = zip(*(described[m] for m in movie_ids.tolist()), strict=True)
    return MovieLens(
        users=user_numbers,
        movies=movie_numbers,
        ratings=np.array(ratings, dtype=np.float32),
        timestamps=np.array(timestamps, dtype=np.int64),
        user_ids=user_ids.astype(np.int64),
        movie_ids=movie_ids.astype(np.int64),
        titles=list(titles),
        years=np.array(years, dtype=np.int64),
        genres=list(genres),
    )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _parse(row: list[str]) -> tuple[int, int, float, int, tuple[str, int, tuple[str, ...]]]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(COLUMNS)} columns expected, not {len(row)}")
    movie, title, year, genres, user, rating, timestamp = row
    stars = float(rating)
    if not 0.5 <= stars <= 5 or not (stars * 2).is_integer():
        raise ValueError(f"rating must be 0.5 to 5 stars in halves, not {rating}")
    released = int(year) if year else 0
    if year and not 1870 <= released <= 2100:
        raise ValueError(f"year must be 1870 to 2100 or empty, not {year}")
    names = () if genres in ("", NO_GENRES) else tuple(genres.split("|"))
    if len(set(names)) != len(names) or "" in names:
        raise ValueError(f"genres must be distinct names between '|', not {genres!r}")
    return int(user), int(movie), stars, int(timestamp), (title, released, names)


def split_by_time(data: MovieLens) -> NDArray[np.int8]:
    """Cut each user's ratings into training, calibration and test, in this order in time.

    The last 20 % of the movies a user liked are for the test, the 10 % before them for calibration.
    A period starts with its first liked movie and has all ratings from then on, so that the
    training split knows nothing of a user that is later than what it has to predict. Equal times
    are ordered by movie id.

    Returns
    -------
    int8, shape (ratings,)
        A :class:`Split` for each rating.
    """
    split = np.full(len(data.users), Split.TRAIN, dtype=np.int8)
    order = np.lexsort((data.movies, data.timestamps, data.users))
    starts = np.searchsorted(data.users[order], np.arange(len(data.user_ids) + 1))
    for start, end in pairwise(starts.tolist()):
        mine = order[start:end]
        liked = np.flatnonzero(data.ratings[mine] >= LIKED)
        if len(liked) < MIN_LIKED:
            continue
        test = math.ceil(len(liked) * TEST_SHARE)
        calibration = math.ceil(len(liked) * CALIBRATION_SHARE)
        split[mine[liked[-test - calibration] :]] = Split.CALIBRATION
        split[mine[liked[-test] :]] = Split.TEST
    return split
