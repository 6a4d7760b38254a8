"""Golden model of the embedding gather unit: pooled bytes of items, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sw_model.lookahead import LookaheadCache
from sw_model.numerics import INT8, rshift_round
from sw_model.quantised import QuantisedTable

__all__ = ["GatherTrace", "bad_indices", "pool", "row_lines"]


def bad_indices(
    table: QuantisedTable, indices: NDArray[np.int64], *, empty_index: int
) -> NDArray[np.bool_]:
    """Where indices lie beyond their table; bool of the shape of ``indices``."""
    return (indices != empty_index) & ((indices < 0) | (indices >= len(table.rows)))


def pool(
    table: QuantisedTable, indices: NDArray[np.int64], *, empty_index: int
) -> NDArray[np.int8]:
    """Pooled vectors of bags, as docs/numerics.md defines them.

    Parameters
    ----------
    table : QuantisedTable
        Rows int8 of shape (rows, dimension).
    indices : int64, shape (..., lookups)
        ``empty_index`` marks an empty slot; it and indices beyond the table contribute nothing.
    empty_index : int

    Returns
    -------
    int8, shape (..., dimension)
    """
    indices = np.asarray(indices, dtype=np.int64)
    used = (indices != empty_index) & ~bad_indices(table, indices, empty_index=empty_index)
    total = np.zeros((*indices.shape[:-1], table.rows.shape[1]), dtype=np.int64)
    for slot in range(indices.shape[-1]):  # one slot at a time: no (..., lookups, dimension) array
        rows = table.rows[np.where(used[..., slot], indices[..., slot], 0)]
        total += np.where(used[..., slot, None], rows, 0)
    return np.clip(rshift_round(total, table.shift), *INT8).astype(np.int8)


def row_lines(field: Mapping[str, int], index: int) -> range:
    """Memory lines that hold a row of a table (docs/architecture.md, GatherUnit).

    Parameters
    ----------
    field : mapping
        Values of the table's :data:`rpaccel.image_layout.FIELD`.
    index : int
    """
    if field["log2_rows"]:
        first = field["line"] + (index >> field["log2_rows"])
        return range(first, first + 1)
    first = field["line"] + index * field["lines"]
    return range(first, first + field["lines"])


class GatherTrace:
    """Counters of a gather unit, from the indices it is given: they do not depend on timing.

    Parameters
    ----------
    lanes : sequence of sequence of mappings
        For each lane, values of its FIELD words in their order.
    caches : sequence of LookaheadCache
        One a lane.

    Attributes
    ----------
    counters : dict of int
        The event counters of :data:`rpaccel.counters.GATHER_COUNTERS` (not the stalls).
    """

    def __init__(
        self, lanes: Sequence[Sequence[Mapping[str, int]]], caches: Sequence[LookaheadCache]
    ) -> None:
        self.lanes = lanes
        self.caches = caches
        self._own = {"items": 0, "lookups": 0, "static_hits": 0, "bad_indices": 0}

    @property
    def counters(self) -> dict[str, int]:
        """The counters so far."""
        return {
            **self._own,
            "lookahead_hits": sum(cache.hits for cache in self.caches),
            "misses": sum(cache.misses for cache in self.caches),
            "evictions": sum(cache.evictions for cache in self.caches),
        }

    def token(self) -> None:
        """Begin a sub-batch."""
        for cache in self.caches:
            cache.skip()

    def item(self, indices: Sequence[Sequence[Sequence[int]]]) -> None:
        """Gather one item.

        Parameters
        ----------
        indices : sequence of sequence of sequence of int
            For each lane and each of its FIELD words, the indices of its bag in order.
        """
        self._own["items"] += 1
        for fields, cache, bags in zip(self.lanes, self.caches, indices, strict=True):
            for field, bag in zip(fields, bags, strict=True):
                for line in self._bag(field, bag):
                    if line is None:
                        cache.skip()
                    else:
                        cache.probe(line)

    def _bag(self, field: Mapping[str, int], indices: Sequence[int]) -> Iterator[int | None]:
        """Count the lookups of a bag; yield the line of each of its segments, None without one."""
        empty = (1 << 8 * field["index_bytes"]) - 1
        for index in indices:
            if empty > index >= field["rows"]:
                self._own["bad_indices"] += 1
            if index >= field["rows"]:
                continue
            self._own["lookups"] += 1
            lines = row_lines(field, index)
            if index < field["hot_rows"]:
                self._own["static_hits"] += 1
                yield from (None for _ in lines)
            else:
                yield from lines
        if indices[-1] >= field["rows"]:
            yield None  # the bag ends without a row: a segment says so
