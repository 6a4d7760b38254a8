"""Steps of a gather unit: every piece once, in order, inside of what is read."""

import pytest

from rpaccel.config import parse
from rpaccel.gather_plan import deal_tables, plan_gather
from rpaccel.image_layout import LANE, STEP
from rpaccel.steps import Bag, Dense, step_word, steps
from sw_model.random_models import random_model
from tests.workloads import workload


def random_lanes(rng, piece_bytes):
    """Fields side by side in two records, dealt to lanes; the last lane is the dense one."""
    lanes = [[] for _ in range(int(rng.integers(2, 6)))]
    at = [0, 0]
    for _ in range(int(rng.integers(1, 12))):
        lane, scope = int(rng.integers(len(lanes))), int(rng.integers(2))
        place = len(lanes[lane])
        if lane == len(lanes) - 1:
            field = Dense(place, scope, at[scope], int(rng.integers(1, piece_bytes + 1)))
            at[scope] += field.count
        else:
            lookups, size = int(rng.integers(1, 40)), int(rng.integers(1, 5))
            field = Bag(place, scope, at[scope], lookups, size)
            at[scope] += lookups * size
        lanes[lane].append(field)
    if not any(lanes[:-1]):
        lanes[0].append(Bag(0, 1, at[1], 1, 2))
    return lanes


@pytest.mark.parametrize("case", range(60))
def test_every_piece_once(rng, case):
    read_bytes, piece_bytes = int(rng.choice([8, 16, 64, 128])), int(rng.choice([8, 16]))
    piece_bytes = min(piece_bytes, read_bytes)
    lanes = random_lanes(rng, piece_bytes)
    made = steps(lanes, read_bytes=read_bytes, piece_bytes=piece_bytes)
    assert [step["last"] for step, _ in made] == [0] * (len(made) - 1) + [1]
    for lane, fields in enumerate(lanes):
        words = [(step, words[lane]) for step, words in made if words[lane]]
        dense = lane == len(lanes) - 1
        assert [w["item_last"] for _, w in words] == [0] * (len(words) - 1) + [1] * bool(words)
        if dense and not fields:
            assert [w["count"] for _, w in words] == [0]
            continue
        for number, field in enumerate(fields):
            own = [(step, w) for step, w in words if w["field"] == number]
            size = 1 if dense else field.index_bytes
            total = field.count if dense else field.lookups
            assert sum(w["count"] for _, w in own) == total
            assert [w["first"] for _, w in own] == [1] + [0] * (len(own) - 1)
            assert [w["last"] for _, w in own] == [0] * (len(own) - 1) + [1]
            at = field.offset
            for step, w in own:
                assert step["scope"] == field.scope
                assert step["address"] + w["byte"] == at
                assert 0 < w["count"] * size <= piece_bytes
                assert w["byte"] + w["count"] * size <= read_bytes
                at += w["count"] * size


def test_one_step_where_all_is_read_at_once():
    bags = [[Bag(0, 1, 13 + 3 * lane, 1, 3)] for lane in range(26)]
    made = steps([*bags, [Dense(0, 1, 0, 13)]], read_bytes=128, piece_bytes=16)
    assert len(made) == 1
    word = step_word(*made[0])
    assert len(word) == STEP.bytes + 27 * LANE.bytes
    last = LANE.unpack(word[-LANE.bytes :])
    assert (last["used"], last["item_last"], last["count"], last["byte"]) == (1, 1, 13, 0)


def test_lanes_take_turns_where_reads_do_not_overlap():
    bags = [[Bag(0, 1, 100 * lane, 16, 4)] for lane in range(2)]
    made = steps([*bags, [Dense(0, 1, 0, 1)]], read_bytes=16, piece_bytes=16)
    order = [[lane for lane in range(2) if words[lane]] for _, words in made]
    assert sorted(order[:2]) == sorted(order[2:4]) == [[0], [1]]


def gather_config(*, tables=None, **gather):
    values = workload(tables=tables).model_dump()
    shape = {"cache_lines": 4, "max_dimension": 64, **gather}
    values["hardware"]["gather"] = [shape] * len(values["hardware"]["gather"])
    return parse(values)


@pytest.mark.parametrize("lanes, max_fields", [(1, 8), (2, 2), (3, 2), (8, 2)])
def test_tables_are_dealt_to_lanes(rng, lanes, max_fields):
    """None twice, none more than a lane takes, used lanes first, no lane idle beside two."""
    config = gather_config(lanes=lanes, max_fields=max_fields)
    model = random_model(config.model(0), config.features, rng)
    tables = len(config.features.tables)
    dealt = deal_tables(config, 0, model)
    assert sorted(number for lane in dealt for number in lane) == list(range(tables))
    assert max(map(len, dealt)) <= max_fields
    sizes = [bool(lane) for lane in dealt]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == min(lanes, tables)
    plan = plan_gather(config, 0, model)
    assert plan.used == sum(sizes)
    assert {len(word) for word in plan.steps} == {STEP.bytes + (lanes + 1) * LANE.bytes}


def test_a_heavy_table_leaves_no_lane_too_full(rng):
    """One table has more words than all others together: they still do not all go elsewhere."""
    tables = [{"name": f"t{n}", "rows": 9, "lookups": 1 if n else 64} for n in range(5)]
    config = gather_config(tables=tables, lanes=2, max_fields=3)
    dealt = deal_tables(config, 0, random_model(config.model(0), config.features, rng))
    assert sorted(map(len, dealt)) == [2, 3]
    assert sorted(n for lane in dealt for n in lane) == list(range(5))
