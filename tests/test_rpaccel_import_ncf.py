"""Keras weights of Neural Collaborative Filtering."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.config import Config, load
from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.importer import import_model
from sw_model.dlrm import FloatModel, Inputs
from tests.workloads import workload

NCF = Path(__file__).parents[1] / "examples" / "ncf.toml"
USERS, ITEMS = 7, 11
TABLES = [
    {"name": "film", "rows": ITEMS},
    {"name": "viewer", "rows": USERS, "scope": "query"},
]
MODELS = {
    "gmf": {"kind": "neumf", "factors": 3, "dimensions": 0, "top": [1]},
    "mlp": {"dimensions": {"viewer": 4, "film": 2}, "top": [5, 1]},
    "neumf": {
        "kind": "neumf", "factors": 3, "dimensions": {"viewer": 4, "film": 2}, "top": [5, 2, 1],
    },
}  # fmt: skip


def config(kind: str, *, swapped: bool = False, tables: list | None = None) -> Config:
    model = {"name": "m", **MODELS[kind]}
    if "factors" in model:
        model["product"] = ["viewer", "film"]
    tables = tables or (TABLES if swapped else TABLES[::-1])
    return workload(models=[model], tables=tables, dense=(0, 0), keep=[8])


def arrays(rng, kind: str) -> dict[str, list[np.ndarray]]:
    """A model's arrays by layer, Keras's way round."""
    shapes = {
        "gmf": {
            "user_embedding": [(USERS, 3)], "item_embedding": [(ITEMS, 3)],
            "prediction": [(3, 1), (1,)],
        },
        "mlp": {
            "user_embedding": [(USERS, 4)], "item_embedding": [(ITEMS, 2)],
            "layer1": [(6, 5), (5,)], "prediction": [(5, 1), (1,)],
        },
        "neumf": {
            "mf_embedding_user": [(USERS, 3)], "mf_embedding_item": [(ITEMS, 3)],
            "mlp_embedding_user": [(USERS, 4)], "mlp_embedding_item": [(ITEMS, 2)],
            "layer1": [(6, 5), (5,)], "layer2": [(5, 2), (2,)], "prediction": [(5, 1), (1,)],
        },
    }[kind]  # fmt: skip
    return {
        layer: [rng.normal(size=s).astype(np.float32) for s in each]
        for layer, each in shapes.items()
    }


def write(path, layers, *, whole: bool = False):
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        for layer, values in layers.items():
            group = root.create_group(layer)
            # Keras 2 has a folder in the folder, Keras 1 has not
            names = [f"{layer}/{i}:0" if whole else f"{layer}_{i}" for i in range(len(values))]
            for name, value in zip(names, values, strict=True):
                group[name] = value
            group.attrs["weight_names"] = [name.encode() for name in names]
        root.create_group("flatten_1").attrs["weight_names"] = []
    return path


def by_hand(layers, user, item):
    """The paper's formulas."""
    first, second = ("mf_embedding_{}", "mlp_embedding_{}")
    if "mf_embedding_user" not in layers:
        first = second = "{}_embedding"

    def row(name, side, number):
        return layers[name.format(side)][0][number]

    parts = []
    if "layer1" not in layers or first != second:
        parts.append(row(first, "user", user) * row(first, "item", item))
    if "layer1" in layers:
        x = np.concatenate([row(second, "user", user), row(second, "item", item)])
        for name in sorted(n for n in layers if n.startswith("layer")):
            weights, bias = layers[name]
            x = np.maximum(x @ weights + bias, 0)
        parts.append(x)
    weights, bias = layers["prediction"]
    return (np.concatenate(parts) @ weights + bias)[0]


def logits(model: FloatModel) -> np.ndarray:
    users, items = (a.reshape(-1, 1) for a in np.meshgrid(range(USERS), range(ITEMS)))
    return model(Inputs(np.zeros((len(users), 0), np.float32), {"viewer": users, "film": items}))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_import(rng, tmp_path, kind, swapped):
    layers = arrays(rng, kind)
    path = write(tmp_path / "weights.h5", layers, whole=swapped)
    model = import_model(config(kind, swapped=swapped), "m", path)
    expected = [by_hand(layers, user, item) for item in range(ITEMS) for user in range(USERS)]
    np.testing.assert_allclose(logits(model), expected, rtol=1e-4, atol=1e-5)


def test_command(rng, tmp_path):
    layers = {"user_embedding": [(6040, 8)], "item_embedding": [(3706, 8)],
              "prediction": [(8, 1), (1,)]}  # fmt: skip
    layers = {k: [rng.normal(size=s).astype("f4") for s in v] for k, v in layers.items()}
    path = write(tmp_path / "gmf.h5", layers)
    call = ["import", str(NCF), "gmf", str(path), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.stderr
    settings = load(NCF)
    model = FloatModel.load(result.stdout.strip(), settings.models[0], settings.features)
    assert (model.factors["item"] == layers["item_embedding"][0]).all()
    call[2] = "mlp"
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert "layer1.weights (top.0.weight) is missing" in result.stderr
    assert "Traceback" not in result.stderr


def test_everything_wrong_is_named(rng, tmp_path):
    layers = arrays(rng, "neumf")
    del layers["layer2"]
    layers["extra"] = [np.zeros((2, 2), np.float32)] * 3
    layers["layer1"][0] = layers["layer1"][0].T
    layers["mf_embedding_item"][0][3, 1] = np.nan
    layers["mlp_embedding_user"][0] = layers["mlp_embedding_user"][0].astype(np.int32)
    path = write(tmp_path / "m.h5", layers)
    with pytest.raises(DataError) as error:
        import_model(config("neumf"), "m", path)
    for text in (
        "m.h5 does not fit model 'm'",
        "extra.weights belongs to no part of the model",
        "extra.2 belongs to no part of the model",
        "layer2.weights (top.1.weight) is missing",
        "layer2.bias (top.1.bias) is missing",
        "layer1.weights (top.0.weight) must have shape (6, 5), not (5, 6)",
        "mf_embedding_item.weights (factors.film) has values that are no finite numbers",
        "mlp_embedding_user.weights (tables.viewer) must hold floats, not int32",
    ):
        assert text in str(error.value)


def test_damaged_files(rng, tmp_path):
    path = write(tmp_path / "m.h5", arrays(rng, "gmf"))
    whole = path.read_bytes()
    for size in [0, 1, 100, *rng.integers(len(whole), size=30).tolist()]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="m.h5: not a file of Keras weights"):
            import_model(config("gmf"), "m", path)
    with h5py.File(path, "w") as file:
        file["loose"] = np.zeros(3)
    with pytest.raises(DataError, match="not a file of Keras weights"):
        import_model(config("gmf"), "m", path)


def test_bad_arguments(rng, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no model 'n'; there are \['m'\]"):
        import_model(config("gmf"), "n", tmp_path / "m.h5")
    with pytest.raises(DataError, match="m.h5: there is no such file"):
        import_model(config("gmf"), "m", tmp_path / "m.h5")
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(DataError, match="d.h5: is a folder, not a file"):
        import_model(config("gmf"), "m", tmp_path / "d.h5")
    with pytest.raises(
        ConfigError, match=r"must end in .h5, .hdf5, .pt, .pth or .onnx, not '.npz'"
    ):
        import_model(config("gmf"), "m", tmp_path / "m.npz")
    path = write(tmp_path / "m.h5", arrays(rng, "mlp"))
    more = [*TABLES[::-1], {"name": "year", "rows": 3}]
    model = {"name": "m", "dimensions": 2, "top": [1]}
    three = workload(models=[model], tables=more, dense=(0, 0), keep=[8])
    with pytest.raises(ConfigError, match="not 3 tables"):
        import_model(three, "m", path)


def test_without_h5py(rng, tmp_path, monkeypatch):
    path = write(tmp_path / "m.h5", arrays(rng, "gmf"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[import\]'"):
        import_model(config("gmf"), "m", path)
