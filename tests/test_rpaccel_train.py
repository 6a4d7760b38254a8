import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel import train as training
from rpaccel.cli import app
from rpaccel.config import Config, parse
from rpaccel.errors import ConfigError, ToolError
from rpaccel.train import Recipe, train
from rpaccel.train_clicks import ClickTrainer
from sw_model.dataset import Dataset
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel
from sw_model.metrics import auc
from sw_model.movielens import MovieLens
from tests.interrupt import interrupt_at
from tests.workloads import criteo_like

USERS, MOVIES = 40, 120


MODELS = {
    "dlrm": {"name": "m", "dimensions": 4, "bottom": [6], "top": [8, 1]},
    "dot": {
        "name": "m", "interaction": "dot", "dimensions": 4, "bottom": [6, 4], "top": [8, 1],
    },
    "neumf": {
        "name": "m", "kind": "neumf", "factors": 3, "product": ["movie", "user"],
        "dimensions": {"user": 4, "genres": 2, "movie": 0}, "bottom": [6], "top": [8, 1],
    },
}  # fmt: skip


def config(source: str = "movielens-latest-small", kind: str = "dlrm") -> Config:
    gather = {"cache_lines": 8}
    return parse(
        {
            "name": "small",
            "data": {"source": source, "seed": 5},
            "features": {
                "dense_query": 7,
                "dense_item": 4,
                "tables": [
                    {"name": "user", "rows": USERS, "scope": "query"},
                    {"name": "genres", "rows": 2, "index_bits": 8, "lookups": 3},
                    {"name": "movie", "rows": MOVIES},
                ],
            },
            "models": [MODELS[kind]],
            "funnel": {"stages": ["m"], "items": 64, "keep": [16]},
            "hardware": {
                "groups": [{"stages": [0]}], "topk_depth": [16], "gather": [gather],
            },
        }
    )  # fmt: skip


@pytest.fixture
def dataset(rng) -> Dataset:
    """Users who watch movies of even numbers only."""
    users = np.repeat(np.arange(USERS), 20)
    movies = np.concatenate(
        [rng.choice(np.arange(0, MOVIES, 2), 20, replace=False) for _ in range(USERS)]
    )
    data = MovieLens(
        users=users,
        movies=movies,
        ratings=rng.integers(6, 11, size=len(users)).astype(np.float32) / 2,
        timestamps=rng.integers(10**9, size=len(users)),
        user_ids=np.arange(USERS),
        movie_ids=np.arange(MOVIES),
        titles=[""] * MOVIES,
        years=np.full(MOVIES, 2000),
        genres=[("a", "b")[: m % 3] for m in range(MOVIES)],
    )
    return Dataset(config().features, data)


def test_without_pytorch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[train\]'") as error:
        train(config(), tmp_path)
    assert error.value.exit_code == 3


def test_random_data(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "import_torch", lambda: None)
    with pytest.raises(ConfigError, match=r"data.source = 'random' has nothing to train on"):
        train(config("random"), tmp_path)


devices = pytest.mark.parametrize("device", ["cpu", "cuda"])


def needs(device):
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    # Training on a GPU can only be seen on one; the same test runs on the CPU everywhere.
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")


@devices
@pytest.mark.parametrize("kind", MODELS)
def test_training(dataset, tmp_path, kind, device):
    needs(device)
    recipe = Recipe(epochs=4, batch=256, learning_rate=0.02, validation_items=60)
    settings = config(kind=kind)
    given = {"recipe": recipe, "dataset": dataset, "device": device}
    paths = [train(settings, tmp_path / run, **given)[0] for run in ("a", "b")]
    assert paths[0] == tmp_path / "a" / "m.safetensors"
    assert paths[0].read_bytes() == paths[1].read_bytes()
    model = FloatModel.load(paths[0], settings.models[0], settings.features)
    users, movies = (a.ravel() for a in np.meshgrid(np.arange(USERS), np.arange(MOVIES)))
    logits = model(dataset.inputs(users, movies))
    # products of small vectors are very small at first, and learn late
    assert auc(logits, movies % 2 == 0) > (0.65 if kind == "dot" else 0.8)


@devices
def test_interrupted_and_resumed(dataset, tmp_path, monkeypatch, device):
    """Dropout and drawn negatives go on as if nothing had happened."""
    needs(device)
    given = {"dataset": dataset, "device": device}
    given["recipe"] = Recipe(epochs=3, batch=256, learning_rate=0.02, validation_items=60)
    folders = [tmp_path / name for name in ("whole", "cut")]
    whole = train(config(), folders[0], **given)[0].read_bytes()
    with interrupt_at(monkeypatch, training._Trainer, 25), pytest.raises(KeyboardInterrupt):
        train(config(), folders[1], **given)
    assert [path.name for path in folders[1].iterdir()] == ["m.checkpoint"]
    (path,) = train(config(), folders[1], **given, resume=True)
    assert path.read_bytes() == whole
    assert list(folders[1].iterdir()) == [path]


def test_a_user_who_rated_almost_all(dataset):
    """Validation has as many movies as he left, fewer than half of all."""
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    data = dataset.data
    others = np.setdiff1d(np.arange(MOVIES), data.movies[data.users == 0])[:-5]
    more = {
        "users": np.zeros_like(others),
        "movies": others,
        "ratings": np.full(len(others), 4, np.float32),
        "timestamps": np.arange(len(others)),
    }
    joined = {name: np.concatenate([getattr(data, name), new]) for name, new in more.items()}
    dataset = Dataset(dataset.features, replace(data, **joined))
    settings = config()
    trainer = training._Trainer(torch, settings, settings.models[0], dataset, Recipe())
    assert {len(query.movies) for query in trainer.queries} == {6}


@pytest.mark.parametrize("kind", MODELS)
def test_float_model_is_what_was_trained(dataset, kind):
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    settings = config(kind=kind)
    trainer = training._Trainer(
        torch, settings, settings.models[0], dataset, Recipe(dropout=0.0, validation_items=60)
    )
    users, movies = np.arange(USERS), np.arange(USERS)
    expected = trainer.logits(torch.from_numpy(users), torch.from_numpy(movies)).detach().numpy()
    got = trainer.snapshot()(dataset.inputs(users, movies))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


MOVES = ("aten::_to_copy", "aten::lift_fresh")


def everything_on(device: str):
    """A mode in which an operation on a tensor that lies elsewhere is an error; copies may."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Everything(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            places = {leaf.device.type for leaf in tree_leaves(args) if hasattr(leaf, "device")}
            if func.name() not in MOVES and not places <= {device}:
                raise AssertionError(f"{func.name()} on {places}")
            return func(*args, **(kwargs or {}))

    return Everything()


@pytest.mark.parametrize("kind", [*MODELS, "clicks"])
def test_training_on_another_device(dataset, tmp_path, kind):
    """Every tensor of a step goes to the device: tried on one that computes shapes only."""
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    if kind == "clicks":
        settings = criteo_like(tmp_path)
        data = open_dataset(settings)
        trainer = ClickTrainer(torch, settings, settings.models[0], data, device="meta")
    else:
        settings = config(kind=kind)
        recipe = Recipe(validation_items=60)
        trainer = training._Trainer(
            torch, settings, settings.models[0], dataset, recipe, device="meta"
        )
    batch = next(trainer.batches())
    with everything_on("meta"):
        error = trainer.error(batch)
        error.backward()
    assert (error.device.type, error.shape) == ("meta", ())


def test_a_device_that_is_not_there(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    call = ["train", "examples/demo.toml", "-o", str(tmp_path / "out"), "--device", "cuda"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert "device must be cpu here, not 'cuda'" in result.stderr
    assert not (tmp_path / "out").exists()
