"""Integer arithmetic of the machine, exactly as docs/numerics.md defines it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rpaccel.abi import CTR_BITS, LOGIT_FRACTION_BITS
from rpaccel.errors import ConfigError
from sw_model.quantised import QuantisedDot, QuantisedLayer, QuantisedProduct

__all__ = [
    "INT8",
    "INT16",
    "MAX_MANTISSA",
    "MAX_SHIFT",
    "accumulate",
    "ctr",
    "ctr_entry",
    "ctr_table",
    "dot",
    "layer",
    "logits",
    "multiplier",
    "multiply",
    "output_range",
    "pair_products",
    "requantise",
    "rshift_round",
]

INT8 = (-128, 127)
INT16 = (-32768, 32767)
MAX_MANTISSA = 65535
MAX_SHIFT = 47

_EXACT_FLOAT32 = 1 << 24


def rshift_round(value: NDArray | int, shift: NDArray | int) -> NDArray[np.int64]:
    """Arithmetic right shift, rounding half up: the only rounding in the machine.

    Parameters
    ----------
    value : integer array or int
        Magnitudes below 2**62.
    shift : integer array or int, 0..62
        Broadcast against ``value``.

    Returns
    -------
    int64 array
    """
    value = np.asarray(value, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    half = (np.int64(1) << shift) >> 1  # 0 for shift 0
    return (value + half) >> shift


def requantise(
    acc: NDArray, bias: NDArray, mantissa: NDArray, shift: NDArray, low: int, high: int
) -> NDArray[np.int64]:
    """Epilogue of a layer: bias, multiplication, rounding shift, clamp.

    Parameters
    ----------
    acc : integer array, shape (..., N)
        Accumulators (int32 range).
    bias, mantissa, shift : integer arrays, shape (N,)
    low, high : int

    Returns
    -------
    int64 array of the shape of ``acc``
    """
    total = np.asarray(acc, dtype=np.int64) + np.asarray(bias, dtype=np.int64)
    scaled = total * np.asarray(mantissa, dtype=np.int64)
    return np.clip(rshift_round(scaled, shift), low, high)


def output_range(layer: QuantisedLayer) -> tuple[int, int]:
    """Lowest and highest output of a layer: a logit, or int8 with or without ReLU."""
    if layer.logit:
        return INT16
    return (0 if layer.relu else INT8[0]), INT8[1]


def accumulate(x: NDArray[np.int8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Exact integer product ``x @ weights.T``, through floating-point BLAS where that is exact.

    Parameters
    ----------
    x : int8, shape (n, K)
    weights : int8, shape (N, K)

    Returns
    -------
    int64, shape (n, N)
    """
    # Every partial sum is an integer of at most K * 2**14: exact in a float of enough bits.
    exact: Any = np.float32 if x.shape[1] * 128 * 128 < _EXACT_FLOAT32 else np.float64
    return (x.astype(exact) @ weights.astype(exact).T).astype(np.int64)


def layer(x: NDArray[np.int8], layer: QuantisedLayer) -> NDArray:
    """Outputs of a layer for int8 inputs.

    Parameters
    ----------
    x : int8, shape (n, K)
    layer : QuantisedLayer

    Returns
    -------
    int8, or int16 where the layer makes logits; shape (n, N)
    """
    acc = accumulate(x, layer.weights)
    out = requantise(acc, layer.bias, layer.mantissa, layer.shift, *output_range(layer))
    return out.astype(np.int16 if layer.logit else np.int8)


def multiply(
    x: NDArray[np.int8], y: NDArray[np.int8], product: QuantisedProduct
) -> NDArray[np.int8]:
    """Elementwise product of two parts of pooled vectors, int8 of shape (n, factors)."""
    wide = x.astype(np.int64) * y
    none = np.zeros(wide.shape[-1], dtype=np.int64)
    return requantise(wide, none, product.mantissa, product.shift, *INT8).astype(np.int8)


def pair_products(vectors: NDArray[np.int8]) -> NDArray[np.int64]:
    """Exact dot products of the pairs (1, 0), (2, 0), (2, 1), (3, 0), ... of vectors.

    Parameters
    ----------
    vectors : int8, shape (n, vectors, dimension)

    Returns
    -------
    int64, shape (n, pairs)
    """
    # As in accumulate; both operands are int8, of which a float32 holds the sum of 1,023 products.
    exact: Any = np.float32 if vectors.shape[2] * 128 * 128 < _EXACT_FLOAT32 else np.float64
    real = vectors.astype(exact)
    later, earlier = np.tril_indices(vectors.shape[1], -1)
    return np.matmul(real, real.swapaxes(1, 2))[:, later, earlier].astype(np.int64)


def dot(vectors: NDArray[np.int8], scaling: QuantisedDot) -> NDArray[np.int8]:
    """Dot interaction of vectors, int8 of shape (n, vectors, dimension) to (n, pairs)."""
    none = np.zeros(len(scaling.mantissa), dtype=np.int64)
    acc = pair_products(vectors)
    return requantise(acc, none, scaling.mantissa, scaling.shift, *INT8).astype(np.int8)


def multiplier(value: float) -> tuple[int, int]:
    """Normalised mantissa and shift of a real multiplier: ``value ~ mantissa / 2**shift``.

    Parameters
    ----------
    value : float
        Not negative.

    Returns
    -------
    mantissa : int, 0..65535
    shift : int, 0..47
        The largest for which the mantissa fits.

    Raises
    ------
    ConfigError
        The value is negative, not finite, or does not fit 16 bits at shift 0.
    """
    value = float(value)
    if not 0 <= value < math.inf:
        raise ConfigError(f"a requantisation multiplier must be finite and positive, not {value}")
    for shift in range(MAX_SHIFT, -1, -1):
        scaled = math.ldexp(value, shift)
        whole = math.floor(scaled)
        # Adding 0.5 in floating point could round up by itself: compare the exact fraction.
        mantissa = whole + (scaled - whole >= 0.5)
        if mantissa <= MAX_MANTISSA:
            return mantissa, shift
    raise ConfigError(f"a requantisation multiplier must be below {MAX_MANTISSA}.5, not {value}")


def logits(scores: NDArray) -> NDArray[np.int64]:
    """Logits as int16 values: integers as they are, real ones rounded half up and clamped."""
    if np.issubdtype(scores.dtype, np.integer):
        return scores.astype(np.int64)
    scaled = np.floor(scores.astype(np.float64) * (1 << LOGIT_FRACTION_BITS) + 0.5)
    return np.clip(scaled, *INT16).astype(np.int64)


@cache
def ctr_table() -> NDArray[np.uint16]:
    """The monotone table from logits to click-through rate, shape (1024,), 65535 is 1.0."""
    entries = 1 << 16 - CTR_BITS
    logits = (np.arange(entries) - entries // 2) * (1 << CTR_BITS) + (1 << CTR_BITS - 1)
    real = logits / (1 << LOGIT_FRACTION_BITS)
    table = np.floor(65535 / (1 + np.exp(-real)) + 0.5).astype(np.uint16)
    table.flags.writeable = False
    return table


def ctr_entry(logit: ArrayLike) -> NDArray[np.int64]:
    """Entry of the CTR table of int16 logits, 0..1023."""
    return (np.asarray(logit, dtype=np.int64) >> CTR_BITS) + 512


def ctr(logit: ArrayLike) -> NDArray[np.uint16]:
    """Click-through rate of int16 logits: 0..65535, where 65535 is 1.0."""
    return ctr_table()[ctr_entry(logit)]
