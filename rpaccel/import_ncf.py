"""Keras weights of Neural Collaborative Filtering: GMF, MLP and NeuMF.

Layers are known by their names: ``user_embedding``, ``item_embedding`` (of a NeuMF,
``mf_embedding_user``, ``mlp_embedding_user`` and likewise for items), ``layer1``, ``layer2``, ...
and ``prediction``. An MLP is a model of ``kind = "dlrm"`` without dense inputs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.importer import Source, map_tensors
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.dlrm import FloatModel

__all__ = ["read"]

PARTS = ("weights", "bias")
"""What Keras's arrays of a layer are, in their order."""


def read(path: Path, model: ModelConfig, features: FeaturesConfig) -> FloatModel:
    """Read a model; see :func:`rpaccel.importer.import_model`.

    The user's table is the one of scope ``query``, the item's the one of scope ``item``.
    """
    return map_tensors(path, _tensors(path), _sources(model, features), model, features)


def _tensors(path: Path) -> dict[str, NDArray]:
    """All arrays by ``layer.weights`` and ``layer.bias``."""
    try:
        import h5py
    except ImportError:
        raise ToolError(
            "reading .h5 needs h5py, which is not installed: pip install -e '.[import]'"
        ) from None
    found = {}
    try:
        with h5py.File(path) as file:
            root: Any = file.get("model_weights", file)  # there, if a whole model was saved
            for layer in root:
                names = list(root[layer].attrs["weight_names"])
                for i, name in enumerate(names):
                    part = PARTS[i] if i < len(PARTS) else str(i)
                    key = name.decode() if isinstance(name, bytes) else str(name)
                    found[f"{layer}.{part}"] = np.asarray(root[layer][key])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: not a file of Keras weights: {error}") from None
    return found


def _sources(model: ModelConfig, features: FeaturesConfig) -> dict[str, Source]:
    """Our tensors in terms of the file's."""
    tables: dict[str, TableConfig] = {t.scope: t for t in features.tables}
    if len(features.tables) != 2 or len(tables) != 2 or features.dense:
        raise ConfigError(
            "weights of Neural Collaborative Filtering need two tables, one of scope 'query' and "
            f"one of scope 'item', and no dense inputs, not {len(features.tables)} tables "
            f"({', '.join(t.scope for t in features.tables)}) and {features.dense} dense inputs"
        )
    sources = {}
    both = bool(model.factors) and any(model.dimension(t.name) for t in features.tables)
    for scope, side in ("query", "user"), ("item", "item"):
        table = tables[scope]
        if model.factors:
            name = f"mf_embedding_{side}" if both else f"{side}_embedding"
            shape = (table.rows, model.factors)
            sources[f"factors.{table.name}"] = Source(f"{name}.weights", shape)
        if width := model.dimension(table.name):
            name = f"mlp_embedding_{side}" if both else f"{side}_embedding"
            sources[f"tables.{table.name}"] = Source(f"{name}.weights", (table.rows, width))
    # their order is user, item; ours that of the configuration
    swapped = features.tables[0].scope == "item"
    user = model.dimension(tables["query"].name)
    joined = user + model.dimension(tables["item"].name)
    last = len(model.top) - 1
    for i in range(len(model.top)):
        out, width = model.layers(features)[f"top.{i}"]
        name = "prediction" if i == last else f"layer{i + 1}"
        columns = np.arange(width)
        if i == 0 and swapped:
            columns[width - joined :] = np.roll(columns[width - joined :], -user)
        sources[f"top.{i}.weight"] = Source(
            f"{name}.weights", (width, out), partial(_transposed, columns=columns)
        )
        sources[f"top.{i}.bias"] = Source(f"{name}.bias", (out,))
    return sources


def _transposed(weights: NDArray, columns: NDArray[np.int64]) -> NDArray:
    return weights.T[:, columns]
