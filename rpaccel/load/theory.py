"""Queues with known answers: M/M/c and M/D/c, exactly, to check the simulator against.

Arrivals are Poisson, servers identical, the queue is FIFO and endless.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError
from rpaccel.load.checks import check_count, check_positive

__all__ = ["MDc", "MMc"]

MOST_STATES = 4000


@dataclass(frozen=True)
class _Queue(ABC):
    """A queue.

    Parameters
    ----------
    load : float
        Arrival rate x mean service time / servers, above 0 and below 1.
    servers : int
    service : float
        Mean service time, in any unit; all times are in it.

    Raises
    ------
    ConfigError
        A value out of range.
    """

    load: float
    servers: int = 1
    service: float = 1.0

    def __post_init__(self) -> None:
        check_positive("service", self.service)
        check_count("servers", self.servers)
        if not check_positive("load", self.load) < 1:
            raise ConfigError(f"load must be below 1 for a steady state, not {self.load}")

    @property
    def rate(self) -> float:
        """Arrivals in a unit of time."""
        return self.load * self.servers / self.service

    @property
    @abstractmethod
    def mean_wait(self) -> float:
        """Mean time before service."""

    @property
    def mean_latency(self) -> float:
        """Mean time from arrival to departure."""
        return self.mean_wait + self.service

    @abstractmethod
    def wait_cdf(self, x: float) -> float:
        """Probability of a wait of at most ``x``."""

    @abstractmethod
    def latency_cdf(self, x: float) -> float:
        """Probability of a latency of at most ``x``."""

    def latency_quantile(self, p: float) -> float:
        """Latency that a share ``p`` of queries does not exceed, by bisection to 1e-10."""
        if not 0 < p < 1:
            raise ConfigError(f"p must be above 0 and below 1, not {p}")
        low, high = 0.0, self.service
        while self.latency_cdf(high) < p:
            low, high = high, 2 * high
        while high - low > 1e-10 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self.latency_cdf(middle) < p else (low, middle)
        return high


class MMc(_Queue):
    """Exponential service times.

    References
    ----------
    Erlang's delay formula; Kleinrock, Queueing Systems I (1975), section 3.5.
    """

    @property
    def waiting(self) -> float:
        """Probability that a query has to wait (Erlang C)."""
        work = self.load * self.servers
        blocked = 1.0  # Erlang B, by its recursion over the servers
        for servers in range(1, self.servers + 1):
            blocked = work * blocked / (servers + work * blocked)
        return blocked / (1 - self.load * (1 - blocked))

    @property
    def _decay(self) -> float:
        return self.servers * (1 - self.load) / self.service

    @property
    def mean_wait(self) -> float:
        """Mean time before service."""
        return self.waiting / self._decay

    def wait_cdf(self, x: float) -> float:
        """Probability of a wait of at most ``x``."""
        return 1 - self.waiting * math.exp(-self._decay * x) if x >= 0 else 0.0

    def latency_cdf(self, x: float) -> float:
        """Probability of a latency of at most ``x``: an exponential wait, or none, and service."""
        if x < 0:
            return 0.0
        serve, decay, wait = 1 / self.service, self._decay, self.waiting
        alone = math.exp(-serve * x)
        if math.isclose(serve, decay, rel_tol=1e-9):
            both = (1 + serve * x) * alone
        else:
            both = (serve * math.exp(-decay * x) - decay * alone) / (serve - decay)
        return 1 - (1 - wait) * alone - wait * both


class MDc(_Queue):
    """One service time for all.

    The number in the queue, looked at every D, steps as (L + A - c)+ with Poisson A (Crommelin
    1932): its distribution is solved for. A wait of at most x, (k - 1) D <= x < k D, means that of
    the queue k D - x before the arrival, and of those who came since, at most k c - 1 are ahead:
    a sum of positive terms (Franx 2001), where Erlang's and Crommelin's own alternate and cancel.

    References
    ----------
    Crommelin, Delay probability formulae when the holding times are constant, Post Office
    Electrical Engineers Journal 25 (1932). Franx, A simple solution for the M/D/c waiting time
    distribution, Operations Research Letters 29 (2001), 221-229.
    """

    @cached_property
    def queue(self) -> NDArray[np.float64]:
        """Probabilities of 0, 1, 2 ... queries waiting, up to where they are below 1e-15.

        Raises
        ------
        ConfigError
            A load so near 1 that they take more than 4000 numbers.
        """
        # Tail probabilities fall by the factor r > 1 with load (r - 1) = ln r.
        low, high = 1.0, 2.0
        while self.load * (high - 1) < math.log(high):
            high = 1 + 2 * (high - 1)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.load * (middle - 1) < math.log(middle)
            low, high = (middle, high) if below else (low, middle)
        states = self.servers * 2 + math.ceil(15 * math.log(10) / math.log(low)) + 40
        if states > MOST_STATES:
            raise ConfigError(
                f"load {self.load} with {self.servers} servers takes {states} states, "
                f"{MOST_STATES} are the most"
            )
        arrivals = _poisson(self.load * self.servers, states + self.servers)
        steps = np.zeros((states, states))  # from a row to a column
        for queued in range(states):
            # (L + A - c)+: all with A <= c - L become 0, the last state takes what is beyond.
            none = max(0, self.servers - queued)
            steps[queued, 0] = arrivals[: none + 1].sum() if queued <= self.servers else 0.0
            first = max(1, queued - self.servers)
            counts = arrivals[first + self.servers - queued :][: states - first]
            steps[queued, first : first + len(counts)] = counts
            steps[queued, -1] += max(0.0, 1 - steps[queued].sum())
        system = steps.T - np.eye(states)
        system[-1] = 1
        sums = np.zeros(states)
        sums[-1] = 1
        return np.maximum(np.linalg.solve(system, sums), 0)

    @cached_property
    def _at_most(self) -> NDArray[np.float64]:
        return np.minimum(np.cumsum(self.queue), 1)

    @property
    def mean_wait(self) -> float:
        """Mean time before service: the mean queue by the rate (Little's law)."""
        return float(np.arange(len(self.queue)) @ self.queue) / self.rate

    def wait_cdf(self, x: float) -> float:
        """Probability of a wait of at most ``x``."""
        if x < 0:
            return 0.0
        ahead = math.floor(x / self.service) + 1
        since = ahead * self.service - x
        room = ahead * self.servers - 1
        arrivals = _poisson(self.rate * since, room + 1)
        at_most = np.ones(room + 1)
        known = self._at_most[: room + 1]
        at_most[: len(known)] = known
        return min(1.0, float(arrivals @ at_most[::-1]))

    def latency_cdf(self, x: float) -> float:
        """Probability of a latency of at most ``x``."""
        return self.wait_cdf(x - self.service)


def _poisson(mean: float, count: int) -> NDArray[np.float64]:
    """Probabilities of 0 .. count - 1."""
    numbers = np.arange(count)
    logs = numbers * math.log(mean) - mean if mean else np.where(numbers, -np.inf, 0.0)
    return np.exp(logs - np.array([math.lgamma(n + 1) for n in range(count)]))
