"""Open-loop arrivals: when queries come does not depend on how the machine copes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.errors import ConfigError, DataError
from rpaccel.load.checks import check_arrivals, check_count, check_positive

__all__ = ["exponential_arrivals", "gap_statistics", "millisecond_arrivals", "read_trace"]

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def exponential_arrivals(queries: int, qps: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw arrivals of a Poisson process: independent exponential gaps, CV 1.

    Parameters
    ----------
    queries : int
    qps : float
        Mean rate, queries a second.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (queries,)
        Arrival times in seconds; the first gap begins at 0.

    Raises
    ------
    ConfigError
        ``queries`` or ``qps`` is not positive.
    """
    queries, qps = check_count("queries", queries), check_positive("qps", qps)
    gaps = rng.exponential(1 / qps, queries)
    return np.cumsum(gaps, out=gaps)


def millisecond_arrivals(queries: int, qps: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw arrivals as RecPipe's public artifact does, to reproduce its figures only.

    Its gaps are Poisson-distributed *numbers of whole milliseconds* with mean 1000 / qps. This is
    no Poisson process: the gaps' CV is sqrt(qps / 1000) rather than 1 (0.45 at 200 QPS, 1.41 at
    2000), and above some hundred QPS many queries arrive in the same instant.

    Parameters, returned value and errors are those of :func:`exponential_arrivals`.
    """
    queries, qps = check_count("queries", queries), check_positive("qps", qps)
    return np.cumsum(rng.poisson(1000 / qps, queries)) / 1000


def read_trace(path: str | Path, *, unit: str = "s") -> NDArray[np.float64]:
    """Read recorded arrival times: a text file with one time a line.

    Empty lines and what follows a ``#`` are ignored. Times are relative to the first one.

    Parameters
    ----------
    path : path
    unit : {"s", "ms", "us", "ns"}
        Unit of the file's times.

    Returns
    -------
    ndarray of float64, shape (queries,)
        Arrival times in seconds, the first being 0.

    Raises
    ------
    ConfigError
        An unknown unit.
    DataError
        The file is missing or not text, a line is not one finite number, a time is before the
        one above it, or there are fewer than two.
    """
    if unit not in UNITS:
        raise ConfigError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    times: list[float] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            time = float(text)
        except ValueError:
            time = math.nan
        if not math.isfinite(time):
            raise DataError(f"{path}:{number}: expected one arrival time, not {text!r:.40}")
        if times and time < times[-1]:
            raise DataError(
                f"{path}:{number}: time {time:g} is before the one above it, {times[-1]:g}"
            )
        times.append(time)
    if len(times) < 2:
        raise DataError(f"{path}: a trace needs two arrival times or more, this has {len(times)}")
    return (np.array(times) - times[0]) * UNITS[unit]


def gap_statistics(arrivals: ArrayLike) -> tuple[float, float]:
    """Measure arrivals.

    Parameters
    ----------
    arrivals : array_like of float, shape (queries,)
        Times in seconds, in order.

    Returns
    -------
    qps : float
        Mean rate; infinite if all arrive at once.
    cv : float
        Coefficient of variation of the gaps: standard deviation by mean; NaN if all gaps are 0.

    Raises
    ------
    ConfigError
        Times are not in order, or fewer than two.
    """
    gaps = np.diff(check_arrivals(arrivals))
    if not len(gaps):
        raise ConfigError("arrivals: gaps need two queries or more")
    mean = gaps.mean()
    if not mean:
        return math.inf, math.nan
    return float(1 / mean), float(gaps.std() / mean)
