"""Checks of what a user gives to the load tools."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.errors import ConfigError

__all__ = ["check_arrivals", "check_count", "check_positive", "check_service"]


def check_positive(name: str, value: float) -> float:
    """Return a finite number above zero; ConfigError with its name else."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a finite number above zero, not {value!r}")
    return float(value)


def check_count(name: str, value: int, least: int = 1) -> int:
    """Return an integer of at least ``least``; ConfigError with its name else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{name} must be an integer of at least {least}, not {value!r}")
    return int(value)


def check_arrivals(arrivals: ArrayLike) -> NDArray[np.float64]:
    """Return arrival times as float64; ConfigError unless finite and in order."""
    times = _numbers("arrivals", arrivals)
    if times.ndim != 1 or not len(times):
        raise ConfigError(f"arrivals must be one list of times, not of shape {times.shape}")
    steps = np.diff(times)
    # A NaN is above nothing, so it fails the comparison too.
    if not (np.isfinite(times[0]) and np.isfinite(times[-1]) and bool((steps >= 0).all())):
        finite = np.isfinite(times)
        if not finite.all():
            at = int(np.flatnonzero(~finite)[0])
            raise ConfigError(f"arrivals[{at}] is {times[at]}: times must be finite")
        at = int(np.flatnonzero(steps < 0)[0]) + 1
        raise ConfigError(
            f"arrivals[{at}] = {times[at]} is before arrivals[{at - 1}] = {times[at - 1]}: "
            "times must not decrease"
        )
    return times


def check_service(name: str, service: ArrayLike, queries: int) -> float | NDArray[np.float64]:
    """Return service times, one for all queries or one a query; ConfigError if not usable."""
    times = _numbers(name, service)
    if times.ndim > 1 or (times.ndim and len(times) != queries):
        raise ConfigError(
            f"{name} must be one number or one for each of {queries} queries, "
            f"not of shape {times.shape}"
        )
    bad = ~((times >= 0) & (times < np.inf))
    if bad.any():
        value = times[bad][0]
        raise ConfigError(f"{name} must be finite and not negative, but it has {value}")
    return times if times.ndim else float(times)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be numbers, not {values!r:.80}") from None
