"""A model of the configuration in PyTorch, which trainers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.models import ModelConfig
from sw_model.dlrm import FloatLayer, FloatModel

if TYPE_CHECKING:
    import torch

__all__ = ["Network"]


class Network:
    """Parameters of one model, drawn from ``data.seed``, and the float model's formula.

    Parameters
    ----------
    torch : module
    config : Config
    model : ModelConfig
    device : str
        Where the parameters are, by PyTorch's name.
    """

    def __init__(self, torch: Any, config: Config, model: ModelConfig, device: str = "cpu") -> None:
        self.torch = torch
        self.device = device
        self.model = model
        self.features = config.features
        self.rng = np.random.default_rng(config.data.seed)
        torch.manual_seed(config.data.seed)
        self.tables = torch.nn.ModuleDict()
        for t in self.features.tables:
            # One more row, of zeros, for the empty slots of a bag.
            table = torch.nn.EmbeddingBag(
                t.rows + 1, model.row_elements(t.name), mode="sum", padding_idx=t.rows
            )
            torch.nn.init.normal_(table.weight, std=0.05)
            self.tables[t.name] = table
        layers = model.layers(self.features)
        self.bottom, self.top = (
            torch.nn.ModuleList(
                torch.nn.Linear(inputs, outputs)
                for name, (outputs, inputs) in layers.items()
                if name.startswith(part)
            )
            for part in ("bottom.", "top.")
        )
        vectors = len(self.features.tables) + bool(self.bottom)  # of a dot interaction
        later, earlier = np.tril_indices(vectors, -1)
        self._pairs = self.tensor(later * vectors + earlier)
        self.modules().to(device)  # drawn on the CPU, so that they are the same everywhere

    def modules(self) -> Any:
        """All parameters."""
        return self.torch.nn.ModuleList([self.tables, self.bottom, self.top])

    def tensor(self, values: NDArray) -> torch.Tensor:
        """An array as a tensor where the parameters are."""
        tensor: torch.Tensor = self.torch.from_numpy(values)
        return tensor.to(self.device)

    def forward(
        self, dense: torch.Tensor, bags: dict[str, torch.Tensor], dropout: dict[str, float]
    ) -> torch.Tensor:
        """Logits, shape (n,).

        Parameters
        ----------
        dense : float32 tensor, shape (n, dense)
        bags : dict of int64 tensors by table name, shape (n, lookups)
            An empty slot has the number of the table's rows.
        dropout : dict of float
            Share of pooled elements that are dropped, of tables that have any.
        """
        torch = self.torch
        parts, multiplied = [], {}
        for t in self.features.tables:
            pooled = self.tables[t.name](bags[t.name])
            if t.name in dropout:
                pooled = torch.nn.functional.dropout(pooled, dropout[t.name])
            multiplied[t.name], part = self._split(t.name, pooled)
            parts.append(part)
        if self.bottom:
            x = dense
            for layer in self.bottom:
                x = torch.relu(layer(x))
            parts.append(x)
        if self.model.interaction == "dot":
            parts = [self._pair_products(parts), *parts[len(self.features.tables) :]]
        x = torch.cat(parts, dim=1)
        for layer in self.top[:-1]:
            x = torch.relu(layer(x))
        if self.model.product:
            first, second = (multiplied[name] for name in self.model.product)
            x = torch.cat([first * second, x], dim=1)
        return self.top[-1](x)[:, 0]

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, *, limit: float, penalty: float
    ) -> torch.Tensor:
        """Cross entropy, and the penalty of logits beyond a limit: a scalar."""
        excess = self.torch.relu(logits.abs() - limit)
        entropy = self.torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        return entropy + penalty * excess.square().mean()

    def _pair_products(self, vectors: list[torch.Tensor]) -> torch.Tensor:
        """Dot products of the pairs (1, 0), (2, 0), (2, 1), ... of vectors: (n, pairs)."""
        stacked = self.torch.stack(vectors, dim=1)
        products = self.torch.bmm(stacked, stacked.transpose(1, 2)).flatten(1)
        return products.index_select(1, self._pairs)

    def _split(self, table: str, rows: Any) -> tuple[Any, Any]:
        """The product's part of rows or pooled vectors of a table, and the rest."""
        at = self.model.row_elements(table) - self.model.dimension(table)
        return rows[:, :at], rows[:, at:]

    def load_weights(self, model: FloatModel) -> None:
        """Take the weights of a model of the same shape."""

        def put(parameter: torch.Tensor, values: NDArray[np.float32]) -> None:
            parameter.data.copy_(self.torch.from_numpy(np.ascontiguousarray(values)))

        for name, table in self.tables.items():
            parts = [model.factors[name]] if name in model.factors else []
            rows = np.concatenate([*parts, model.tables[name]], axis=1)
            put(table.weight, np.concatenate([rows, np.zeros_like(rows[:1])]))
        for mlp, layers in (self.bottom, model.bottom), (self.top, model.top):
            for linear, layer in zip(mlp, layers, strict=True):
                put(linear.weight, layer.weight)
                put(linear.bias, layer.bias)

    def snapshot(self) -> FloatModel:
        """The weights as they are now."""

        def array(parameter: torch.Tensor) -> NDArray[np.float32]:
            return parameter.detach().cpu().numpy().copy()

        def layers(mlp: Any) -> list[FloatLayer]:
            return [FloatLayer(array(layer.weight), array(layer.bias)) for layer in mlp]

        split = {
            name: self._split(name, array(table.weight)[:-1]) for name, table in self.tables.items()
        }
        return FloatModel(
            self.model.name,
            {name: rows for name, (_, rows) in split.items()},
            layers(self.bottom),
            layers(self.top),
            {name: split[name][0] for name in self.model.product},
            self.model.interaction == "dot",
        )
