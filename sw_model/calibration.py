"""Calibration: the scale of an int8 tensor from values that were observed.

``mse`` takes the scale of the least squared error: clipping a few outliers can cost less than
coarser steps for all the others. ``min-max`` clips nothing that was observed, ``percentile`` a
fixed share.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rpaccel.dataset import Calibration
from sw_model.numerics import INT8

__all__ = ["column_scales", "quantise_values", "tensor_scale"]

CLIPPED = 1000
"""``percentile`` clips the largest of the values that are not zero, one in so many."""

CANDIDATE_SCALES = np.linspace(0.3, 1.0, 71)
"""Scales tried for the least error, relative to the one that clips nothing."""


def quantise_values(values: NDArray, scale: float | NDArray, low: int, high: int) -> NDArray:
    """Quantise real values: ``clamp(floor(values / scale + 0.5))``, as int64."""
    whole = np.floor(np.asarray(values, dtype=np.float64) / scale + 0.5)
    return np.clip(whole, low, high).astype(np.int64)


def column_scales(values: NDArray, kind: Calibration = "mse") -> NDArray[np.float64]:
    """Scale of each column of an int8 tensor, from values of shape (n, columns)."""
    return np.array([tensor_scale(column, kind, most=20_000) for column in values.T])


def tensor_scale(
    values: NDArray,
    kind: Calibration = "mse",
    *,
    most: int = 200_000,
    steps: tuple[int, int] = INT8,
) -> float:
    """Scale of an int8 tensor.

    Parameters
    ----------
    values : floats, any shape
        What was observed of it.
    kind : {"mse", "min-max", "percentile"}
    most : int
        Values that an error is measured on.
    steps : tuple of two int
        Fewest and most steps that a value may be above zero.

    Returns
    -------
    float
        Real value of one step, above zero.

    Raises
    ------
    ValueError
        There is no such kind.
    """
    if kind not in get_args(Calibration):
        raise ValueError(f"kind must be one of {get_args(Calibration)}, not {kind!r}")
    values = np.asarray(values, dtype=np.float64).ravel()
    sizes = np.abs(values)
    largest = float(sizes.max(initial=0.0))
    if largest == 0:
        return 1.0  # a tensor that is always zero
    if kind == "min-max":
        return largest / steps[1]
    if kind == "percentile":
        # Behind a ReLU most values may be zero, and zero is exact at any scale.
        return float(np.quantile(sizes[sizes > 0], 1 - 1 / CLIPPED)) / steps[1]
    values = _thinned(values, most)

    def error(scale: float) -> float:
        return float(np.square(quantise_values(values, scale, *steps) * scale - values).sum())

    return float(min(CANDIDATE_SCALES * (largest / steps[1]), key=error))


def _thinned(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Every n-th value of a long tensor: the error needs no more."""
    step = -(-len(values) // most)
    step += step % 2 == 0  # odd, so that it meets all columns of a tensor of even width
    return values[::step]
