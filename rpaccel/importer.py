"""Import of trained weights from other projects' files into float models.

A reader (:mod:`rpaccel.import_ncf`, :mod:`rpaccel.import_dlrm`, :mod:`rpaccel.import_onnx`) says
which of a file's tensors is which of ours; here they are checked, all of them, and renamed. Row i
of a table stays row i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig, ModelConfig
from sw_model.dlrm import FloatModel, tensor_shapes

__all__ = ["Source", "import_model", "map_tensors"]


class Source(NamedTuple):
    """Where a tensor comes from: its name in the file, and what makes our layout of it.

    ``shape`` is what the file's tensor must have.
    """

    name: str
    shape: tuple[int, ...]
    convert: Callable[[NDArray], NDArray] = lambda values: values


def import_model(config: Config, name: str, source: str | Path) -> FloatModel:
    """Read a model of a configuration from another project's weight file.

    Parameters
    ----------
    config : Config
    name : str
        One of the configuration's models, whose shapes the weights must have.
    source : path
        ``.h5``: Keras weights with the layer names of Neural Collaborative Filtering. ``.pt`` or
        ``.pth``: a PyTorch checkpoint with the parameter names of facebookresearch/dlrm.
        ``.onnx``: a graph of lookups and fully connected layers, whatever its names.

    Raises
    ------
    ConfigError
        There is no such model, or no reader for such a file or model.
    DataError
        The file is missing or damaged, or has other tensors than the model: names each of them.
    ToolError
        The package that reads such files is not installed.
    """
    models = {model.name: model for model in config.models}
    if name not in models:
        raise ConfigError(f"there is no model {name!r}; there are {list(models)}")
    source = Path(source)
    kind = source.suffix.lower()
    if kind in (".h5", ".hdf5"):
        from rpaccel.import_ncf import read
    elif kind in (".pt", ".pth"):
        from rpaccel.import_dlrm import read
    elif kind == ".onnx":
        from rpaccel.import_onnx import read
    else:
        raise ConfigError(f"{source}: must end in .h5, .hdf5, .pt, .pth or .onnx, not {kind!r}")
    if not source.is_file():
        what = "is a folder, not a file" if source.is_dir() else "there is no such file"
        raise DataError(f"{source}: {what}")
    return read(source, models[name], config.features)


def map_tensors(
    path: Path,
    tensors: Mapping[str, NDArray],
    sources: Mapping[str, Source],
    model: ModelConfig,
    features: FeaturesConfig,
    *,
    reasons: Callable[[str], str] = lambda name: "belongs to no part of the model",
) -> FloatModel:
    """Make a float model of a file's tensors.

    Parameters
    ----------
    path : Path
        For messages.
    tensors : mapping of arrays
        What the file has, by its own names.
    sources : mapping
        Our tensors' sources, by our names (:func:`sw_model.dlrm.tensor_shapes`); one of our
        tensors that has no elements needs none.
    model : ModelConfig
    features : FeaturesConfig
    reasons : callable
        Why one of the file's tensors cannot be mapped, by its name.

    Raises
    ------
    DataError
        Naming every tensor that is missing, that cannot be mapped, that has another shape or
        type, or that has a value that is no finite number.
    """
    wanted = {source.name: (ours, source.shape) for ours, source in sources.items()}
    wrong = [f"{name} {reasons(name)}" for name in tensors if name not in wanted]
    for name, (ours, shape) in wanted.items():
        if name not in tensors:
            wrong.append(f"{name} ({ours}) is missing")
        elif tensors[name].shape != shape:
            wrong.append(f"{name} ({ours}) must have shape {shape}, not {tensors[name].shape}")
        elif not np.issubdtype(tensors[name].dtype, np.floating):
            wrong.append(f"{name} ({ours}) must hold floats, not {tensors[name].dtype}")
        elif not np.isfinite(tensors[name]).all():
            wrong.append(f"{name} ({ours}) has values that are no finite numbers")
    if wrong:
        raise DataError(f"{path} does not fit model {model.name!r}: " + "; ".join(wrong))
    ours_by_name = {
        ours: np.ascontiguousarray(source.convert(tensors[source.name]), np.float32)
        for ours, source in sources.items()
    }
    for name, shape in tensor_shapes(model, features).items():
        if 0 in shape:
            ours_by_name[name] = np.zeros(shape, np.float32)
    return FloatModel.of_tensors(ours_by_name, model, features, origin=str(path))
