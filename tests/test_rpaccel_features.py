"""Feature records: packed by hand, unpacked by the golden device, refused when wrong."""

import dataclasses

import numpy as np
import pytest

from rpaccel.errors import QueryError
from rpaccel.features import offsets, pack, validate
from sw_model.features import unpack
from sw_model.query import Query
from sw_model.random_models import random_query
from tests.workloads import workload

TABLES = [
    {"name": "a", "rows": 200, "index_bits": 8, "lookups": 2},
    {"name": "b", "rows": 70_000, "scope": "query", "index_bits": 24, "lookups": 2},
    {"name": "c", "rows": 9, "index_bits": 32},
    {"name": "d", "rows": 300, "scope": "query"},
]


@pytest.fixture
def features():
    return workload(tables=TABLES, dense=(2, 3)).features


def test_layout_by_hand(features):
    assert offsets(features) == {"a": 3, "b": 2, "c": 5, "d": 8}
    query = Query(
        np.array([1, -2], np.int8),
        np.array([[3, -4, 5], [6, 7, -128]], np.int8),
        {
            "a": np.array([[1, 255], [199, 0]]),
            "b": np.array([69_999, 2**24 - 1]),
            "c": np.array([[8], [2**32 - 1]]),
            "d": np.array([299]),
        },
        2,
    )
    data = pack(features, query)
    assert data.hex(" ") == (
        "01 fe 6f 11 01 ff ff ff 2b 01 "  # 69,999 = 0x01116f, empty, 299 = 0x012b
        "03 fc 05 01 ff 08 00 00 00 "
        "06 07 80 c7 00 ff ff ff ff"
    )
    assert len(data) == features.query_bytes + 2 * features.item_bytes


@pytest.mark.parametrize("dense", [(2, 3), (0, 3), (2, 0), (0, 0)])
def test_round_trip(rng, dense):
    features = workload(tables=TABLES, dense=dense).features
    query = random_query(features, 17, rng)
    got = unpack(features, pack(features, query) + b"more", 17)
    assert (got.dense_query == query.dense_query).all()
    assert (got.dense_item == query.dense_item).all()
    assert got.dense_item.shape == (17, dense[1])
    for name, indices in query.indices.items():
        assert (got.indices[name] == indices).all()
        assert got.indices[name].shape == indices.shape


def test_unchecked(features, rng):
    query = random_query(features, 3, rng)
    query.indices["c"][1, 0] = 9
    assert unpack(features, pack(features, query, check=False), 3).indices["c"][1, 0] == 9


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"items": 0}, r"items = 0: a query has 1..16384 items"),
        ({"items": 16385}, r"items = 16385"),
        ({"items": 5}, r"dense_item must have shape \(5, 3\), not \(4, 3\)"),
        ({"dense_query": np.zeros(3, np.int8)}, r"dense_query must have shape \(2,\), not \(3,\)"),
        ({"dense_item": np.zeros((4, 3))}, "dense_item must be int8, not float64"),
        ({"indices": {}}, r"indices are given for tables \[\], but .*'a', 'b', 'c', 'd'"),
    ],
)
def test_wrong_queries(features, rng, changes, message):
    query = dataclasses.replace(random_query(features, 4, rng), **changes)
    with pytest.raises(QueryError, match=message):
        validate(features, query)


@pytest.mark.parametrize(
    "table, at, value, message",
    [
        ("a", (3, 1), 200, r"table 'a', item 3, slot 1: index 200 is outside 0..199 .* is 255"),
        ("c", (0, 0), -1, r"table 'c', item 0, slot 0: index -1 is outside 0..8"),
        ("b", (1,), 70_000, r"table 'b', slot 1: index 70000 is outside 0..69999"),
        ("d", (0,), 65_534, r"table 'd', slot 0: index 65534"),
    ],
)
def test_wrong_indices(features, rng, table, at, value, message):
    query = random_query(features, 4, rng)
    query.indices[table][at] = value
    with pytest.raises(QueryError, match=message):
        pack(features, query)


def test_wrong_index_arrays(features, rng):
    query = random_query(features, 4, rng)
    query.indices["a"] = np.zeros((4, 3), np.int64)
    with pytest.raises(QueryError, match=r"table 'a' must have shape \(4, 2\), not \(4, 3\)"):
        validate(features, query)
    query.indices["a"] = np.zeros((4, 2))
    with pytest.raises(QueryError, match=r"table 'a' must be integers, not float64"):
        validate(features, query)
