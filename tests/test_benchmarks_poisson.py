"""The recorded Poisson run, and the cycle model that has to match it."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.poisson import compare_text, errors
from rpaccel.config import load

RECORD = Path(__file__).parents[1] / "sw_model" / "data" / "poisson-tiny.json"
TIMES = ("arrival", "submitted", "opened", "copied", "completed")


def test_the_record_is_of_a_machine_and_in_order():
    record = json.loads(RECORD.read_text())
    config = load(Path(__file__).with_name("tiny.toml"))
    assert (record["items"], record["keep"]) == (config.funnel.items, config.funnel.keep)
    rows = record["queries"]
    assert len(rows) == 200
    for row in rows:
        assert all(row[a] <= row[b] for a, b in pairwise(TIMES))
        assert row["latency"] == row["completed"] - row["arrival"]
    for name in ("arrival", "submitted", "opened", "completed"):
        assert all(a[name] <= b[name] for a, b in pairwise(rows))
    span = rows[-1]["arrival"] - rows[0]["arrival"]
    assert 0.8 < span / 199 / (record["cycles_a_query"] / record["load"]) < 1.25


def test_the_cycle_model_matches_every_latency():
    """Fails when the machine that was recorded and its model drift apart."""
    pytest.importorskip("numba", reason="the cycle model needs Numba (extra bench)")
    record = json.loads(RECORD.read_text())
    config = load(Path(__file__).with_name("tiny.toml"))
    assert record["digest"] == f"{config.hardware.digest():#018x}"
    found, delay, saturated = errors(config, record)
    assert 0 < delay < 20
    assert np.abs(found).max() < 0.01  # 0.03 is the aim
    assert (found == 0).mean() > 0.5  # a late answer of memory shifts all of a busy period
    assert saturated == pytest.approx(record["cycles_a_query"], rel=0.01)
    assert "200 latencies" in compare_text(found)
