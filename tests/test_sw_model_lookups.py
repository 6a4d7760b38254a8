"""Traces of lookups: what the back end reads is what the front end's scores let through."""

import numpy as np
import pytest

from sw_model.criteo_like import TABLES, trace
from sw_model.lookups import Funnel, LearnedRanks, RatingTrace, Visit, criteo_like_visits, flatten
from sw_model.movielens import load
from sw_model.planted import capped, clicks, truth

FUNNEL = Funnel(items=256, survivors=30, sub_batches=4)


def test_front_end_reads_the_generator_s_rows():
    visits = [v for v in criteo_like_visits(range(2, 4), seed=3, funnel=FUNNEL) if v.stage == 0]
    (rows,) = trace(512, seed=3, start=512)
    assert [v.query for v in visits] == [2] * 4 + [3] * 4
    assert np.array_equal(np.concatenate([v.rows for v in visits]), rows)


def test_back_end_reads_what_was_filtered():
    (block,) = clicks(range(256, 512), seed=3)
    scores = truth(block.ranks, block.dense, factors=4)
    visits = [v for v in criteo_like_visits(range(1, 2), seed=3, funnel=FUNNEL) if v.stage == 1]
    assert [len(v.items) for v in visits] == [8, 7, 8, 7]
    for number, visit in enumerate(visits):
        part = np.arange(number * 64, number * 64 + 64)
        others = np.setdiff1d(part, visit.items)
        assert set(visit.items) <= set(part)
        assert scores[visit.items].min() >= scores[others].max()
        assert (np.diff(scores[visit.items]) <= 0).all()
        assert np.array_equal(visit.rows, block.ranks[visit.items])


def test_drift_and_small_tables_reach_the_trace():
    still, moved = (
        np.concatenate(
            [
                v.rows
                for v in criteo_like_visits(
                    range(4), seed=3, funnel=FUNNEL, lifetime=lifetime, tables=capped(100)
                )
            ]
        )
        for lifetime in (None, 1000)
    )
    assert still.max() < 100
    assert not np.array_equal(still, moved)


def test_flattened():
    chunks = list(flatten(criteo_like_visits(range(1), seed=3, funnel=FUNNEL)))
    visits = list(criteo_like_visits(range(1), seed=3, funnel=FUNNEL))
    assert len(chunks) == len(visits) == 8
    for chunk, visit in zip(chunks, visits, strict=True):
        assert chunk.shape == (len(visit.items) * 26, 5)
        for row in (0, 27, len(chunk) - 1):
            item, table = divmod(row, 26)
            wanted = [0, visit.stage, visit.items[item], table, visit.rows[item, table]]
            assert chunk[row].tolist() == wanted


def test_ratings_are_ranked_by_the_training_half_only():
    data = load()
    found = RatingTrace(data)
    funnel = Funnel(items=1000, survivors=125)
    training, test = found.queries(funnel)
    assert (training, test) == (range(50), range(50, 100))
    visits = [v for v in found.visits(training, funnel) if v.stage == 0]
    rows = np.concatenate([v.rows for v in visits])
    assert np.array_equal(rows[:, :2], rows[:, 2:])
    for column, size in zip(rows.T, found.rows, strict=True):
        counts = np.bincount(column, minlength=size)
        assert np.all(np.diff(counts[:50]) <= 2)  # the training half has two ratings more
        assert counts.argmax() <= 1
    shuffled = RatingTrace(data, seed=1)
    movies = [
        np.concatenate([v.rows[:, 1] for v in t.visits(test, funnel) if v.stage == 0])
        for t in (found, shuffled)
    ]
    # Later ratings are of movies that were not popular before; shuffled ones are not.
    assert np.median(movies[0]) > 1.5 * np.median(movies[1])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"survivors": 0}, "survivors must be 1..4096, not 0"),
        ({"survivors": 4097}, "survivors must be 1..4096, not 4097"),
        ({"sub_batches": 0}, "sub_batches must be 1..4096, not 0"),
    ],
)
def test_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        Funnel(**sizes)


def test_full_cardinality_is_reached():
    rows = np.concatenate([v.rows for v in criteo_like_visits(range(2), seed=3)])
    assert rows.shape[1] == len(TABLES)
    assert rows[:, 2].max() > 5_000_000


def test_learned_ranks_are_a_permutation_by_popularity(rng):
    sizes = 50, 1000
    popular = np.stack([rng.permutation(n)[rng.zipf(1.5, 600) % n] for n in sizes], axis=1)
    trace = [Visit(0, 0, np.arange(600), popular), Visit(0, 1, np.arange(3), popular[:3])]
    ranks = LearnedRanks(trace, sizes)
    every = np.stack([np.arange(1000) % n for n in sizes], axis=1)
    (found,) = ranks([Visit(7, 1, np.arange(1000), every)])
    assert (found.query, found.stage) == (7, 1)
    for column, size in enumerate(sizes):
        new = found.rows[:size, column]
        assert np.array_equal(np.sort(new), np.arange(size))
        counts = np.bincount(popular[:, column], minlength=size)
        assert (np.diff(counts[np.argsort(new)]) <= 0).all()
