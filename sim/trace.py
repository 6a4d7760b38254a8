"""A traced run: when each sub-batch was in which unit, and what units did.

The record that ``trace_monitor.v`` writes holds what was seen in the simulated machine; nothing
here comes from a model. :mod:`sim.trace_events` makes trace events of it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpaccel.hardware import HardwareConfig
from rtl_gen.trace import trace_layout

__all__ = ["Query", "Token", "Trace", "read"]

PULSES = {"opened", "released", "copied", "taken", "started", "gathered", "score", "plan", "leaves"}
PULSES |= {"row"}
"""What counts anew in each cycle."""
Span = tuple[int, int]
"""First and last cycle of something."""


@dataclass
class Query:
    """A query in its slot."""

    query_id: int
    slot: int
    opened: int
    copied: int = -1
    released: int = -1
    completed: Span | None = None
    tokens: list[Token] = field(default_factory=list)


@dataclass
class Token:
    """A sub-batch in a stage: which, and in what cycles it was where."""

    query: Query
    stage: int
    sub_batch: int
    items: int
    taken: int
    started: int = -1
    group: int = -1
    gather: Span = (-1, -1)
    array: list[Span] = field(default_factory=list)  # empty without items
    filter: Span = (-1, -1)
    release: Span | None = None  # what is released after it, if anything
    gathered: int = 0

    @property
    def name(self) -> str:
        """Query, stage and sub-batch."""
        return f"query {self.query.query_id}, stage {self.stage}, sub-batch {self.sub_batch}"


class _Stage:
    """Tokens of a stage on their way from unit to unit: each unit takes them in the same order."""

    def __init__(self) -> None:
        self.taken: deque[Token] = deque()
        self.filling: Token | None = None
        self.scoring: deque[Token] = deque()
        self.planned: deque[Token] = deque()
        self.releasing: deque[tuple[Token, int]] = deque()
        self.first_score = self.first_leaves = -1
        self.left = 0


class Trace:
    """Queries, tokens and states of a run, in cycles since reset.

    Parameters
    ----------
    hardware : HardwareConfig

    Attributes
    ----------
    queries : list of Query
        In order of their admission.
    tokens : list of Token
        In the order in which gather units took them.
    states : dict of dict of list of (int, int)
        By unit and state: runs of cycles, begin and end (behind the last one).
    cycles : int
        Last cycle in which something changed.
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        self.hardware = hardware
        self.queries: list[Query] = []
        self.tokens: list[Token] = []
        self.states: dict[str, dict[str, list[Span]]] = {}
        self.cycles = 0
        self._slots: dict[int, Query] = {}
        self._stages = [_Stage() for _ in range(hardware.stages)]
        self._buffers: dict[tuple[int, int, int], Token] = {}  # by group, stage and token buffer
        self._started: Counter[tuple[int, int]] = Counter()
        self._in_array: dict[int, Token] = {}
        self._completing: tuple[int, Query | None] | None = None

    def see(self, cycle: int, seen: dict[str, Any]) -> None:
        """Take in what was seen in a cycle, the events of queries first."""
        self._controller(cycle, seen["controller"], seen["copied"])
        for stage in range(self.hardware.stages):
            self._gather(cycle, stage, seen[f"stage{stage}"])
        for group in range(len(self.hardware.groups)):
            self._group(cycle, group, seen[f"group{group}"])
        for stage in range(self.hardware.stages):
            self._filter(cycle, self._stages[stage], seen[f"stage{stage}"])

    def _controller(self, cycle: int, seen: dict[str, int], copied: int) -> None:
        if copied:
            self.queries[-1].copied = cycle
        for slot, query in list(self._slots.items()):
            if seen["released"] >> slot & 1:
                query.released = cycle
                del self._slots[slot]
                if self._completing is not None:
                    self._completing = self._completing[0], query
        if seen["completing"] and self._completing is None:
            self._completing = cycle, None
        elif self._completing is not None and not seen["completing"]:
            begin, done = self._completing
            if done is not None:
                done.completed = begin, cycle - 1
            self._completing = None
        if seen["opened"]:
            query = Query(seen["query_id"], seen["slot"], cycle)
            self._slots[query.slot] = query
            self.queries.append(query)

    def _gather(self, cycle: int, stage: int, seen: dict[str, int]) -> None:
        own = self._stages[stage]
        if seen["gathered"] and own.filling is not None:
            own.filling.gathered += 1
            own.filling.gather = own.filling.gather[0], cycle
        if seen["started"]:
            own.filling = own.taken.popleft()
            own.filling.gather = cycle, cycle
        if seen["taken"]:
            query = self._slots[seen["slot"]]
            before = sum(token.stage == stage for token in query.tokens)
            token = Token(query, stage, before, seen["items"], cycle)
            query.tokens.append(token)
            self.tokens.append(token)
            for queue in own.taken, own.scoring, own.planned:
                queue.append(token)

    def _group(self, cycle: int, group: int, seen: dict[str, int]) -> None:
        stages = self.hardware.groups[group].stages
        for place, stage in enumerate(stages):
            if seen["started"] >> place & 1:
                token = self._stages[stage].filling
                assert token is not None
                token.group, token.started = group, cycle
                self._buffers[group, stage, self._started[group, stage] % 2] = token
                self._started[group, stage] += 1
        if seen["row"]:
            token = self._buffers[group, stages[seen["stage"]], seen["buffer"]]
            if self._in_array.get(group) is token:
                token.array[-1] = token.array[-1][0], cycle
            else:
                token.array.append((cycle, cycle))
                self._in_array[group] = token

    def _filter(self, cycle: int, own: _Stage, seen: dict[str, int]) -> None:
        if seen["score"]:
            own.first_score = cycle if own.first_score < 0 else own.first_score
            if seen["score_last"]:
                own.scoring.popleft().filter = own.first_score, cycle
                own.first_score = -1
        if seen["plan"]:
            token = own.planned.popleft()
            if seen["count"]:
                own.releasing.append((token, seen["count"]))
        if seen["leaves"]:
            own.first_leaves = cycle if not own.left else own.first_leaves
            own.left += 1
            token, count = own.releasing[0]
            if own.left == count:
                token.release = own.first_leaves, cycle
                own.releasing.popleft()
                own.left = 0


def _fields(layout: Any, low: int = 0) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Path, lowest bit and mask of each field of a structure, those inside others included."""
    for name, member in layout:
        offset = low + layout[name].offset
        if hasattr(member.shape, "members"):
            for path, at, mask in _fields(member.shape, offset):
                yield (name, *path), at, mask
        else:
            yield (name,), offset, (1 << layout[name].width) - 1


def read(hardware: HardwareConfig, record: Path, trace: Trace | None = None) -> Trace:
    """Read the record of a run.

    Parameters
    ----------
    hardware : HardwareConfig
    record : path
        What ``trace_monitor.v`` wrote.
    trace : Trace, optional
        Sees it; by default a new one.
    """
    layout = trace_layout(hardware)
    states = [(path[1:], at) for path, at, _ in _fields(layout) if path[0] == "states"]
    fields = [entry for entry in _fields(layout) if entry[0][0] != "states"]
    state_mask = sum(1 << at for _, at in states)
    pulses = sum(mask << at for path, at, mask in fields if path[-1] in PULSES)
    trace = Trace(hardware) if trace is None else trace
    trace.states = {unit: {} for (unit, _), _ in states}
    for (unit, state), _ in states:
        trace.states[unit][state] = []
    since: dict[int, int] = {}
    before = begin = 0
    with record.open(encoding="ascii") as lines:
        for line in lines:
            number, _, value = line.partition(" ")
            cycle, word = int(number), int(value, 16)
            seen = _unpack(fields, before)
            for each in range(begin, cycle if before & pulses else min(cycle, begin + 1)):
                trace.see(each, seen)
            changed = (before ^ word) & state_mask
            for (unit, state), at in states:
                if changed >> at & 1:
                    if word >> at & 1:
                        since[at] = cycle
                    else:
                        trace.states[unit][state].append((since.pop(at), cycle))
            before, begin = word, cycle
    trace.see(begin, _unpack(fields, before))
    trace.cycles = begin
    for (unit, state), at in states:
        if at in since and since[at] < begin:
            trace.states[unit][state].append((since[at], begin))
    return trace


def _unpack(fields: list[tuple[tuple[str, ...], int, int]], word: int) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for path, at, mask in fields:
        place = seen
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = word >> at & mask
    return seen
