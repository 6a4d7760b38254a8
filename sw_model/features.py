"""Feature records as the device reads them: the inverse of what the host packs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rpaccel.models import FeaturesConfig, TableConfig
from sw_model.query import Query

__all__ = ["unpack"]


def unpack(features: FeaturesConfig, data: bytes, items: int) -> Query:
    """Read a query out of its records, without validating indices.

    Parameters
    ----------
    features : FeaturesConfig
    data : bytes
        The query record, then the item records; at least ``query_bytes + items * item_bytes``.
    items : int
    """
    raw = np.frombuffer(data, np.uint8)
    end = features.query_bytes + items * features.item_bytes
    record = raw[: features.query_bytes]
    records = raw[features.query_bytes : end].reshape(items, features.item_bytes)
    indices = {}
    at = {"query": features.dense_query, "item": features.dense_item}
    for table in features.tables:
        source = record if table.scope == "query" else records
        start = at[table.scope]
        indices[table.name] = _indices(table, source[..., start : start + table.record_bytes])
        at[table.scope] += table.record_bytes
    return Query(
        dense_query=record[: features.dense_query].copy().view(np.int8),
        dense_item=records[:, : features.dense_item].copy().view(np.int8),
        indices=indices,
        items=items,
    )


def _indices(table: TableConfig, bag: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Little-endian indices of bags; uint8 (..., record_bytes) to int64 (..., lookups)."""
    size = table.index_bits // 8
    parts = bag.reshape(*bag.shape[:-1], table.lookups, size).astype(np.int64)
    return parts @ (1 << 8 * np.arange(size, dtype=np.int64))
