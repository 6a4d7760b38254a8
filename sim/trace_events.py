"""Trace events of a run, in the format that Perfetto and Chrome show.

A track a query slot; a track a unit with a slice for each token (a sub-batch in a stage), arrows
from unit to unit; and for each unit shares of its states over time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rpaccel.config import Config
from sim.trace import Query, Span, Token, Trace, read

__all__ = ["CYCLE_US", "WINDOWS", "events", "write_events"]

CYCLE_US = 0.004
"""A cycle of 250 MHz, in the microseconds of trace events."""
WINDOWS = 1000
"""Points of a unit's track of states, at most."""


def events(trace: Trace) -> Iterator[dict[str, Any]]:
    """All trace events of a run."""
    tracks = _Tracks()
    for query in trace.queries:
        yield from _query_events(query, tracks)
    for number, token in enumerate(trace.tokens):
        yield from _token_events(number, token, tracks)
    yield from _state_events(trace)
    yield from tracks.names()


def _query_events(query: Query, tracks: _Tracks) -> Iterator[dict[str, Any]]:
    name = f"query {query.query_id}"
    args = {"query": query.query_id, "tokens": len(query.tokens)}
    if query.released >= 0:
        span = query.opened, query.released
        yield tracks.slice("queries", f"slot {query.slot}", name, span, args)
    if query.copied >= 0:
        yield tracks.slice("units", "host read", name, (query.opened, query.copied), args)
    if query.completed is not None:
        yield tracks.slice("units", "result write", name, query.completed, args)


def _state_events(trace: Trace) -> Iterator[dict[str, Any]]:
    """Shares of each unit's states, in windows of as many cycles as are needed."""
    window = max(1, -(-trace.cycles // WINDOWS))
    for unit, states in trace.states.items():
        points: dict[int, Counter[str]] = defaultdict(Counter)
        for state, runs in states.items():
            for begin, end in runs:
                while begin < end:
                    until = min(end, (begin // window + 1) * window)
                    points[begin // window][state] += until - begin
                    begin = until
        before = None
        for point, counts in sorted(points.items()):
            total = sum(counts.values())
            shares = {s: round(100 * counts[s] / total, 2) for s in states if s != "starved"}
            if shares != before:
                yield {
                    "ph": "C",
                    "name": f"{unit}: % of cycles",
                    "pid": _Tracks.PIDS["states"],
                    "ts": point * window * CYCLE_US,
                    "args": shares,
                }
            before = shares


class _Tracks:
    """Slices on tracks with names: a process a kind of track, a thread a track."""

    PIDS = {"queries": 1, "units": 2, "states": 3}

    def __init__(self) -> None:
        self._tids: dict[tuple[str, str], int] = {}

    def place(self, process: str, track: str) -> dict[str, int]:
        """Process and thread of a track."""
        tid = self._tids.setdefault((process, track), len(self._tids) + 1)
        return {"pid": self.PIDS[process], "tid": tid}

    def slice(
        self, process: str, track: str, name: str, span: Span, args: dict[str, Any]
    ) -> dict[str, Any]:
        """A slice that includes both cycles of its span."""
        begin, last = span
        return {
            "ph": "X",
            "name": name,
            "ts": begin * CYCLE_US,
            "dur": (last + 1 - begin) * CYCLE_US,
            **self.place(process, track),
            "args": args | {"first cycle": begin, "last cycle": last},
        }

    def names(self) -> Iterator[dict[str, Any]]:
        """Names of all tracks."""
        for process, pid in self.PIDS.items():
            yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}}
        for (process, track), tid in self._tids.items():
            where = {"pid": self.PIDS[process], "tid": tid}
            yield {"ph": "M", "name": "thread_name", **where, "args": {"name": track}}


def _token_events(number: int, token: Token, tracks: _Tracks) -> Iterator[dict[str, Any]]:
    """Slices of a token in its units, and the arrows from one to the next."""
    args = {
        "query": token.query.query_id,
        "stage": token.stage,
        "sub-batch": token.sub_batch,
        "items": token.items,
    }
    stage = token.stage
    places: list[tuple[str, Span | None]] = [
        (f"gather {stage}", token.gather),
        *((f"group {token.group}", span) for span in token.array),
        (f"filter {stage}", token.filter),
        (f"filter {stage}, release", token.release),
    ]
    ahead = {"cat": "look-ahead", "id": number, "name": token.name, "args": args}
    ahead |= tracks.place("units", f"gather {stage}, ahead")
    yield ahead | {"ph": "b", "ts": token.taken * CYCLE_US}
    yield ahead | {"ph": "e", "ts": token.gather[0] * CYCLE_US}
    visited = [(track, span) for track, span in places if span is not None and span[0] >= 0]
    for step, (track, span) in enumerate(visited):
        yield tracks.slice("units", track, token.name, span, args)
        if len(visited) > 1:
            kind = "s" if step == 0 else "f" if step == len(visited) - 1 else "t"
            arrow = {"ph": kind, "cat": "token", "id": number, "name": "token"}
            arrow |= {"ts": span[0] * CYCLE_US, **tracks.place("units", track)}
            yield arrow | ({"bp": "e"} if kind == "f" else {})


def write_events(config: Config, record: str | Path, path: str | Path) -> Trace:
    """Turn the record of a run into a file of trace events.

    Parameters
    ----------
    config : Config
    record : path
        See :func:`read`.
    path : path
        JSON to write.
    """
    trace = read(config.hardware, Path(record))
    document = {
        "traceEvents": list(events(trace)),
        "displayTimeUnit": "ns",
        "otherData": {"name": config.name, "cycles": trace.cycles, "cycle_us": CYCLE_US},
    }
    Path(path).write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    return trace
