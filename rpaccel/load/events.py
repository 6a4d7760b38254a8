"""FIFO pipelines event by event: deadlines, load shedding, a machine that changes on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.errors import ConfigError
from rpaccel.load.checks import check_arrivals, check_count, check_positive
from rpaccel.load.fifo import Stage, check_stages, offered_loads
from rpaccel.load.tails import PERCENTILES, Load, Summary, summarise

__all__ = ["Change", "EventRun", "Outcome", "simulate_events"]


class Outcome(IntEnum):
    """What became of a query."""

    COMPLETED = 0
    """It left the last stage, in time or late."""
    SHED = 1
    """It was refused at its arrival: as many queries as allowed were in the pipeline."""
    EXPIRED = 2
    """Its deadline had passed when a server would have taken it; it was dropped there."""


@dataclass(frozen=True)
class Change:
    """From a time on, the pipeline is another one (the machine was regrouped).

    Attributes
    ----------
    time : float
    stages : sequence of Stage
        As many as before. Services that begin at ``time`` or later take the new times; one that
        is running ends as it began. Servers that go away do so when they become free. 0 servers
        stop a stage, for the time that regrouping takes.
    """

    time: float
    stages: Sequence[Stage]


@dataclass(frozen=True)
class EventRun:
    """What became of the queries; arrays are in the order of arrival.

    Attributes
    ----------
    arrivals, departures : ndarray of float64, shape (queries,)
        A query that was shed or expired departs when it was.
    outcomes : ndarray of uint8, shape (queries,)
        Of :class:`Outcome`.
    deadline : float or None
    loads : tuple of Load
        Of each stage with servers; none if a limit or deadlines bound the queues.
    changes : tuple of float
        Times of changes.
    """

    arrivals: NDArray[np.float64]
    departures: NDArray[np.float64]
    outcomes: NDArray[np.uint8]
    deadline: float | None
    loads: tuple[Load, ...]
    changes: tuple[float, ...]

    @property
    def latencies(self) -> NDArray[np.float64]:
        """From arrival to departure, of completed queries only."""
        done = self.outcomes == Outcome.COMPLETED
        return self.departures[done] - self.arrivals[done]

    @property
    def shares(self) -> dict[str, float]:
        """Shares of all queries: ``completed``, ``shed``, ``expired``, and ``late``.

        ``late`` queries are among the completed: after their deadline.
        """
        shares = {o.name.lower(): float(np.mean(self.outcomes == o)) for o in Outcome}
        late = 0 if self.deadline is None else np.count_nonzero(self.latencies > self.deadline)
        return shares | {"late": float(late / len(self.arrivals))}

    def summary(
        self, *, percentiles: Sequence[float] = PERCENTILES, confidence: float = 0.95
    ) -> Summary:
        """Percentiles of completed queries' latency; see :func:`rpaccel.load.tails.summarise`.

        A run in which the pipeline changed is not steady: it gets no estimates.
        """
        first, last = self.arrivals[0], self.departures.max()
        if any(first < time <= last for time in self.changes):
            times = ", ".join(f"{time:g}" for time in self.changes)
            count = len(self.latencies)
            reason = f"the pipeline changes during the run, at {times}"
            return Summary(count, 0, False, reason, confidence, ())
        return summarise(
            self.latencies, loads=self.loads, percentiles=percentiles, confidence=confidence
        )


def simulate_events(
    arrivals: ArrayLike,
    stages: Sequence[Stage],
    *,
    deadline: float | None = None,
    limit: int | None = None,
    changes: Sequence[Change] = (),
) -> EventRun:
    """Send queries through stages in tandem, first come first served, with a policy.

    Without one, the result is :func:`rpaccel.load.fifo.simulate`'s. At equal times, changes come
    before the ends of services, and those before arrivals.

    Parameters
    ----------
    arrivals : array_like of float, shape (queries,)
        Arrival times, not decreasing.
    stages : sequence of Stage
    deadline : float, optional
        From its arrival on, a query is worth serving for so long: one whose deadline has passed
        is dropped when it comes to the head of a queue. One in service is never stopped.
    limit : int, optional
        Most queries in the pipeline, waiting or in service; others are refused at their arrival.
    changes : sequence of Change
        In the order of their times.

    Returns
    -------
    EventRun

    Raises
    ------
    ConfigError
        What :func:`~rpaccel.load.fifo.simulate` refuses, a deadline or limit that is not
        positive, changes out of order or to another number of stages, a last one that leaves a
        stage without servers.
    """
    times = check_arrivals(arrivals)
    stages = check_stages(stages, len(times))
    if deadline is not None:
        check_positive("deadline", deadline)
    if limit is not None:
        check_count("limit", limit)
    changes = _check_changes(changes, len(stages), len(times))
    pipeline = _Pipeline(times, stages, deadline, limit)
    pipeline.run(changes)
    bounded = deadline is not None or limit is not None
    return EventRun(
        times,
        np.array(pipeline.departures),
        np.frombuffer(bytes(pipeline.outcomes), dtype=np.uint8),
        deadline,
        () if bounded else offered_loads(times, stages),
        tuple(change.time for change in changes),
    )


def _check_changes(changes: Sequence[Change], stages: int, queries: int) -> list[Change]:
    checked: list[Change] = []
    for number, change in enumerate(changes):
        name = f"changes[{number}]"
        if not np.isfinite(change.time) or (checked and change.time < checked[-1].time):
            raise ConfigError(f"{name}: time {change.time} must be finite and not before the last")
        if len(change.stages) != stages:
            raise ConfigError(f"{name}: {len(change.stages)} stages, but the pipeline has {stages}")
        checked.append(Change(change.time, check_stages(change.stages, queries, least=0)))
    for stage in checked[-1].stages if checked else ():
        if stage.servers == 0:
            raise ConfigError(f"the last change leaves {stage.name} without servers")
    return checked


class _Pipeline:
    """The state of a simulation. Servers are counted, not told apart."""

    def __init__(
        self,
        arrivals: NDArray[np.float64],
        stages: Sequence[Stage],
        deadline: float | None,
        limit: int | None,
    ) -> None:
        count = len(arrivals)
        self.arrivals = arrivals.tolist()
        late = np.full(count, np.inf) if deadline is None else arrivals + deadline
        self.expiry = late.tolist()
        self.departures = [0.0] * count
        self.outcomes = bytearray(count)
        self.room = np.inf if limit is None else limit
        self.queues: list[deque[int]] = [deque() for _ in stages]
        self.free = [0.0] * len(stages)
        self.busy = [0] * len(stages)
        self.service: list[list[float]] = []
        self.running: list[tuple[float, int, int, int]] = []  # end, turn of start, query, stage
        self.turn = 0
        self._take(stages)

    def _take(self, stages: Sequence[Stage]) -> None:
        """Become another pipeline."""
        count = len(self.arrivals)
        self.service = [np.broadcast_to(np.asarray(s.service), count).tolist() for s in stages]
        for number, stage in enumerate(stages):
            servers = np.inf if stage.servers is None else stage.servers
            self.free[number] = servers - self.busy[number]

    def run(self, changes: Sequence[Change]) -> None:
        """Serve all queries."""
        first = 0
        for change in changes:
            # Arrivals at the time of a change come after it.
            last = int(np.searchsorted(self.arrivals, change.time))
            self._arrive(first, last)
            self._until(change.time, ends=False)
            self._take(change.stages)
            for stage in range(len(self.queues)):
                self._start(stage, change.time)
            first = last
        self._arrive(first, len(self.arrivals))
        self._until(np.inf, ends=True)

    def _arrive(self, first: int, last: int) -> None:
        arrivals, running, queue = self.arrivals, self.running, self.queues[0]
        for query in range(first, last):
            time = arrivals[query]
            if running and running[0][0] <= time:
                self._until(time, ends=True)
            if self.room:
                self.room -= 1
                queue.append(query)
                if self.free[0] > 0:
                    self._start(0, time)
            else:
                self._leave(query, time, Outcome.SHED)

    def _leave(self, query: int, time: float, outcome: int) -> None:
        self.departures[query] = time
        self.outcomes[query] = outcome

    def _start(self, stage: int, time: float) -> None:
        """Begin services while a server is free and a query waits."""
        queue, free = self.queues[stage], self.free
        while queue and free[stage] > 0:
            query = queue.popleft()
            if time > self.expiry[query]:
                self._leave(query, time, Outcome.EXPIRED)
                self.room += 1
                continue
            free[stage] -= 1
            self.busy[stage] += 1
            self.turn += 1
            end = time + self.service[stage][query]
            heappush(self.running, (end, self.turn, query, stage))

    def _until(self, time: float, *, ends: bool) -> None:
        """End services that end before a time, or at it too."""
        running, queues, start = self.running, self.queues, self._start
        last = len(queues) - 1
        while running and (running[0][0] < time or (ends and running[0][0] == time)):
            end, _, query, stage = heappop(running)
            self.free[stage] += 1
            self.busy[stage] -= 1
            if stage == last:
                self.departures[query] = end
                self.room += 1
            else:
                queues[stage + 1].append(query)
                start(stage + 1, end)
            if queues[stage]:
                start(stage, end)
