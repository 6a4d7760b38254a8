"""PyTorch checkpoints of DLRM with the parameter names of facebookresearch/dlrm.

``emb_l.T.weight`` is table T in the configuration's order; ``bot_l.0``, ``bot_l.2``, ... and
``top_l.0``, ``top_l.2``, ... are the layers (odd numbers are activation functions, which have no
parameters). The bottom MLP's output comes first among the top MLP's inputs, and among the vectors
of a dot interaction. Nothing in the file is executed: only tensors and plain values are read.
"""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.checkpoint import why_unread
from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.importer import Source, map_tensors
from rpaccel.models import FeaturesConfig, ModelConfig
from sw_model.dlrm import FloatModel

__all__ = ["read"]

_REASONS = {
    r"emb_l\.\d+\.weight_[qr]": "is a quotient-remainder table, which has no counterpart",
    r"emb_l\.\d+\.(embs|proj)\..*": "is a mixed-dimension table, which has no counterpart",
    r"v_W_l\..*": "is a weight of a pooled row, and pooling is a plain sum",
    r"(emb|bot|top)_l\..*": "is beyond what the configuration's model has",
}


def read(path: Path, model: ModelConfig, features: FeaturesConfig) -> FloatModel:
    """Read a model; see :func:`rpaccel.importer.import_model`."""
    if model.kind != "dlrm":
        raise ConfigError(
            f'{path}: a DLRM checkpoint needs a model of kind = "dlrm", '
            f"and {model.name!r} is {model.kind!r}"
        )
    tensors = _tensors(path)
    sources = _sources(model, features)
    _check_interaction(path, tensors, model, features)
    return map_tensors(path, tensors, sources, model, features, reasons=_reason)


def _tensors(path: Path) -> dict[str, NDArray]:
    """All parameters by name."""
    try:
        import torch
    except ImportError:
        raise ToolError(
            "reading a checkpoint needs PyTorch, which is not installed: pip install -e '.[train]'"
        ) from None
    try:
        with torch.serialization.safe_globals(_plain_numpy()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file, the exception says
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise DataError(
            f"{path}: not a checkpoint of tensors and plain values: {why_unread(error)}"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: has no parameters by name, but a {type(content).__name__}")
    found = {}
    for name, value in content.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise DataError(f"{path}: {name} is no dense tensor")
        if value.dtype == torch.bfloat16:
            value = value.float()
        try:
            values = value.detach().numpy()
        except (TypeError, RuntimeError):  # 8-bit floats, quantised tensors, ...
            raise DataError(
                f"{path}: {name} holds {value.dtype}, where floats of 16, 32 or 64 bits are read"
            ) from None
        # wrappers for several devices put "module." somewhere into the name
        found[str(name).replace("module.", "")] = values
    return found


def _plain_numpy() -> list[Any]:
    """What NumPy scalars are pickled as: the training script keeps its accuracies as such."""
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    return [*names, np.dtype, *kinds]


def _sources(model: ModelConfig, features: FeaturesConfig) -> dict[str, Source]:
    """Our tensors in terms of the file's."""
    sources = {
        f"tables.{t.name}": Source(f"emb_l.{i}.weight", (t.rows, model.dimension(t.name)))
        for i, t in enumerate(features.tables)
    }
    for name, (out, width) in model.layers(features).items():
        part, number = name.split(".")
        theirs = f"{'bot' if part == 'bottom' else 'top'}_l.{2 * int(number)}"
        columns = _columns(model, features) if name == "top.0" else np.arange(width)
        sources[f"{name}.weight"] = Source(
            f"{theirs}.weight", (out, width), partial(np.take, indices=columns, axis=1)
        )
        sources[f"{name}.bias"] = Source(f"{theirs}.bias", (out,))
    return sources


def _columns(model: ModelConfig, features: FeaturesConfig) -> NDArray[np.int64]:
    """For each of our inputs of the first top layer, which of theirs it is."""
    dense = model.bottom[-1] if model.bottom else 0
    if model.interaction == "concat":
        return np.roll(np.arange(model.layers(features)["top.0"][1]), -dense)
    # theirs by ours: the bottom MLP's output is the first of the vectors, not the last
    place = np.roll(np.arange(len(features.tables) + bool(dense)), -bool(dense))
    later, earlier = np.tril_indices(len(place), -1)
    high = np.maximum(place[later], place[earlier])
    low = np.minimum(place[later], place[earlier])
    return np.concatenate([dense + high * (high - 1) // 2 + low, np.arange(dense)])


def _check_interaction(
    path: Path, tensors: dict[str, NDArray], model: ModelConfig, features: FeaturesConfig
) -> None:
    """Tell another interaction (dot is the training script's default) from other wrong shapes."""
    name = "top_l.0.weight"
    wanted, found = model.layers(features)["top.0"][1], tensors.get(name, np.zeros(())).shape[1:]
    dense = model.bottom[-1] if model.bottom else 0
    vectors = len(features.tables) + bool(model.bottom)
    widths = {
        "concat": dense + sum(model.dimension(t.name) for t in features.tables),
        "dot": dense + vectors * (vectors - 1) // 2,
    }
    if found == (wanted,):
        return
    for kind, width in widths.items():
        if found == (width,):
            raise DataError(
                f"{path}: {name} has {width} inputs, those of a {kind} interaction of {vectors} "
                f"vectors; model {model.name!r} has interaction = {model.interaction!r}, with "
                f"{wanted} inputs"
            )
    if found == (widths["dot"] + vectors,):
        raise DataError(
            f"{path}: {name} has {found[0]} inputs, those of a dot interaction of {vectors} "
            f"vectors in which each is multiplied by itself too, which has no counterpart"
        )


def _reason(name: str) -> str:
    for pattern, reason in _REASONS.items():
        if re.fullmatch(pattern, name):
            return reason
    return "belongs to no part of a DLRM"
