"""ONNX graphs of DLRM and NeuMF, against onnx's own evaluator."""

import sys
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.config import Config, load
from rpaccel.errors import DataError, ToolError
from rpaccel.importer import import_model
from sw_model.dlrm import FloatModel, Inputs
from tests.onnx_graphs import DENSE, DLRM, DOT, LOOKUPS, ROWS, Builder, dlrm, dot_dlrm
from tests.workloads import workload

ITEMS = 64


def config(**model) -> Config:
    tables = [{"name": n, "rows": r, "lookups": LOOKUPS[n]} for n, r in ROWS.items()]
    return workload(models=[DLRM | model], tables=tables, dense=(0, DENSE), keep=[8])


NEUMF = [{"name": "user", "rows": 7, "scope": "query"}, {"name": "item", "rows": 11}]


def neumf_config(**model) -> Config:
    shape = {
        "name": "m", "kind": "neumf", "factors": 3, "product": ["user", "item"],
        "dimensions": {"user": 4, "item": 2}, "top": [5, 2, 1],
    }  # fmt: skip
    return workload(models=[shape | model], tables=NEUMF, dense=(0, 0), keep=[8])


def inputs_of(rng, config: Config) -> Inputs:
    indices = {t.name: rng.integers(0, t.rows, (ITEMS, t.lookups)) for t in config.features.tables}
    dense = rng.normal(size=(ITEMS, config.features.dense)).astype(np.float32)
    return Inputs(dense, indices)


def check(path, model: FloatModel, inputs: Inputs, feeds, *, logit=False):
    """Scores equal those of onnx's evaluator."""
    (theirs,) = ReferenceEvaluator(str(path)).run(None, feeds)
    ours = model(inputs).astype(np.float64)
    ours = ours if logit else 1 / (1 + np.exp(-ours))
    assert np.ptp(theirs) > 0.05
    np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-5, atol=1e-6 if logit else 0)


@pytest.mark.parametrize("how", ["gemm", "untransposed", "matmul", "transposed"])
def test_dlrm(rng, tmp_path, how):
    path = dlrm(rng, tmp_path / "m.onnx", how=how)
    model = import_model(config(), "m", path)
    inputs = inputs_of(rng, config())
    check(path, model, inputs, {"dense": inputs.dense, **inputs.indices})


@pytest.mark.parametrize("how", ["stack", "reshape", "size"])
@pytest.mark.parametrize("order", ["rows", "any"])
def test_dot_interaction(rng, tmp_path, how, order):
    def shuffled(pairs):
        return [pairs[p][:: rng.choice([1, -1])] for p in rng.permutation(len(pairs))]

    change = shuffled if order == "any" else None
    path = dot_dlrm(rng, tmp_path / "m.onnx", how=how, change=change)
    model = import_model(config(**DOT), "m", path)
    inputs = inputs_of(rng, config())
    check(path, model, inputs, {"dense": inputs.dense, **inputs.indices})


@pytest.mark.parametrize(
    ("model", "change", "text"),
    [
        ({"dimensions": 3}, None, "has a dot interaction, but interaction = 'concat'"),
        (
            DOT,
            lambda p: [*p, (2, 2)],
            r"\(MatMul\) must give the product of each pair of 4 vectors",
        ),
        (
            DOT,
            lambda p: [*p, (0, 1)],
            r"\(MatMul\) must give the product of each pair of 4 vectors",
        ),
        (DOT, lambda p: p[:-1], r"\(MatMul\) must give the product of each pair of 4 vectors once"),
        (DOT, lambda p: [*p, (4, 0)], r"\(Gather\) picks pairs that 4 vectors do not have"),
    ],
)
def test_other_pairs(rng, tmp_path, model, change, text):
    path = dot_dlrm(rng, tmp_path / "m.onnx", change=change)
    with pytest.raises(DataError, match=text):
        import_model(config(**model), "m", path)


def test_no_dot_interaction(rng, tmp_path):
    path = dlrm(rng, tmp_path / "m.onnx")
    with pytest.raises(DataError, match="has no dot interaction, but interaction = 'dot'"):
        import_model(config(**DOT), "m", path)


def test_what_pytorch_exports(rng, tmp_path):
    """The training script's formula, through PyTorch's exporter."""
    torch = pytest.importorskip("torch", reason="an export needs the extra 'train'")
    nn = torch.nn
    torch.manual_seed(2)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(rows, 3) for rows in (50, 40))
            self.bottom = nn.Sequential(nn.Linear(DENSE, 3), nn.ReLU())
            self.top = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1), nn.Sigmoid())

        def forward(self, dense, ids):
            x = self.bottom(dense)
            rows = [table(ids[:, i]) for i, table in enumerate(self.tables)]
            stacked = torch.cat([x, *rows], dim=1).view((x.size(0), -1, 3))
            every = torch.bmm(stacked, torch.transpose(stacked, 1, 2))
            later, earlier = torch.tensor([1, 2, 2]), torch.tensor([0, 0, 1])
            return self.top(torch.cat([x, every[:, later, earlier]], dim=1))

    tables = [{"name": "a", "rows": 50}, {"name": "b", "rows": 40}]
    model = DOT | {"name": "m", "bottom": [3], "top": [5, 1]}
    settings = workload(models=[model], tables=tables, dense=(0, DENSE), keep=[8])
    inputs = inputs_of(rng, settings)
    ids = np.concatenate([inputs.indices["a"], inputs.indices["b"]], axis=1)
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is old, and says so
        torch.onnx.export(
            Model().eval(), (torch.from_numpy(inputs.dense), torch.from_numpy(ids)), str(path),
            dynamo=False, input_names=["dense", "ids"], opset_version=17,
            dynamic_axes={"dense": {0: "n"}, "ids": {0: "n"}},
        )  # fmt: skip
    check(path, import_model(settings, "m", path), inputs, {"dense": inputs.dense, "ids": ids})


def test_columns_of_one_input(rng, tmp_path):
    """Indices n x tables and dense inputs in two parts: their order tells which is which."""
    b = Builder(rng)
    ids = b.input("ids", 5)
    dense = [b.input(name, w, kind=TensorProto.FLOAT) for name, w in (("d0", 2), ("d1", 3))]
    shape = DLRM["dimensions"]
    c2 = b.node("Gather", ids, b.constant(4), axis=1)
    c2 = b.node("Gather", b.normal(ROWS["c2"], shape["c2"]), c2)
    c0 = b.node("Slice", ids, *(b.constant([v]) for v in (0, 1, 1)))
    c0 = b.node("Gather", b.normal(ROWS["c0"], shape["c0"]), b.node("Squeeze", c0, b.constant([1])))
    c1 = b.node("Gather", ids, b.constant([1, 2, 3]), axis=1)
    c1 = b.bag(b.normal(ROWS["c1"], shape["c1"]), b.node("Cast", c1, to=TensorProto.INT32), 3)
    x = b.node("Concat", *dense[::-1], axis=-1)
    x = b.layer(b.layer(x, 5, 7), 7, 3)
    x = b.layer(b.node("Concat", c1, x, c0, c2, axis=-1), 15, 8)
    x = b.layer(b.layer(x, 8, 6), 6, 1, relu=False)
    path = b.save(tmp_path / "m.onnx", b.node("Reshape", x, b.constant([-1])))
    model = import_model(config(), "m", path)
    inputs = inputs_of(rng, config())
    every = np.concatenate([inputs.indices[name] for name in ROWS], axis=1)
    feeds = {"ids": every, "d0": inputs.dense[:, :2], "d1": inputs.dense[:, 2:]}
    check(path, model, inputs, feeds, logit=True)


@pytest.mark.parametrize("swapped", [False, True])
def test_neumf(rng, tmp_path, swapped):
    b = Builder(rng)
    names = ["item", "user"] if swapped else ["user", "item"]
    ids = {name: b.input(name) for name in names}
    rows = {"user": 7, "item": 11}
    found = {
        k: b.node("Gather", b.normal(rows[k], w), ids[k]) for k, w in (("user", 4), ("item", 2))
    }
    factors = [b.node("Gather", b.normal(rows[k], 3), ids[k]) for k in names]
    x = b.node("Concat", *(found[name] for name in names), axis=1)
    x = b.layer(b.layer(x, 6, 5), 5, 2, how="matmul")
    parts = [b.node("Mul", *factors), x]
    x = b.node("Concat", *(parts if swapped else parts[::-1]), axis=1)
    path = b.save(tmp_path / "m.onnx", b.node("Sigmoid", b.layer(x, 5, 1, relu=False)))
    model = import_model(neumf_config(), "m", path)
    inputs = inputs_of(rng, neumf_config())
    check(path, model, inputs, {name: inputs.indices[name][:, 0] for name in rows})


def test_gmf(rng, tmp_path):
    b = Builder(rng)
    rows = [b.node("Gather", b.normal(r, 3), b.input(n)) for n, r in (("user", 7), ("item", 11))]
    x = b.layer(b.node("Mul", *rows), 3, 1, how="transposed", relu=False)
    path = b.save(tmp_path / "m.onnx", b.node("Sigmoid", x))
    gmf = neumf_config(dimensions=0, top=[1])
    inputs = inputs_of(rng, gmf)
    feeds = {name: inputs.indices[name][:, 0] for name in ("user", "item")}
    check(path, import_model(gmf, "m", path), inputs, feeds)


def test_every_node_without_counterpart_is_named(rng, tmp_path):
    b = Builder(rng)
    ids = [b.input(name) for name in ("c0", "c1")]
    mean = b.node("Tanh", b.node("Gather", b.normal(50, 4), ids[0]))
    bag = b.input("c2", 2)
    unpooled = b.node("Relu", b.node("Gather", b.normal(40, 4), bag))
    x = b.layer(b.node("Gather", b.normal(9, 4), ids[1]), 4, 4)
    stacked = b.node("Reshape", x, b.constant([-1, 2, 2]))
    b.input("text", kind=TensorProto.STRING)
    self_product = b.node("MatMul", x, x)
    x = b.node("Concat", mean, unpooled, stacked, self_product, "text", axis=1)
    path = b.save(tmp_path / "m.onnx", x)
    with pytest.raises(DataError) as error:
        import_model(config(), "m", path)
    for text in (
        "m.onnx cannot be mapped: ",
        "tanh1 (Tanh) has no counterpart",
        "relu3 (Relu) takes rows of a bag that are not pooled by a sum",
        "reshape7 (Reshape) changes more of a shape than an axis of a single lookup",
        "matmul8 (MatMul) multiplies activations by activations that are no vectors of a dot",
        "text (input) must be indices (int32 or int64, n or n x lookups) or dense inputs "
        "(float32, n x width), not STRING of shape ['?']",
    ):
        assert text in str(error.value)
    assert "(Concat)" not in str(error.value)  # it only depends on the others


def normalised(b, x):
    return b.node("Softmax", x, axis=1)


def rectified(b, x):
    return b.node("Sigmoid", b.node("Relu", x))


def without_relu(b, x):
    return b.node("Sigmoid", b.layer(x, 1, 1, relu=False))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (normalised, r"softmax\d+ \(Softmax\) has no counterpart"),
        (rectified, "the output is no logit or CTR of a layer of width 1"),
        (without_relu, r"gemm\d+ \(Gemm\) has no Relu behind it"),
        (lambda b, x: b.node("Mul", x, x), r"mul\d+ \(Mul\) multiplies something other than rows"),
        (
            lambda b, x: b.layer(b.node("Add", b.normal(2), b.normal(3)), 1, 1),
            r"add\d+ \(Add\) cannot be computed: operands could not be broadcast",
        ),
        (
            lambda b, x: b.node("Reshape", x, b.node("Gather", b.constant([-1]), b.constant(3))),
            r"gather\d+ \(Gather\) cannot be computed: index 3 is out of bounds",
        ),
        (
            lambda b, x: b.node("Add", x, x),
            r"add\d+ \(Add\) adds to something other than a layer that has no bias yet",
        ),
    ],
)
def test_wrong_ends(rng, tmp_path, change, text):
    path = dlrm(rng, tmp_path / "m.onnx", change=change)
    with pytest.raises(DataError, match=text):
        import_model(config(), "m", path)


def test_another_shape_is_named_layer_by_layer(rng, tmp_path):
    path = dlrm(rng, tmp_path / "m.onnx")
    shape = {"dimensions": {"c0": 5, "c1": 6, "c2": 2}, "bottom": [7, 2], "top": [8, 6, 4, 1]}
    with pytest.raises(DataError) as error:
        import_model(config(**shape), "m", path)
    for text in (
        "does not fit model 'm'",
        " of c0 (tables.c0) must have shape (50, 5), not (50, 4)",
        "weight (bottom.1.weight) must have shape (2, 7), not (3, 7)",
        "weight (top.2.weight) must have shape (4, 6), not (1, 6)",
        "a layer for top.3 (top.3.weight) is missing",
        "a bias for top.3 (top.3.bias) is missing",
    ):
        assert text in str(error.value)
    with pytest.raises(DataError) as error:
        import_model(config(bottom=[7], top=[8, 1]), "m", path)
    assert str(error.value).count("is beyond what the configuration's model has") == 4


def test_tables_and_products_must_be_the_configurations(rng, tmp_path):
    path = dlrm(rng, tmp_path / "m.onnx")
    tables = [{"name": n, "rows": r} for n, r in ROWS.items()]
    one = workload(models=[DLRM], tables=tables, dense=(0, DENSE), keep=[8])
    with pytest.raises(
        DataError, match="table 'c1' has lookups = 1, but the graph takes 3 columns"
    ):
        import_model(one, "m", path)
    with pytest.raises(DataError, match="has 3 indexed tables, not 2"):
        import_model(neumf_config(), "m", path)
    product = config(kind="neumf", factors=2, product=["c0", "c2"])
    with pytest.raises(DataError, match=r"product must be of \['c0', 'c2'\], not \[\]"):
        import_model(product, "m", path)
    twice = dlrm(rng, path, order=("c2", "bottom", "c0", "c1", "c0"))
    with pytest.raises(DataError, match="tables are looked up more than once by the same"):
        import_model(config(), "m", twice)
    absent = dlrm(rng, path, order=("bottom", "bottom", "bottom", "c1"))
    with pytest.raises(DataError, match="has 1 indexed tables, not 3"):
        import_model(config(), "m", absent)


def test_values_that_are_no_numbers(rng, tmp_path):
    path = dlrm(rng, tmp_path / "m.onnx")
    model = onnx.load(path)
    bias = model.graph.initializer[4]
    values = numpy_helper.to_array(model.graph.initializer[4]).copy()
    values.flat[0] = np.nan
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    with pytest.raises(DataError, match="has values that are no finite numbers"):
        import_model(config(), "m", path)


def test_damaged_files(rng, tmp_path):
    path = dlrm(rng, tmp_path / "m.onnx")
    whole = path.read_bytes()
    for size in [0, 1, 30, len(whole) - 1, *rng.integers(len(whole), size=40).tolist()]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"m.onnx: not a valid ONNX model: \w"):
            import_model(config(), "m", path)
    b = Builder(rng)
    x = b.layer(b.input("x", 3, kind=TensorProto.FLOAT), 3, 1, relu=False)
    b.save(path, x)
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]))
    onnx.save(model, path)
    with pytest.raises(DataError, match="must have one output, the logit or the CTR, not"):
        import_model(config(), "m", path)


def test_without_onnx(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[import\]'"):
        import_model(config(), "m", tmp_path / "m.onnx")


def test_command_line(rng, tmp_path):
    """An MLP of examples/ncf.toml, written and read back."""
    b = Builder(rng)
    rows = [
        b.node("Gather", b.normal(n, 32), b.input(k)) for k, n in (("user", 6040), ("item", 3706))
    ]
    x = b.node("Concat", *rows, axis=1)
    for inputs, outputs in ((64, 32), (32, 16), (16, 8), (8, 1)):
        x = b.layer(x, inputs, outputs, relu=outputs > 1)
    path = b.save(tmp_path / "mlp.onnx", x)
    arguments = ["import", "examples/ncf.toml", "mlp", str(path), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    ncf = load("examples/ncf.toml")
    model = FloatModel.load(tmp_path / "out/mlp.safetensors", ncf.models[1], ncf.features)
    inputs = inputs_of(rng, ncf)
    check(path, model, inputs, {n: i[:, 0] for n, i in inputs.indices.items()}, logit=True)
