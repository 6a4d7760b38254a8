"""What a query carries, and the models that rank: sections ``features`` and ``models``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rpaccel.section import Natural, Positive, Section

__all__ = ["FeaturesConfig", "ModelConfig", "TableConfig"]


class TableConfig(Section):
    """An embedding feature: a bag of up to ``lookups`` row indices of a table of ``rows`` rows.

    An index of all ones (``2**index_bits - 1``) is an empty slot of the bag. Rows are ordered by
    popularity, row 0 the hottest. ``generated`` rows are a function of table and row in place of
    trained ones (docs/numerics.md), for tables too large to be stored.
    """

    name: str
    rows: Positive
    scope: Literal["item", "query"] = "item"
    index_bits: Literal[8, 16, 24, 32] = 16
    lookups: Annotated[int, Field(ge=1, le=64)] = 1
    generated: bool = False

    @model_validator(mode="after")
    def _fits(self) -> TableConfig:
        if self.rows >= 2**self.index_bits:
            raise ValueError(
                f"table {self.name!r} has {self.rows} rows, but index_bits = {self.index_bits} "
                f"address at most {2**self.index_bits - 1} (all ones is the empty slot)"
            )
        return self

    @property
    def empty_index(self) -> int:
        """The index value that means "no row in this slot"."""
        return 2**self.index_bits - 1

    @property
    def record_bytes(self) -> int:
        """Bytes the bag takes in a feature record."""
        return self.lookups * self.index_bits // 8


class FeaturesConfig(Section):
    """What a query carries: int8 dense inputs and table indices, once a query or for each item."""

    dense_query: Annotated[int, Field(ge=0, le=512)] = 0
    dense_item: Annotated[int, Field(ge=0, le=512)] = 0
    tables: Annotated[list[TableConfig], Field(min_length=1, max_length=62)]

    @model_validator(mode="after")
    def _names(self) -> FeaturesConfig:
        names = [t.name for t in self.tables]
        if len(set(names)) != len(names):
            raise ValueError(f"table names must be distinct, not {names}")
        return self

    @property
    def dense(self) -> int:
        """Width of a model's dense input: the query's dense inputs, then the item's."""
        return self.dense_query + self.dense_item

    @property
    def query_bytes(self) -> int:
        """Bytes of the record sent once a query."""
        return self.dense_query + sum(t.record_bytes for t in self.tables if t.scope == "query")

    @property
    def item_bytes(self) -> int:
        """Bytes of the record sent for each item."""
        return self.dense_item + sum(t.record_bytes for t in self.tables if t.scope == "item")


class ModelConfig(Section):
    """A DLRM: dense inputs through the bottom MLP, joined with embeddings, through the top MLP.

    ``dimensions`` gives each table's embedding dimension: one number for all, or a number for
    each table by name. ``bottom`` and ``top`` are layer widths without the input; the last of
    ``top`` is 1, the logit. ``bottom`` is empty exactly when there are no dense inputs.

    A NeuMF (``kind = "neumf"``) has besides, for the two tables named in ``product``, embeddings
    of ``factors`` elements whose elementwise product goes into the last layer of ``top`` beside
    the outputs of the layer before it (He et al. 2017). ``dimensions = 0`` and ``top = [1]`` make
    a GMF; an MLP without the product is a DLRM.

    With ``interaction = "dot"`` the top MLP takes the dot product of each pair of vectors, which
    are the tables' and the bottom MLP's output, all of one dimension, and then the bottom MLP's
    output itself (Naumov et al. 2019).
    """

    name: str
    kind: Literal["dlrm", "neumf"] = "dlrm"
    dimensions: Natural | dict[str, Natural]
    factors: Natural = 0
    product: list[str] = []
    bottom: list[Positive] = []
    top: Annotated[list[Positive], Field(min_length=1)]
    interaction: Literal["concat", "dot"] = "concat"

    @model_validator(mode="after")
    def _product(self) -> ModelConfig:
        if self.kind == "dlrm" and (self.factors or self.product):
            raise ValueError(
                f"model {self.name!r}: factors = {self.factors} and product = {self.product} need "
                f'kind = "neumf", not "dlrm"'
            )
        if self.kind == "neumf" and not self.factors:
            raise ValueError(
                f'model {self.name!r}: kind = "neumf" needs factors of at least 1, not 0; '
                f"without a product it is a dlrm"
            )
        if self.kind == "neumf" and (len(self.product) != 2 or len(set(self.product)) != 2):
            raise ValueError(
                f"model {self.name!r}: product must name two different tables, not {self.product}"
            )
        return self

    @model_validator(mode="after")
    def _dot(self) -> ModelConfig:
        if self.interaction == "concat":
            return self
        if self.kind != "dlrm":
            raise ValueError(f'model {self.name!r}: interaction = "dot" needs kind = "dlrm"')
        given = self.dimensions
        widths = {*(given.values() if isinstance(given, dict) else [given]), *self.bottom[-1:]}
        if len(widths) != 1 or 0 in widths:
            raise ValueError(
                f'model {self.name!r}: interaction = "dot" needs tables of one dimension, at least '
                f"1, which is also the last width of bottom; dimensions = {self.dimensions} and "
                f"bottom = {self.bottom}"
            )
        return self

    def dimension(self, table: str) -> int:
        """Embedding dimension of a table in this model, without the product's part."""
        return self.dimensions if isinstance(self.dimensions, int) else self.dimensions[table]

    def row_elements(self, table: str) -> int:
        """Elements of a table's row: the product's part, then the embedding."""
        return (self.factors if table in self.product else 0) + self.dimension(table)

    def pairs(self, features: FeaturesConfig) -> int:
        """Pairs of vectors that the dot interaction multiplies; none in a concatenation."""
        vectors = len(features.tables) + bool(self.bottom)
        return vectors * (vectors - 1) // 2 if self.interaction == "dot" else 0

    def macs(self, features: FeaturesConfig) -> int:
        """Multiply-accumulates of an item: the layers' and those of dot products and product."""
        layers = sum(out * width for out, width in self.layers(features).values())
        vector = self.dimension(features.tables[0].name)
        return layers + self.pairs(features) * vector + self.factors

    def layers(self, features: FeaturesConfig) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each layer, by its name: ``bottom.0``, ..., ``top.0``, ..."""
        joined = sum(self.dimension(t.name) for t in features.tables)
        if self.interaction == "dot":
            joined = self.pairs(features)
        found = {}
        width = features.dense
        for part, widths in ("bottom", self.bottom), ("top", self.top):
            if part == "top":
                width = joined + (self.bottom[-1] if self.bottom else 0)
            for i, out in enumerate(widths):
                if part == "top" and i + 1 == len(widths):
                    width += self.factors
                found[f"{part}.{i}"] = (out, width)
                width = out
        return found
