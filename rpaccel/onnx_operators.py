"""Meanings of ONNX operators for a DLRM: table lookups, layers, interactions, products.

Each operator has a function that makes the meaning of a node's outputs of that of its inputs, or
raises :class:`Unmapped` with the reason why it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.onnx_values import (
    BATCH,
    Dot,
    Ids,
    Layer,
    Output,
    Part,
    Product,
    Products,
    Rows,
    Stack,
    Unmapped,
    Value,
    Vector,
)

__all__ = ["OPERATORS"]


def _constant(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    from onnx import numpy_helper

    for kind, value in attributes.items():
        if kind == "value":
            return [numpy_helper.to_array(value)]
        if kind in ("value_float", "value_floats", "value_int", "value_ints"):
            return [np.array(value, np.int64 if "int" in kind else np.float32)]
    raise Unmapped("holds no numbers")


def _pass(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    return arguments[:1]


def _shape(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    (value,) = arguments
    if isinstance(value, np.ndarray):
        sizes = list(value.shape)
    elif isinstance(value, Vector) and value.rank == 2:
        sizes = [BATCH, value.width]
    elif isinstance(value, Products) and value.axes == "nij":
        sizes = [BATCH, len(value.vectors), len(value.vectors)]
    else:
        raise Unmapped(f"asks for the shape of {_described(value)}")
    return [np.array(sizes[attributes.get("start", 0) : attributes.get("end")], np.int64)]


def _gather(label: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    data, ids = arguments
    axis = attributes.get("axis", 0)
    if isinstance(data, Products) and isinstance(ids, np.ndarray):
        return [_pick(data, axis, ids)]
    if isinstance(data, np.ndarray) and data.ndim == 1 and isinstance(ids, np.ndarray):
        return [np.asarray(np.take(data, ids))]
    if isinstance(data, Ids) and data.rank == 2 and isinstance(ids, np.ndarray) and axis == 1:
        if ids.ndim == 0:
            return [Ids(data.name, data.first + int(ids) % data.count, 1, 1)]
        return [_columns(data, np.arange(data.count)[ids])]
    if not isinstance(data, np.ndarray) or not isinstance(ids, Ids) or data.ndim != 2 or axis:
        raise Unmapped("is neither rows of a constant table by index inputs, nor their columns")
    return [Rows(label, data, replace(ids, rank=2), ids.count, ids.rank + 1)]


def _pick(products: Products, axis: int, ids: NDArray) -> Value:
    """Some pairs of vectors of all, a column or a row each."""
    count = len(products.vectors)
    if (products.axes, axis) not in (("np", 1), ("np", -1), ("pn", 0)) or ids.ndim != 1:
        raise Unmapped("picks products other than by a list of pairs")
    if ((ids < 0) | (ids >= count * count)).any():
        raise Unmapped(f"picks pairs that {count} vectors do not have")
    pairs = tuple((p // count, p % count) for p in ids.tolist())
    turned = products.axes == "pn"
    dot = Dot(products.label, products.vectors, pairs, turned)
    return dot if turned else Vector((dot,))


def _columns(data: Ids, at: NDArray) -> Ids:
    if data.rank != 2 or not at.size or (np.diff(at) != 1).any():
        raise Unmapped("picks indices that do not lie beside each other")
    return Ids(data.name, data.first + int(at[0]), len(at), 2)


def _slice(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    data, *bounds = arguments
    if not isinstance(data, Ids) or len(bounds) < 3:
        raise Unmapped("cuts something other than columns of an input of indices")
    start, end, axis, step = (int(np.asarray(b).item()) for b in [*bounds, [1]][:4])
    if axis not in (1, -1):
        raise Unmapped("cuts along another axis than the second")
    return [_columns(data, np.arange(data.count)[start:end:step])]


def _split(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    data, *given = arguments
    if not isinstance(data, Ids) or data.rank != 2 or attributes.get("axis", 0) not in (1, -1):
        raise Unmapped("splits something other than the columns of an input of indices")
    sizes = given[0] if given else attributes.get("split")
    if sizes is None:
        sizes = [1] * data.count
        if attributes.get("num_outputs", data.count) != data.count:
            raise Unmapped("splits indices into bags of sizes that it does not say")
    ends = np.cumsum(np.asarray(sizes))
    return [_columns(data, np.arange(e - s, e)) for s, e in zip(np.asarray(sizes), ends)]


def _reduce_sum(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    rows, axes = arguments[0], _axes(attributes, arguments)
    if not isinstance(rows, Rows) or rows.rank != 3 or axes not in ([1], [-2]):
        raise Unmapped("sums something other than the rows of a bag")
    return [replace(rows, lookups=1, rank=3 if attributes.get("keepdims", 1) else 2)]


def _keeps(shape: list[int], width: int) -> bool:
    """Whether a shape to reshape to is that of n vectors of a width."""
    items = (0, -1, BATCH)
    return len(shape) == 2 and shape[0] in items and shape[1] in (-1, width) and shape != [-1, -1]


def _stacks(vector: Vector, shape: list[int]) -> bool:
    """Whether a shape to reshape to puts a vector's parts above each other."""
    if len(shape) != 3 or {part.width for part in vector.parts} != {shape[2]}:
        return False
    return (
        shape[0] in (0, -1, BATCH) and shape[1] in (-1, len(vector.parts)) and shape[:2] != [-1, -1]
    )


def _reshape(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    value, target = arguments
    shape = np.asarray(target).ravel().tolist()
    if isinstance(value, Ids) and value.count == 1 and shape in ([-1], [-1, 1]):
        return [replace(value, rank=len(shape))]
    if isinstance(value, Rows) and value.lookups == 1 and _keeps(shape, value.width):
        return [replace(value, rank=2)]
    if isinstance(value, Vector) and _keeps(shape, value.width):
        return [replace(value, rank=2)]
    if isinstance(value, Vector) and value.rank == 2 and _stacks(value, shape):
        return [Stack(value.parts)]
    if isinstance(value, Products) and value.axes == "nij":
        if _keeps(shape, len(value.vectors) ** 2):
            return [replace(value, axes="np")]
    if isinstance(value, Dot) and shape in ([-1, BATCH], [value.width, BATCH], [value.width, -1]):
        return [value]
    if isinstance(value, Vector) and value.width == 1 and shape == [-1]:
        return [replace(value, rank=1)]
    raise Unmapped("changes more of a shape than an axis of a single lookup or logit")


def _flatten(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    (value,) = arguments
    flat = {("nij", 1): "np", ("ijn", 2): "pn"}
    if isinstance(value, Products) and (value.axes, attributes.get("axis", 1)) in flat:
        return [replace(value, axes=flat[value.axes, attributes.get("axis", 1)])]
    if attributes.get("axis", 1) == 1:
        if isinstance(value, Rows) and value.lookups == 1:
            return [replace(value, rank=2)]
        if isinstance(value, Vector) and value.rank == 2:
            return [value]
    raise Unmapped("lays more beside each other than the row of a single lookup")


def _axes(attributes: dict[str, Any], arguments: list[Value]) -> list[int]:
    """Axes, an input since opset 13 and an attribute before."""
    given = arguments[1] if len(arguments) > 1 else attributes.get("axes", [])
    return [int(axis) for axis in np.asarray(given).ravel()]


def _squeeze(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    value, axes = arguments[0], _axes(attributes, arguments)
    if isinstance(value, Ids) and value.rank == 2 and value.count == 1 and axes in ([1], [-1]):
        return [replace(value, rank=1)]
    if isinstance(value, Rows) and value.rank == 3 and value.lookups == 1 and axes in ([1], [-2]):
        return [replace(value, rank=2)]
    if isinstance(value, Vector) and value.rank == 2 and value.width == 1 and axes in ([1], [-1]):
        return [replace(value, rank=1)]
    raise Unmapped("takes away another axis than one of a single lookup or logit")


def _unsqueeze(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    value = arguments[0]
    if isinstance(value, np.ndarray):
        return [np.expand_dims(value, tuple(_axes(attributes, arguments)))]
    if not isinstance(value, Ids) and _axes(attributes, arguments) in ([1], [-2]):
        return [Stack((_single(value),))]
    if isinstance(value, Ids) and value.rank == 1 and _axes(attributes, arguments) in ([1], [-1]):
        return [replace(value, rank=2)]
    raise Unmapped("adds an axis to something other than a column of indices")


def _vector(value: Value) -> Vector:
    """A value as (n, width)."""
    if isinstance(value, Rows) and value.rank == 2:
        return Vector((value,))
    if isinstance(value, Vector) and value.rank == 2 and not value.score:
        return value
    raise Unmapped(f"takes {_described(value)}, where vectors are n x width")


def _described(value: Value) -> str:
    if isinstance(value, np.ndarray):
        return f"a constant of shape {value.shape}"
    if isinstance(value, Ids):
        return "indices"
    if isinstance(value, Rows):
        return "rows of a bag that are not pooled by a sum"
    if isinstance(value, Stack | Products | Dot):
        return "vectors or products of a dot interaction"
    return "a CTR" if isinstance(value, Vector) and value.score else "a vector without its axis"


def _concat(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    axis = attributes["axis"]
    constants = [value for value in arguments if isinstance(value, np.ndarray)]
    if len(constants) == len(arguments):
        return [np.concatenate(constants, axis=axis)]
    if axis in (1, -2) and any(isinstance(value, Stack) for value in arguments):
        return [Stack(tuple(part for value in arguments for part in _stacked(value)))]
    if axis not in (1, -1):
        raise Unmapped("joins along another axis than the elements")
    return [Vector(tuple(part for value in arguments for part in _vector(value).parts))]


def _single(value: Value) -> Part:
    """The one part of a value (n, width)."""
    parts = _vector(value).parts
    if len(parts) != 1:
        raise Unmapped("adds an axis to several vectors beside each other")
    return parts[0]


def _stacked(value: Value) -> tuple[Part, ...]:
    """The vectors of a value (n, vectors, width)."""
    if isinstance(value, Stack) and not value.turned:
        return value.vectors
    if isinstance(value, Rows) and value.rank == 3 and value.lookups == 1:
        return (replace(value, rank=2),)
    raise Unmapped(f"puts {_described(value)} above vectors")


def _transpose(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    (value,) = arguments
    if isinstance(value, np.ndarray):
        return [value.transpose(attributes.get("perm"))]
    order = list(attributes.get("perm", ()))
    if isinstance(value, Stack) and order == [0, 2, 1]:
        return [replace(value, turned=not value.turned)]
    if isinstance(value, Products) and value.axes == "nij" and order == [1, 2, 0]:
        return [replace(value, axes="ijn")]
    if isinstance(value, Dot) and order in ([1, 0], []):
        return [Vector((replace(value, turned=False),))]
    raise Unmapped(f"exchanges axes of {_described(value)}")


def _matmul(label: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    x, weight = arguments
    if isinstance(x, Stack) and isinstance(weight, Stack):
        if x.vectors == weight.vectors and (x.turned, weight.turned) == (False, True):
            return [Products(label, x.vectors)]
        raise Unmapped("multiplies vectors by others than the same, turned")
    if not isinstance(weight, np.ndarray) and not isinstance(x, np.ndarray):
        raise Unmapped("multiplies activations by activations that are no vectors of a dot")
    return [_layer(label, _vector(x), weight, transposed=False)]


def _gemm(label: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    x, weight, *bias = arguments
    if attributes.get("transA", 0) or {attributes.get(k, 1.0) for k in ("alpha", "beta")} != {1.0}:
        raise Unmapped("has transA, alpha or beta")
    made = _layer(label, _vector(x), weight, transposed=bool(attributes.get("transB", 0)))
    return [_biased(made, bias[0]) if bias else made]


def _layer(label: str, x: Vector, weight: Value, *, transposed: bool) -> Vector:
    if not isinstance(weight, np.ndarray) or weight.ndim != 2:
        raise Unmapped(f"has as weight {_described(weight)}, where it must be a constant matrix")
    matrix = weight if transposed else weight.T
    if matrix.shape[1] != x.width:
        raise Unmapped(f"has a weight of {matrix.shape[1]} inputs, but gets {x.width}")
    return Vector((Output(Layer(label, matrix, None, x)),))


def _add(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    first, second = arguments
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return [first + second]
    if isinstance(first, np.ndarray):
        first, second = second, first
    return [_biased(_vector(first), second)]


def _biased(x: Vector, bias: Value) -> Vector:
    (part, *others) = x.parts
    if not isinstance(part, Output) or part.relu or others or part.layer.bias is not None:
        raise Unmapped("adds to something other than a layer that has no bias yet")
    if not isinstance(bias, np.ndarray) or bias.size not in (1, part.width):
        raise Unmapped(f"adds {_described(bias)}, where a bias is a constant of {part.width}")
    whole = np.broadcast_to(bias.ravel(), (part.width,))
    return Vector((Output(replace(part.layer, bias=whole)),))


def _relu(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    x = _vector(arguments[0])
    part = x.parts[0]
    if len(x.parts) != 1 or not isinstance(part, Output):
        raise Unmapped("stands behind something other than a layer")
    return [Vector((replace(part, relu=True),))]


def _sigmoid(_: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    (x,) = arguments
    if not isinstance(x, Vector) or x.width != 1 or x.score:
        raise Unmapped("stands behind something other than the logit")
    return [replace(x, score=True)]


def _mul(label: str, attributes: dict[str, Any], arguments: list[Value]) -> Sequence[Value]:
    x, y = arguments
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return [x * y]
    first, second = _vector(x).parts, _vector(y).parts
    if len(first) != 1 or len(second) != 1:
        raise Unmapped("multiplies several tables' rows at once")
    pair = first[0], second[0]
    if not isinstance(pair[0], Rows) or not isinstance(pair[1], Rows):
        raise Unmapped("multiplies something other than rows of two tables")
    if pair[0].width != pair[1].width:
        raise Unmapped(f"multiplies rows of {pair[0].width} and {pair[1].width} elements")
    return [Vector((Product(label, (pair[0], pair[1])),))]


Operator = Callable[[str, dict[str, Any], list[Value]], Sequence[Value]]

OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "Cast": _pass,
    "Concat": _concat,
    "Constant": _constant,
    "Dropout": _pass,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _pass,
    "MatMul": _matmul,
    "Mul": _mul,
    "ReduceSum": _reduce_sum,
    "Relu": _relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What makes the meaning of a node's outputs: of its label, attributes and inputs, by operator."""
