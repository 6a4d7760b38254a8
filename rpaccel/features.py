"""Feature records: what a query looks like in host memory, and what is refused before sending.

The query record (dense inputs, then the bags of the tables of scope ``query`` in the order of the
configuration) is followed by one item record for each item (likewise), without padding. Indices
are little-endian, ``index_bits`` wide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import QueryError
from rpaccel.models import FeaturesConfig, TableConfig
from rpaccel.section import MAX_ITEMS
from sw_model.query import Query

__all__ = ["offsets", "pack", "validate"]


def offsets(features: FeaturesConfig) -> dict[str, int]:
    """Byte offset of each table's bag in the record of its scope, by table name."""
    at = {"query": features.dense_query, "item": features.dense_item}
    places = {}
    for table in features.tables:
        places[table.name] = at[table.scope]
        at[table.scope] += table.record_bytes
    return places


def validate(features: FeaturesConfig, query: Query) -> None:
    """Check a query against the configuration's features.

    Raises
    ------
    QueryError
        Naming the field, the position, the value, and what is accepted.
    """
    if not 1 <= query.items <= MAX_ITEMS:
        raise QueryError(f"items = {query.items}: a query has 1..{MAX_ITEMS} items")
    _check_dense("dense_query", query.dense_query, (features.dense_query,))
    _check_dense("dense_item", query.dense_item, (query.items, features.dense_item))
    names = {t.name for t in features.tables}
    if set(query.indices) != names:
        raise QueryError(
            f"indices are given for tables {sorted(query.indices)}, "
            f"but the configuration has {sorted(names)}"
        )
    for table in features.tables:
        _check_indices(table, query.indices[table.name], query.items)


def _check_dense(name: str, values: NDArray, shape: tuple[int, ...]) -> None:
    values = np.asarray(values)
    if values.dtype != np.int8:
        raise QueryError(f"{name} must be int8, not {values.dtype}")
    if values.shape != shape:
        raise QueryError(f"{name} must have shape {shape}, not {values.shape}")


def _check_indices(table: TableConfig, indices: NDArray, items: int) -> None:
    indices = np.asarray(indices)
    shape = (table.lookups,) if table.scope == "query" else (items, table.lookups)
    if not np.issubdtype(indices.dtype, np.integer):
        raise QueryError(f"indices of table {table.name!r} must be integers, not {indices.dtype}")
    if indices.shape != shape:
        raise QueryError(
            f"indices of table {table.name!r} must have shape {shape}, not {indices.shape}"
        )
    bad = ((indices < 0) | (indices >= table.rows)) & (indices != table.empty_index)
    if bad.any():
        at = np.argwhere(bad)[0].tolist()
        where = f"slot {at[-1]}" if len(at) == 1 else f"item {at[0]}, slot {at[1]}"
        raise QueryError(
            f"table {table.name!r}, {where}: index {indices[tuple(at)]} is outside "
            f"0..{table.rows - 1} (an empty slot is {table.empty_index})"
        )


def _index_bytes(table: TableConfig, indices: NDArray) -> NDArray[np.uint8]:
    """Bytes of bags, shape (..., record_bytes)."""
    words = np.ascontiguousarray(indices, dtype=np.int64).astype("<u4")
    split = words.view(np.uint8).reshape(*words.shape, 4)[..., : table.index_bits // 8]
    return split.reshape(*words.shape[:-1], table.record_bytes)


def pack(features: FeaturesConfig, query: Query, *, check: bool = True) -> bytes:
    """Pack a query into records.

    Parameters
    ----------
    features : FeaturesConfig
    query : Query
    check : bool
        Validate first; without it, shapes must be right and indices are cut to their width.

    Returns
    -------
    bytes
        ``query_bytes + items * item_bytes`` of them.

    Raises
    ------
    QueryError
        See :func:`validate`.
    """
    if check:
        validate(features, query)
    first = [np.asarray(query.dense_query).view(np.uint8)]
    each = [np.ascontiguousarray(query.dense_item).view(np.uint8)]
    for table in features.tables:
        part = _index_bytes(table, query.indices[table.name])
        (first if table.scope == "query" else each).append(part)
    return np.concatenate(first).tobytes() + np.concatenate(each, axis=1).tobytes()
