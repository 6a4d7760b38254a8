"""FIFO pipelines, simulated query by query in whole arrays: exact, and fast enough for p99.9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.errors import ConfigError
from rpaccel.load.checks import check_arrivals, check_count, check_service
from rpaccel.load.tails import PERCENTILES, Load, Summary, summarise

__all__ = ["Run", "Stage", "offered_loads", "simulate"]

Times = NDArray[np.float64]

BLOCK = 1 << 15
"""Queries handled at a time: temporaries stay in the processor's cache, sums stay small."""


@dataclass(frozen=True)
class Stage:
    """A stage of a pipeline: identical servers behind one FIFO queue without limit.

    Attributes
    ----------
    service : float or ndarray of float, shape (queries,)
        Service time: one for all queries, or one a query in the order of arrival at the pipeline.
    servers : int or None
        None: no query ever waits (a delay, like a link's latency).
    name : str
    """

    service: float | Times
    servers: int | None = 1
    name: str = ""

    def checked(self, queries: int, *, at: str, least: int = 1) -> Stage:
        """Return the stage with its times as an array or a float; ConfigError if not usable."""
        name = self.name or at
        if self.servers is not None:
            check_count(f"{name}: servers", self.servers, least)
        service = check_service(f"{name}: service", self.service, queries)
        return Stage(service, self.servers, name)


def check_stages(stages: Sequence[Stage], queries: int, *, least: int = 1) -> list[Stage]:
    """Return usable stages, named; ConfigError else."""
    if not stages:
        raise ConfigError("stages: a pipeline needs one stage or more")
    return [s.checked(queries, at=f"stage {i}", least=least) for i, s in enumerate(stages)]


def offered_loads(arrivals: Times, stages: Sequence[Stage]) -> tuple[Load, ...]:
    """Measure what arrives at each stage against what it can do, delays left out.

    Parameters
    ----------
    arrivals : ndarray of float64, shape (queries,)
    stages : sequence of Stage
        Checked ones.
    """
    gaps = np.diff(arrivals)
    mean_gap = float(gaps.mean()) if len(gaps) else 0.0
    arriving = (float(gaps.std()) / mean_gap) ** 2 if mean_gap else 0.0
    loads = []
    for stage in stages:
        if stage.servers is None:
            continue
        mean = float(np.mean(stage.service))
        serving = (float(np.std(stage.service)) / mean) ** 2 if mean else 0.0
        if mean_gap and stage.servers:
            offered = mean / (stage.servers * mean_gap)
        else:
            offered = np.inf if mean else 0.0
        loads.append(Load(stage.name, offered, arriving + serving))
    return tuple(loads)


@dataclass(frozen=True)
class Run:
    """What became of the queries; all arrays are in the order of arrival.

    Times are in the unit of the arguments (seconds, or cycles).

    Attributes
    ----------
    arrivals, departures : ndarray of float64, shape (queries,)
    waits : tuple of ndarray of float64, shape (queries,)
        Time spent waiting before each stage.
    loads : tuple of Load
        Offered load of each stage that has servers.
    """

    arrivals: Times
    departures: Times
    waits: tuple[Times, ...]
    loads: tuple[Load, ...]

    @property
    def latencies(self) -> Times:
        """From arrival to departure."""
        return self.departures - self.arrivals

    def summary(
        self, *, percentiles: Sequence[float] = PERCENTILES, confidence: float = 0.95
    ) -> Summary:
        """Percentiles of the latency; see :func:`rpaccel.load.tails.summarise`."""
        return summarise(
            self.latencies, loads=self.loads, percentiles=percentiles, confidence=confidence
        )


def simulate(arrivals: ArrayLike, stages: Sequence[Stage]) -> Run:
    """Send queries through stages in tandem, first come first served at each.

    A stage of one server, or of any number with one service time for all, is computed by running
    maxima over whole arrays; one of several servers with differing times by a heap of the times
    at which servers become free. All are exact: with times that are integers up to 2**53, so are
    the results. Queries that reach a stage at the same time are served in the order in which
    they entered the stage before.

    Parameters
    ----------
    arrivals : array_like of float, shape (queries,)
        Arrival times, not decreasing.
    stages : sequence of Stage

    Returns
    -------
    Run

    Raises
    ------
    ConfigError
        Arrivals out of order, negative or non-finite times, wrong lengths, no servers.
    """
    times = check_arrivals(arrivals)
    stages = check_stages(stages, len(times))
    loads = offered_loads(times, stages)
    order: NDArray[np.int64] | None = None  # which query is n-th at this stage; None: the n-th
    now, waits = times, []
    for stage in stages:
        service = stage.service
        if order is not None and isinstance(service, np.ndarray):
            service = service[order]
        left = _pass(now, service, stage.servers)
        # Rounding of sums may bring out a wait of some -1e-16 where nobody waits.
        wait = np.maximum(left - now - service, 0)
        waits.append(wait if order is None else _scatter(wait, order))
        if stage.servers != 1 and isinstance(service, np.ndarray):
            turn = np.argsort(left, kind="stable")
            left = left[turn]
            order = turn if order is None else order[turn]
        now = left
    departures = now if order is None else _scatter(now, order)
    return Run(times, departures, tuple(waits), loads)


def _scatter(values: Times, order: NDArray[np.int64]) -> Times:
    placed = np.empty_like(values)
    placed[order] = values
    return placed


def _pass(arrivals: Times, service: float | Times, servers: int | None) -> Times:
    """Departures from one stage, in the order of arrival there."""
    if servers is None:
        return arrivals + service
    if servers == 1:
        return _single(arrivals, service)
    if isinstance(service, np.ndarray):
        return _heap(arrivals, service, servers)
    # With equal times, queries leave in order and the n-th takes the server of the (n - c)-th.
    departures = np.empty_like(arrivals)
    for lane in range(min(servers, len(arrivals))):
        departures[lane::servers] = _single(arrivals[lane::servers], service)
    return departures


def _single(arrivals: Times, service: float | Times) -> Times:
    """One server: D[n] = max(A[n], D[n-1]) + S[n], that is C[n] + max over k of A[k] - C[k-1].

    C are the running sums of S, begun anew in each block.
    """
    departures = np.empty_like(arrivals)
    work = np.empty(BLOCK)
    if not isinstance(service, np.ndarray):
        work[:] = service
        work = np.cumsum(work)
    free = -np.inf
    for begin in range(0, len(arrivals), BLOCK):
        block = slice(begin, begin + BLOCK)
        out = departures[block]
        if isinstance(service, np.ndarray):
            np.cumsum(service[block], out=work[: len(out)])
        done = work[: len(out)]
        out[0] = max(arrivals[begin], free)
        np.subtract(arrivals[block][1:], done[:-1], out=out[1:])
        np.maximum.accumulate(out, out=out)
        out += done
        free = out[-1]
    return departures


def _heap(arrivals: Times, service: Times, servers: int) -> Times:
    """Several servers with differing times: each query takes the server that is free first."""
    departures = np.empty_like(arrivals)
    free = [-np.inf] * servers
    for begin in range(0, len(arrivals), BLOCK):
        block = slice(begin, begin + BLOCK)
        left: list[float] = []
        add = left.append
        for time, needs in zip(arrivals[block].tolist(), service[block].tolist(), strict=True):
            first = free[0]
            time = (first if first > time else time) + needs
            heapreplace(free, time)
            add(time)
        departures[block] = left
    return departures
