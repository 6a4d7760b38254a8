from dataclasses import replace

import numpy as np
import pytest

from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig, TableConfig
from sw_model.dataset import DENSE_SCALE, Dataset, quantise_dense
from sw_model.movielens import LIKED, MovieLens, Split, split_by_time

USERS, MOVIES, YEARS, GENRES = 12, 80, 9, 5
TABLES = {
    "user": TableConfig(name="user", rows=USERS, scope="query"),
    "movie": TableConfig(name="movie", rows=MOVIES),
    "year": TableConfig(name="year", rows=YEARS, index_bits=8),
    "genres": TableConfig(name="genres", rows=GENRES, index_bits=8, lookups=3),
}
FEATURES = FeaturesConfig(dense_query=5 + GENRES, dense_item=4, tables=list(TABLES.values()))


@pytest.fixture
def ratings(rng) -> MovieLens:
    """A small made-up data set in which every year and genre occurs."""
    rated = np.stack([rng.permutation(MOVIES)[:30] for _ in range(USERS)])
    names = "abcde"
    genres = [tuple(names[g] for g in rng.permutation(GENRES)[: m % 5]) for m in range(MOVIES)]
    return MovieLens(
        users=np.repeat(np.arange(USERS), 30),
        movies=rated.ravel(),
        ratings=rng.integers(1, 11, size=USERS * 30).astype(np.float32) / 2,
        timestamps=rng.integers(10**9, size=USERS * 30),
        user_ids=np.arange(USERS) * 3 + 1,
        movie_ids=np.arange(MOVIES) * 2 + 5,
        titles=[f"movie {m}" for m in range(MOVIES)],
        years=np.where(np.arange(MOVIES) % YEARS, 1990 + np.arange(MOVIES) % YEARS, 0),
        genres=genres,
    )


def test_vocabularies_are_in_order_of_popularity(ratings):
    dataset = Dataset(FEATURES, ratings)
    train = dataset.split == Split.TRAIN
    for table, of in ("user", ratings.users), ("movie", ratings.movies):
        counts = np.bincount(of[train], minlength=TABLES[table].rows)
        ranks = dataset.bags[table][:, 0]
        assert sorted(ranks) == list(range(TABLES[table].rows))
        assert (np.diff(counts[np.argsort(ranks)]) <= 0).all()
    counts = np.zeros(YEARS)
    np.add.at(counts, dataset.bags["year"][ratings.movies[train], 0], 1)
    assert (np.diff(counts) <= 0).all()
    counts = np.zeros(256)
    full = Dataset(_with("genres", lookups=5), ratings)
    np.add.at(counts, full.bags["genres"][ratings.movies[train]], 1)
    assert (np.diff(counts[:GENRES]) <= 0).all()
    assert (counts[GENRES:255] == 0).all()


def test_bags(ratings):
    dataset = Dataset(FEATURES, ratings)
    full = Dataset(_with("genres", lookups=5), ratings).bags["genres"]
    for movie, names in enumerate(ratings.genres):
        used = full[movie][full[movie] != 255]
        assert len(used) == len(names)
        bag = dataset.bags["genres"][movie]
        assert bag[bag != 255].tolist() == sorted(used)[-3:]  # the rarest where there are more
    rank_of = {}
    for movie, names in enumerate(ratings.genres):
        if len(names) == 1:
            assert rank_of.setdefault(names[0], full[movie, 0]) == full[movie, 0]


def test_only_training_ratings_count(ratings, rng):
    held_out = split_by_time(ratings) != Split.TRAIN
    other = ratings.movies.copy()
    for user in range(USERS):  # other movies, and other ratings on the same side of the threshold
        mine = ratings.users == user
        free = np.setdiff1d(np.arange(MOVIES), ratings.movies[mine])
        count = (mine & held_out).sum()
        other[mine & held_out] = rng.choice(free, count, replace=False)
    stars = np.where(held_out, np.where(ratings.ratings >= LIKED, 5, 0.5), ratings.ratings)
    changed = Dataset(FEATURES, replace(ratings, movies=other, ratings=stars.astype(np.float32)))
    dataset = Dataset(FEATURES, ratings)
    assert held_out.any()
    np.testing.assert_array_equal(changed.split, dataset.split)
    np.testing.assert_array_equal(changed.dense_query, dataset.dense_query)
    np.testing.assert_array_equal(changed.dense_item, dataset.dense_item)
    for table in TABLES:
        np.testing.assert_array_equal(changed.bags[table], dataset.bags[table])


@pytest.mark.parametrize("split", [Split.CALIBRATION, Split.TEST])
def test_candidates(ratings, split):
    dataset = Dataset(FEATURES, ratings)
    queries = dataset.candidates(split, items=40, seed=3)
    held_out = (dataset.split == split) & (ratings.ratings >= LIKED)
    assert sorted(q.user for q in queries) == np.unique(ratings.users[held_out]).tolist()
    for query in queries:
        mine = ratings.users == query.user
        assert len(set(query.movies.tolist())) == 40
        relevant = set(query.movies[query.relevant].tolist())
        assert relevant == set(ratings.movies[mine & held_out].tolist())
        others = set(query.movies[~query.relevant].tolist())
        assert not others & set(ratings.movies[mine].tolist())
    few = dataset.candidates(split, items=40, count=2, seed=3)
    for a, b in zip(queries, few, strict=False):
        assert a.user == b.user
        np.testing.assert_array_equal(a.movies, b.movies)
    again = dataset.candidates(split, items=40, count=2, seed=4)
    assert any((a.movies != b.movies).any() for a, b in zip(few, again, strict=True))


def test_splits_share_no_pair(ratings):
    dataset = Dataset(FEATURES, ratings)
    train = dataset.split == Split.TRAIN
    pairs = [set(zip(ratings.users[train].tolist(), ratings.movies[train].tolist(), strict=True))]
    for split in Split.CALIBRATION, Split.TEST:
        queries = dataset.candidates(split, items=40)
        pairs.append({(q.user, m) for q in queries for m in q.movies[q.relevant].tolist()})
    assert all(pairs)
    assert not pairs[0] & pairs[1]
    assert not pairs[0] & pairs[2]
    assert not pairs[1] & pairs[2]


def test_small_queries_keep_room_for_others(ratings):
    for items in 1, 2, 5:
        for query in Dataset(FEATURES, ratings).candidates(Split.TEST, items=items):
            assert 1 <= query.relevant.sum() <= max(1, items // 2)
            assert len(query.movies) == items


def test_query_and_inputs_agree(ratings):
    dataset = Dataset(FEATURES, ratings)
    candidates = dataset.candidates(Split.TEST, items=30, count=1)[0]
    query, inputs = dataset.query(candidates), dataset.candidate_inputs(candidates)
    assert query.items == len(inputs) == 30
    assert query.dense_query.dtype == query.dense_item.dtype == np.int8
    dense = np.concatenate(
        [np.tile(query.dense_query, (30, 1)), query.dense_item], axis=1, dtype=np.float64
    )
    assert np.abs(dense * DENSE_SCALE - inputs.dense).max() <= DENSE_SCALE / 2 + 1e-6
    for name, bags in query.indices.items():
        np.testing.assert_array_equal(np.broadcast_to(bags, inputs.indices[name].shape),
                                      inputs.indices[name])  # fmt: skip
    assert query.indices["user"].shape == (1,)
    assert query.indices["genres"].shape == (30, 3)
    assert inputs.dense.dtype == np.float32


def test_quantise_dense():
    values = np.array([-9, -127.5, -0.5, 0.49, 0.5, 126.5, 999]) * DENSE_SCALE
    assert quantise_dense(values).tolist() == [-9, -127, 0, 0, 1, 127, 127]
    assert quantise_dense(np.array([-4.0, 4.0])).tolist() == [-127, 127]


def _with(table: str, **changes) -> FeaturesConfig:
    tables = {**TABLES, table: TABLES[table].model_copy(update=changes)}
    return FEATURES.model_copy(update={"tables": list(tables.values())})


@pytest.mark.parametrize(
    "features, text",
    [
        (FEATURES.model_copy(update={"dense_query": 3}), "dense_query must be 10 .* or 0, not 3"),
        (FEATURES.model_copy(update={"dense_item": 5}), "dense_item must be 4 .* or 0, not 5"),
        (
            FEATURES.model_copy(
                update={
                    "tables": [
                        TABLES["user"].model_copy(update={"name": "user_mf", "scope": "item"})
                    ]
                }
            ),
            "scope of 'user_mf' must be 'query'",
        ),
        (_with("movie", rows=79), "rows of 'movie' must be 80 for MovieLens, not 79"),
        (_with("year", scope="query"), "scope of 'year' must be 'item' for MovieLens, not 'query'"),
        (_with("year", name="era"), "MovieLens has the tables .*, not 'era'"),
    ],
)
def test_features_that_do_not_fit(ratings, features, text):
    with pytest.raises(ConfigError, match=f"features.*{text}"):
        Dataset(features, ratings)


def test_too_many(ratings):
    dataset = Dataset(FEATURES, ratings)
    every = dataset.candidates(Split.TEST, items=10)
    assert len(dataset.candidates(Split.TEST, items=10, count=99)) == len(every) < 99
    with pytest.raises(ConfigError, match=r"funnel.items = 80: user \d+ has only 50 movies"):
        dataset.candidates(Split.TEST, items=80)


def test_nothing_held_out(ratings):
    """Nobody likes as many movies as a split needs."""
    dataset = Dataset(FEATURES, replace(ratings, ratings=np.full(USERS * 30, 3, np.float32)))
    text = "no query of the test split: no user rates 5 movies with 4 or more"
    with pytest.raises(DataError, match=text):
        dataset.candidates(Split.TEST, items=10, count=3)


def test_a_neumf_needs_no_dense_inputs_and_two_tables_of_each(ratings):
    """As many statistics as the features have; tables of the product are the same entities."""
    full = Dataset(FEATURES, ratings)
    tables = [
        TABLES[name].model_copy(update={"name": name + suffix})
        for name in ("user", "movie")
        for suffix in ("", "_mf")
    ]
    for dense_query, dense_item in (0, 0), (0, 4), (10, 0):
        values = {"dense_query": dense_query, "dense_item": dense_item, "tables": tables}
        dataset = Dataset(FEATURES.model_copy(update=values), ratings)
        np.testing.assert_array_equal(dataset.dense_query, full.dense_query[:, :dense_query])
        np.testing.assert_array_equal(dataset.dense_item, full.dense_item[:, :dense_item])
        (query,) = dataset.candidates(Split.TEST, items=10, count=1)
        inputs, sent = dataset.candidate_inputs(query), dataset.query(query)
        assert inputs.dense.shape == (10, dense_query + dense_item)
        assert (len(sent.dense_query), sent.dense_item.shape) == (dense_query, (10, dense_item))
        for name in "user", "movie":
            np.testing.assert_array_equal(inputs.indices[name], inputs.indices[f"{name}_mf"])
            np.testing.assert_array_equal(
                inputs.indices[name], full.candidate_inputs(query).indices[name]
            )
            np.testing.assert_array_equal(sent.indices[name], sent.indices[f"{name}_mf"])
