"""Verdicts: each target by itself, on both sides of its limit."""

import pytest

from rpaccel.embedding_targets import MACHINE, targets


def gather(**changes):
    run = {"tables": 26, "lanes": 26, "rows": 4, "item_bytes": 117, "write_bytes": 128}
    return run | {"all": "hits", "cycles_per_item": 1.0} | changes


def access(**changes):
    row = {"machine": "m", "static_only": False, "uniform": 0, "spilled": 0, "one_stage": False}
    row |= {"banked": False, "hidden_back": 0.8}
    return row | {"hits": 0.9, "amat": 1.5, "latency": 100, "rtl": False} | changes


def trace(**changes):
    row = {"memory": MACHINE, "bytes": 1.5e6, "over_min": 1.2, "over_min_same_start": 1.1}
    other = {"memory": "other", "bytes": 9e9, "over_min": 9, "over_min_same_start": 9, "useless": 1}
    return {"trace": "Criteo-like, x", "rows": [other, row | changes]}


def times(**changes):
    row = {"ahead": 64, "hidden_back": 0.8, "over_static_only": -0.4}
    return {"trace": "t", "rows": [{"ahead": 0}, row | changes]}


def met(report):
    return [row["met"] for row in targets(report)]


@pytest.mark.parametrize(
    ("part", "rows", "expected"),
    [
        ("gather", [gather()], [True]),
        ("gather", [gather(cycles_per_item=1.001)], [False]),
        ("gather", [gather(all="misses", cycles_per_item=6.4, of_peak=0.9)], [True]),
        ("gather", [gather(all="misses", cycles_per_item=6.4, of_peak=0.89)], [False]),
        ("gather", [gather(lanes=13, cycles_per_item=2)], []),
        ("gather", [gather(item_bytes=845, cycles_per_item=7)], [False]),
        ("fetches", [trace()], [True, True, True]),
        ("fetches", [trace(over_min=1.26)], [False, True, True]),
        ("fetches", [trace(over_min_same_start=1.26)], [True, False, True]),
        ("fetches", [trace(bytes=2.1e6)], [True, True, False]),
        ("fetches", [trace(bytes=2.1e6) | {"trace": "MovieLens"}], [True, True]),
        ("access_times", [times()], [True, True]),
        ("access_times", [times(hidden_back=0.79)], [False, True]),
        ("access_times", [times(over_static_only=-0.39)], [True, False]),
    ],
)
def test_limits(part, rows, expected):
    assert met({part: rows}) == expected


ONLY = access(static_only=True, amat=2.5, hits=0.5, latency=999)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ONLY, access()], [True, True, True]),
        ([ONLY, access(amat=1.6)], [False, True, True]),
        ([ONLY, access(hidden_back=0.79)], [True, False, True]),
        ([ONLY, access(), access(uniform=1, hits=0.8, amat=1.6)], [True, True, True]),
        ([ONLY, access(), access(uniform=1, hits=0.8, amat=1.4)], [True, True, False]),
        ([ONLY, access(), access(uniform=1, hits=0.8, amat=1.6, latency=99)], [True, True, False]),
        ([ONLY, access(), access(spilled=1, hits=0.8, amat=1.4)], [True, True, True]),
        ([ONLY, access(), access(one_stage=True, hits=0.8, amat=1.4)], [True, True, True]),
        ([ONLY, access(), access(banked=True, hits=0.8, amat=1.4)], [True, True, True]),
    ],
)
def test_machines(rows, expected):
    assert met({"machine": rows}) == expected
    other = [row | {"machine": "n"} for row in rows]
    assert met({"machine": rows + other}) == expected * 2


def test_says_by_what():
    rows = [ONLY, access(rtl=True)]
    assert [row["by"] for row in targets({"machine": rows})] == ["cycle model", "RTL", "RTL"]
    rows[0] = rows[0] | {"rtl": True}
    assert [row["by"] for row in targets({"machine": rows})] == ["RTL", "RTL", "RTL"]
