"""ONNX graphs of DLRM and NeuMF: embedding lookups, fully connected layers, one score.

Indices are integer inputs, n or n x lookups, and belong to the configuration's tables by their
names, or else, by the order of the graph's inputs and of the columns taken from them, in the order
of the configuration. Dense inputs are float inputs, in the order of the graph's inputs. A bag is a
``Gather`` and a ``ReduceSum``. A dot interaction is a ``MatMul`` of stacked vectors and the same
transposed, of which a ``Gather`` picks each pair once, as PyTorch's exporter writes it. What a
graph computes is taken from its nodes, not from its names.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError
from rpaccel.importer import Source, map_tensors
from rpaccel.models import FeaturesConfig, ModelConfig
from rpaccel.onnx_graph import Graph, read_graph
from rpaccel.onnx_values import Dot, Ids, Layer, Output, Part, Product, Real, Rows
from sw_model.dlrm import FloatModel

__all__ = ["read"]


def read(path: Path, model: ModelConfig, features: FeaturesConfig) -> FloatModel:
    """Read a model; see :func:`rpaccel.importer.import_model`.

    Raises
    ------
    DataError
        Besides the reasons given there: naming each node that has no counterpart, with its
        operator.
    """
    graph = read_graph(path)
    if graph.unmapped or graph.output is None:
        raise DataError(f"{path} cannot be mapped: " + "; ".join(graph.unmapped))
    return _Mapping(path, graph, model, features).model()


class _Mapping:
    """A graph's layers and lookups by our names."""

    def __init__(
        self, path: Path, graph: Graph, model: ModelConfig, features: FeaturesConfig
    ) -> None:
        self.path, self.config, self.features = path, model, features
        self.order = {name: i for i, name in enumerate(graph.inputs)}
        assert graph.output is not None
        (last, *others) = graph.output.parts
        if not isinstance(last, Output) or others or last.relu or last.width != 1:
            self.refuse("the output is no logit or CTR of a layer of width 1")
        # a GMF's one layer takes the product; what else it takes is a bottom MLP
        self.top = self._chain(last, len(model.top) if model.product else None)
        joined = [p for layer in self.top for p in layer.inputs.parts]
        ends = [p for p in self.top[0].inputs.parts if isinstance(p, Output)]
        self.bottom = self._chain(ends[0], None) if ends else []
        self.dot = self._dot(ends)
        vectors = self.dot.vectors if self.dot else ()
        rows = [p for p in [*joined, *vectors] if isinstance(p, Rows)]
        factors = [f for p in joined if isinstance(p, Product) for f in p.factors]
        self.tables = self._tables([*rows, *factors])
        self.parts = {name: p for p in rows for name in [self.tables[p.ids]]}
        self.factors = {self.tables[p.ids]: p for p in factors}
        for kind, found, parts in (("", self.parts, rows), ("in products ", self.factors, factors)):
            if len(found) != len(parts):
                self.refuse(f"tables are looked up {kind}more than once by the same indices")

    def refuse(self, why: str) -> NoReturn:
        """Raise DataError."""
        raise DataError(f"{self.path} does not fit model {self.config.name!r}: {why}")

    def _chain(self, last: Output, most: int | None) -> list[Layer]:
        """Layers one behind the other, up to where something else than a layer comes in."""
        layers = [last.layer]
        while most is None or len(layers) < most:
            parts = [p for p in layers[0].inputs.parts if not isinstance(p, Product)]
            if len(parts) != 1 or not isinstance(parts[0], Output):
                break
            layers.insert(0, parts[0].layer)
        return layers

    def _dot(self, ends: list[Output]) -> Dot | None:
        """The first top layer's dot interaction, where each pair of vectors is picked once."""
        found = [p for p in self.top[0].inputs.parts if isinstance(p, Dot)]
        if (self.config.interaction == "dot") != bool(found):
            has = "a" if found else "no"
            self.refuse(f"has {has} dot interaction, but interaction = {self.config.interaction!r}")
        if not found:
            return None
        (dot, *others) = found
        every = sorted(tuple(sorted(pair)) for pair in dot.pairs)
        count = len(dot.vectors)
        if others or every != [(i, j) for i in range(count) for j in range(i + 1, count)]:
            self.refuse(f"{dot.label} must give the product of each pair of {count} vectors once")
        beside = [p for p in self.top[0].inputs.parts if not isinstance(p, Dot)]
        if [p for p in dot.vectors if not isinstance(p, Rows)] != ends or beside != ends:
            self.refuse(
                f"{dot.label} must multiply tables and the bottom MLP's output, which alone is "
                f"beside the products"
            )
        return dot

    def _tables(self, rows: list[Rows]) -> dict[Ids, str]:
        """The table that indices belong to."""
        every = sorted({r.ids for r in rows}, key=lambda ids: (self.order[ids.name], ids.first))
        tables = self.features.tables
        if len(every) != len(tables):
            self.refuse(f"has {len(every)} indexed tables, not {len(tables)}")
        names = {ids.name for ids in every}
        found = {ids: t.name for ids, t in zip(every, tables, strict=True)}
        if names == {t.name for t in tables}:
            found = {ids: ids.name for ids in every}
        lookups = {t.name: t.lookups for t in tables}
        for ids, name in found.items():
            if ids.count != lookups[name]:
                self.refuse(
                    f"table {name!r} has lookups = {lookups[name]}, "
                    f"but the graph takes {ids.count} columns of {ids.name}"
                )
        return found

    def model(self) -> FloatModel:
        """The weights by our names, checked."""
        tensors: dict[str, NDArray] = {}
        sources: dict[str, Source] = {}
        rows = {t.name: t.rows for t in self.features.tables}
        widths = {t.name: self.config.dimension(t.name) for t in self.features.tables}
        multiplied = dict.fromkeys(self.config.product, self.config.factors)
        for prefix, found, expected in (
            ("tables", self.parts, widths),
            ("factors", self.factors, multiplied),
        ):
            for name, part in found.items():
                label = f"{part.label} of {part.ids.name}"
                tensors[label] = part.table
                shape = (rows[name], expected.get(name, 0))
                sources[f"{prefix}.{name}"] = Source(label, shape)
        for name, width in widths.items():
            if width and name not in self.parts:
                self.refuse(f"table {name!r} is not among the inputs of the first top layer")
        if set(self.factors) != set(self.config.product):
            self.refuse(f"product must be of {self.config.product}, not {sorted(self.factors)}")
        wanted = self.config.layers(self.features)
        for part_name, layers in ("bottom", self.bottom), ("top", self.top):
            for i, layer in enumerate(layers):
                name = f"{part_name}.{i}"
                order = partial(np.take, indices=self._columns(layer), axis=1)
                tensors[f"{layer.label} weight"] = layer.weight
                bias = np.zeros(len(layer.weight), np.float32) if layer.bias is None else layer.bias
                tensors[f"{layer.label} bias"] = bias
                if name in wanted:
                    sources[f"{name}.weight"] = Source(f"{layer.label} weight", wanted[name], order)
                    sources[f"{name}.bias"] = Source(f"{layer.label} bias", wanted[name][:1])
        for name, (out, width) in wanted.items():
            if f"{name}.weight" not in sources:
                sources[f"{name}.weight"] = Source(f"a layer for {name}", (out, width))
                sources[f"{name}.bias"] = Source(f"a bias for {name}", (out,))
        return map_tensors(
            self.path, tensors, sources, self.config, self.features,
            reasons=lambda name: "is beyond what the configuration's model has",
        )  # fmt: skip

    def _columns(self, layer: Layer) -> NDArray[np.int64]:
        """For each of our inputs of a layer, which of the graph's it is."""
        parts = layer.inputs.parts
        hidden = [p for p in parts if isinstance(p, Output)]
        for part in hidden:
            if not part.relu:
                self.refuse(f"{part.layer.label} has no Relu behind it")
        if len(hidden) > 1:
            self.refuse(f"{layer.label} joins the outputs of {len(hidden)} layers")
        if any(isinstance(p, Rows) for p in parts) and layer is not self.top[0]:
            self.refuse(f"{layer.label} takes rows of a table, as only the first top layer may")
        if any(isinstance(p, Product) for p in parts) and layer is not self.top[-1]:
            self.refuse(f"{layer.label} takes a product, as only the last top layer may")
        if any(isinstance(p, Real) for p in parts) and len(hidden) < len(parts):
            if not all(isinstance(p, Real) for p in parts):
                self.refuse(f"{layer.label} joins dense inputs with others, without a bottom MLP")
        if any(isinstance(p, Dot) for p in parts) and layer is not self.top[0]:
            self.refuse(f"{layer.label} takes a dot interaction, as only the first top layer may")
        starts = np.cumsum([0, *(p.width for p in parts)])
        order = sorted(range(len(parts)), key=lambda i: self._rank(parts[i]))
        return np.concatenate([starts[i] + self._within(parts[i]) for i in order])

    def _within(self, part: Part) -> NDArray[np.int64]:
        """For each of our elements of a part, which of the graph's it is."""
        if not isinstance(part, Dot):
            return np.arange(part.width)
        ranks = [self._rank(vector) for vector in part.vectors]
        ours = [sorted(ranks).index(rank) for rank in ranks]
        place = {}
        for at, (i, j) in enumerate(part.pairs):
            place[max(ours[i], ours[j]), min(ours[i], ours[j])] = at
        return np.array([place[pair] for pair in sorted(place)])

    def _rank(self, part: Part) -> tuple[int, int]:
        """Place among the inputs of a layer: products, tables, outputs of a layer."""
        if isinstance(part, Product | Dot):
            return 0, 0
        if isinstance(part, Rows):
            names = [t.name for t in self.features.tables]
            return 1, names.index(self.tables[part.ids])
        return 2, self.order[part.name] if isinstance(part, Real) else 0
