"""Golden model of a group: a stage's MLPs, interaction and product, item by item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sw_model.numerics import INT16, accumulate, dot, layer, multiply, requantise
from sw_model.quantised import QuantisedLayer, QuantisedModel

__all__ = ["Scores", "interact", "join", "score"]

_UNCLAMPED = (-(1 << 62), 1 << 62)


@dataclass(frozen=True)
class Scores:
    """Logits of items.

    Attributes
    ----------
    logits : int16, shape (n,)
    saturated : bool, shape (n,)
        The logit was clamped.
    """

    logits: NDArray[np.int16]
    saturated: NDArray[np.bool_]


def interact(
    model: QuantisedModel, dense: NDArray[np.int8], pooled: list[NDArray[np.int8]]
) -> NDArray[np.int8]:
    """Inputs of the top MLP: the pooled vectors of the tables, then the bottom MLP's outputs.

    With a dot interaction, the products of pairs of these come in place of the pooled vectors.

    Parameters
    ----------
    model : QuantisedModel
    dense : int8, shape (n, dense)
        Dense inputs, the query's before the item's; not used by a model without a bottom MLP.
    pooled : list of int8, shape (n, dimension)
        One a table, in the order of the configuration.

    Returns
    -------
    int8, shape (n, K)
    """
    parts = pooled
    if model.product is not None:
        width = len(model.product.mantissa)
        parts = [
            vector[:, width:] if table.name in model.product.tables else vector
            for table, vector in zip(model.tables, pooled, strict=True)
        ]
    last = []
    if model.bottom:
        x = dense
        for bottom in model.bottom:
            x = layer(x, bottom)
        last = [x]
    if model.dot is not None:
        parts = [dot(np.stack([*parts, *last], axis=1), model.dot)]
    return np.concatenate([*parts, *last], axis=1)


def join(
    model: QuantisedModel, pooled: list[NDArray[np.int8]], x: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Inputs of the last top layer: the product, where there is one, then the layer's before.

    Parameters
    ----------
    model : QuantisedModel
    pooled : list of int8
        As for :func:`interact`.
    x : int8, shape (n, width)
        Outputs of the top layer before, or of :func:`interact`.

    Returns
    -------
    int8, shape (n, factors + width)
    """
    if model.product is None:
        return x
    width = len(model.product.mantissa)
    by_name = {table.name: vector for table, vector in zip(model.tables, pooled, strict=True)}
    first, second = (by_name[name][:, :width] for name in model.product.tables)
    return np.concatenate([multiply(first, second, model.product), x], axis=1)


def score(model: QuantisedModel, dense: NDArray[np.int8], pooled: list[NDArray[np.int8]]) -> Scores:
    """Rank items by a model; parameters as for :func:`interact`."""
    x = interact(model, dense, pooled)
    for hidden in model.top[:-1]:
        x = layer(x, hidden)
    return _logits(join(model, pooled, x), model.top[-1])


def _logits(x: NDArray[np.int8], last: QuantisedLayer) -> Scores:
    acc = accumulate(x, last.weights)
    wide = requantise(acc, last.bias, last.mantissa, last.shift, *_UNCLAMPED)[:, 0]
    logits = np.clip(wide, *INT16)
    return Scores(logits.astype(np.int16), logits != wide)
