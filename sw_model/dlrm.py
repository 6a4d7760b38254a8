"""DLRM and NeuMF in float32: the reference that quantisation is measured against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rpaccel.errors import DataError
from rpaccel.models import FeaturesConfig, ModelConfig

__all__ = ["FloatLayer", "FloatModel", "Inputs"]

FLOATS = ("F16", "F32", "F64")
"""Types of a weight file's tensors, by safetensors' names."""


@dataclass(frozen=True)
class Inputs:
    """Real-valued model inputs of n items.

    Attributes
    ----------
    dense : float32, shape (n, dense)
        The query's dense inputs, then the item's.
    indices : dict of int64 arrays by table name, shape (n, lookups)
        Rows of a bag; unused slots hold the table's ``empty_index``, or any other index beyond
        its rows.
    """

    dense: NDArray[np.float32]
    indices: dict[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, part: slice | NDArray) -> Inputs:
        return Inputs(self.dense[part], {name: i[part] for name, i in self.indices.items()})


@dataclass(frozen=True)
class FloatLayer:
    """A fully connected layer: ``weight`` float32 (out, in), ``bias`` float32 (out,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs before the activation function: (n, in) to (n, out)."""
        return x @ self.weight.T + self.bias


@dataclass(frozen=True)
class FloatModel:
    """A DLRM or NeuMF: tables in the configuration's order, bottom and top MLP.

    Attributes
    ----------
    name : str
    tables : dict of float32 arrays by table name, shape (rows, dimension)
    bottom, top : list of FloatLayer
        ReLU behind every layer but the last of ``top``, which gives the logit.
    factors : dict of float32 arrays by table name, shape (rows, factors)
        Of a NeuMF, embeddings of two tables whose elementwise product goes into the last layer of
        ``top``, before the outputs of the layer before; a DLRM has none.
    dot : bool
        The interaction is the dot products of pairs of vectors, not their concatenation.
    """

    name: str
    tables: dict[str, NDArray[np.float32]]
    bottom: list[FloatLayer]
    top: list[FloatLayer]
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    dot: bool = False

    def pool(self, table: str, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum the rows of each bag: indices (n, lookups) to float32 (n, dimension)."""
        return _pool(self.tables[table], indices)

    def activations(self, inputs: Inputs) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every tensor that quantisation gives a scale to, in the order of computation.

        Yields
        ------
        name : str
            ``dense``, ``table.NAME`` and ``factors.NAME`` (pooled), ``dot`` (a scale a pair),
            ``product``, ``bottom.I`` and ``top.I`` (outputs of a layer). The last is the logit.
        values : float32, shape (n, width)
        """
        x = inputs.dense
        if self.bottom:
            yield "dense", x
        for i, layer in enumerate(self.bottom):
            x = np.maximum(layer(x), 0)
            yield f"bottom.{i}", x
        parts = []
        for table in self.tables:
            parts.append(self.pool(table, inputs.indices[table]))
            yield f"table.{table}", parts[-1]
        last = [x] if self.bottom else []
        if self.dot:
            parts = [_pair_products(np.stack([*parts, *last], axis=1))]
            yield "dot", parts[0]
        x = np.concatenate([*parts, *last], axis=1)
        product = None
        for table, rows in self.factors.items():
            pooled = _pool(rows, inputs.indices[table])
            yield f"factors.{table}", pooled
            product = pooled if product is None else product * pooled
        if product is not None:
            yield "product", product
        for i, layer in enumerate(self.top):
            if product is not None and i + 1 == len(self.top):
                x = np.concatenate([product, x], axis=1)
            x = layer(x)
            if i + 1 < len(self.top):
                x = np.maximum(x, 0)
            yield f"top.{i}", x

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits of n items, float32 of shape (n,)."""
        return deque(self.activations(inputs), maxlen=1)[0][1][:, 0]

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors: ``tables.NAME``, ``bottom.0.weight``, ..."""
        tensors = {f"tables.{name}": rows for name, rows in self.tables.items()}
        tensors |= {f"factors.{name}": rows for name, rows in self.factors.items()}
        for part, layers in (("bottom", self.bottom), ("top", self.top)):
            for i, layer in enumerate(layers):
                tensors[f"{part}.{i}.weight"] = layer.weight
                tensors[f"{part}.{i}.bias"] = layer.bias
        save_file({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}, path)

    @classmethod
    def load(cls, path: str | Path, model: ModelConfig, features: FeaturesConfig) -> FloatModel:
        """Read weights and check every shape against the configuration.

        Raises
        ------
        DataError
            The file is missing or damaged, or a tensor is missing, is not wanted, has another
            shape or type, or has a value that is no finite number: names file and tensor.
        """
        tensors = {}
        try:
            with safe_open(path, framework="numpy") as file:
                names = file.keys()
                for name in names:
                    kind = file.get_slice(name).get_dtype()
                    if kind not in FLOATS:
                        raise DataError(
                            f"{path}: tensor {name} must hold {', '.join(FLOATS)}, not {kind}"
                        )
                    tensors[name] = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        return cls.of_tensors(tensors, model, features, origin=str(path))

    @classmethod
    def of_tensors(
        cls,
        tensors: Mapping[str, NDArray],
        model: ModelConfig,
        features: FeaturesConfig,
        *,
        origin: str,
    ) -> FloatModel:
        """Make a model of tensors by the names of :meth:`save`, and check them.

        Parameters
        ----------
        tensors : mapping of float arrays
        model : ModelConfig
        features : FeaturesConfig
        origin : str
            Where they come from, for messages.

        Raises
        ------
        DataError
            As for :meth:`load`.
        """
        shapes = tensor_shapes(model, features)
        for name in sorted(set(shapes) ^ set(tensors)):
            what = "is missing" if name in shapes else "belongs to no part of the model"
            raise DataError(f"{origin}: tensor {name} {what} (model {model.name!r})")
        for name, shape in shapes.items():
            if tensors[name].shape != shape:
                raise DataError(
                    f"{origin}: tensor {name} must have shape {shape} for model {model.name!r}, "
                    f"not {tensors[name].shape}"
                )
            if not np.isfinite(tensors[name]).all():
                raise DataError(f"{origin}: tensor {name} has values that are no finite numbers")
        values = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        bottom, top = (
            [
                FloatLayer(values[f"{part}.{i}.weight"], values[f"{part}.{i}.bias"])
                for i in range(len(widths))
            ]
            for part, widths in (("bottom", model.bottom), ("top", model.top))
        )
        tables = {t.name: values[f"tables.{t.name}"] for t in features.tables}
        factors = {name: values[f"factors.{name}"] for name in model.product}
        return cls(model.name, tables, bottom, top, factors, model.interaction == "dot")


def tensor_shapes(model: ModelConfig, features: FeaturesConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a model by its name in the weight file."""
    shapes: dict[str, tuple[int, ...]] = {
        f"tables.{t.name}": (t.rows, model.dimension(t.name)) for t in features.tables
    }
    rows = {t.name: t.rows for t in features.tables}
    shapes |= {f"factors.{name}": (rows[name], model.factors) for name in model.product}
    for name, (out, width) in model.layers(features).items():
        shapes[f"{name}.weight"] = (out, width)
        shapes[f"{name}.bias"] = (out,)
    return shapes


def _pair_products(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dot products of the pairs (1, 0), (2, 0), (2, 1), ...: (n, vectors, width) to (n, pairs)."""
    later, earlier = np.tril_indices(vectors.shape[1], -1)
    return np.matmul(vectors, vectors.swapaxes(1, 2))[:, later, earlier]


def _pool(rows: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
    padded = np.concatenate([rows, np.zeros_like(rows[:1])])
    return padded[np.minimum(indices, len(rows))].sum(axis=1)
