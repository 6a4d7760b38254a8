"""Clicks with a planted truth: Criteo-like accesses, dense counts, and labels of a known function.

The probability of a click is the sigmoid of

    logit = INTERCEPT + sum of WEIGHTS x (part - CENTRES) / SPREADS

with three parts. *First order*: a number of each table row that is looked up. *Interactions*: each
table row also has a vector of 24 latent factors; the sum over all pairs of tables of their inner
products, factor k weighted with 0.93**k, so that a model that has few dimensions for a table knows
the first few factors at best. *Dense*: 32 hyperbolic tangents of random directions of the
standardised dense inputs. All numbers of the truth are hashes of (table, row, factor), uniform with
variance 1, so that nothing is as large as a table and no seed changes the truth. Each label is
drawn with that probability: this is the only noise.

Every constant here is frozen: none may be changed to suit what was measured with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sw_model.criteo_like import TABLES, Popularity, mix, trace

__all__ = ["DENSE", "FACTORS", "Clicks", "Periods", "capped", "clicks", "parts", "truth"]

DENSE = (
    (0.714, 1.51, 0.85),
    (0.281, 2.93, 1.97),
    (0.209, 2.26, 1.27),
    (0.260, 1.86, 0.87),
    (0.064, 7.39, 2.74),
    (0.298, 3.84, 1.60),
    (0.291, 2.05, 1.18),
    (0.121, 2.33, 0.97),
    (0.080, 3.74, 1.58),
    (0.729, 0.75, 0.16),
    (0.303, 1.16, 0.62),
    (0.943, 1.15, 0.67),
    (0.251, 2.01, 0.97),
)
"""I1..I13: share of zeros (missing counts included), mean and standard deviation of log(x + 1) of
the others, in the first 8,000 rows of Criteo Kaggle."""

FACTORS = 24
DECAY = 0.93
DIRECTIONS = 32
STEEPNESS = 1.5

WEIGHTS = (0.8, 1.0, 0.8)
"""Standard deviation that each part has in the logit: first order, interactions, dense."""
CENTRES = (1.043, 13.484, -3.504)
SPREADS = (5.06, 64.471, 3.517)
"""Mean and standard deviation of the parts over rows 0..199,999 of seed 0, full tables."""
INTERCEPT = -1.769
"""So that .216 of these rows are clicks, as of the log's first 8,000."""

_UNIFORMS = 2 * 7 + len(DENSE) + 1
"""Random numbers of a row: pairs for the normal deviates, one a zero, one for the label."""
_KEY = np.uint64(0x5250416363656C)


@dataclass(frozen=True)
class Clicks:
    """Consecutive rows of a log.

    Attributes
    ----------
    labels : bool, shape (n,)
        True for a click.
    dense : float32, shape (n, 13)
        log(x + 1) of counts x, as :attr:`sw_model.criteo.Block.dense` has them.
    ranks : int64, shape (n, tables)
        Rows of the tables.
    logits : float64, shape (n,)
        The truth: of the probability that the label was drawn with.
    """

    labels: NDArray[np.bool_]
    dense: NDArray[np.float32]
    ranks: NDArray[np.int64]
    logits: NDArray[np.float64]


@dataclass(frozen=True)
class Periods:
    """Row numbers for training, calibration and test, one behind the other in time."""

    training: range
    calibration: range
    test: range

    @classmethod
    def of(cls, training: int, calibration: int, test: int) -> Periods:
        """Cut the rows from 0 on into three periods of so many rows each.

        Raises
        ------
        ValueError
            A period has no rows.
        """
        for name, rows in (("training", training), ("calibration", calibration), ("test", test)):
            if rows < 1:
                raise ValueError(f"{name} must be a positive number of rows, not {rows!r}")
        first, second = training, training + calibration
        return cls(range(first), range(first, second), range(second, second + test))


def capped(rows: int, tables: Sequence[Popularity] = TABLES) -> tuple[Popularity, ...]:
    """Tables cut to at most so many rows, the hottest, for work at a small scale."""
    if rows < 2:
        raise ValueError(f"rows must be an integer of at least 2, not {rows!r}")
    return tuple(replace(table, rows=min(table.rows, rows)) for table in tables)


def clicks(
    rows: range,
    *,
    seed: int,
    block: int = 65_536,
    lifetime: int | None = None,
    tables: Sequence[Popularity] = TABLES,
) -> Iterator[Clicks]:
    """Draw rows of a log, a block at a time.

    Row number r depends on ``seed``, ``tables``, ``lifetime`` and r only (``logits`` up to the
    order of sums).

    Parameters
    ----------
    rows : range
        Row numbers, one by one upwards.
    seed : int
        Of accesses, dense inputs and the draw of labels; the truth does not depend on it.
    block : int
        Rows of a block; the last may have fewer.
    lifetime : int, optional
        See :func:`sw_model.criteo_like.trace`: who is popular drifts, what is liked does not.
    tables : sequence of Popularity
    """
    if rows.step != 1 or rows.start < 0:
        raise ValueError(f"rows must be a range upwards by 1 from 0 or more, not {rows}")
    bits = np.random.PCG64([seed, 1])
    bits.advance(rows.start * _UNIFORMS)
    rng = np.random.Generator(bits)
    for ranks in trace(
        len(rows), seed=seed, start=rows.start, block=block, lifetime=lifetime, tables=tables
    ):
        uniform = rng.random((len(ranks), _UNIFORMS))
        dense = _dense(uniform[:, :-1])
        logits = truth(ranks, dense)
        labels = uniform[:, -1] < 1 / (1 + np.exp(-logits))
        yield Clicks(labels, dense, ranks, logits)


def truth(
    ranks: NDArray[np.int64], dense: NDArray[np.float32], *, factors: int = FACTORS
) -> NDArray[np.float64]:
    """Logits of rows, shape (n,); with fewer ``factors``, of the first ones only.

    The latter is what a model with few dimensions can know at best.
    """
    found = (parts(ranks, dense, factors=factors) - CENTRES) / SPREADS
    return np.asarray(INTERCEPT + found @ np.array(WEIGHTS))


def parts(
    ranks: NDArray[np.int64], dense: NDArray[np.float32], *, factors: int = FACTORS
) -> NDArray[np.float64]:
    """First order, interactions and dense, before they are centred and weighted: (n, 3)."""
    return np.stack([*_latent_parts(ranks, factors), _dense_part(dense)], axis=1)


def _dense(uniform: NDArray[np.float64]) -> NDArray[np.float32]:
    """Counts as log(x + 1): 0, or log-normal and whole; of uniform numbers, (n, 27)."""
    zero, mean, spread = np.array(DENSE).T
    pairs = uniform[:, len(DENSE) :].reshape(len(uniform), 2, -1)
    radius, angle = np.sqrt(-2 * np.log1p(-pairs[:, 0])), 2 * np.pi * pairs[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    counts = np.rint(np.expm1(mean + spread * normal[:, : len(DENSE)]))
    counts = np.where(uniform[:, : len(DENSE)] < zero, 0, np.maximum(counts, 1))
    return np.log1p(counts).astype(np.float32)


def _latent_parts(
    ranks: NDArray[np.int64], factors: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First order and interactions of rows, each (n,)."""
    columns = ranks.shape[1]
    importance = 1 + _hashed(columns, np.zeros(1, np.int64), columns)[0] / np.sqrt(12)
    order = np.zeros(len(ranks))
    total, squares = np.zeros((len(ranks), factors)), np.zeros((len(ranks), factors))
    for table, column in enumerate(ranks.T):
        known, which = np.unique(column, return_inverse=True)
        latent = (importance[table] * _hashed(table, known, 1 + factors))[which.ravel()]
        order += latent[:, 0]
        total += latent[:, 1:]
        squares += latent[:, 1:] ** 2
    return order, (total**2 - squares) / 2 @ DECAY ** np.arange(factors)


def _dense_part(dense: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of hyperbolic tangents of random directions, (n,)."""
    zero, mean, spread = np.array(DENSE).T
    centre = (1 - zero) * mean
    width = np.sqrt((1 - zero) * (mean**2 + spread**2) - centre**2)
    numbers = _hashed(2**20, np.arange(DIRECTIONS), len(DENSE) + 2)
    directions, shift, height = (
        numbers[:, :-2] / np.sqrt(len(DENSE)),
        numbers[:, -2],
        numbers[:, -1],
    )
    return np.asarray(
        np.tanh(STEEPNESS * ((dense - centre) / width @ directions.T + shift)) @ height
    )


def _hashed(table: int, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Numbers of rows of a table: (rows, count), uniform with mean 0 and variance 1."""
    key = mix(_KEY ^ np.uint64(table))
    row = mix(rows.astype(np.uint64) ^ key)
    bits = mix(row[:, None] ^ mix(np.arange(count, dtype=np.uint64)))
    return ((bits >> np.uint64(11)) * 2.0**-53 - 0.5) * np.sqrt(12)
