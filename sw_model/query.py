"""Queries and rankings: the values that go into and come out of a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Query", "Ranking"]


@dataclass(frozen=True)
class Query:
    """The candidates of one query, quantised, in the terms of the configuration's features.

    Attributes
    ----------
    dense_query : int8, shape (dense_query,)
    dense_item : int8, shape (items, dense_item)
    indices : dict of int64 arrays by table name
        Row indices; shape (lookups,) for a table of scope ``query``, (items, lookups) for scope
        ``item``. Unused slots of a bag hold the table's ``empty_index``.
    items : int
    """

    dense_query: NDArray[np.int8]
    dense_item: NDArray[np.int8]
    indices: dict[str, NDArray[np.int64]]
    items: int


@dataclass(frozen=True)
class Ranking:
    """The ranked result of a query, best first.

    Attributes
    ----------
    positions : int64, shape (k,)
        Positions of the served items in the query.
    scores : int64, shape (k,)
        Their logits (int16 range).
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.int64]
