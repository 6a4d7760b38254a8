"""The gather unit against the golden model: bytes of each item, their order, counters."""

import pytest

from tests.gather_bench import DENSE, ITEM, QUERY, STALLS, TABLE, Bench, Stage, integer, machine


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
    )


def random_fields(rng):
    fields = []
    for _ in range(integer(rng, 0, 2)):
        scope = int(rng.choice([QUERY, ITEM]))
        fields.append({"kind": DENSE, "scope": scope, "count": integer(rng, 1, 40)})
    for _ in range(integer(rng, 1, 5)):
        rows = integer(rng, 1, 60)
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


@pytest.mark.parametrize("case", range(8))
def test_matches_golden(rng, case):
    """Random stages and tokens; other stalls change cycles, but neither bytes nor counters."""
    stage = Stage(rng, random_machine(rng), random_fields(rng), items=12, bad=0.0)
    tokens = random_tokens(rng, stage, 6)
    counters = []
    for seed, stall in (case, 0.0), (case + 100, 0.4):
        bench = Bench(stage, tokens, seed=seed, stall=stall)
        bench.flush_before = 3
        bench.run()
        bench.check()
        assert not bench.fails
        counters.append({n: v for n, v in bench.counters.items() if n not in STALLS})
    assert counters[0] == counters[1]
