"""Equalisation: the same float model with tensors that suit one scale a tensor better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rpaccel.dataset import Rounding
from sw_model.dlrm import FloatLayer, FloatModel, Inputs

__all__ = ["EXPONENTS", "equalise"]

SMALLEST_RANGE = 1e-3
"""Elements with a smaller range, relative to the tensor's largest, are raised no further."""

EXPONENTS: dict[Rounding, float] = {"nearest": 0.5, "compensated": 0.75}
"""How far equalisation goes: further where rounding copes with more uneven weights."""


def equalise(model: FloatModel, calibration: Inputs, *, exponent: float = 0.5) -> FloatModel:
    """Raise the small elements of every int8 tensor, and lower the weights that read them.

    A positive factor on an output channel passes through ReLU, and a factor on a column of a table
    through its sum (and a product has the factors of both), so the logits stay the same
    (cross-layer equalisation, Nagel et al. 2019). By default, the factor is the square root of what
    would give each element the range of the largest one: steps get finer for small elements without
    making the next layer's weights as uneven as the activations were.

    Vectors of a dot interaction stay as they are: factors of one would have to be undone in all
    others, and those in each other. Its products have a scale a pair, and gain nothing.

    Parameters
    ----------
    model : FloatModel
    calibration : Inputs
        Real inputs on which ranges are observed.
    exponent : float
        0 leaves the model as it is; 1 gives all elements of a tensor the same range.

    Returns
    -------
    FloatModel
    """
    kept = {"dense", "dot", f"top.{len(model.top) - 1}"}
    if model.dot:
        kept |= {*(f"table.{name}" for name in model.tables), f"bottom.{len(model.bottom) - 1}"}
    factors = {
        name: np.ones(values.shape[1]) if name in kept else _factors(values, exponent)
        for name, values in model.activations(calibration)
    }
    bottom = []
    read = factors.get("dense", np.ones(0))  # the factors of what the next layer reads
    for i, layer in enumerate(model.bottom):
        written = factors[f"bottom.{i}"]
        bottom.append(_rescaled(layer, read, written))
        read = written
    tables = {
        name: (rows * factors[f"table.{name}"]).astype(np.float32)
        for name, rows in model.tables.items()
    }
    joined = [factors["dot"]] if model.dot else [factors[f"table.{name}"] for name in tables]
    read = np.concatenate([*joined, read])
    top = []
    for i, layer in enumerate(model.top):
        written = factors[f"top.{i}"]
        if model.factors and i + 1 == len(model.top):
            read = np.concatenate([factors["product"], read])
        top.append(_rescaled(layer, read, written))
        read = written
    multiplied = {
        name: (rows * np.sqrt(factors["product"])).astype(np.float32)
        for name, rows in model.factors.items()
    }
    return replace(model, tables=tables, bottom=bottom, top=top, factors=multiplied)


def _factors(values: NDArray[np.float32], exponent: float) -> NDArray[np.float64]:
    """Factor of each element of a tensor, shape (n, width) to (width,)."""
    ranges = np.abs(values).max(axis=0).astype(np.float64)
    largest = ranges.max(initial=0.0)
    if largest == 0:
        return np.ones(len(ranges))
    relative = ranges / largest
    # An element that is always zero has nothing to gain, and may not be zero for other inputs.
    return np.where(relative > 0, np.maximum(relative, SMALLEST_RANGE) ** -exponent, 1.0)


def _rescaled(
    layer: FloatLayer, read: NDArray[np.float64], written: NDArray[np.float64]
) -> FloatLayer:
    return FloatLayer(
        (layer.weight * written[:, None] / read).astype(np.float32),
        (layer.bias * written).astype(np.float32),
    )
