"""Traces of RTL runs: tokens where the planner says, times that the counters confirm."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.driver import Device
from sim.trace import read
from sim.trace_events import CYCLE_US, WINDOWS, write_events
from sim.transport import SimulatedTransport
from sw_model.planner import plan
from sw_model.random_models import random_models, random_query

TINY = Path(__file__).with_name("tiny.toml")
REQUIRED = {"X": {"ts", "dur", "tid"}, "C": {"ts", "args"}, "M": {"args"}}
REQUIRED |= {phase: {"ts", "cat", "id", "tid"} for phase in "bestf"}
"""What the Trace Event Format wants of an event of each phase, besides name and pid."""


def check_format(document):
    """Check a file of trace events: fields, slices of a track one after the other, pairs."""
    assert set(document) == {"traceEvents", "displayTimeUnit", "otherData"}
    ends = defaultdict(list)
    pairs, named = Counter(), set()
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert set(event) >= REQUIRED[event["ph"]], event
        assert event.get("ts", 0) >= 0
        if event["ph"] == "X":
            assert event["dur"] > 0
            ends[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "be":
            pairs[event["cat"], event["id"]] += 1 if event["ph"] == "b" else -1
        elif event["ph"] == "M" and event["name"] == "thread_name":
            named.add((event["pid"], event["tid"]))
    assert set(pairs.values()) <= {0}
    assert set(ends) <= named
    for slices in ends.values():
        for (_, end), (begin, _) in pairwise(sorted(slices)):
            assert begin >= end - 1e-9
    return named


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A run with stalls on all ports: its record, and counters before its last query."""
    folder = tmp_path_factory.mktemp("trace")
    values = load(TINY).model_dump()
    values |= {"simulation": {"memory_latency": 40, "memory_stall": 20, "host_stall": 20}}
    config = parse(values)
    rng = np.random.default_rng(5)
    models = random_models(config, rng)
    image = compile_image(config, models)
    runs = [(24, [10, 4], 8, []), (9, [3, 1], 2, []), (24, [12, 8], 5, [0]), (1, [1, 1], 1, [])]
    transport = SimulatedTransport(config, image.data, trace=folder / "record")
    with Device(transport, config, image) as device:

        def submit(items, keep, sub_batch, once):
            query = random_query(config.features, items, rng)
            return device.submit(query, keep=keep, sub_batch=sub_batch, global_release=once)

        handles = [device.wait(handle) for handle in [submit(*run) for run in runs[:-1]]]
        counts = device.counters()
        handles.append(device.wait(submit(*runs[-1])))
    return config, folder / "record", runs, handles, counts


def test_tokens_are_the_planner_s(traced):
    config, record, runs, _, _ = traced
    trace = read(config.hardware, record)
    assert [query.query_id for query in trace.queries] == list(range(len(runs)))
    for query, (items, keep, sub_batch, once) in zip(trace.queries, runs, strict=True):
        for stage in range(2):
            steps = [s for s in plan(items, sub_batch, keep, once) if s.stage == stage]
            tokens = [token for token in query.tokens if token.stage == stage]
            assert [t.items for t in tokens] == [s.items for s in steps]
            assert [t.sub_batch for t in tokens] == list(range(len(steps)))
            for token, step in zip(tokens, steps, strict=True):
                assert token.gathered == token.items
                assert len(token.array) == (token.items > 0)
                assert (token.release is not None) == (step.emit and step.count > 0)


def test_order_and_nesting(traced):
    """A token's way through the units, in its query's time; one token at a time in each unit."""
    config, record, _, handles, _ = traced
    trace = read(config.hardware, record)
    for query, handle in zip(trace.queries, handles, strict=True):
        # Tokens are taken, and their features waited for, while the copy goes on.
        assert query.opened < query.tokens[0].taken
        assert query.opened < query.copied < query.tokens[-1].gather[1]
        assert query.completed is not None
        begin, end = query.completed
        assert begin <= query.released < end
        # From the fetched descriptor to the completion: first it is validated, or waits for a slot.
        waits = query.query_id == 2
        assert waits * 1000 < handle.cycles - (end - query.opened) < 100 + waits * end
        for token in query.tokens:
            places = [token.gather, *token.array, token.filter]
            assert query.opened < token.taken < token.gather[0]
            assert all(first <= last for first, last in places)
            assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(places))
            assert token.filter[1] < query.released
            if token.release is not None:
                assert token.filter[1] < token.release[0] <= token.release[1] <= query.released
        # Survivors are gathered after they were released.
        released = [t.release for t in query.tokens if t.stage == 0 and t.release is not None]
        inner = [t for t in query.tokens if t.stage == 1 and t.items]
        if len(released) == 1:  # once in the query, for all
            released *= len(inner)
        assert all(r[0] < t.gather[1] for r, t in zip(released, inner, strict=True))
    for unit in ("gather", "filter"):
        for stage in range(2):
            spans = [getattr(token, unit) for token in trace.tokens if token.stage == stage]
            assert all(a[1] < b[0] for a, b in pairwise(spans))
    rows = sorted(span for token in trace.tokens for span in token.array)
    assert all(a[1] < b[0] for a, b in pairwise(rows))


def test_times_agree_with_the_counters(traced):
    config, record, _, _, counts = traced
    trace = read(config.hardware, record)
    moment = counts["device.cycles"]
    assert trace.cycles > moment
    for unit, states in trace.states.items():
        for state, runs in states.items():
            spent = sum(min(end, moment) - begin for begin, end in runs if begin < moment)
            assert spent == counts[f"{unit}.{state}"], (unit, state)
    for stage in range(2):
        tokens = [t for t in trace.tokens if t.stage == stage and t.taken < moment]
        assert sum(token.gathered for token in tokens) == counts[f"gather{stage}.items"]
    inside = {c for token in trace.tokens for a, b in token.array for c in range(a, b + 1)}
    assert inside >= {c for begin, end in trace.states["group0"]["busy"] for c in range(begin, end)}


def test_file(traced, tmp_path):
    config, record, _, _, _ = traced
    trace = write_events(config, record, tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text())
    check_format(document)
    events = document["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    slices = Counter(tracks[e["tid"]] for e in events if e["ph"] == "X")
    for stage in range(2):
        tokens = [token for token in trace.tokens if token.stage == stage]
        assert slices[f"gather {stage}"] == slices[f"filter {stage}"] == len(tokens)
    assert slices["group 0"] == sum(token.items > 0 for token in trace.tokens)
    assert slices["host read"] == slices["result write"] == slices["slot 0"] + slices["slot 1"]
    one = next(e for e in events if e["ph"] == "X" and tracks[e["tid"]] == "group 0")
    assert one["ts"] == pytest.approx(one["args"]["first cycle"] * CYCLE_US)
    for unit in trace.states:
        shown = [e for e in events if e["ph"] == "C" and e["name"].startswith(f"{unit}:")]
        assert 0 < len(shown) <= WINDOWS + 1
        assert all(sum(e["args"].values()) <= 100.1 for e in shown)


def test_command(tmp_path):
    target = tmp_path / "new" / "trace.json"
    done = CliRunner().invoke(
        app, ["run", str(TINY), "-o", str(tmp_path / "out"), "--trace", str(target)]
    )
    assert done.exit_code == 0, done.output
    check_format(json.loads(target.read_text()))
    assert not list(target.parent.glob("*.record"))


def test_the_golden_device_has_no_trace(tmp_path):
    done = CliRunner().invoke(
        app,
        [
            "run",
            str(TINY),
            "--device",
            "golden",
            "-o",
            str(tmp_path),
            "--trace",
            str(tmp_path / "x"),
        ],
    )
    assert done.exit_code == 2
    assert "the golden device has no time to trace; give a simulator" in done.stderr
