"""Post-training quantisation: a float model and calibration inputs to an int8 model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rpaccel.abi import LOGIT_FRACTION_BITS
from rpaccel.dataset import Calibration, Rounding
from rpaccel.errors import ConfigError
from sw_model.calibration import column_scales, quantise_values, tensor_scale
from sw_model.dlrm import FloatLayer, FloatModel, Inputs
from sw_model.equalise import EXPONENTS, equalise
from sw_model.numerics import INT8, multiplier, rshift_round
from sw_model.quantised import (
    QuantisedDot,
    QuantisedLayer,
    QuantisedModel,
    QuantisedProduct,
    QuantisedTable,
)
from sw_model.rounding import compensated

__all__ = ["RELU_ZERO", "behind", "quantise", "quantise_layer"]

MAX_SHIFT = 15
"""Largest right shift of a pooled sum."""

BIAS_LIMIT = 2**30
"""Largest bias that quantisation makes: the products have as much of the accumulator again."""

RELU_ZERO = INT8[0]
"""What stands for zero behind a ReLU, so that the clamp at the lowest int8 is the ReLU."""

RELU_STEPS = (0, INT8[1] - RELU_ZERO)

LOGIT_SCALE = 2.0**-LOGIT_FRACTION_BITS

PRODUCT_LIMIT = 2**31 - 1


def quantise(
    model: FloatModel,
    calibration: Inputs,
    *,
    dense_scale: float,
    kind: Calibration = "mse",
    rounding: Rounding = "nearest",
) -> QuantisedModel:
    """Quantise a model as docs/numerics.md defines it.

    The model is equalised first. Scales of activations come from the calibration inputs, behind a
    ReLU for all 256 values; weights use the whole range of each output channel, and rows that of
    their table.

    Parameters
    ----------
    model : FloatModel
    calibration : Inputs
        Real inputs to observe ranges on; never those that quality is measured on.
    dense_scale : float
        Real value of one step of the int8 dense inputs, shared by all models.
    kind : {"mse", "min-max", "percentile"}
        How activations get their scales (:mod:`sw_model.calibration`).
    rounding : {"nearest", "compensated"}
        Compensated, errors of weights, and of rows that a concatenation reads, make up for each
        other (:mod:`sw_model.rounding`). Weights may be more uneven then, so equalisation goes
        further.

    Returns
    -------
    QuantisedModel

    Raises
    ------
    ConfigError
        There is nothing to calibrate on, or a layer cannot be expressed: names model and layer.
    """
    if not len(calibration):
        raise ConfigError(f"model {model.name!r}: there are no inputs to calibrate on")
    model = equalise(model, calibration, exponent=EXPONENTS[rounding])
    observed = dict(model.activations(calibration))
    compensate = rounding == "compensated"
    reads = _reads(model, observed) if compensate else {}
    scales = {"dense": dense_scale} if model.bottom else {}
    bottom = []
    width = model.bottom[0].weight.shape[1] if model.bottom else 0
    inputs, zeros = np.full(width, dense_scale), np.zeros(width, np.int64)
    for i, layer in enumerate(model.bottom):
        name = f"bottom.{i}"
        # a vector of a dot interaction must be symmetric
        zero = 0 if model.dot and i + 1 == len(model.bottom) else RELU_ZERO
        scales[name] = tensor_scale(observed[name], kind, steps=RELU_STEPS if zero else INT8)
        bottom.append(_named(model, name, layer, inputs, scales[name], zeros, zero, reads))
        inputs, zeros = (np.full(len(layer.weight), each) for each in (scales[name], zero))
    tables = []
    parts = []
    multiplied = {}
    readers = _readers(model) if compensate else {}
    for name in model.tables:
        table, pooled_scales = _quantise_table(
            model, name, calibration.indices[name], observed, readers.get(name)
        )
        tables.append(table)
        width = model.tables[name].shape[1]
        multiplied[name], part = np.split(pooled_scales, [len(pooled_scales) - width])
        if width:
            scales[f"table.{name}"] = float(part[0])
        parts.append(part)
    dot = None
    if model.dot:
        vectors = [*parts, inputs] if bottom else parts
        dot, pair_scales = _quantise_dot(vectors, column_scales(observed["dot"], kind))
        parts = [pair_scales]
    inputs, zeros = behind(parts, inputs, zeros)
    product = None
    if model.factors:
        scales["product"] = tensor_scale(observed["product"], kind)
        product = _quantise_product(model, multiplied, scales["product"])
    top = []
    for i, layer in enumerate(model.top):
        name = f"top.{i}"
        last = i + 1 == len(model.top)
        if last and product is not None:
            joined = np.full(len(product.mantissa), scales["product"])
            inputs, zeros = behind([joined], inputs, zeros)
        zero = 0 if last else RELU_ZERO
        scales[name] = LOGIT_SCALE if last else tensor_scale(observed[name], kind, steps=RELU_STEPS)
        top.append(_named(model, name, layer, inputs, scales[name], zeros, zero, reads, logit=last))
        inputs, zeros = (np.full(len(layer.weight), each) for each in (scales[name], zero))
    return QuantisedModel(model.name, tables, bottom, top, scales, product, dot)


def quantise_layer(
    layer: FloatLayer,
    input_scales: NDArray[np.float64],
    output_scale: float,
    *,
    input_zeros: NDArray[np.int64] | None = None,
    output_zero: int = 0,
    logit: bool = False,
    read: NDArray[np.float32] | None = None,
) -> QuantisedLayer:
    """Quantise a layer; the scale of each input is folded into its weights before.

    Zeros other than 0, of inputs and outputs, go into the bias.

    Parameters
    ----------
    layer : FloatLayer
    input_scales : float64, shape (in,)
        Real value of one step of each input.
    output_scale : float
    input_zeros : int64, shape (in,), optional
        What stands for zero in each input; 0 by default.
    output_zero : {0, RELU_ZERO}
        What stands for zero in the outputs.
    logit : bool
        The layer makes logits and has no ReLU.
    read : float32, shape (n, in), optional
        Real inputs; where given, weights are rounded so that errors on them make up for each other.

    Raises
    ------
    ConfigError
        A channel's multiplier does not fit, or its accumulator could overflow.
    """
    weight = layer.weight.astype(np.float64) * input_scales
    bias = layer.bias.astype(np.float64)
    # A channel of (nearly) no weights is all bias, which must still fit.
    moved = abs(output_zero) * output_scale
    scale = np.maximum(np.abs(weight).max(axis=1) / 127, (np.abs(bias) + moved) / BIAS_LIMIT)
    scale[scale == 0] = output_scale  # a channel that is always zero
    if read is None:
        weights = quantise_values(weight, scale[:, None], -127, 127)
    else:
        steps = read / input_scales
        weights = compensated(weight / scale[:, None], steps.T @ steps, -127, 127)
    biases = quantise_values(bias + output_zero * output_scale, scale, -BIAS_LIMIT, BIAS_LIMIT)
    if input_zeros is not None:
        biases -= weights @ input_zeros
    if (np.abs(biases) + 128 * np.abs(weights).sum(axis=1) > PRODUCT_LIMIT).any():
        raise ConfigError(f"{weight.shape[1]} inputs could overflow the accumulator")
    pairs = np.array([multiplier(s / output_scale) for s in scale.tolist()], dtype=np.int32)
    return QuantisedLayer(
        weights=weights.astype(np.int8),
        bias=biases.astype(np.int32),
        mantissa=pairs[:, 0],
        shift=pairs[:, 1],
        relu=not logit and output_zero == 0,
        logit=logit,
    )


def behind(
    parts: list[NDArray[np.float64]], inputs: NDArray[np.float64], zeros: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scales and zeros of a concatenation: scales of parts whose zero is 0, then of the others."""
    scales = np.concatenate([*parts, inputs])
    return scales, np.concatenate([np.zeros(len(scales) - len(inputs), np.int64), zeros])


def _reads(
    model: FloatModel, observed: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Real inputs of each layer by its name."""
    reads = {}
    below = []
    for i in range(len(model.bottom)):
        reads[f"bottom.{i}"] = observed[f"bottom.{i - 1}" if i else "dense"]
        below = [observed[f"bottom.{i}"]]
    parts = ["dot"] if model.dot else [f"table.{name}" for name in model.tables]
    x = np.concatenate([*(observed[part] for part in parts), *below], axis=1)
    for i in range(len(model.top)):
        if model.factors and i + 1 == len(model.top):
            x = np.concatenate([observed["product"], x], axis=1)
        reads[f"top.{i}"] = x
        x = observed[f"top.{i}"]
    return reads


def _readers(model: FloatModel) -> dict[str, NDArray[np.float32]]:
    """Columns of the first top layer that read each table, by its name; none through a dot."""
    if model.dot:
        return {}
    widths = [rows.shape[1] for rows in model.tables.values()]
    below = model.bottom[-1].weight.shape[0] if model.bottom else 0
    weight = model.top[0].weight
    # a product, where the only layer reads one, is before them
    ends = np.cumsum([weight.shape[1] - below - sum(widths), *widths])
    return dict(zip(model.tables, np.split(weight, ends, axis=1)[1:], strict=False))


def _named(
    model: FloatModel,
    name: str,
    layer: FloatLayer,
    inputs: NDArray[np.float64],
    scale: float,
    zeros: NDArray[np.int64],
    zero: int,
    reads: dict[str, NDArray[np.float32]],
    *,
    logit: bool = False,
) -> QuantisedLayer:
    try:
        return quantise_layer(
            layer,
            inputs,
            scale,
            input_zeros=zeros,
            output_zero=zero,
            logit=logit,
            read=reads.get(name),
        )
    except ConfigError as error:
        raise ConfigError(f"model {model.name!r}, layer {name}: {error}") from None


def _quantise_table(
    model: FloatModel,
    name: str,
    indices: NDArray[np.int64],
    observed: dict[str, NDArray[np.float32]],
    reader: NDArray[np.float32] | None,
) -> tuple[QuantisedTable, NDArray[np.float64]]:
    """Rows that use the whole int8 range, and the shift that keeps most of the pooled sums.

    Elements of the product's part have a scale each: they meet no others in a sum, and the
    product's multipliers undo the scales. The others are rounded by what ``reader``, the weights
    (out, dimension) of the layer that reads them, makes of the errors, if it is given. Returns the
    scale of each pooled element besides.
    """
    rows, pooled = model.tables[name], observed[f"table.{name}"]
    scale = np.full(rows.shape[1], float(np.abs(rows).max(initial=0.0)) / 127)
    if name in model.factors:
        factors = model.factors[name]
        rows = np.concatenate([factors, rows], axis=1)
        pooled = np.concatenate([observed[f"factors.{name}"], pooled], axis=1)
        scale = np.concatenate([np.abs(factors).max(axis=0).astype(np.float64) / 127, scale])
    scale = np.where(scale > 0, scale, 1.0)
    whole = quantise_values(rows, scale, *INT8)
    if reader is not None and reader.size:
        part = slice(rows.shape[1] - reader.shape[1], None)
        steps = reader * scale[part]
        whole[:, part] = compensated(rows[:, part] / scale[part], steps.T @ steps, *INT8)
    if indices.shape[1] == 1:
        return QuantisedTable(name, whole.astype(np.int8)), scale
    padded = np.concatenate([whole, np.zeros_like(whole[:1])])
    sums = padded[np.minimum(indices, len(whole))].sum(axis=1)

    def error(shift: int) -> float:
        kept = np.clip(rshift_round(sums, shift), *INT8) * 2.0**shift
        return float(np.square(kept - pooled / scale).sum())

    shift = min(range(MAX_SHIFT + 1), key=error)
    return QuantisedTable(name, whole.astype(np.int8), shift), scale * 2.0**shift


def _quantise_dot(
    vectors: list[NDArray[np.float64]], wanted: NDArray[np.float64]
) -> tuple[QuantisedDot, NDArray[np.float64]]:
    """Multipliers of products of pairs of vectors, whose elements' scales are given, and scales.

    A product's scale is at least that of the accumulator, which knows no smaller steps: so every
    multiplier can be expressed.
    """
    later, earlier = np.tril_indices(len(vectors), -1)
    one = np.array([scales[0] for scales in vectors])
    acc = one[later] * one[earlier]
    scale = np.maximum(wanted, acc)
    pairs = np.array([multiplier(m) for m in (acc / scale).tolist()], np.int32).reshape(-1, 2)
    return QuantisedDot(pairs[:, 0], pairs[:, 1]), scale


def _quantise_product(
    model: FloatModel, scales: dict[str, NDArray[np.float64]], output_scale: float
) -> QuantisedProduct:
    """Multipliers of the product of two parts whose elements have ``scales``."""
    first, second = model.factors
    try:
        pairs = [multiplier(s / output_scale) for s in (scales[first] * scales[second]).tolist()]
    except ConfigError as error:
        raise ConfigError(f"model {model.name!r}, product: {error}") from None
    mantissa, shift = np.array(pairs, dtype=np.int32).T
    return QuantisedProduct((first, second), mantissa, shift)
