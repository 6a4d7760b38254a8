"""What quantisation costs, tensor by tensor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sw_model.calibration import quantise_values
from sw_model.dlrm import FloatLayer, FloatModel, Inputs
from sw_model.gather import pool
from sw_model.group import interact, join
from sw_model.numerics import INT8, dot, pair_products
from sw_model.numerics import layer as run_layer
from sw_model.quantise import RELU_ZERO, behind
from sw_model.quantised import QuantisedDot, QuantisedLayer, QuantisedModel

__all__ = ["TensorError", "tensor_errors"]


class TensorError(NamedTuple):
    """Error of an int8 tensor, as a share of the float tensor's size (root mean squares).

    Attributes
    ----------
    added : float
        Against the float layer applied to the int8 tensors it read: by this layer alone.
    total : float
        Against the float model.
    clamped : float
        Share of values at an end of the range; zeros of a ReLU are no end.
    """

    added: float
    total: float
    clamped: float


def tensor_errors(
    model: FloatModel, quantised: QuantisedModel, inputs: Inputs
) -> dict[str, TensorError]:
    """Run a float model and its int8 model side by side.

    Parameters
    ----------
    model : FloatModel
        The equalised model (:func:`sw_model.equalise.equalise`) that ``quantised`` was made of.
    quantised : QuantisedModel
    inputs : Inputs

    Returns
    -------
    dict of TensorError
        By the names of :meth:`sw_model.dlrm.FloatModel.activations` but the product's parts. For
        a table, and the product of two, the rows are what adds an error; for a dot interaction it
        is the rounding of the products of int8 vectors.
    """
    real = dict(model.activations(inputs))
    scales = quantised.scales
    found: dict[str, TensorError] = {}
    x = np.zeros((len(inputs), 0), np.int8)
    if model.bottom:
        x = quantise_values(inputs.dense, scales["dense"], *INT8).astype(np.int8)
        found["dense"] = _error(x, scales["dense"], real["dense"], real["dense"])
    dense, steps = x, np.full(x.shape[1], scales.get("dense", 1.0))
    zeros = np.zeros(x.shape[1], np.int64)

    def follow(name: str, layer: QuantisedLayer, float_layer: FloatLayer) -> None:
        """Apply a layer to x, whose elements have ``steps`` and ``zeros``."""
        nonlocal x, steps, zeros
        ideal = float_layer(((x - zeros) * steps).astype(np.float32))
        x = run_layer(x, layer)
        wanted = ideal if layer.logit else np.maximum(ideal, 0)
        zero = 0 if layer.relu or layer.logit else RELU_ZERO
        found[name] = _error(x, scales[name], wanted, real[name], zero)
        steps, zeros = (np.full(x.shape[1], each) for each in (scales[name], zero))

    for i, (layer, float_layer) in enumerate(zip(quantised.bottom, model.bottom, strict=True)):
        follow(f"bottom.{i}", layer, float_layer)
    pooled, parts = [], []
    for table in quantised.tables:
        rows = len(table.rows)  # an index beyond them is an empty slot
        indices = np.minimum(inputs.indices[table.name], rows)
        pooled.append(pool(table, indices, empty_index=rows))
        width = model.tables[table.name].shape[1]
        if width:
            name = f"table.{table.name}"
            part = pooled[-1][:, pooled[-1].shape[1] - width :]
            found[name] = _error(part, scales[name], real[name], real[name])
            parts.append(np.full(width, scales[name]))
    if quantised.dot is not None:
        below = [(x, steps)] if model.bottom else []
        vectors = [*zip(pooled, parts, strict=True), *below]
        found["dot"], pairs = _dot_error(quantised.dot, vectors, real["dot"])
        parts = [pairs]
    x = interact(quantised, dense, pooled)
    steps, zeros = behind(parts, steps, zeros)
    last = len(quantised.top) - 1
    for i, (layer, float_layer) in enumerate(zip(quantised.top, model.top, strict=True)):
        if i == last and quantised.product is not None:
            x = join(quantised, pooled, x)
            width = len(quantised.product.mantissa)
            steps, zeros = behind([np.full(width, scales["product"])], steps, zeros)
            found["product"] = _error(
                x[:, :width], scales["product"], real["product"], real["product"]
            )
        follow(f"top.{i}", layer, float_layer)
    return found


def _dot_error(
    scaling: QuantisedDot,
    vectors: list[tuple[NDArray[np.int8], NDArray[np.float64]]],
    real: NDArray[np.float32],
) -> tuple[TensorError, NDArray[np.float64]]:
    """Error of the products of vectors given with their elements' steps, and a product's step."""
    whole = np.stack([values for values, _ in vectors], axis=1)
    one = np.array([steps[0] for _, steps in vectors])
    later, earlier = np.tril_indices(len(one), -1)
    acc = one[later] * one[earlier]
    steps = acc * 2.0**scaling.shift / scaling.mantissa
    return _error(dot(whole, scaling), steps, pair_products(whole) * acc, real), steps


def _error(
    whole: NDArray, scale: float | NDArray, ideal: NDArray, real: NDArray, zero: int = 0
) -> TensorError:
    got = (whole.astype(np.int64) - zero) * np.asarray(scale, dtype=np.float64)
    size = float(np.sqrt(np.square(real, dtype=np.float64).mean())) or 1.0
    ends = np.iinfo(whole.dtype)
    return TensorError(
        added=float(np.sqrt(np.square(got - ideal).mean())) / size,
        total=float(np.sqrt(np.square(got - real).mean())) / size,
        clamped=float(((whole == ends.max) | ((whole == ends.min) & (zero == 0))).mean()),
    )
