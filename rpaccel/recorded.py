"""Machines under load, as records of their RTL give them: cycles alone, back to back, in pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.bench_pipeline import CLOCK_HZ
from rpaccel.errors import ConfigError
from rpaccel.load import Stage, Summary, exponential_arrivals, simulate, summarise
from rpaccel.load.tails import Load
from rpaccel.load.theory import MDc
from rpaccel.schedule.plans import wait_quantile

__all__ = ["ARRIVALS", "RECORD", "SPARSE", "Machine", "predicted", "read"]

FOLDER = Path(__file__).with_name("data")
RECORD, ARRIVALS = FOLDER / "pipeline.json", FOLDER / "arrivals.json"
"""What ``rpaccel bench pipeline --json`` and ``rpaccel bench arrivals --json`` printed."""
MACHINES = ("rpaccel", "baseline")
TAIL = 0.99
HEAVY = 0.9
"""Load above which the exponential tail of the wait is exact to more digits than are printed."""
SPARSE = 0.025
"""Load up to which no more than two queries are taken to meet."""


@dataclass(frozen=True)
class Machine:
    """A machine as queries see it: they complete in the order of arrival.

    Completion n is at ``max(arrival n + alone, completion n - 1 + interval)``, seconds.

    Attributes
    ----------
    name : str
    interval : float, seconds
        Between completions back to back.
    alone : float, seconds
        Of a query that meets no other, in the sub-batches of the funnel, host included.
    quick : float, seconds
        The same in the number of sub-batches that is best for it.
    record : mapping
        What was measured.
    host : float, seconds
        Of both on the host and the way there and back, in which queries do not wait.
    """

    name: str
    interval: float
    alone: float
    quick: float
    record: Mapping[str, Any]
    host: float = 0.0

    @classmethod
    def of(cls, record: Mapping[str, Any], host: float) -> Machine:
        """Make it of a machine's part of the record.

        Parameters
        ----------
        record : mapping
        host : float, seconds
            Spent on the host, the way there and back included.
        """
        cycles = record["alone"]
        return cls(
            record["name"],
            record["cycles_per_query"] / CLOCK_HZ,
            cycles["tried"][0]["cycles"] / CLOCK_HZ + host,
            cycles["warm"] / CLOCK_HZ + host,
            record,
            host,
        )

    def stages(self) -> list[Stage]:
        """The same as stages: one server, then a delay."""
        rest = max(0.0, self.alone - self.interval)
        return [Stage(self.interval, 1, self.name), Stage(rest, None, "the rest")]

    def p99(self, qps: float) -> float:
        """Latency by the solution of M/D/1, above :data:`HEAVY` by its tail, seconds."""
        load = qps * self.interval
        if load > HEAVY:
            return self.alone + wait_quantile(self.interval, 1, qps, TAIL)
        queue = MDc(load, 1, self.interval)
        return queue.latency_quantile(TAIL) + self.alone - self.interval

    def sustained(self, p99: float) -> float:
        """Queries a second up to which p99 is not longer, by theory."""
        low, high = 1.0, 0.995 / self.interval
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p99(middle) <= p99 else (low, middle)
        return low

    def simulate(self, qps: float, queries: int, rng: np.random.Generator) -> Summary:
        """Latencies of so many queries at exponential times."""
        run = simulate(exponential_arrivals(queries, qps, rng), self.stages())
        return run.summary(percentiles=(50, 95, 99))

    def one_by_one(self, qps: float, queries: int, rng: np.random.Generator) -> Summary:
        """The same in the setting that is best for a query alone, none begun before the last ended.

        That is an upper bound: the setting's completions back to back were not measured.
        """
        stages = [Stage(self.quick - self.host, 1, self.name), Stage(self.host, None, "host")]
        run = simulate(exponential_arrivals(queries, qps, rng), stages)
        return run.summary(percentiles=(50, 95, 99))

    def meeting(self, qps: float, queries: int, rng: np.random.Generator) -> Summary:
        """Latencies at a low load: two queries that meet take what pairs took in the RTL.

        Both are in the best sub-batches. Between gaps that were measured delays are interpolated.

        Raises
        ------
        ConfigError
            The load is above :data:`SPARSE`, or the record has no pairs.
        """
        if qps * self.interval > SPARSE or "pairs" not in self.record:
            raise ConfigError(f"{self.name}: pairs say nothing of {qps:g} queries a second")
        pairs = self.record["pairs"]
        best = self.record["alone"]["warm"]
        gaps = np.diff(pairs["arrivals"])[::2] / CLOCK_HZ
        cycles = np.array(pairs["ends"]) - pairs["arrivals"]
        cycles = (cycles - _way(pairs) - best).reshape(-1, 2)
        ends = np.array([best / CLOCK_HZ])
        first, second = (np.append(column, 0.0) / CLOCK_HZ for column in cycles.T)
        apart = np.diff(exponential_arrivals(queries + 2, qps, rng))
        at = np.concatenate([gaps, ends])
        latencies = self.quick + np.interp(apart[:-1], at, second) + np.interp(apart[1:], at, first)
        load = Load(self.name, qps * self.interval, 1.0)
        return summarise(latencies, loads=[load], percentiles=(50, 95, 99))


def _way(seen: Mapping[str, Sequence[int]]) -> int:
    """Cycles that a query takes to the device and its completion back, at the least.

    The way is what the paper's 40 us are for: here it is left out.
    """
    taken = np.array(seen["ends"]) - seen["arrivals"] - seen["cycles"]
    return int(taken.min())


def predicted(machine: Machine, seen: Mapping[str, Sequence[int]]) -> NDArray[np.float64]:
    """Errors of the model's latencies on queries that came at random in the RTL, relative."""
    arrivals, ends = (np.array(seen[name], float) for name in ("arrivals", "ends"))
    alone = machine.record["alone"]["tried"][0]["cycles"] + _way(seen)
    interval = machine.interval * CLOCK_HZ
    stages = [Stage(interval), Stage(max(0.0, alone - interval), None)]
    return simulate(arrivals, stages).latencies / (ends - arrivals) - 1


def read(path: Path | None = None, arrivals: Path | None = None) -> dict[str, Any]:
    """Read the records into one.

    Parameters
    ----------
    path, arrivals : path, optional
        By default :data:`RECORD` and :data:`ARRIVALS`, the latter where it is there and of the
        same cycles.

    Raises
    ------
    ConfigError
        A record cannot be read, or is none.
    """
    record = _read(path or RECORD, "pipeline")
    try:
        for name in MACHINES:
            Machine.of(record[name], record["host_sort_seconds"])
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{path or RECORD}: not what rpaccel bench pipeline --json prints: {error!r}"
        ) from None
    if arrivals is None and not ARRIVALS.exists():
        return record
    more = _read(arrivals or ARRIVALS, "arrivals")
    for name in MACHINES:
        seen = more.get(name)
        if not isinstance(seen, dict) or not {"load", "at_random"} <= set(seen):
            raise ConfigError(f"{arrivals}: not what rpaccel bench arrivals --json prints")
        if seen.get("cycles_per_query") == record[name]["cycles_per_query"]:
            record[name] |= seen
        elif arrivals is not None:
            raise ConfigError(
                f"{arrivals}: {name} took {seen.get('cycles_per_query')} cycles a query, in the "
                f"other record {record[name]['cycles_per_query']}: they are of other machines"
            )
    return record


def _read(path: Path, command: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not what rpaccel bench {command} --json prints")
    return found
