"""The published weights of Neural Collaborative Filtering give the published quality."""

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.ncf import CONFIG, evaluate, main, table
from benchmarks.ncf_training import NcfRecipe, NcfTrainer, training_pairs
from rpaccel.cli import app
from rpaccel.config import load
from rpaccel.errors import DataError

PUBLISHED = {"gmf": {"hr": 0.637, "ndcg": 0.369}, "mlp": {"hr": 0.671, "ndcg": 0.396}}


def test_published_quality(data_folder):
    report = evaluate(data_folder / "ncf")
    assert report["queries"] == 6040
    for name, expected in PUBLISHED.items():
        model = report["models"][name]
        for metric, value in expected.items():
            assert round(model["float"][metric]["mean"], 3) == value
            assert abs(model["int8 - float"][metric]["mean"]) <= 0.003
            assert model["int8"][metric]["low"] < value < model["int8"][metric]["high"]
    text = table(report)
    assert "gmf, int8 - float" in text
    assert "6040 users" in text


def test_without_data(tmp_path):
    with pytest.raises(DataError, match=r"ml-1m.test.rating: missing"):
        evaluate(tmp_path)


@pytest.mark.parametrize("stage", ["mlp", "gmf", "neumf"])
def test_example_compiles(tmp_path, stage):
    """The machine runs each."""
    assert {m.name for m in load(CONFIG).models} == {*PUBLISHED, "neumf"}
    path = tmp_path / "ncf.toml"
    path.write_text(CONFIG.read_text().replace('stages = ["mlp"]', f'stages = ["{stage}"]'))
    result = CliRunner().invoke(app, ["compile", str(path)])
    assert result.exit_code == 0, result.stderr


USERS, MOVIES = 12, 110


@pytest.fixture
def folders(tmp_path, rng):
    """Ratings of a few users, who rate even movies only; each one's last is held out."""
    movies = rng.permutation(np.arange(1, MOVIES + 1) * 10)
    rows, held, rated = [], [], None
    for user in range(USERS):
        mine = rng.choice(MOVIES // 2, 6, replace=False) * 2
        rows += [f"{user + 1}::{movies[m]}::4::{900 + at}" for at, m in enumerate(mine)]
        held.append((user, mine[-1]))
        rated = mine if user == 1 else rated
    rows += [f"1::{movies[m]}::3::1" for m in range(1, MOVIES, 2)]  # each has a rating
    rows += [f"2::{movies[m]}::3::1" for m in range(0, MOVIES, 2) if m not in rated]
    (tmp_path / "ratings.dat").write_text("\n".join(rows) + "\n")
    (tmp_path / "movies.dat").write_text("".join(f"{m}::T (1990)::Drama\n" for m in movies))
    (tmp_path / "item_ids.tsv").write_text("".join(f"{i}\t{m}\n" for i, m in enumerate(movies)))
    (tmp_path / "ml-1m.test.rating").write_text("".join(f"{u}\t{i}\t4\t9\n" for u, i in held))
    (tmp_path / "ml-1m.test.negative").write_text("".join(f"({u},{i})\t1\t3\n" for u, i in held))
    return tmp_path, len(rows), held


def test_training_leaves_the_held_out_items_out(folders):
    folder, rows, held = folders
    users, items, _ = training_pairs(folder, folder)
    pairs = set(zip(users.tolist(), items.tolist(), strict=True))
    assert len(pairs) == len(users) == rows - USERS
    assert not pairs & set(held)


def test_training(folders):
    torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
    pairs = training_pairs(folders[0], folders[0])
    recipe = NcfRecipe(epochs=2, batch=256, validation_users=1)
    models = [NcfTrainer(torch, load(CONFIG), pairs, recipe) for _ in range(2)]
    assert all(m.seen[u, i] for m in models for u, i in zip(m.users, m.items, strict=True))
    assert len(models[0].users) == len(pairs[0]) - 1
    for users, items, targets, _ in models[0].batches():
        np.testing.assert_array_equal(models[0].seen[users, items], targets.numpy() == 1)
    first, again = (NcfTrainer(torch, load(CONFIG), pairs, recipe).run() for _ in range(2))
    np.testing.assert_array_equal(first.top[-1].weight, again.top[-1].weight)


def test_training_on_other_data(folders, capsys):
    folder = str(folders[0])
    (folders[0] / "item_ids.tsv").write_text("0\t10\n1\t20\n")
    with pytest.raises(DataError, match=r"item_ids.tsv: movie 30 of the ratings is missing"):
        training_pairs(folder, folder)
    pytest.importorskip("torch", reason="training needs the extra 'train'")
    assert main([folder, "--train", folder, "-o", f"{folder}/out"]) == 2
    assert "movie 30 of the ratings is missing" in capsys.readouterr().err
