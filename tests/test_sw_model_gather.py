"""The golden gather unit and look-ahead cache against plain Python."""

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


def decisions(ways, lookahead, probes, *, lines=None):
    """What a cache does: for each line of ``probes`` "hit", "miss", or the line that is evicted."""
    cache = LookaheadCache(lines=lines or ways, ways=ways, lookahead=lookahead)
    found = []
    for line in probes:
        if line is None:
            cache.skip()
            continue
        probe = cache.probe(line)
        assert probe.line == line
        found.append("hit" if probe.hit else "miss" if probe.evicted is None else probe.evicted)
    return found


SIEVE = {
    # ways, lookahead, lines, decisions
    "nothing is visited: the oldest goes": (2, 1, [1, 2, 3, 4], ["miss", "miss", 1, 2]),
    "a visited line stays": (2, 1, [1, 2, 1, 3, 1], ["miss", "miss", "hit", 2, "hit"]),
    # 1 lost its mark when 2 went; the hand stands at 3, the newest, and leaves 1 alone.
    "the hand goes on": (2, 1, [1, 2, 1, 3, 4, 5], ["miss", "miss", "hit", 2, 3, 4]),
    # 4 is passed over, too, then 1 without a mark is the first behind the newest.
    "from the newest back to the oldest": (
        2,
        1,
        [1, 2, 1, 3, 3, 4],
        ["miss", "miss", "hit", 2, "hit", 1],
    ),
    "all visited: the first, and all marks are gone": (
        3,
        1,
        [1, 2, 3, 1, 2, 3, 4, 5, 6],
        ["miss"] * 3 + ["hit"] * 3 + [1, 2, 3],
    ),
    # The newest one and 2 are among the last three segments, 1 is not.
    "recent lines are spared": (3, 3, [1, 2, 3, 1, 2, 3, 4], ["miss"] * 3 + ["hit"] * 3 + [1]),
    "recent lines are spared although not visited": (
        3,
        3,
        [1, 2, 3, 1, None, None, 2, 3, 3, 4],
        ["miss"] * 3 + ["hit"] * 4 + [1],
    ),
    "all are recent: as if none was": (2, 8, [1, 2, 1, 3, 4], ["miss", "miss", "hit", 2, 3]),
    # Numbers are modulo 64 x 2: 126 segments later line 1 looks new again, 2 does not.
    "numbers wrap": (
        2,
        2,
        [1, *[None] * 3, 2, *[None] * 123, 3],
        ["miss", "miss", 2],
    ),
}


@pytest.mark.parametrize("name", SIEVE)
def test_sieve_by_hand(name):
    ways, lookahead, probes, expected = SIEVE[name]
    assert decisions(ways, lookahead, probes) == expected


@pytest.mark.parametrize("lines, ways", [(1, 1), (2, 2), (4, 1), (6, 3), (16, 4), (32, 16)])
def test_cache_is_that_of_the_policy_study(rng, lines, ways):
    """With no line spared, misses are those of the model that the policy was chosen with."""
    study = pytest.importorskip("sw_model.embedding_memory", reason="needs the extra bench")
    probes = rng.zipf(1.3, size=2000) % (4 * lines)
    policy = study.Cache(lines // ways, ways, study.Replacement.SIEVE)
    counted = study.simulate(study.Trace(probes), policy)
    found = decisions(ways, 0, probes.tolist(), lines=lines)
    assert [decision != "hit" for decision in found] == counted.missed.tolist()
    assert sum(isinstance(decision, int) for decision in found) == counted.evictions > 0


def test_flush_forgets_lines_and_keeps_counters():
    cache = LookaheadCache(lines=2, ways=2, lookahead=4)
    for line in (1, 2, 1, 3):
        cache.probe(line)
    cache.flush()
    assert not cache.probe(3).hit
    assert (cache.hits, cache.misses, cache.evictions) == (1, 4, 1)


def test_cache_refuses_uneven_sets():
    with pytest.raises(ValueError, match="lines = 5 must be a multiple of ways = 2"):
        LookaheadCache(lines=5, ways=2, lookahead=2)


def test_rows_in_lines():
    packed = {"line": 100, "log2_rows": 2, "lines": 1}
    assert [list(row_lines(packed, i)) for i in (0, 3, 4)] == [[100], [100], [101]]
    long = {"line": 7, "log2_rows": 0, "lines": 3}
    assert list(row_lines(long, 2)) == [13, 14, 15]


def test_trace_counts():
    table = {"index_bytes": 1, "rows": 10, "hot_rows": 2}
    table |= {"line": 0, "log2_rows": 1, "lines": 1}
    caches = [LookaheadCache(lines=n, ways=n, lookahead=4) for n in (2, 1)]
    trace = GatherTrace([[table], []], caches)
    trace.token()
    trace.item([[[0, 1, 2, 3, 255, 10]], []])
    trace.item([[[4, 6, 2]], []])
    assert trace.counters == {
        "items": 2,
        "lookups": 7,
        "static_hits": 2,
        "bad_indices": 1,
        "lookahead_hits": 2,
        "misses": 3,
        "evictions": 1,
    }
    # The token, seven rows, and the first bag's last slot, which has none.
    assert [cache.segments for cache in caches] == [9, 1]


def test_a_row_of_several_lines_is_as_many_segments():
    table = {"index_bytes": 1, "rows": 10, "hot_rows": 2}
    table |= {"line": 0, "log2_rows": 0, "lines": 3}
    cache = LookaheadCache(lines=4, ways=4, lookahead=4)
    GatherTrace([[table]], [cache]).item([[[1, 5]]])
    assert (cache.segments, cache.misses) == (6, 3)
