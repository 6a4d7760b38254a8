"""PyTorch checkpoints in the layout of facebookresearch/dlrm."""

import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest

from rpaccel.config import Config
from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.importer import import_model
from sw_model.dlrm import Inputs
from tests.workloads import workload

ROWS = [50, 9, 400]
DIMENSION = 4
BOTTOM, TOP = [16, 8, DIMENSION], [20, 6, 1]
DENSE = 5


def config(**model) -> Config:
    shape = {"name": "m", "dimensions": DIMENSION, "bottom": BOTTOM, "top": TOP}
    tables = [
        {"name": f"c{i}", "rows": rows, "lookups": 1 + 2 * (i == 1)} for i, rows in enumerate(ROWS)
    ]
    return workload(models=[shape | model], tables=tables, dense=(0, DENSE), keep=[8])


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="checkpoints need the extra 'train'")


def build(torch, *, interaction="cat"):
    """A model with the parameter names and the order of computation of DLRM's script."""
    nn = torch.nn

    def mlp(widths, last):
        layers = []
        for i, (a, b) in enumerate(pairwise(widths)):
            layers += [nn.Linear(a, b), last() if i + 2 == len(widths) else nn.ReLU()]
        return nn.Sequential(*layers)

    class DLRM(nn.Module):
        def __init__(self):
            super().__init__()
            vectors = len(ROWS) + 1
            joined = vectors * DIMENSION
            if interaction != "cat":
                joined = DIMENSION + vectors * (vectors - 1) // 2
            if interaction == "dot, itself":
                joined += vectors
            self.emb_l = nn.ModuleList(
                nn.EmbeddingBag(rows, DIMENSION, mode="sum") for rows in ROWS
            )
            self.bot_l = mlp([DENSE, *BOTTOM], nn.ReLU)
            self.top_l = mlp([joined, *TOP], nn.Sigmoid)

        def forward(self, dense, bags):
            x = self.bot_l(dense)
            parts = [x] + [table(bag) for table, bag in zip(self.emb_l, bags, strict=True)]
            if interaction == "dot":
                stacked = torch.stack(parts, dim=1)
                products = torch.bmm(stacked, stacked.transpose(1, 2))
                pairs = [(i, j) for i in range(len(parts)) for j in range(i)]
                parts = [x, *(products[:, i, j, None] for i, j in pairs)]
            return self.top_l(torch.cat(parts, dim=1))[:, 0]

    torch.manual_seed(1)
    return DLRM()


@pytest.fixture
def checkpoint(torch, tmp_path):
    """What the script saves: weights, optimiser, and accuracies as NumPy numbers."""
    model = build(torch)
    path = tmp_path / "m.pt"
    content = {
        "epoch": 1, "iter": 2048, "state_dict": model.state_dict(),
        "opt_state_dict": torch.optim.SGD(model.parameters(), lr=0.1).state_dict(),
        "test_acc": np.float64(0.78), "train_loss": np.float32(0.4), "total_acc": np.int64(3),
    }  # fmt: skip
    torch.save(content, path)
    return path


def test_scores_equal_pytorchs(rng, torch, tmp_path, checkpoint):
    dense = rng.normal(size=(4096, DENSE)).astype(np.float32)
    indices = {
        f"c{i}": rng.integers(rows, size=(4096, 1 + 2 * (i == 1))) for i, rows in enumerate(ROWS)
    }
    bags = [torch.from_numpy(v) for v in indices.values()]
    reference = build(torch)
    expected = reference(torch.from_numpy(dense), bags).detach().numpy()
    assert expected.std() > 1e-3
    logits = import_model(config(), "m", checkpoint)(Inputs(dense, indices))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, rtol=1e-5)
    # the weights alone, and those of a model for several devices
    state = reference.state_dict()
    wrapped = {name.replace("_l.", "_l.module."): value for name, value in state.items()}
    for content in (state, wrapped, {"state_dict": state}):
        torch.save(content, tmp_path / "other.pth")
        again = import_model(config(), "m", tmp_path / "other.pth")(Inputs(dense, indices))
        assert (again == logits).all()


def test_without_dense_inputs(rng, torch, tmp_path):
    state = {
        name: value for name, value in build(torch).state_dict().items() if "bot_l" not in name
    }
    state["top_l.0.weight"] = state["top_l.0.weight"][:, DIMENSION:].clone()
    torch.save(state, tmp_path / "m.pt")
    tables = [{"name": f"c{i}", "rows": rows} for i, rows in enumerate(ROWS)]
    model = {"name": "m", "dimensions": DIMENSION, "top": TOP}
    settings = workload(models=[model], tables=tables, dense=(0, 0), keep=[8])
    imported = import_model(settings, "m", tmp_path / "m.pt")
    assert (imported.top[0].weight == state["top_l.0.weight"].numpy()).all()


def test_everything_wrong_is_named(torch, tmp_path):
    state = build(torch).state_dict()
    del state["bot_l.2.bias"]
    state["bot_l.0.weight"] = state["bot_l.0.weight"].T
    state["emb_l.0.weight_q"] = state["emb_l.1.embs.weight"] = state.pop("emb_l.1.weight")
    state["top_l.6.weight"] = state["v_W_l.2"] = torch.zeros(2)
    state["task_l.0"] = torch.zeros(1)
    state["top_l.4.bias"] = torch.full((1,), torch.inf)
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(DataError) as error:
        import_model(config(), "m", tmp_path / "m.pt")
    for text in (
        "m.pt does not fit model 'm'",
        "bot_l.2.bias (bottom.1.bias) is missing",
        "bot_l.0.weight (bottom.0.weight) must have shape (16, 5), not (5, 16)",
        "emb_l.0.weight_q is a quotient-remainder table",
        "emb_l.1.embs.weight is a mixed-dimension table",
        "emb_l.1.weight (tables.c1) is missing",
        "top_l.6.weight is beyond what the configuration's model has",
        "v_W_l.2 is a weight of a pooled row",
        "task_l.0 belongs to no part of a DLRM",
        "top_l.4.bias (top.2.bias) has values that are no finite numbers",
    ):
        assert text in str(error.value)


def test_dot_interaction(rng, torch, tmp_path):
    """Pairs in another order than ours; products that matter beside the bottom MLP's output."""
    reference = build(torch, interaction="dot")
    torch.save(reference.state_dict(), tmp_path / "m.pt")
    dense = rng.normal(size=(4096, DENSE)).astype(np.float32)
    indices = {
        f"c{i}": rng.integers(rows, size=(4096, 1 + 2 * (i == 1))) for i, rows in enumerate(ROWS)
    }
    bags = [torch.from_numpy(v) for v in indices.values()]
    expected = reference(torch.from_numpy(dense), bags).detach().numpy()
    model = import_model(config(interaction="dot"), "m", tmp_path / "m.pt")
    logits = model(Inputs(dense, indices))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, rtol=1e-5)
    products = dict(model.activations(Inputs(dense, indices)))["dot"]
    assert (products.std(axis=0) > 0.05).all()
    swapped = model.top[0].weight.copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    model.top[0].weight[:] = swapped
    wrong = model(Inputs(dense, indices))
    assert np.abs(wrong - logits).max() > 1e-3


@pytest.mark.parametrize(
    "built, model, text",
    [
        (
            "dot",
            "concat",
            "10 inputs, those of a dot interaction of 4 vectors; model 'm' has inter",
        ),
        ("cat", "dot", "16 inputs, those of a concat interaction of 4 vectors; model 'm' has .*10"),
        ("dot, itself", "dot", "14 inputs, .* in which each is multiplied by itself too"),
        ("dot, itself", "concat", "14 inputs, .* in which each is multiplied by itself too"),
    ],
)
def test_another_interaction(torch, tmp_path, built, model, text):
    torch.save(build(torch, interaction=built).state_dict(), tmp_path / "m.pt")
    with pytest.raises(DataError, match=f"top_l.0.weight has {text}"):
        import_model(config(interaction=model), "m", tmp_path / "m.pt")


class Touch:
    """A pickle that makes a file when it is loaded without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("where", ["whole", "entry", "state", "plain pickle"])
def test_nothing_is_executed(torch, tmp_path, where):
    state = build(torch).state_dict()
    bomb = Touch(tmp_path / "executed")
    content = {
        "whole": bomb,
        "entry": {"state_dict": state, "args": bomb},
        "state": state | {"emb_l.0.weight": bomb},
        "plain pickle": bomb,
    }[where]
    path = tmp_path / "m.pt"
    if where == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match="not a checkpoint .*: it is a pickle that needs") as error:
        import_model(config(), "m", path)
    assert "weights" not in str(error.value)  # no advice to execute it
    assert not (tmp_path / "executed").exists()


def test_damaged_files(rng, torch, checkpoint):
    whole = checkpoint.read_bytes()
    for size in [0, 1, 30, len(whole) - 1, *rng.integers(len(whole), size=40).tolist()]:
        checkpoint.write_bytes(whole[:size])
        with pytest.raises(DataError, match="m.pt: not a checkpoint"):
            import_model(config(), "m", checkpoint)
    plain = pickle.dumps({"a": [1, 2, 3] * 10})
    for size in range(0, len(plain), 5):
        checkpoint.write_bytes(plain[:size])
        with pytest.raises(DataError, match="m.pt: "):
            import_model(config(), "m", checkpoint)
    for content in (3, [1], {}, {"a": 1}, {"a": "text"}):
        torch.save(content, checkpoint)
        with pytest.raises(DataError, match="m.pt: (has no parameters by name|a is no dense)"):
            import_model(config(), "m", checkpoint)


def test_other_types_of_numbers(torch, checkpoint):
    """Half precision is read, integers are refused."""
    state = build(torch).state_dict()
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        torch.save({name: value.to(kind) for name, value in state.items()}, checkpoint)
        model = import_model(config(), "m", checkpoint)
        assert model.tables["c0"].dtype == np.float32
        np.testing.assert_allclose(model.tables["c0"], state["emb_l.0.weight"], atol=0.02)
    torch.save(state | {"emb_l.0.weight": torch.zeros((50, 4), dtype=torch.int8)}, checkpoint)
    with pytest.raises(DataError, match=r"emb_l.0.weight \(tables.c0\) must hold floats, not int8"):
        import_model(config(), "m", checkpoint)
    small = state["emb_l.0.weight"].to(torch.float8_e4m3fn)
    torch.save(state | {"emb_l.0.weight": small}, checkpoint)
    with pytest.raises(DataError, match=r"m\.pt: emb_l\.0\.weight holds torch\.float8_e4m3fn, wh"):
        import_model(config(), "m", checkpoint)


def test_neumf_is_refused(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"")
    neumf = config(kind="neumf", factors=2, product=["c0", "c1"])
    with pytest.raises(ConfigError, match="needs a model of kind = \"dlrm\", and 'm' is 'neumf'"):
        import_model(neumf, "m", tmp_path / "m.pt")


def test_without_pytorch(tmp_path, monkeypatch):
    (tmp_path / "m.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[train\]'"):
        import_model(config(), "m", tmp_path / "m.pt")
