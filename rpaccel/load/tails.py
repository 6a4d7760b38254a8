"""Percentiles of a run with confidence intervals, or the reason why there are none to report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.errors import ConfigError

__all__ = ["BATCHES", "PERCENTILES", "Estimate", "Load", "Summary", "summarise", "warm_up"]

PERCENTILES = (50.0, 95.0, 99.0, 99.9)
BATCHES = 10
"""Batches of intervals. Few and long: intervals are then right also where tails are skewed."""
LEAST_QUERIES = 320
LEAST_RELAXATIONS = 1000
"""Relaxation times that a run must last."""
LEAST_BEYOND = 10
"""Relaxation times of queries, or queries, that must lie beyond a percentile for it to be given."""
WARM_UP = 20
"""One query in so many, the first ones, is left out in any case."""
_DRIFT_BATCHES = 32
_DRIFT = 4.0
_CORRELATED = 0.4
_WARM_UP_STEPS = 2000


@dataclass(frozen=True)
class Load:
    """What is asked of a stage.

    Attributes
    ----------
    stage : str
    offered : float
        Arriving work by what the servers can do in the same time; 1 and more is overload.
    variability : float
        Squared CV of the gaps between arrivals plus that of the service times.
    """

    stage: str
    offered: float
    variability: float

    @property
    def relaxation(self) -> float:
        """Queries in which a queue in heavy traffic forgets: variability / (1 - offered)**2."""
        return self.variability / (1 - self.offered) ** 2 if self.offered < 1 else math.inf


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds of its confidence interval; ``high`` may be infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What may be said of a run.

    Attributes
    ----------
    queries : int
    warm_up : int
        First queries that were left out.
    steady : bool
        False: the run was overloaded, or too short to know; there are no estimates then.
    reason : str
        Why it is not steady, empty else.
    confidence : float
        Of each interval.
    loads : tuple of Load
    mean : Estimate or None
    percentiles : mapping of float to Estimate
        By percent; a percentile that this many queries cannot bound is left out.
    notes : tuple of str
        What a reader must know beside the figures.
    """

    queries: int
    warm_up: int
    steady: bool
    reason: str
    confidence: float
    loads: tuple[Load, ...]
    mean: Estimate | None = None
    percentiles: Mapping[float, Estimate] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; what is infinite becomes None."""
        return {
            "queries": self.queries,
            "warm_up": self.warm_up,
            "steady": self.steady,
            "reason": self.reason,
            "confidence": self.confidence,
            "loads": _finite({load.stage: load.offered for load in self.loads}),
            "mean": _finite(vars(self.mean)) if self.mean else None,
            "percentiles": {f"p{p:g}": _finite(vars(e)) for p, e in self.percentiles.items()},
            "notes": list(self.notes),
        }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def summarise(
    latencies: ArrayLike,
    *,
    loads: Sequence[Load] = (),
    percentiles: Sequence[float] = PERCENTILES,
    confidence: float = 0.95,
) -> Summary:
    """Estimate mean and percentiles of a steady run.

    The warm-up is cut off: the first twentieth, or more where loads are unknown and
    :func:`warm_up` finds more. The rest is split into 10 batches, one after the other. The mean's
    interval is Student's, of the batches' means. A percentile is that order statistic of all; its
    interval comes from the batches' shares of queries that are not above it: their spread gives
    the standard error h of the share, in spite of the correlation between queries, and the
    interval is from percentile p - h t to p + h t (the order-statistic interval, which is
    distribution-free, with the measured spread in place of the binomial one).

    A run is *not steady*, and gets no estimates, if

    - a stage's offered load is 1 or more, or the run is shorter than 1000 of that stage's
      relaxation times, so that with v the ``variability`` and n queries n (1 - load)**2 < 1000 v:
      the load is then below 1 by less than 32 of its standard errors, or the run so short that
      its intervals would be too narrow;
    - where loads are unknown, its latencies do not settle in its first half;
    - its latencies drift after the warm-up (first against second half, Welch's test of 16 batches
      each, 4 standard errors);
    - it has fewer than 320 queries.

    A percentile is left out if fewer than 10 queries, or 10 relaxation times' worth, are expected
    beyond it.

    Parameters
    ----------
    latencies : array_like of float, shape (queries,)
        In the order of arrival.
    loads : sequence of Load
        Of the stages; none if unknown or if queues are bounded (by a limit or by deadlines). An
        overload of a few percent may then pass unseen in a short run; a note says so.
    percentiles : sequence of float
        In percent, above 0 and below 100.
    confidence : float
        Of each interval alone, 0.5 to 0.999.

    Raises
    ------
    ConfigError
        A percentile or confidence out of range, latencies not one list of finite numbers.

    References
    ----------
    Law, Simulation Modeling and Analysis, sections 9.5.2 to 9.5.3 (batch means). Asmussen and
    Glynn, Stochastic Simulation (2007), chapter IV.
    """
    values = np.asarray(latencies, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ConfigError("latencies must be one list of finite numbers")
    if not 0.5 <= confidence <= 0.999:
        raise ConfigError(f"confidence must be 0.5..0.999, not {confidence}")
    for p in percentiles:
        if not 0 < p < 100:
            raise ConfigError(f"percentiles must be above 0 and below 100, not {p}")
    count, loads = len(values), tuple(loads)
    reason, cut = _overload(count, loads), count // WARM_UP
    if not reason and count < LEAST_QUERIES:
        reason = f"too short: {count} queries, {LEAST_QUERIES} are the least"
    if not reason and not loads:
        settled = warm_up(values)
        cut = max(cut, settled or 0)
        if settled is None:
            reason = "latencies do not settle in the first half of the run: overload or too short"
    if not reason and _drifts(_batch_means(values[cut:])):
        reason = "latencies drift after the warm-up: overload, changing load, or too short"
    if reason:
        return Summary(count, 0, False, reason, confidence, loads)
    return _estimate(values, cut, loads, percentiles, confidence)


def _overload(count: int, loads: Sequence[Load]) -> str:
    """Why offered loads forbid a steady state, or forbid to claim one."""
    for load in loads:
        if load.offered >= 1:
            return f"overload: {load.stage} is offered {load.offered:.4g} of what it can do"
    for load in loads:
        needed = LEAST_RELAXATIONS * load.relaxation
        if count < needed:
            return (
                f"too short: {load.stage} is offered {load.offered:.4g} of what it can do, "
                f"which takes {needed:.3g} queries or more to be sure of, not {count}"
            )
    return ""


def warm_up(latencies: NDArray[np.float64]) -> int | None:
    """Find how many of the first queries to leave out, by the MSER rule.

    The number d, in steps of 1/2000 of the run, that makes the standard error of the mean of
    what is left smallest, taken as if queries were independent: leaving out a transient lowers
    the spread, leaving out more than it raises the error.

    Parameters
    ----------
    latencies : ndarray of float64, shape (queries,)
        In the order of arrival.

    Returns
    -------
    int or None
        None if the best d is the largest allowed, half of the run: the transient has not ended.

    References
    ----------
    White, An effective truncation heuristic for bias reduction in simulation output, Simulation
    69 (1997), 323-334.
    """
    size = max(1, len(latencies) // _WARM_UP_STEPS)
    steps = len(latencies) // size
    means = latencies[len(latencies) - steps * size :].reshape(steps, size).mean(axis=1)
    means = means - means.mean()
    left = np.arange(steps, 0, -1)
    total, squares = (np.cumsum(x[::-1])[::-1] for x in (means, means**2))
    error = (squares - total**2 / left)[: steps // 2 + 1] / left[: steps // 2 + 1] ** 2
    best = int(np.argmin(error))
    return None if best == steps // 2 else best * size


def _batches(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Equal batches, one a row; the few queries too many are left out in front."""
    size = len(values) // count
    return values[len(values) - count * size :].reshape(count, size)


def _batch_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return _batches(values, _DRIFT_BATCHES).mean(axis=1)


def _drifts(means: NDArray[np.float64]) -> bool:
    """Batches of the second half lie elsewhere than those of the first (Welch's test)."""
    first, second = np.split(means, 2)
    error = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / len(first))
    apart = abs(float(second.mean() - first.mean()))
    return apart > max(_DRIFT * error, 1e-9 * abs(float(means.mean())))


def _estimate(
    values: NDArray[np.float64],
    cut: int,
    loads: tuple[Load, ...],
    percentiles: Sequence[float],
    confidence: float,
) -> Summary:
    batches = _batches(values[cut:], BATCHES)
    t = student(0.5 + confidence / 2, BATCHES - 1) / math.sqrt(BATCHES)
    means = batches.mean(axis=1)
    mean, half = float(means.mean()), t * float(means.std(ddof=1))
    ordered = np.sort(batches, axis=None)
    found, notes = {}, []
    if not loads:
        notes.append("offered loads are not known: an overload of a few percent may pass unseen")
        if _correlation(_batch_means(values[cut:])) > _CORRELATED:
            notes.append("batches are correlated: intervals are too narrow, run longer")
    relaxation = max([1.0, *(load.relaxation for load in loads)])
    for p in percentiles:
        share = p / 100
        # The rule does not look at the data: leaving wide intervals out would spoil the others.
        if len(ordered) * (1 - share) < LEAST_BEYOND * relaxation:
            notes.append(f"p{p:g} is left out: {len(ordered)} queries are too few for it")
            continue
        value = _rank(ordered, share)
        error = t * float((batches <= value).mean(axis=1).std(ddof=1))
        high = _rank(ordered, share + error) if share + error < 1 else math.inf
        found[p] = Estimate(value, _rank(ordered, share - error), high)
    return Summary(
        len(values),
        cut,
        True,
        "",
        confidence,
        loads,
        Estimate(mean, mean - half, mean + half),
        found,
        tuple(notes),
    )


def _rank(ordered: NDArray[np.float64], share: float) -> float:
    """Smallest value that at least this share of all are not above."""
    at = math.ceil(share * len(ordered) - 1e-9) - 1
    return float(ordered[min(max(at, 0), len(ordered) - 1)])


def _correlation(means: NDArray[np.float64]) -> float:
    """Correlation of neighbouring batches."""
    around = means - means.mean()
    square = float(around @ around)
    return float(around[1:] @ around[:-1]) / square if square else 0.0


def student(p: float, freedom: int) -> float:
    """Quantile of Student's t distribution, within 0.01 for 9 degrees of freedom and p to 0.9995.

    References
    ----------
    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
