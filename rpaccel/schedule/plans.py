"""Plans: a funnel with a platform and units for each stage, and what theory says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby, product

from rpaccel.load import Stage
from rpaccel.schedule.backends import Backend, Served
from rpaccel.schedule.qualities import Qualities, Rated

__all__ = ["Place", "Plan", "Segment", "plans", "wait_quantile"]

TAIL = 0.99
HIGHEST_LOAD = 0.97
"""Of a station, in plans that are considered: nearer to 1, percentiles take too long to settle."""


@dataclass(frozen=True)
class Place:
    """Where a stage runs: its platform, units of it, and what a query then takes."""

    platform: str
    units: int
    served: Served


@dataclass(frozen=True)
class Segment:
    """Stages in tandem that a query passes in so many equal sub-batches.

    Service times are those of a sub-batch.
    """

    sub_batches: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Plan:
    """A way to serve queries.

    Attributes
    ----------
    rated : Rated
        The funnel and its quality.
    quality : float
        Relative to the reference's.
    places : tuple of Place
        Of each stage.
    segments : tuple of Segment
        What a query passes, links included.
    """

    rated: Rated
    quality: float
    places: tuple[Place, ...]
    segments: tuple[Segment, ...]

    @cached_property
    def stations(self) -> tuple[Served, ...]:
        """Stages at which queries may wait for each other, with times of a whole query."""
        return tuple(
            Served(float(stage.service) * segment.sub_batches, stage.servers)
            for segment in self.segments
            for stage in segment.stages
            if stage.servers is not None
        )

    @cached_property
    def capacity(self) -> float:
        """Queries a second at which the first station is saturated."""
        return 1 / max(station.demand for station in self.stations)

    @cached_property
    def alone(self) -> float:
        """Latency of a query that meets no other, in seconds.

        Through equal sub-batches, n stages take the sum of their times for one and n - 1 times
        the longest of them.
        """
        total = 0.0
        for segment in self.segments:
            times = [float(s.service) for s in segment.stages]
            held = [float(s.service) for s in segment.stages if s.servers is not None]
            total += sum(times) + (segment.sub_batches - 1) * max(held, default=0.0)
        return total

    def p99(self, qps: float) -> float:
        """Estimate of the 99th percentile of the latency; infinite from the capacity on.

        That of a query alone, and the longest of the stations' waits as if each met Poisson
        arrivals: in a tandem of constant times the waits are those of the slowest station alone
        (Friedman, Operations Research 13 (1965), for equal numbers of servers).
        """
        if qps >= self.capacity:
            return math.inf
        return self.alone + max(
            wait_quantile(s.seconds, s.servers, qps, TAIL) for s in self.stations
        )

    def sustained(self, p99: float) -> float:
        """Queries a second up to which the estimate of p99 is not above so many seconds."""
        low, high = 0.0, HIGHEST_LOAD * self.capacity
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p99(middle) <= p99 else (low, middle)
        return low

    @property
    def name(self) -> str:
        """``RM-small 4096 on 5 rpaccel -> ...``."""
        return " -> ".join(
            f"{model} {items} on {place.units} {place.platform}"
            for model, items, place in zip(
                self.rated.stages, self.rated.items, self.places, strict=True
            )
        )

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platforms in use, in the order of the stages."""
        return tuple(dict.fromkeys(place.platform for place in self.places))


@cache
def wait_quantile(seconds: float, servers: int, qps: float, share: float) -> float:
    """Estimate of a quantile of the wait for constant service: exponential tail of M/D/c.

    The tail falls as exp(-qps (r - 1) t) with load (r - 1) = ln r, exactly. Its factor is
    (1 - load) / (load r - 1), exact for one server (Erlang), times Erlang's C by the load.
    """
    load = qps * seconds / servers
    if load >= 1:
        return math.inf
    low, high = 1.0, 2.0
    while load * (high - 1) < math.log(high):
        high = 1 + 2 * (high - 1)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if load * (middle - 1) < math.log(middle) else (low, middle)
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = load * servers * blocked / (server + load * servers * blocked)
    waiting = blocked / (1 - load * (1 - blocked))
    if low * load <= 1:  # so near a load of 1 that r is not resolved
        return math.inf
    factor = waiting / load * (1 - load) / (load * low - 1)
    return max(0.0, math.log(factor / (1 - share)) / (qps * (low - 1))) if factor > 0 else 0.0


def plans(backends: Sequence[Backend], qualities: Qualities) -> Iterator[Plan]:
    """All plans: every rated funnel, platform of each stage, and provisioning of the platforms.

    A query visits a platform once, for one or more stages.

    Yields
    ------
    Plan
    """
    served = cache(lambda which, model, items, units: backends[which].serve(model, items, units))
    shares = cache(lambda which, stages: backends[which].shares(stages))
    tables = {int8: qualities.rated(int8=int8) for int8 in (False, True)}
    for funnel in dict.fromkeys(row.funnel for row in qualities.rows):
        models, items = funnel
        for where in product(range(len(backends)), repeat=len(models)):
            runs = [(which, len(list(run))) for which, run in groupby(where)]
            if len({which for which, _ in runs}) < len(runs):
                continue
            rated = tables[any(backends[which].int8 for which in where)].get(funnel)
            if rated is None:
                continue
            for provision in product(*(shares(which, count) for which, count in runs)):
                places = []
                units = [unit for share in provision for unit in share]
                for which, model, count, unit in zip(where, models, items, units, strict=True):
                    time = served(which, model, count, unit)
                    if time is None:
                        break
                    places.append(Place(backends[which].name, unit, time))
                if len(places) < len(models):
                    break  # other units do not help
                segments = _segments(backends, runs, rated, places, qualities.serves)
                quality = rated.mean / qualities.reference.mean
                yield Plan(rated, quality, tuple(places), segments)


def _segments(
    backends: Sequence[Backend],
    runs: Sequence[tuple[int, int]],
    rated: Rated,
    places: Sequence[Place],
    serves: int,
) -> tuple[Segment, ...]:
    """Links and stages in the order in which a query passes them."""
    found: list[Segment] = []
    stage = 0
    sizes = [*rated.items, serves]
    for number, (which, count) in enumerate(runs):
        backend = backends[which]
        batches = backend.sub_batches
        inside: list[Stage] = []
        for place, model in list(zip(places, rated.stages, strict=True))[stage : stage + count]:
            name = f"{backend.name}: {model}"
            inside.append(Stage(place.served.seconds / batches, place.served.servers, name))
            if place.served.delay:
                inside.append(Stage(place.served.delay, None, f"{name}, latency"))
        found.append(Segment(1, backend.enter(sizes[stage])))
        found.append(Segment(batches, tuple(inside)))
        stage += count
        last = number + 1 == len(runs)
        found.append(Segment(1, backend.leave(sizes[stage], last=last)))
    joined: list[Segment] = []
    for segment in found:
        if joined and joined[-1].sub_batches == segment.sub_batches == 1:
            joined[-1] = Segment(1, joined[-1].stages + segment.stages)
        elif segment.stages:
            joined.append(segment)
    return tuple(joined)
