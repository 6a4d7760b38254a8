"""The golden gather unit and look-ahead cache against plain Python."""

from collections import OrderedDict

import numpy as np
import pytest

from sw_model.gather import GatherTrace, bad_indices, pool, row_lines
from sw_model.lookahead import LookaheadCache
from sw_model.quantised import QuantisedTable


def pooled_by_hand(table, bag, empty):
    result = []
    for element in range(table.rows.shape[1]):
        total = sum(int(table.rows[i, element]) for i in bag if i != empty and i < len(table.rows))
        if table.shift:
            total = (total + (1 << (table.shift - 1))) >> table.shift
        result.append(min(max(total, -128), 127))
    return result


@pytest.mark.parametrize("lookups, shift", [(1, 0), (1, 3), (7, 0), (7, 2), (64, 6), (3, 15)])
def test_pooling(rng, lookups, shift):
    rows = rng.integers(-128, 128, size=(40, 5)).astype(np.int8)
    table = QuantisedTable("t", rows, shift)
    bags = rng.integers(0, 44, size=(30, lookups))  # 40..43 are beyond the table
    bags[rng.random(bags.shape) < 0.3] = 255
    bags[3] = 255
    got = pool(table, bags, empty_index=255)
    assert got.dtype == np.int8
    assert got.tolist() == [pooled_by_hand(table, bag.tolist(), 255) for bag in bags]
    assert not got[3].any()
    assert pool(table, bags[5], empty_index=255).tolist() == got[5].tolist()
    bad = bad_indices(table, bags, empty_index=255)
    assert bad.sum() == ((bags >= 40) & (bags < 255)).sum()


def test_a_single_row_is_itself(rng):
    table = QuantisedTable("t", rng.integers(-128, 128, size=(9, 4)).astype(np.int8))
    indices = np.arange(9)[:, None]
    assert (pool(table, indices, empty_index=255) == table.rows).all()


@pytest.mark.parametrize("lines, ways", [(1, 1), (4, 1), (6, 3), (16, 4), (8, 8)])
def test_cache_is_lru(rng, lines, ways):
    cache = LookaheadCache(lines=lines, ways=ways)
    sets = [OrderedDict() for _ in range(lines // ways)]
    hits = evictions = 0
    for line in rng.integers(0, 3 * lines, size=500).tolist():
        mine = sets[line % len(sets)]
        expected = None
        hit = line in mine
        if not hit and len(mine) == ways:
            expected, _ = mine.popitem(last=False)
        mine[line] = None
        mine.move_to_end(line)
        hits += hit
        evictions += expected is not None
        probe = cache.probe(line)
        assert (probe.line, probe.hit, probe.evicted) == (line, hit, expected)
    assert (cache.hits, cache.misses, cache.evictions) == (hits, 500 - hits, evictions)
    cache.flush()
    assert not cache.probe(0).hit
    assert (cache.hits, cache.evictions) == (hits, evictions)


def test_cache_refuses_uneven_sets():
    with pytest.raises(ValueError, match="lines = 5 must be a multiple of ways = 2"):
        LookaheadCache(lines=5, ways=2)


def test_rows_in_lines():
    packed = {"line": 100, "log2_rows": 2, "lines": 1}
    assert [list(row_lines(packed, i)) for i in (0, 3, 4)] == [[100], [100], [101]]
    long = {"line": 7, "log2_rows": 0, "lines": 3}
    assert list(row_lines(long, 2)) == [13, 14, 15]


def test_trace_counts():
    table = {"index_bytes": 1, "rows": 10, "hot_rows": 2}
    table |= {"line": 0, "log2_rows": 1, "lines": 1}
    trace = GatherTrace(
        [[table], []], [LookaheadCache(lines=2, ways=2), LookaheadCache(lines=1, ways=1)]
    )
    trace.item([[[0, 1, 2, 3, 255, 10]], []])
    trace.item([[[4, 6, 2]], []])
    assert trace.counters == {
        "items": 2,
        "lookups": 7,
        "static_hits": 2,
        "bad_indices": 1,
        "lookahead_hits": 1,
        "misses": 4,
        "evictions": 2,
    }
