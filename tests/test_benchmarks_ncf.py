"""The published weights of Neural Collaborative Filtering give the published quality."""

import pytest
from typer.testing import CliRunner

from benchmarks.ncf import CONFIG, evaluate, table
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


@pytest.mark.parametrize("stage", ["mlp", "gmf"])
def test_example_compiles(tmp_path, stage):
    """The machine runs both."""
    assert {m.name for m in load(CONFIG).models} == set(PUBLISHED)
    path = tmp_path / "ncf.toml"
    path.write_text(CONFIG.read_text().replace('stages = ["mlp"]', f'stages = ["{stage}"]'))
    result = CliRunner().invoke(app, ["compile", str(path)])
    assert result.exit_code == 0, result.stderr
