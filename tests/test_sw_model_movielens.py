import gzip

import numpy as np
import pytest

from rpaccel.errors import DataError
from sw_model.movielens import DATA, LIKED, MovieLens, Split, load, split_by_time

HEADER = "movieId,title,year,genres,userId,rating,timestamp\n"
GOOD = '7,"Cat, The",1965,Comedy|Western,3,4.5,100\n9,Dog,,(no genres listed),3,2.0,90\n'


@pytest.fixture(scope="module")
def movielens() -> MovieLens:
    return load()


def test_shipped_data(movielens):
    assert len(movielens.ratings) == 100_004
    assert len(movielens.user_ids) == 671
    assert len(movielens.movie_ids) == len(movielens.titles) == len(movielens.genres) == 9066
    assert len(np.unique(movielens.years)) == 104
    assert (movielens.years == 0).sum() == 5
    movie = movielens.titles.index("Dangerous Minds")
    assert (movielens.years[movie], movielens.genres[movie]) == (1995, ("Drama",))
    first = (movielens.users == 0) & (movielens.movies == movie)
    assert movielens.ratings[first].tolist() == [2.5]
    assert movielens.timestamps[first].tolist() == [1260759144]


def test_notice_is_shipped():
    assert "Harper and Joseph A. Konstan. 2015" in (DATA / "NOTICE-MovieLens.txt").read_text()


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.csv.gz"])
def test_reads_a_file(tmp_path, name):
    path = tmp_path / name
    data = (HEADER + GOOD).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    got = load(path)
    assert got.titles == ["Cat, The", "Dog"]
    assert got.genres == [("Comedy", "Western"), ()]
    assert got.years.tolist() == [1965, 0]
    assert (got.users.tolist(), got.movies.tolist()) == ([0, 0], [0, 1])
    assert (got.user_ids.tolist(), got.movie_ids.tolist()) == ([3], [7, 9])
    assert got.ratings.tolist() == [4.5, 2.0]


@pytest.mark.parametrize(
    "line, text",
    [
        ("1,A,1999,Drama,1,4.0", "line 4: 7 columns expected, not 6"),
        ("x,A,1999,Drama,1,4.0,5", "line 4: .*'x'"),
        ("1,A,1999,Drama,1,5.5,5", "line 4: rating must be 0.5 to 5 stars in halves, not 5.5"),
        ("1,A,1999,Drama,1,nan,5", "line 4: rating must be .* not nan"),
        ("1,A,99,Drama,1,4.0,5", "line 4: year must be 1870 to 2100 or empty, not 99"),
        ("1,A,1999,Drama||War,1,4.0,5", "line 4: genres must be distinct names"),
        ("9,Dog,1970,Drama,4,4.0,5", "line 4: movie 9 is described in two ways"),
        ("9,Dog,,(no genres listed),3,4.0,5", "line 4: user 3 rates movie 9 again"),
    ],
)
def test_broken_line(tmp_path, line, text):
    path = tmp_path / "broken.csv"
    path.write_text(HEADER + GOOD + line + "\n")
    with pytest.raises(DataError, match=f"broken.csv, {text}") as error:
        load(path)
    assert error.value.exit_code == 2


def test_broken_file(tmp_path):
    path = tmp_path / "x.csv"
    with pytest.raises(DataError, match="x.csv: cannot be read"):
        load(path)
    path.write_text("userId,movieId\n1,2\n")
    with pytest.raises(DataError, match="x.csv, line 1: the columns must be movieId,title"):
        load(path)
    path.write_text(HEADER)
    with pytest.raises(DataError, match="line 1: there are no ratings"):
        load(path)
    path.write_bytes(HEADER.encode() + b"\xff")
    with pytest.raises(DataError, match="cannot be read"):
        load(path)
    packed = tmp_path / "x.csv.gz"
    for data in (b"no gzip", gzip.compress(HEADER.encode() * 99)[:-9]):
        packed.write_bytes(data)
        with pytest.raises(DataError, match="x.csv.gz: cannot be read"):
            load(packed)


def test_split_is_by_time(movielens):
    split = split_by_time(movielens)
    liked = movielens.ratings >= LIKED
    for user in range(len(movielens.user_ids)):
        mine = movielens.users == user
        counts = [(mine & liked & (split == s)).sum() for s in Split]
        times = [movielens.timestamps[mine & (split == s)] for s in Split]
        if sum(counts) < 5:
            assert counts[1] == counts[2] == 0
            continue
        assert counts[2] == -(-sum(counts) // 5)
        assert counts[1] == -(-sum(counts) // 10)
        assert counts[0] > 0
        assert times[0].max() <= times[1].min()
        assert times[1].max() <= times[2].min()
