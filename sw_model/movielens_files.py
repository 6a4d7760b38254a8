"""MovieLens 1M and 20M in the formats of their archives.

A folder holds, each plain or ``.gz``: of 1M ``ratings.dat`` (``user::movie::rating::time``) and
``movies.dat`` (``movie::Title (Year)::Genre|Genre``, Latin-1); of 20M ``ratings.csv`` and
``movies.csv``, which have headers. Movies that nobody rated are left out.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError
from sw_model.movielens import NO_GENRES, MovieLens

__all__ = ["load_1m", "load_20m"]

RATINGS_HEADER = "userId,movieId,rating,timestamp"
MOVIES_HEADER = "movieId,title,genres"
YEAR = re.compile(r"(.*\S)\s*\((\d{4})\)\s*")
NUMBERS = r"\d{1,9}%s\d{1,9}%s(?:0\.5|[1-4](?:\.[05])?|5(?:\.0)?)%s\d{1,12}\s*"
"""A line of ratings, with what stands between its fields; ratings are 0.5 to 5 in halves."""

Movies = dict[int, tuple[str, int, tuple[str, ...]]]


def load_1m(folder: str | Path) -> MovieLens:
    """Read MovieLens 1M.

    Parameters
    ----------
    folder : path

    Raises
    ------
    DataError
        A file is missing or damaged, or has a line that makes no sense: names file and line.
    """
    ratings, movies = (_find(folder, name) for name in ("ratings.dat", "movies.dat"))
    rows = _ratings(ratings, _bytes(ratings), 1, "::")
    lines = _text(movies, "latin-1").splitlines()
    return _join(ratings, rows, 1, _movies(movies, (line.split("::") for line in lines), 1))


def load_20m(folder: str | Path) -> MovieLens:
    """Read MovieLens 20M, or another edition of its format; see :func:`load_1m`."""
    ratings, movies = (_find(folder, name) for name in ("ratings.csv", "movies.csv"))
    header, _, data = _bytes(ratings).partition(b"\n")
    _check_header(ratings, header.decode("latin-1").strip("\r"), RATINGS_HEADER)
    rows = _ratings(ratings, data, 2, ",")
    header_text, _, text = _text(movies, "utf-8").partition("\n")
    _check_header(movies, header_text.strip("\r"), MOVIES_HEADER)
    return _join(ratings, rows, 2, _movies(movies, csv.reader(io.StringIO(text)), 2))


def _find(folder: str | Path, name: str) -> Path:
    for path in Path(folder) / name, Path(folder) / f"{name}.gz":
        if path.exists():
            return path
    raise DataError(f"{Path(folder) / name}: missing, and so is {name}.gz")


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _text(path: Path, encoding: str) -> str:
    try:
        return _bytes(path).decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _check_header(path: Path, header: str, wanted: str) -> None:
    if header != wanted:
        raise DataError(f"{path}, line 1: the columns must be {wanted}, not {header[:80]!r}")


def _ratings(path: Path, data: bytes, first: int, between: str) -> NDArray[np.float64]:
    """Lines of ratings as numbers, (ratings, 4); ``first`` is the number of the first line."""
    line = re.compile((NUMBERS % ((between,) * 3)).encode())
    number = first - 1
    for number, text in enumerate(io.BytesIO(data), start=first):
        if not line.fullmatch(text):
            shown = text[:80].rstrip().decode("latin-1")
            raise DataError(
                f"{path}, line {number}: must be user{between}movie{between}rating{between}time "
                f"with a rating of 0.5 to 5 in halves, not {shown!r}"
            )
    if number < first:
        raise DataError(f"{path}: there are no ratings")
    # bytes of 20 million lines become numbers without an object for each
    return np.fromstring(data.replace(between.encode(), b" "), sep=" ").reshape(-1, 4)


def _movies(path: Path, lines: Iterator[list[str]], first: int) -> Movies:
    """Title, year (0 if unknown) and genres by id."""
    found: Movies = {}
    number = first - 1
    try:
        for number, row in enumerate(lines, start=first):  # noqa: B007 (the message has it)
            if len(row) != 3:
                raise ValueError(f"3 columns expected, not {len(row)}")
            movie = int(row[0])
            if movie in found:
                raise ValueError(f"movie {movie} is described again")
            title, year = row[1].strip(), 0
            if match := YEAR.fullmatch(title):
                title, year = match[1], int(match[2])
            names = () if row[2] in ("", NO_GENRES) else tuple(row[2].strip().split("|"))
            if len(set(names)) != len(names) or "" in names:
                raise ValueError(f"genres must be distinct names between '|', not {row[2]!r}")
            found[movie] = title, year, names
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {number}: {error}") from None
    return found


def _join(path: Path, rows: NDArray[np.float64], first: int, movies: Movies) -> MovieLens:
    user, movie, stars, times = rows.T
    user_ids, users = np.unique(user.astype(np.int64), return_inverse=True)
    movie_ids, numbers = np.unique(movie.astype(np.int64), return_inverse=True)

    def refuse(bad: NDArray[np.bool_], say: Callable[[int, int], str]) -> None:
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(f"{path}, line {at + first}: {say(int(user[at]), int(movie[at]))}")

    known = np.isin(movie_ids, np.fromiter(movies, dtype=np.int64))
    refuse(~known[numbers], lambda _, m: f"movie {m} is not among the movies")
    pairs = users.astype(np.int64) * len(movie_ids) + numbers
    again = np.ones(len(pairs), dtype=bool)
    again[np.unique(pairs, return_index=True)[1]] = False
    refuse(again, lambda u, m: f"user {u} rates movie {m} again")
    titles, years, genres = zip(*(movies[m] for m in movie_ids.tolist()), strict=True)
    return MovieLens(
        users=users,
        movies=numbers,
        ratings=stars.astype(np.float32),
        timestamps=times.astype(np.int64),
        user_ids=user_ids,
        movie_ids=movie_ids,
        titles=list(titles),
        years=np.array(years, dtype=np.int64),
        genres=list(genres),
    )
