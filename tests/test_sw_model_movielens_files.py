"""MovieLens 1M and 20M in the formats of their archives."""

import gzip

import numpy as np
import pytest

from rpaccel.config import parse
from rpaccel.errors import ConfigError, DataError
from rpaccel.workflow import Workflow
from sw_model.dataset import Dataset
from sw_model.movielens import load
from sw_model.movielens_files import load_1m, load_20m
from tests.workloads import workload

LINES = ["3,7,4.5,100", "3,9,2,90", "1,9,0.5,978300760"]
MOVIES = [
    '7,"Cat, The (1965)",Comedy|Western',
    "8,Nobody's (1990),Drama",
    "9,Dög,(no genres listed)",
]
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n" + "\n".join(LINES) + "\n",
    "movies.csv": "movieId,title,genres\n" + "\n".join(MOVIES) + "\n",
}
DAT = {
    "ratings.dat": "\n".join(LINES).replace(",", "::") + "\n",
    "movies.dat": "7::Cat, The (1965)::Comedy|Western\n8::Nobody's (1990)::Drama\n9::Dög::\n",
}


def write(folder, files, encoding="utf-8", packed=False):
    for name, text in files.items():
        data = text.encode(encoding)
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("edition", ["1m", "20m"])
def test_reads_an_archive(tmp_path, edition, packed):
    if edition == "1m":
        got = load_1m(write(tmp_path, DAT, "latin-1", packed))
    else:
        got = load_20m(write(tmp_path, CSV, packed=packed))
    assert got.titles == ["Cat, The", "Dög"]
    assert got.genres == [("Comedy", "Western"), ()]
    assert got.years.tolist() == [1965, 0]
    assert (got.users.tolist(), got.movies.tolist()) == ([1, 1, 0], [0, 1, 1])
    assert (got.user_ids.tolist(), got.movie_ids.tolist()) == ([1, 3], [7, 9])
    assert got.ratings.tolist() == [4.5, 2, 0.5]
    assert got.timestamps.tolist() == [100, 90, 978300760]


@pytest.mark.parametrize(
    ("name", "old", "new", "text"),
    [
        ("ratings.csv", "3,9,2,90", "3,9,2", "ratings.csv, line 3: must be user,movie,rating,time"),
        ("ratings.csv", "3,9,2,90", "", "ratings.csv, line 3: must be user,movie,rating,time"),
        ("ratings.csv", "3,9,2,90", "3,9,2,90,1", "ratings.csv, line 3: must be user,movie,rating"),
        ("ratings.csv", "0.5,", "0,", "line 4: must be .* 0.5 to 5 in halves, not '1,9,0,"),
        ("ratings.csv", "4.5", "5.5", "line 2: must be"),
        ("ratings.csv", "4.5", "nan", "line 2: must be"),
        ("ratings.csv", "1,9,", "1,6,", "ratings.csv, line 4: movie 6 is not among the movies"),
        ("ratings.csv", "3,9,", "3,7,", "ratings.csv, line 3: user 3 rates movie 7 again"),
        ("ratings.csv", "userId", "user", "ratings.csv, line 1: the columns must be userId,"),
        ("movies.csv", "title", "name", "movies.csv, line 1: the columns must be movieId,title"),
        ("movies.csv", ",Drama", "", "movies.csv, line 3: 3 columns expected, not 2"),
        ("movies.csv", ",Drama", ",Drama,1", "movies.csv, line 3: 3 columns expected, not 4"),
        ("movies.csv", "8,", "7,", "movies.csv, line 3: movie 7 is described again"),
        ("movies.csv", "8,", "x,", "movies.csv, line 3: invalid literal"),
        ("movies.csv", "Western", "Comedy", "movies.csv, line 2: genres must be distinct"),
    ],
)
def test_a_line_that_makes_no_sense(tmp_path, name, old, new, text):
    assert old in CSV[name]
    write(tmp_path, CSV | {name: CSV[name].replace(old, new, 1)})
    with pytest.raises(DataError, match=text):
        load_20m(tmp_path)


def test_damaged_files(tmp_path):
    with pytest.raises(DataError, match=r"ratings.dat: missing, and so is ratings.dat.gz"):
        load_1m(tmp_path)
    write(tmp_path, {"ratings.dat": "", "movies.dat": ""})
    with pytest.raises(DataError, match="there are no ratings"):
        load_1m(tmp_path)
    (tmp_path / "ratings.dat").unlink()
    (tmp_path / "ratings.dat.gz").write_bytes(gzip.compress(b"1::1::1::1\n" * 999)[:-9])
    with pytest.raises(DataError, match="ratings.dat.gz: cannot be read"):
        load_1m(tmp_path)
    write(tmp_path, {"movies.csv": CSV["movies.csv"]}, "latin-1")
    write(tmp_path, {"ratings.csv": CSV["ratings.csv"]})
    with pytest.raises(DataError, match="movies.csv: cannot be read"):
        load_20m(tmp_path)


@pytest.fixture
def shipped(tmp_path):
    """The data that come with the package, in the formats of the archives."""
    data = load()
    pairs = zip(data.user_ids[data.users], data.movie_ids[data.movies], strict=True)
    lines = [
        f"{u},{m},{r:g},{t}"
        for (u, m), r, t in zip(pairs, data.ratings, data.timestamps, strict=True)
    ]
    rows = [
        (str(m), f"{title} ({year})" if year else title, "|".join(genres) or "(no genres listed)")
        for m, title, year, genres in zip(
            data.movie_ids, data.titles, data.years, data.genres, strict=True
        )
    ]
    quoted = [f'{m},"{title.replace(chr(34), chr(34) * 2)}",{genres}' for m, title, genres in rows]
    write(
        tmp_path,
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n",
            "movies.csv": "movieId,title,genres\n" + "\n".join(quoted) + "\n",
        },
    )
    return tmp_path


def features(path) -> dict:
    tables = [
        {"name": "user", "rows": 671, "scope": "query"},
        {"name": "movie", "rows": 9066},
    ]
    config = workload(tables=tables, dense=(24, 4), items=64, keep=[32, 8])
    values = config.model_dump()
    values["data"] = {"source": "movielens-20m", "path": str(path)}
    return values


def test_a_configuration_names_an_archive(shipped):
    """What the shipped data give, the same data give in the format of 20M."""
    values = features(shipped)
    work = Workflow(parse(values))
    values["data"] = {"source": "movielens-latest-small"}
    other = Workflow(parse(values))
    assert isinstance(work.dataset, Dataset)
    assert isinstance(other.dataset, Dataset)
    np.testing.assert_array_equal(work.dataset.dense_item, other.dataset.dense_item)
    for mine, theirs in zip(work.candidates[:20], other.candidates[:20], strict=True):
        np.testing.assert_array_equal(mine.movies, theirs.movies)
        np.testing.assert_array_equal(mine.relevant, theirs.relevant)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"source": "movielens-1m"}, 'source = "movielens-1m" needs data.path'),
        ({"source": "random", "path": "x"}, 'source = "random" takes no data.path'),
    ],
)
def test_a_path_where_one_is_needed(data, text):
    values = features("x") | {"data": data}
    with pytest.raises(ConfigError, match=text):
        parse(values)


def test_the_published_1m(data_folder):
    folder = data_folder / "ml-1m"
    data = load_1m(folder)
    assert (len(data.ratings), len(data.user_ids), len(data.movie_ids)) == (1_000_209, 6040, 3706)
    assert (data.years > 1900).all()
    assert len({name for genres in data.genres for name in genres}) == 18
