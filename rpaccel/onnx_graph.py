"""ONNX graphs, followed from inputs to output: what each tensor on the way means for a DLRM.

A node that means nothing (:mod:`rpaccel.onnx_operators`) is kept with the reason; what depends on
it is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpaccel.errors import DataError, ToolError
from rpaccel.onnx_operators import OPERATORS
from rpaccel.onnx_values import Ids, Real, Unmapped, Value, Vector

__all__ = ["Graph", "read_graph"]


@dataclass
class Graph:
    """A graph that was followed.

    Attributes
    ----------
    output : Vector or None
        None where it cannot be told.
    inputs : list of str
        Names of the graph's inputs, in order.
    unmapped : list of str
        A line for each node that has no counterpart: its name, its operator, and why.
    """

    output: Vector | None
    inputs: list[str]
    unmapped: list[str] = field(default_factory=list)


def read_graph(path: Path) -> Graph:
    """Read and follow a graph.

    Raises
    ------
    DataError
        The file is damaged or no ONNX model, or has not exactly one output.
    ToolError
        The package ``onnx`` is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise ToolError(
            "reading .onnx needs onnx, which is not installed: pip install -e '.[import]'"
        ) from None
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    except Exception as error:  # protobuf, checker and external data each raise their own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path}: not a valid ONNX model: {reason[0]}") from None
    graph = model.graph
    if len(graph.output) != 1:
        names = [output.name for output in graph.output]
        raise DataError(f"{path}: must have one output, the logit or the CTR, not {names}")
    inputs = [i for i in graph.input if i.name not in constants]
    found = Graph(None, [i.name for i in inputs])
    values: dict[str, Value] = dict(constants)
    for one in inputs:
        values[one.name] = _input(one, found)
    for node in _needed(graph):
        arguments = [values[name] if name else None for name in node.input]
        results: Sequence[Value] = [None] * len(node.output)
        if not any(values[name] is None for name in node.input if name):
            try:
                results = _apply(node, arguments)
            except Unmapped as reason:
                found.unmapped.append(f"{_label(node)} {reason}")
        values.update(zip(node.output, results, strict=False))
    output = values.get(graph.output[0].name)
    if isinstance(output, Vector):
        found.output = output
    elif output is not None:
        found.unmapped.append(f"{graph.output[0].name} (output) is no output of a layer")
    return found


def _label(node: Any) -> str:
    return f"{node.name or node.output[0]} ({node.op_type})"


def _needed(graph: Any) -> list[Any]:
    """Nodes that the output depends on, in order."""
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _input(one: Any, graph: Graph) -> Value:
    """Meaning of a graph input by its type and shape."""
    from onnx import TensorProto

    kind = one.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if kind.elem_type in (TensorProto.INT64, TensorProto.INT32):
        if len(dims) == 1:
            return Ids(one.name, 0, 1, 1)
        if len(dims) == 2 and dims[1]:
            return Ids(one.name, 0, dims[1], 2)
    elif kind.elem_type == TensorProto.FLOAT and len(dims) == 2 and dims[1]:
        return Vector((Real(one.name, dims[1]),))
    shape = [d or "?" for d in dims]
    graph.unmapped.append(
        f"{one.name} (input) must be indices (int32 or int64, n or n x lookups) or dense inputs "
        f"(float32, n x width), not {TensorProto.DataType.Name(kind.elem_type)} of shape {shape}"
    )
    return None


def _apply(node: Any, arguments: list[Value]) -> Sequence[Value]:
    from onnx import helper

    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        raise Unmapped("has no counterpart")
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    try:
        return OPERATORS[node.op_type](_label(node), attributes, arguments)
    except (ValueError, IndexError, TypeError, KeyError) as error:
        # constants whose shapes do not go together, which onnx's checker does not see
        raise Unmapped(f"cannot be computed: {error}") from None
