"""Which groups serve which stage while the load changes: queries through the array's groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError
from rpaccel.image import Image
from rpaccel.provision import Setting

__all__ = ["Work", "simulate_groups"]

BUFFERS = 2
"""Tokens of a stage that a group has at a time (docs/architecture.md, Group)."""
_READY, _DONE, _ARRIVES = range(3)


@dataclass(frozen=True)
class Work:
    """What a query asks of the array, in cycles.

    Attributes
    ----------
    cycles : tuple of mapping
        Of each stage, and of each group that can serve it: for a sub-batch.
    sub_batches : int
    arriving : float
        Between the features of two sub-batches.
    filter : float
        From the last score of a sub-batch to its survivors.
    """

    cycles: tuple[Mapping[int, int], ...]
    sub_batches: int
    arriving: float
    filter: float

    @classmethod
    def of(cls, image: Image, *, sub_batches: int, arriving: float, filter_: float) -> Work:
        """Make it of the cycles that the compiler predicts for the dispatchers."""
        programs = tuple({p.group: p.cycles for p in stage.programs} for stage in image.stages)
        return cls(programs, sub_batches, arriving, filter_)

    @property
    def interval(self) -> float:
        """Cycles a query if all groups are always busy with any stage."""
        rates = (sum(1 / cycles for cycles in stage.values()) for stage in self.cycles)
        return sum(self.sub_batches / rate for rate in rates)


@dataclass
class _Run:
    """State of a simulation: tokens that wait, by stage, and what each group has."""

    works: Sequence[Work]
    kinds: Sequence[int]
    waiting: list[deque[tuple[int, float]]]
    held: dict[int, list[int]]
    free: dict[int, float]
    events: list[tuple[float, int, int, int, int, int]] = field(default_factory=list)
    turn: int = 0

    def later(self, time: float, what: int, query: int, stage: int, group: int = -1) -> None:
        """Have something happen."""
        self.turn += 1
        heappush(self.events, (time, self.turn, what, query, stage, group))

    def start(self, stage: int, now: float, setting: Setting) -> None:
        """Give waiting tokens to groups with a buffer; each to that which is done with it first."""
        queue = self.waiting[stage]
        while queue:
            cycles = self.works[self.kinds[queue[0][0]]].cycles[stage]
            able = [g for g in setting[stage] if g in cycles and self.held[g][stage] < BUFFERS]
            if not able:
                return
            query, complete = queue.popleft()
            group = min(able, key=lambda g: max(self.free[g], now) + cycles[g])
            self.held[group][stage] += 1
            self.free[group] = max(max(self.free[group], now) + cycles[group], complete)
            self.later(self.free[group], _DONE, query, stage, group)


def simulate_groups(
    works: Sequence[Work],
    arrivals: Sequence[float] | NDArray[np.float64],
    settings: Sequence[Setting],
    *,
    kinds: Sequence[int] | None = None,
    choices: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Send queries through the array; each sub-batch is done by one group, in the order of starts.

    What is not the array is a time alone: features of sub-batches arrive one after the other, a
    query's not before those of the one before, and a sub-batch is started when its features begin
    to arrive; survivors leave the filter a constant time later.

    Parameters
    ----------
    works : sequence of Work
        Of each kind of query, of the same stages.
    arrivals : sequence of float, cycles
        Not decreasing.
    settings : sequence of Setting
    kinds, choices : sequence of int, optional
        Of each query its kind, and the setting from its arrival on; by default the first ones.

    Returns
    -------
    ndarray of float64, shape (queries,)
        Latencies in cycles.

    Raises
    ------
    ConfigError
        A setting leaves a stage without a group that can serve it.
    """
    stages = len(works[0].cycles)
    for setting in settings:
        for stage in range(stages):
            if not all(set(setting.get(stage, ())) & set(work.cycles[stage]) for work in works):
                raise ConfigError(f"setting {dict(setting)} leaves stage {stage} without a group")
    groups = sorted({group for work in works for stage in work.cycles for group in stage})
    kinds = [0] * len(arrivals) if kinds is None else kinds
    queues: list[deque[tuple[int, float]]] = [deque() for _ in range(stages)]
    run = _Run(works, kinds, queues, {g: [0] * stages for g in groups}, dict.fromkeys(groups, 0.0))
    link = 0.0
    for query, arrival in enumerate(arrivals):
        link = max(link, float(arrival))
        run.later(float(arrival), _ARRIVES, query, 0)
        for _ in range(works[kinds[query]].sub_batches):
            run.later(link, _READY, query, 0)
            link += works[kinds[query]].arriving
    left = [works[kind].sub_batches for kind in kinds]
    ends = np.zeros(len(arrivals))
    now = settings[0]
    while run.events:
        time, _, what, query, stage, group = heappop(run.events)
        work = works[kinds[query]]
        if what == _ARRIVES:
            now = settings[0 if choices is None else choices[query]]
        elif what == _READY:
            run.waiting[stage].append((query, time if stage else time + work.arriving))
            run.start(stage, time, now)
            continue
        else:
            run.held[group][stage] -= 1
            if stage + 1 < stages:
                run.later(time + work.filter, _READY, query, stage + 1)
            else:
                left[query] -= 1
                ends[query] = time + work.filter
        for each in range(stages):
            run.start(each, time, now)
    assert not any(left)
    return ends - np.asarray(arrivals, float)
