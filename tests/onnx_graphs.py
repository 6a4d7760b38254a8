"""ONNX graphs as users may export them: a builder, and DLRMs of either interaction."""

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS, LOOKUPS, DENSE = {"c0": 50, "c1": 9, "c2": 40}, {"c0": 1, "c1": 3, "c2": 1}, 5
DLRM = {"name": "m", "dimensions": {"c0": 4, "c1": 6, "c2": 2}, "bottom": [7, 3], "top": [8, 6, 1]}


class Builder:
    """Collects nodes and constants of a graph."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.constants, self.inputs = [], [], []

    def node(self, op, *arguments, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, arguments, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, values):
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, *shape):
        return self.constant(self.rng.normal(0, 0.5, shape).astype(np.float32))

    def input(self, name, *shape, kind=TensorProto.INT64):
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["n", *shape]))
        return name

    def layer(self, x, inputs, outputs, *, how="gemm", relu=True):
        if how == "gemm":
            x = self.node("Gemm", x, self.normal(outputs, inputs), self.normal(outputs), transB=1)
        elif how == "untransposed":
            x = self.node("Gemm", x, self.normal(inputs, outputs), self.normal(outputs))
        elif how == "transposed":
            weight = self.node("Transpose", self.normal(outputs, inputs), perm=[1, 0])
            x = self.node("MatMul", x, weight)
        else:
            x = self.node("MatMul", x, self.normal(inputs, outputs))
            x = self.node("Add", self.normal(outputs), x)
        return self.node("Relu", x) if relu else x

    def bag(self, table, ids, lookups):
        x = self.node("Gather", table, ids)
        if lookups > 1:
            return self.node("ReduceSum", x, self.constant([1]), keepdims=0)
        return self.node("Squeeze", x, self.constant([1]))

    def save(self, path, output):
        out = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "k"])
        graph = helper.make_graph(self.nodes, "g", self.inputs, [out], self.constants)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.save(model, path)
        return path


def dlrm(rng, path, *, how="gemm", order=("c2", "bottom", "c0", "c1"), change=None):
    """A DLRM whose inputs are named after the tables; ``change`` may add to its end."""
    b = Builder(rng)
    parts = {}
    for name in ("c1", "c2", "c0"):  # not the configuration's order: names tell
        ids = b.input(name, LOOKUPS[name])
        table = b.normal(ROWS[name], DLRM["dimensions"][name])
        parts[name] = b.bag(table, ids, LOOKUPS[name])
    x = b.input("dense", DENSE, kind=TensorProto.FLOAT)
    widths = [DENSE, *DLRM["bottom"]]
    for inputs, outputs in pairwise(widths):
        x = b.layer(x, inputs, outputs, how=how)
    parts["bottom"] = x
    x = b.node("Concat", *(parts[name] for name in order), axis=1)
    joined = sum((DLRM["dimensions"] | {"bottom": DLRM["bottom"][-1]})[name] for name in order)
    widths = [joined, *DLRM["top"]]
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        x = b.layer(x, inputs, outputs, how=how, relu=i + 1 < len(DLRM["top"]))
    return b.save(path, change(b, x) if change else b.node("Sigmoid", x))


DOT = {"dimensions": 3, "interaction": "dot"}


def dot_dlrm(rng, path, *, how="stack", change=None):
    """A DLRM with dot interaction, the bottom MLP's output first; ``change`` alters its pairs."""
    b = Builder(rng)
    x = b.input("dense", DENSE, kind=TensorProto.FLOAT)
    for inputs, outputs in pairwise([DENSE, *DLRM["bottom"]]):
        x = b.layer(x, inputs, outputs)
    vectors = [x]
    for name in ("c1", "c2", "c0"):
        table = b.normal(ROWS[name], 3)
        vectors.append(b.bag(table, b.input(name, LOOKUPS[name]), LOOKUPS[name]))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    pairs = change(pairs) if change else pairs
    flat = b.constant(np.array([4 * i + j for i, j in pairs]))
    if how in ("reshape", "size"):  # of vectors beside each other, the batch's size from the graph
        size = b.node("Gather", b.node("Shape", x), b.constant(0), axis=0)
        size = b.node("Unsqueeze", size, b.constant([0]))
        if how == "size":
            size = b.node("Shape", x, start=0, end=-1)
        shape = b.node("Concat", size, b.constant([-1]), b.constant([3]), axis=0)
        stack = b.node("Reshape", b.node("Concat", *vectors, axis=1), shape)
    else:
        stack = [b.node("Unsqueeze", v, b.constant([1])) for v in vectors]
        stack = b.node("Concat", *stack, axis=1)
    every = b.node("MatMul", stack, b.node("Transpose", stack, perm=[0, 2, 1]))
    if how in ("reshape", "size"):
        turned = b.node("Flatten", b.node("Transpose", every, perm=[1, 2, 0]), axis=2)
        dots = b.node("Transpose", b.node("Gather", turned, flat, axis=0), perm=[1, 0])
    else:
        dots = b.node("Gather", b.node("Flatten", every, axis=1), flat, axis=1)
    x = b.node("Concat", x, dots, axis=1)
    for i, (inputs, outputs) in enumerate(pairwise([3 + len(pairs), *DLRM["top"]])):
        x = b.layer(x, inputs, outputs, relu=i + 1 < len(DLRM["top"]))
    return b.save(path, b.node("Sigmoid", x))
