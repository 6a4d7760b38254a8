"""Random quantised models and queries that fit a configuration, to compare devices with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.gather import pool
from sw_model.generated_rows import GeneratedRows, table_key
from sw_model.group import interact, join
from sw_model.numerics import INT8, INT16, accumulate, layer, multiplier, pair_products
from sw_model.quantised import (
    QuantisedDot,
    QuantisedLayer,
    QuantisedModel,
    QuantisedProduct,
    QuantisedTable,
)
from sw_model.query import Query

__all__ = ["random_model", "random_models", "random_query"]

SAMPLES = 256
"""Items that the multipliers of random models are fitted to."""


def random_models(config: Config, rng: np.random.Generator) -> list[QuantisedModel]:
    """Draw a model for each stage of the funnel."""
    return [
        random_model(config.model(stage), config.features, rng)
        for stage in range(len(config.funnel.stages))
    ]


def random_model(
    config: ModelConfig, features: FeaturesConfig, rng: np.random.Generator
) -> QuantisedModel:
    """Draw a model whose activations use their range, with a few clamped, and all parameters vary.

    Parameters
    ----------
    config : ModelConfig
    features : FeaturesConfig
    rng : numpy Generator
    """
    tables = [
        QuantisedTable(
            t.name,
            _rows(rng, config, t),
            int(rng.integers(0, t.lookups.bit_length() + 1)),
        )
        for t in features.tables
    ]
    product = _product(rng, config) if config.product else None
    model = QuantisedModel(config.name, tables, [], [], product=product)
    dense = _int8(rng, (SAMPLES, features.dense))
    query = random_query(features, SAMPLES, rng)
    pooled = []
    for t, table in zip(features.tables, tables, strict=True):
        rows = pool(table, query.indices[t.name], empty_index=t.empty_index)
        pooled.append(np.broadcast_to(rows, (SAMPLES, rows.shape[-1])))
    x = dense
    for width in config.bottom:
        drawn = _layer(rng, x, width, relu=bool(rng.random() < 0.8))
        model.bottom.append(drawn)
        x = layer(x, drawn)
    if config.interaction == "dot":
        vectors = np.stack([*pooled, x] if config.bottom else pooled, axis=1)
        model = replace(model, dot=_dot(rng, pair_products(vectors)))
    x = interact(model, dense, pooled)
    for width in config.top[:-1]:
        drawn = _layer(rng, x, width, relu=bool(rng.random() < 0.8))
        model.top.append(drawn)
        x = layer(x, drawn)
    x = join(model, pooled, x)
    model.top.append(_layer(rng, x, config.top[-1], relu=False, logit=True))
    return model


def _rows(
    rng: np.random.Generator, config: ModelConfig, table: TableConfig
) -> NDArray[np.int8] | GeneratedRows:
    """Draw a table's rows, unless they are generated."""
    shape = (table.rows, config.row_elements(table.name))
    if table.generated:
        return GeneratedRows(table_key(config.name, table.name), shape)
    return _int8(rng, shape)


def _product(rng: np.random.Generator, config: ModelConfig) -> QuantisedProduct:
    """Draw multipliers that clamp some products of random rows, each with any shift."""
    pairs = [multiplier(value) for value in rng.uniform(1 / 128, 1 / 32, config.factors)]
    mantissa, shift = np.array(pairs, np.int32).T
    cut = rng.integers(0, 16, config.factors)
    first, second = config.product
    return QuantisedProduct((first, second), mantissa >> cut, shift - cut.astype(np.int32))


def _dot(rng: np.random.Generator, acc: NDArray[np.int64]) -> QuantisedDot:
    """Fit each pair's multiplier to sample products of shape (n, pairs), some of them clamped."""
    scale = INT8[1] / (np.maximum(acc.std(axis=0), 1.0) * rng.uniform(1.0, 3.0, acc.shape[1]))
    mantissa, shift = np.array([multiplier(value) for value in scale], np.int32).T
    _use_every_shift(rng, mantissa, shift)
    return QuantisedDot(mantissa, shift)


def _int8(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Draw int8 values, one in eight of them extreme."""
    values = rng.integers(-128, 128, shape)
    extreme = rng.choice([-128, 127], shape)
    return np.where(rng.random(shape) < 0.125, extreme, values).astype(np.int8)


def _layer(
    rng: np.random.Generator,
    x: NDArray[np.int8],
    width: int,
    *,
    relu: bool,
    logit: bool = False,
) -> QuantisedLayer:
    """Draw a layer and fit each channel's multiplier to sample inputs."""
    weights = np.maximum(_int8(rng, (width, x.shape[1])), -127)
    acc = accumulate(x, weights)
    spread = np.maximum(acc.std(axis=0), 1.0)
    bias = np.round(rng.normal(0, 1, width) * spread - acc.mean(axis=0)).astype(np.int32)
    # Ranges end at 1.5 to 3 standard deviations: some values are clamped, and ties are rare.
    high = INT16[1] if logit else INT8[1]
    scale = high / (spread * rng.uniform(1.5, 3.0, width))
    pairs = [multiplier(value) for value in scale]
    drawn = QuantisedLayer(
        weights,
        bias,
        np.array([m for m, _ in pairs], np.int32),
        np.array([s for _, s in pairs], np.int32),
        relu,
        logit,
    )
    _use_every_shift(rng, drawn.mantissa, drawn.shift)
    return drawn


def _use_every_shift(
    rng: np.random.Generator, mantissa: NDArray[np.int32], shift: NDArray[np.int32]
) -> None:
    """Give one channel in eight a small mantissa and shift, which fitting never makes."""
    for channel in np.flatnonzero(rng.random(len(shift)) < 0.125):
        cut = int(rng.integers(0, 16))
        cut = min(cut, int(shift[channel]))
        mantissa[channel] >>= cut
        shift[channel] -= cut


def random_query(
    features: FeaturesConfig,
    items: int,
    rng: np.random.Generator,
    *,
    empty: float = 0.2,
) -> Query:
    """Draw a query; low indices, the hot rows, are more frequent.

    Parameters
    ----------
    features : FeaturesConfig
    items : int
    rng : numpy Generator
    empty : float
        Share of empty slots in bags of more than one slot, and a tenth of it in other bags.
    """
    indices = {}
    for table in features.tables:
        shape = (table.lookups,) if table.scope == "query" else (items, table.lookups)
        skewed = (table.rows ** rng.random(shape) - 1).astype(np.int64)
        even = rng.integers(0, table.rows, shape)
        drawn = np.where(rng.random(shape) < 0.5, np.minimum(skewed, table.rows - 1), even)
        share = empty if table.lookups > 1 else empty / 10
        indices[table.name] = np.where(rng.random(shape) < share, table.empty_index, drawn)
    return Query(
        _int8(rng, (features.dense_query,)),
        _int8(rng, (items, features.dense_item)),
        indices,
        items,
    )
