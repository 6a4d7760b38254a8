"""Quantised models: what the compiler lays out and the golden model computes with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rpaccel.errors import DataError
from sw_model.generated_rows import GeneratedRows

__all__ = ["QuantisedDot", "QuantisedLayer", "QuantisedModel", "QuantisedProduct", "QuantisedTable"]


@dataclass(frozen=True)
class QuantisedLayer:
    """A fully connected layer, as docs/numerics.md defines it.

    Attributes
    ----------
    weights : int8, shape (N, K)
    bias : int32, shape (N,)
    mantissa : int32 (0..65535), shape (N,)
    shift : int32 (0..47), shape (N,)
    relu : bool
    logit : bool
        The output is an int16 logit, not an int8 activation.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    mantissa: NDArray[np.int32]
    shift: NDArray[np.int32]
    relu: bool = True
    logit: bool = False


@dataclass(frozen=True)
class QuantisedTable:
    """An embedding table: rows int8 of shape (rows, dimension), and the pooling shift (0..15)."""

    name: str
    rows: NDArray[np.int8] | GeneratedRows
    shift: int = 0


@dataclass(frozen=True)
class QuantisedProduct:
    """The elementwise product of a NeuMF, as docs/numerics.md defines it.

    Attributes
    ----------
    tables : tuple of two str
        Tables of which the first elements of the pooled vectors are multiplied.
    mantissa : int32 (0..65535), shape (factors,)
    shift : int32 (0..47), shape (factors,)
    """

    tables: tuple[str, str]
    mantissa: NDArray[np.int32]
    shift: NDArray[np.int32]


@dataclass(frozen=True)
class QuantisedDot:
    """The dot interaction of a DLRM, as docs/numerics.md defines it: one requantisation a pair.

    Attributes
    ----------
    mantissa : int32 (0..65535), shape (pairs,)
    shift : int32 (0..47), shape (pairs,)
    """

    mantissa: NDArray[np.int32]
    shift: NDArray[np.int32]


@dataclass(frozen=True)
class QuantisedModel:
    """A DLRM or NeuMF in int8: tables in the order of the configuration, bottom MLP, top MLP.

    The first top layer's inputs are the pooled tables in order (without the product's parts), then
    the bottom MLP's outputs; the last one's begin with the product, where there is one. With a dot
    interaction they are the pairs' products, then the bottom MLP's outputs.
    ``scales`` keeps the real scale of each tensor that has one by name, for reports only.
    """

    name: str
    tables: list[QuantisedTable]
    bottom: list[QuantisedLayer]
    top: list[QuantisedLayer]
    scales: dict[str, float] = field(default_factory=dict)
    product: QuantisedProduct | None = None
    dot: QuantisedDot | None = None

    def save(self, path: str | Path) -> None:
        """Write the model as a NumPy archive."""
        arrays: dict[str, NDArray] = {"name": np.array(self.name)}
        for table in self.tables:
            rows = table.rows
            if isinstance(rows, GeneratedRows):  # what they are made of, which no int8 array is
                rows = np.array([rows.key, *rows.shape], np.int64)
            arrays[f"table.{table.name}.rows"] = rows
            arrays[f"table.{table.name}.shift"] = np.array(table.shift)
        for part, layers in (("bottom", self.bottom), ("top", self.top)):
            for i, layer in enumerate(layers):
                for key in ("weights", "bias", "mantissa", "shift", "relu", "logit"):
                    arrays[f"{part}.{i}.{key}"] = np.asarray(getattr(layer, key))
        if self.product is not None:
            for key in ("tables", "mantissa", "shift"):
                arrays[f"product.{key}"] = np.asarray(getattr(self.product, key))
        if self.dot is not None:
            arrays |= {"dot.mantissa": self.dot.mantissa, "dot.shift": self.dot.shift}
        arrays["scales.names"] = np.array(list(self.scales), dtype=np.str_)
        arrays["scales.values"] = np.array(list(self.scales.values()), dtype=np.float64)
        # NumPy's stub takes the arrays' names for its option allow_pickle.
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> QuantisedModel:
        """Read a model written by :meth:`save`.

        Raises
        ------
        DataError
            The file is missing, truncated, or lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            tables = [
                QuantisedTable(name, _rows(arrays[key]), int(arrays[f"table.{name}.shift"]))
                for key in arrays
                if key.startswith("table.") and key.endswith(".rows")
                for name in [key.removeprefix("table.").removesuffix(".rows")]
            ]
            parts = {}
            for part in ("bottom", "top"):
                count = sum(k.startswith(f"{part}.") and k.endswith(".weights") for k in arrays)
                parts[part] = [
                    QuantisedLayer(
                        weights=arrays[f"{part}.{i}.weights"],
                        bias=arrays[f"{part}.{i}.bias"],
                        mantissa=arrays[f"{part}.{i}.mantissa"],
                        shift=arrays[f"{part}.{i}.shift"],
                        relu=bool(arrays[f"{part}.{i}.relu"]),
                        logit=bool(arrays[f"{part}.{i}.logit"]),
                    )
                    for i in range(count)
                ]
            scales = dict(
                zip(arrays["scales.names"].tolist(), arrays["scales.values"].tolist(), strict=True)
            )
            product = None
            if "product.tables" in arrays:
                first, second = arrays["product.tables"].tolist()
                product = QuantisedProduct(
                    (first, second), arrays["product.mantissa"], arrays["product.shift"]
                )
            dot = None
            if "dot.mantissa" in arrays:
                dot = QuantisedDot(arrays["dot.mantissa"], arrays["dot.shift"])
            name = str(arrays["name"])
            return cls(name, tables, parts["bottom"], parts["top"], scales, product, dot)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path}: not a quantised model: {error}") from None


def _rows(array: NDArray) -> NDArray[np.int8] | GeneratedRows:
    """Rows of a table in an archive."""
    if array.ndim == 1:
        key, rows, dimension = array.tolist()
        return GeneratedRows(key, (rows, dimension))
    return array
