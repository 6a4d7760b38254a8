"""The embedding memory's figures hold together, on memories and tables of a small scale."""

import json
import sys

import pytest
from typer.testing import CliRunner

from rpaccel import bench_access, bench_embedding
from rpaccel.bench_embedding import Memory, policies, split_rows, timing_rows
from rpaccel.bench_gather import measure
from rpaccel.cli import app
from rpaccel.embedding_report import draw, table
from rpaccel.embedding_setting import criteo_like, load_movielens, movielens
from rpaccel.embedding_targets import MACHINE, targets
from sw_model.embedding_memory import Cache, Replacement
from sw_model.lookups import Funnel
from sw_model.planted import capped

GATHER = {"tables": 26, "lanes": 26, "rows": 4, "item_bytes": 117, "write_bytes": 128}
GATHER |= {"all": "hits", "cycles_per_item": 1.0}
ACCESS = {"machine": "m", "static_only": False, "uniform": 0.0, "spilled": 0.0, "one_stage": False}
ACCESS |= {"hits": 0.9, "amat": 1.5, "item_wait": 0.25, "from_ssd": 0.0, "latency": 2000.0}
ACCESS |= {"cycles_per_query": 1000.0, "rtl": False, "banked": False, "hidden_back": 0.9}


ROWS = [ACCESS | {"static_only": True}, ACCESS]


def small(lifetime=None, survivors=64, memory_bytes=96 << 10):
    return criteo_like(
        lifetime=lifetime,
        queries=(12, 6, 3),
        funnel=Funnel(512, survivors),
        tables=capped(20_000),
        memory_bytes=memory_bytes,
        static_macros=64,
        macro_bytes=1 << 10,
    )


@pytest.fixture(scope="module", params=[None, 20_000], ids=["stationary", "drifting"])
def setting(request):
    return small(request.param)


@pytest.fixture(scope="module")
def fetches(setting):
    return policies(setting)


def lines(fetches):
    return {row["memory"]: row["lines"] for row in fetches["rows"]}


def test_no_memory_fetches_less_than_min(fetches):
    rows = fetches["rows"]
    assert fetches["lookups"] == (512 + 64) * 26
    assert min(row["over_min"] for row in rows) == 1
    assert min(row["over_min_same_start"] for row in rows if "training" not in row["memory"]) == 1
    assert all(row["bytes"] == row["lines"] * 64 for row in rows)
    assert not any(row["useless"] for row in rows)


def test_caches_help_and_policies_differ(fetches):
    found = lines(fetches)
    assert found["static + MIN"] < found["static + SIEVE, look-ahead 1024"]
    assert found["static + SIEVE, no look-ahead"] < found["static part alone"]
    assert found["static + SIEVE, no look-ahead"] < found["static + FIFO, no look-ahead"]
    assert found["static + SIEVE, look-ahead 1024"] < found["LRU only, 16 ways"]
    # Lanes that miss nothing keep lines that others could use.
    assert found["static + SIEVE, no look-ahead"] < found[MACHINE] < found["static part alone"]


def test_drift_is_what_the_cache_is_for(fetches, setting):
    drifts = setting.name.endswith("drifting")
    found = lines(fetches)
    assert (found["static + SIEVE, no look-ahead"] < found["static only"]) == drifts


def test_counted_are_the_test_queries_only(setting):
    memory = Memory(setting, 64)
    training, test, _ = setting.lines
    assert sum(memory.macros) == 64
    assert memory.misses == len(test) - round(memory.hits * len(test))
    counted = memory.run(Cache(128, 4, Replacement.LRU))
    parts = [memory.run(Cache(64, 4, Replacement.LRU), stage) for stage in (0, 1)]
    assert counted.lookups == memory.misses == sum(part.lookups for part in parts)
    tables = [memory.run(Cache(64, 4, Replacement.LRU), table=t) for t in range(52)]
    assert sum(part.lookups for part in tables) == memory.misses
    assert len(training) == 12 * (512 + 64) * 26


def test_access_times_fall_as_the_walker_is_further_ahead(setting):
    found = timing_rows(setting, ahead=(0, 8, 32, 128))
    rows = found["rows"]
    for key, sign in (("amat", 1), ("hidden_front", -1), ("hidden_back", -1)):
        values = [sign * row[key] for row in rows]
        assert values == sorted(values, reverse=True)
    # Lookups that fetch wait for all of the latency, and some of the hits for a part of it.
    memory = Memory(setting, 64)
    counted = memory.run(Cache(setting.cache_lines // 4, 4, Replacement.SIEVE))
    least = 1 + 99 * counted.fetched / len(setting.lines[1])
    assert rows[0]["amat"] == pytest.approx(least, rel=0.3)
    assert rows[0]["amat"] >= least
    assert rows[0]["hidden_back"] == pytest.approx(0, abs=0.15)
    assert rows[-1]["hidden_back"] > 0.7


def test_amat_falls_as_the_static_region_grows():
    setting = small()
    rows = split_rows(setting, [16 << 10, 64 << 10, 256 << 10])
    for share in (0.25, 0.5, 0.75, None):
        amat = [row["amat"] for row in rows if row["front_share"] == share]
        assert amat == sorted(amat, reverse=True)
    for size in (16 << 10, 64 << 10, 256 << 10):
        of = {row["front_share"]: row for row in rows if row["bytes"] == size}
        assert all(r["amat"] == pytest.approx(100 - 99 * r["hits"]) for r in of.values())
        best = min(row["amat"] for share, row in of.items() if share is not None)
        assert of[None]["amat"] <= 1.02 * best  # the training trace knows the test nearly


def test_movielens_settings():
    data, name = load_movielens(None)
    setting = movielens(data, name, drifting=True)
    assert (setting.training, setting.test, setting.following) == (
        range(50),
        range(50, 83),
        range(83, 100),
    )
    assert setting.cache_lines == 4096
    assert len(setting.lines[1]) == 33 * (1000 * 6 + 125 * 20)


@pytest.mark.parametrize("setting", [None], indirect=True)
def test_command(monkeypatch, tmp_path, fetches, setting):
    report = {
        "fetches": [fetches],
        "access_times": [timing_rows(setting, ahead=(0, 8))],
        "splits": split_rows(small(survivors=128), [64 << 10]),
        "gather": [GATHER, GATHER | {"all": "misses", "of_peak": 0.875}],
        "machine": [
            ACCESS | {"static_only": True, "amat": 4.125},
            ACCESS | {"banked": True, "hidden_back": None},
        ],
        "targets": [],
    }
    monkeypatch.setattr(bench_embedding, "bench", lambda folder, parts, say: report)
    result = CliRunner().invoke(
        app, ["bench", "embedding", "--json", "--picture", str(tmp_path / "x" / "e.png")]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == json.loads(json.dumps(report))
    assert (tmp_path / "x" / "e.png").stat().st_size > 10_000
    text = table(report)
    for row in fetches["rows"]:
        assert f"| {row['memory']} | {row['lines']:,.0f} |" in text
    assert all(f"{row['amat']:.2f}" in text for row in report["splits"])
    assert "| 26 | 4 B | 128 B | all misses | 1.000 | 87.5% |" in text
    row = "0% | two | 0% | 0.0% | 90.0% |"
    assert f"| m | static only | {row} 4.12 | 90.0% | 0.25 | 2,000 | 1,000 |  |" in text
    assert f"| m | look-ahead, banks | {row} 1.50 |  | 0.25 | 2,000 | 1,000 |  |" in text
    draw(report, tmp_path / "e.png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--only", "cache"],
            "parts must be among traces, splits, gather, machine, rtl, not cache",
        ),
        (["--only", "gather", "--picture", "x.png"], "a picture shows traces and splits"),
    ],
)
def test_wrong_parts(options, said):
    result = CliRunner().invoke(app, ["bench", "embedding", *options])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_only_what_is_asked_for_is_measured(monkeypatch):
    for part in "machine", "rtl":
        monkeypatch.setattr(
            bench_access, "bench", lambda say, rtl: [row | {"rtl": rtl} for row in ROWS]
        )
        report = bench_embedding.bench(parts=[part])
        assert report["machine"][0]["rtl"] == (part == "rtl")
    assert sorted(report) == ["machine", "targets"]
    assert "| AMAT against static only, machine m | -40% | +0% | RTL | **not met** |" in (
        table(report)
    )


def test_without_numba_says_what_to_install(monkeypatch):
    for name in ("sw_model.embedding_memory", "sw_model.fetch_timing", "rpaccel.bench_embedding"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    result = CliRunner().invoke(app, ["bench", "embedding"])
    assert result.exit_code == 3
    assert "numba is missing: pip install -e '.[bench]'" in result.output


def test_learned_ranks_are_worse_than_the_law_s():
    """Of a short log; that they are ranks at all is tested where they are made."""
    law, learned = (
        criteo_like(
            learned=learned,
            queries=(12, 6, 0),
            funnel=Funnel(512, 64),
            tables=capped(20_000),
            memory_bytes=96 << 10,
            static_macros=64,
            macro_bytes=1 << 10,
        )
        for learned in (False, True)
    )
    assert learned.name == "Criteo-like, ranks of the training trace"
    assert Memory(law, 64).hits > Memory(learned, 64).hits > 0.3


@pytest.mark.slow
def test_the_gather_unit_takes_an_item_a_cycle_and_all_of_the_memory():
    """With a lane a table; misses are of random rows."""
    hits = measure(4, write=128, items=24, miss=False, lanes=26)
    assert hits["cycles_per_item"] == 1
    misses = measure(4, write=128, items=48, miss=True, lanes=26)
    assert 6 < misses["cycles_per_item"] < 7.5  # 26 lines of four channels, some ahead at first
    assert misses["of_peak"] > 0.85
    assert json.loads(json.dumps(targets({"gather": [hits, misses]})))
