"""The gather unit against the golden model: bytes of each item, their order, counters."""

import numpy as np
import pytest

from rpaccel import abi
from rtl_gen.gather import GatherUnit
from sim.gather_bench import STATES, Bench
from sim.gather_stage import DENSE, ITEM, QUERY, TABLE, Stage, integer, machine


def random_machine(rng):
    ways = integer(rng, 1, 4)
    bus = int(rng.choice([8, 16]))
    return machine(
        bus=bus,
        line=max(bus, int(rng.choice([16, 32, 64]))),
        host=int(rng.choice([8, 16, 32])),
        tile_cols=integer(rng, 2, 12),
        cols=integer(rng, 1, 2),
        cache_lines=ways << integer(rng, 0, 3),
        cache_ways=ways,
        lookahead=1 << integer(rng, 1, 6),
        outstanding=1 << integer(rng, 0, 4),
        lanes=integer(rng, 1, 4),
        read=int(rng.choice([32, 64])),
        write=integer(rng, 0, 40),
    )


def random_fields(rng):
    fields = []
    for _ in range(integer(rng, 0, 2)):
        scope = int(rng.choice([QUERY, ITEM]))
        fields.append({"kind": DENSE, "scope": scope, "count": integer(rng, 1, 40)})
    for _ in range(integer(rng, 1, 5)):
        rows = integer(rng, 1, 30)
        field = {"kind": TABLE, "scope": int(rng.choice([QUERY, ITEM, ITEM])), "rows": rows}
        hot = [0, rows, integer(rng, 0, rows)][integer(rng, 0, 2)]
        field |= {"hot_rows": hot, "count": integer(rng, 1, 64), "shift": integer(rng, 0, 3)}
        field |= {"lookups": integer(rng, 1, 10), "index_bytes": integer(rng, 1, 4)}
        if rng.random() < 0.5:
            field["lookups"] = 1
        fields.append(field)
    return [fields[i] for i in rng.permutation(len(fields))]


def random_tokens(rng, stage, count, most=6):
    tokens = []
    for _ in range(count):
        slot = integer(rng, 0, len(stage.slots) - 1)
        items = integer(rng, 0, most)
        if rng.random() < 0.5:
            listed = rng.integers(stage.items, size=items).tolist()
            tokens.append((slot, listed, integer(rng, 0, 9), items))
        else:
            tokens.append((slot, None, integer(rng, 0, stage.items - items), items))
    return tokens


@pytest.mark.parametrize(
    "case", [*range(5), *(pytest.param(n, marks=pytest.mark.slow) for n in range(5, 20))]
)
def test_matches_golden(rng, case):
    """Random stages and tokens; other stalls change cycles, but neither bytes nor counters."""
    stage = Stage(rng, random_machine(rng), random_fields(rng), items=12)
    tokens = random_tokens(rng, stage, 6, most=4)
    counters = []
    for seed, stall in (case, 0.0), (case + 100, 0.4):
        bench = Bench(stage, tokens, seed=seed, stall=stall)
        bench.flush_before = 3
        bench.run()
        bench.check()
        assert not bench.fails
        counters.append({n: v for n, v in bench.counters.items() if n not in STATES})
    assert counters[0] == counters[1]


def table(*, rows=20, hot=0, count=8, lookups=1, index_bytes=2, scope=ITEM, shift=0):
    field = {"kind": TABLE, "scope": scope, "rows": rows, "hot_rows": hot, "count": count}
    return field | {"lookups": lookups, "index_bytes": index_bytes, "shift": shift}


def dense(count, scope=ITEM):
    return {"kind": DENSE, "scope": scope, "count": count}


CORNERS = {
    "one line, one field": (
        {"cache_lines": 1, "cache_ways": 1, "max_fields": 1},
        [table(count=40)],
    ),
    "two lines, rows of four lines": (
        {"cache_lines": 2, "cache_ways": 2, "lookahead": 2, "outstanding": 1},
        [table(count=61, lookups=3, shift=1), table(count=3)],
    ),
    "rows of 512 bytes": (
        {"max_dimension": 512, "line": 64, "cache_lines": 16, "lookahead": 32},
        [table(rows=4, hot=2, count=512, lookups=2), dense(100, QUERY)],
    ),
    "rows of one byte": ({"line": 64, "bus": 16}, [table(rows=200, hot=9, count=1, lookups=8)]),
    "dense only": ({"host": 8, "bus": 16}, [dense(33), dense(1, QUERY)]),
    "64 lookups": ({}, [table(lookups=64, rows=30, hot=10, count=9, index_bytes=3, shift=6)]),
    "wide chunks": ({"tile_cols": 16, "cols": 3}, [table(count=24), table(count=24), dense(7)]),
    "back to the first chunk": (
        {},
        [
            table(hot=20, count=3) | {"output": 0},
            table(hot=20, count=8) | {"output": 8},
            table(hot=20, count=3) | {"output": 4},
        ],
    ),
    # Long rows fill their lane before the other one gets its piece of the item.
    "a lane ahead of the other": (
        {"lanes": 2, "lookahead": 2, "outstanding": 1, "read": 8, "host": 8},
        [
            *[table(lookups=8, count=61, hot=20, shift=3) | {"lane": 0}] * 5,
            table(count=8) | {"lane": 1},
        ],
    ),
    "all slots empty": ({"empty": 1.0}, [table(lookups=5, count=20), table(count=3)]),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners(rng, name):
    options, fields = CORNERS[name]
    empty = options.get("empty", 0.2)
    options = {k: v for k, v in options.items() if k != "empty"}
    stage = Stage(rng, machine(**options), fields, items=8, empty=empty)
    tokens = [*random_tokens(rng, stage, 3, most=3), (1, None, 2, 6)]
    for stall in 0.0, 0.3:
        bench = Bench(stage, tokens, stall=stall)
        bench.run()
        bench.check()
        assert not bench.fails


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_eviction_pressure(rng, stall, ways):
    """Two lines for 40 rows and more in flight than they hold: every row is the right one."""
    options = {"cache_lines": 2, "cache_ways": ways, "lookahead": 16, "outstanding": 8}
    stage = Stage(rng, machine(**options), [table(rows=40, count=16, lookups=2)], items=12)
    bench = Bench(stage, [(0, None, 0, 12), (1, None, 0, 12), (0, None, 0, 12)], stall=stall)
    bench.run()
    golden = bench.check()
    assert not bench.fails
    assert golden.counters["evictions"] == golden.counters["misses"] - 2
    assert golden.counters["evictions"] > golden.counters["lookups"] / 4


def test_latency_falls_as_the_hit_rate_rises(rng):
    """The same lookups take fewer cycles the more of their rows are on chip."""
    seed = int(rng.integers(1 << 30))
    cycles, missed = [], []
    for hot in (0, 2, 6, 20, 60):
        options = {"cache_lines": 4, "lookahead": 4, "outstanding": 2}
        fields = [table(rows=60, hot=hot, count=16)]
        stage = Stage(np.random.default_rng(seed), machine(**options), fields, items=50, empty=0.0)
        bench = Bench(stage, [(0, None, 0, 50)], latency=30)
        bench.run()
        missed.append(bench.check().counters["misses"])
        cycles.append(bench.cycle)
    assert missed == sorted(set(missed), reverse=True)
    assert cycles == sorted(set(cycles), reverse=True)
    assert missed[-1] == 0


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_bad_indices(rng, stall, lanes):
    """They contribute nothing, read nothing, are counted, and fail their query before its items."""
    fields = [table(hot=5, lookups=4, count=12, shift=1), table(rows=250, count=5, index_bytes=1)]
    fields.append(table(lookups=2, count=3))
    stage = Stage(rng, machine(lanes=lanes), fields, items=10, bad=0.15)
    tokens = random_tokens(rng, stage, 6)
    bench = Bench(stage, tokens, stall=stall)
    bench.hold_fails = 0.95
    bench.run()
    golden = bench.check()
    assert golden.counters["bad_indices"] == len(bench.bad) > 0
    assert set(bench.fails) == {(slot, abi.Status.BAD_INDEX) for slot in bench.bad}
    expected = []
    for (slot, position), known in zip(bench.expected_items, bench.bad_before, strict=True):
        for number, bag in stage.slots[slot][1][position].items():
            field = stage.fields[number]
            empty = 2 ** (8 * field["index_bytes"]) - 1
            expected += [slot] * int(((bag >= field["rows"]) & (bag != empty)).sum())
        assert known >= len(expected)
    assert sorted(bench.bad) == sorted(expected)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_memory_errors(rng, stall):
    """A query that read a poisoned word fails; the others are exact; lines recover."""
    fields = [table(hot=2, lookups=3, count=16), table(rows=40, count=50), dense(9)]
    stage = Stage(rng, machine(cache_lines=16, line=16), fields, items=10, empty=0.1)
    tokens = [(slot, None, 0, 6) for slot in (0, 1, 2, 3, 0, 1)]
    errors = set(rng.permutation(list(stage.lines))[:40].tolist())
    bench = Bench(stage, tokens, stall=stall, errors=errors)
    bench.run()
    failed = {slot for slot, _ in bench.fails}
    assert set(bench.fails) == {(slot, abi.Status.MEMORY_ERROR) for slot in failed}
    assert [(s, p) for s, p, _ in bench.items] == bench.expected_items
    wrong = [slot for slot, p, written in bench.items if written != stage.expected(slot, p)]
    assert wrong
    assert set(wrong) <= failed
    counted = bench.counters
    assert counted["lookups"] == bench.golden().counters["lookups"]


def steady(bench):
    """Cycles an item between the second quarter and the end of the run."""
    quarter = len(bench.item_cycles) // 4
    return (bench.item_cycles[-1] - bench.item_cycles[quarter]) / (
        len(bench.item_cycles) - 1 - quarter
    )


THROUGHPUT = {
    # options, fields, cycles an item
    "static, one word": ({}, [table(hot=20, count=8)], 1),
    "static, four tables": ({"bus": 16, "cols": 2}, [table(hot=20, count=16)] * 4, 4),
    "static, four words": ({"cols": 4}, [table(hot=20, count=32)], 4),
    "cached, one word": ({"cache_lines": 64}, [table(count=8)], 1),
    "cached, two lines": ({"cache_lines": 64}, [table(count=32, rows=10)], 4),
    "bag of eight": ({"bus": 16, "cols": 2}, [table(hot=20, count=16, lookups=8)], 8),
    "dense": ({"bus": 16, "cols": 2}, [dense(16)], 1),
    "across chunks": ({}, [table(hot=20, count=5), table(hot=20, count=7), dense(6)], 4),
    "four lanes": (
        {"lanes": 4, "read": 32, "write": 64, "bus": 16},
        [*[table(hot=20, count=8)] * 4, dense(13)],
        1,
    ),
    "two lanes, cached": (
        {"lanes": 2, "read": 32, "write": 40, "bus": 16, "cache_lines": 64},
        [table(count=16), table(count=12), dense(7)],
        1,
    ),
    "four tables in two lanes": (
        {"lanes": 2, "read": 32, "write": 64, "bus": 16},
        [table(hot=20, count=16)] * 4,
        2,
    ),
    "narrow chunks": ({"bus": 16, "cols": 1}, [table(hot=20, count=16)], 2),
}


@pytest.mark.parametrize("name", THROUGHPUT)
def test_throughput(rng, name):
    """Without stalls: a word a cycle, hits as fast as static rows."""
    options, fields, cycles = THROUGHPUT[name]
    stage = Stage(rng, machine(**options), fields, items=60, empty=0.0, gaps=False)
    bench = Bench(stage, [(0, None, 0, 60)])
    bench.run()
    bench.check()
    assert steady(bench) <= cycles * 1.02
    assert bench.counters["stall_start"] == bench.counters["stall_write"] == 0


def test_misses_cost_what_memory_takes(rng):
    """Every lookup misses: with lines of two beats, two cycles each, the latency hidden."""
    options = {"line": 16, "bus": 8, "cache_lines": 64, "lookahead": 64, "outstanding": 32}
    stage = Stage(rng, machine(**options), [table(rows=400, count=9)], items=120, gaps=False)
    for number in range(120):  # each item another line, far from the ones cached
        values = stage.slots[0][1]
        values[number][0][:] = 3 * number
    stage.slots[0] = (b"".join((3 * i).to_bytes(2, "little") for i in range(120)), values)
    bench = Bench(stage, [(0, None, 0, 120)], latency=40)
    bench.run()
    golden = bench.check()
    assert golden.counters["misses"] == 120
    assert steady(bench) <= 2.1
    assert bench.memories[0].most > 16


def test_prefetch_runs_ahead_of_a_stopped_group(rng):
    """While the group takes nothing, the lines of queued segments come; then nothing stalls."""
    options = {"line": 16, "bus": 16, "cols": 2, "cache_lines": 64, "outstanding": 16}
    stage = Stage(rng, machine(**options), [table(rows=200, count=16)], items=40, gaps=False)
    bench = Bench(stage, [(0, None, 0, 40)], latency=60)
    take = bench.group

    async def group(ctx):
        await ctx.tick().repeat(400)
        await take(ctx)

    bench.group = group
    bench.run()
    bench.check()
    assert bench.cycle <= 40 + 16


@pytest.mark.parametrize("stage", [-1, 1, "0"])
def test_bad_stage(stage):
    with pytest.raises(ValueError, match="Stage must be one of 0..0"):
        GatherUnit(hardware=machine(), stage=stage)
