import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rpaccel.errors import DataError
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.dlrm import FloatModel, Inputs, tensor_shapes

FEATURES = FeaturesConfig(
    dense_query=2,
    dense_item=3,
    tables=[
        TableConfig(name="user", rows=5, scope="query"),
        TableConfig(name="genres", rows=4, index_bits=8, lookups=3),
    ],
)
MODEL = ModelConfig(name="m", dimensions={"user": 3, "genres": 2}, bottom=[6, 4], top=[7, 1])


@pytest.fixture
def weights(rng, tmp_path):
    path = tmp_path / "m.safetensors"
    shapes = tensor_shapes(MODEL, FEATURES)
    save_file({k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}, path)
    return path


def test_tensor_names_and_shapes():
    assert tensor_shapes(MODEL, FEATURES) == {
        "tables.user": (5, 3),
        "tables.genres": (4, 2),
        "bottom.0.weight": (6, 5),
        "bottom.0.bias": (6,),
        "bottom.1.weight": (4, 6),
        "bottom.1.bias": (4,),
        "top.0.weight": (7, 9),
        "top.0.bias": (7,),
        "top.1.weight": (1, 7),
        "top.1.bias": (1,),
    }


def test_forward_by_hand(rng, weights):
    model = FloatModel.load(weights, MODEL, FEATURES)
    w = load_file(weights)
    inputs = Inputs(
        rng.normal(size=(4, 5)).astype(np.float32),
        {
            "user": np.array([[0], [4], [2], [65535]]),
            "genres": np.array([[0, 3, 255], [1, 255, 255], [255, 255, 255], [2, 2, 1]]),
        },
    )
    for n in range(4):
        x = inputs.dense[n]
        for i in range(2):
            x = np.maximum(w[f"bottom.{i}.weight"] @ x + w[f"bottom.{i}.bias"], 0)
        bags = []
        for name, rows, width in ("user", 5, 3), ("genres", 4, 2):
            bag = np.zeros(width, dtype=np.float32)
            for index in inputs.indices[name][n]:
                if index < rows:
                    bag += w[f"tables.{name}"][index]
            bags.append(bag)
        x = np.concatenate([*bags, x])
        x = np.maximum(w["top.0.weight"] @ x + w["top.0.bias"], 0)
        x = w["top.1.weight"] @ x + w["top.1.bias"]
        np.testing.assert_allclose(model(inputs[n : n + 1]), x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model(inputs)[n], x[0], rtol=1e-4, atol=1e-5)
    names = [name for name, _ in model.activations(inputs)]
    assert names == [
        "dense", "bottom.0", "bottom.1", "table.user", "table.genres", "top.0", "top.1",
    ]  # fmt: skip


def test_save_and_load(rng, weights, tmp_path):
    model = FloatModel.load(weights, MODEL, FEATURES)
    model.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_without_dense_inputs(rng, tmp_path):
    features = FeaturesConfig(tables=FEATURES.tables)
    config = ModelConfig(name="m", dimensions=2, top=[1])
    shapes = tensor_shapes(config, features)
    assert shapes["top.0.weight"] == (1, 4)
    path = tmp_path / "m.safetensors"
    save_file({k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}, path)
    model = FloatModel.load(path, config, features)
    indices = {"user": np.array([[1]]), "genres": np.array([[0, 1, 255]])}
    logit = model(Inputs(np.zeros((1, 0), np.float32), indices))
    rows = model.tables
    joined = np.concatenate([rows["user"][1], rows["genres"][0] + rows["genres"][1]])
    np.testing.assert_allclose(logit, model.top[0](joined[None])[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda w: w.pop("bottom.1.bias"), "tensor bottom.1.bias is missing"),
        (lambda w: w.update(extra=w["top.1.bias"]), "tensor extra belongs to no part"),
        (
            lambda w: w.update({"tables.user": w["tables.genres"]}),
            r"tensor tables.user must have shape \(5, 3\) for model 'm', not \(4, 2\)",
        ),
        (
            lambda w: w.update({"top.1.bias": np.float32([np.nan])}),
            "tensor top.1.bias has values that are no finite numbers",
        ),
    ],
)
def test_wrong_weights(weights, change, text):
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights)
    with pytest.raises(DataError, match=f"m.safetensors: {text}"):
        FloatModel.load(weights, MODEL, FEATURES)


@pytest.mark.parametrize("kind, size", [("BF16", 2), ("F8_E4M3", 1), ("I8", 1), ("C64", 8)])
def test_other_types(weights, kind, size):
    """What NumPy has no type for, and what are no real numbers."""
    tensors = load_file(weights)
    name = "top.1.bias"
    header, data, at = {}, b"", 0
    for key, values in tensors.items():
        chosen = key == name
        piece = b"\0" * size * values.size if chosen else values.tobytes()
        end = at + len(piece)
        header[key] = {
            "dtype": kind if chosen else "F32", "shape": values.shape, "data_offsets": [at, end],
        }  # fmt: skip
        data, at = data + piece, end
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(DataError, match=f"{name} must hold F16, F32, F64, not {kind}"):
        FloatModel.load(weights, MODEL, FEATURES)


def test_damaged_file(weights):
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(DataError, match="cannot be read"):
        FloatModel.load(weights, MODEL, FEATURES)
    weights.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        FloatModel.load(weights, MODEL, FEATURES)
