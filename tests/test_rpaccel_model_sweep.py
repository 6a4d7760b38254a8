"""The hyperparameter sweep: its grid, what it keeps, and what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel import model_sweep
from rpaccel.cli import app
from rpaccel.click_quality import METRICS, with_test_queries
from rpaccel.config import Config, load
from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.model_sweep import Grid, sweep_models, train_one
from rpaccel.model_sweep_report import draw, table
from sw_model.click_log import ClickLog
from sw_model.datasets import open_dataset
from sw_model.movielens import Split
from tests.workloads import criteo_like

EXAMPLE = Path(__file__).parents[1] / "examples/criteo-like.toml"


@pytest.fixture(autouse=True)
def torch():
    return pytest.importorskip("torch", reason="training needs the extra 'train'")


def test_grid_has_recpipes_models():
    models = {m.name: m for m in Grid().models()}
    assert len(models) == 30
    example = load(EXAMPLE)
    ours = {
        "small": "concat-small-4", "med": "concat-small-16", "large": "concat-large-32",
        "small-dot": "dot-small-4", "med-dot": "dot-small-16", "large-dot": "dot-large-32",
    }  # fmt: skip
    for theirs in example.models:
        assert models[ours[theirs.name]].layers(example.features) == theirs.layers(example.features)


def results(values):
    """Stands for the training: errors by the models' names."""

    def train(config, models, workers, done):
        train.asked = [model.name for model in models]
        for model in models:
            if model.name not in values:
                raise KeyboardInterrupt
            error = values[model.name]
            metrics = {m: {"mean": error, "low": error - 0.1, "high": error + 0.1} for m in METRICS}
            done(model, {"seconds": 3.0, "queries": 20, **metrics})

    return train


def test_report_and_resume(tmp_path, monkeypatch):
    grid = Grid(dimensions=(2, 4), mlps=("small",))
    names = [m.name for m in grid.models()]
    assert names == ["concat-small-2", "concat-small-4", "dot-small-2", "dot-small-4"]
    errors = dict(zip(names, (0.21, 0.22, 0.20, 0.19), strict=True))
    config = criteo_like(tmp_path)
    first = results({"dot-small-4": 0.19, "dot-small-2": 0.20})
    monkeypatch.setattr(model_sweep, "_train_all", first)
    with pytest.raises(KeyboardInterrupt):
        sweep_models(config, grid, tmp_path, workers=1)
    assert first.asked == ["dot-small-4", "dot-small-2", "concat-small-4", "concat-small-2"]
    second = results(errors)
    monkeypatch.setattr(model_sweep, "_train_all", second)
    report = sweep_models(config, grid, tmp_path, workers=1)
    assert second.asked == ["concat-small-4", "concat-small-2"]
    rows = {row["name"]: row for row in report["models"]}
    assert list(rows) == names
    assert {n: row["error"]["mean"] for n, row in rows.items()} == errors
    macs = {m.name: m.macs(config.features) for m in grid.models()}
    assert {n: row["macs"] for n, row in rows.items()} == macs
    # by MACs: concat-2, concat-4 (worse), dot-2, dot-4
    assert [rows[n]["best_macs"] for n in names] == [True, False, True, True]
    rows_of_tables = sum(t.rows for t in config.features.tables)
    layers = sum(a * b + a for a, b in grid.models()[0].layers(config.features).values())
    assert rows["concat-small-2"]["parameters"] == rows_of_tables * 2 + layers
    lines = table(report).splitlines()
    assert "4 models, 12000 impressions, tested on 20 queries" in lines[0]
    assert lines[3].split()[:4] == [
        "concat-small-2", str(macs[names[0]]), str(rows[names[0]]["parameters"]), "0.2100",
    ]  # fmt: skip
    draw(report, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 20_000


def test_results_of_other_settings(tmp_path, monkeypatch):
    grid = Grid(dimensions=(4,), mlps=("small",), interactions=("dot",))
    monkeypatch.setattr(model_sweep, "_train_all", results({"dot-small-4": 0.2}))
    sweep_models(criteo_like(tmp_path), grid, tmp_path, workers=1)
    with pytest.raises(ConfigError, match=r"dot-small-4\.json: made with data = .*, not .*remove"):
        sweep_models(criteo_like(tmp_path, seed=3), grid, tmp_path, workers=1)
    path = tmp_path / "dot-small-4.json"
    content = json.loads(path.read_text())
    for text in ("", "[]", path.read_text()[:-9], json.dumps(content | {"result": {}})):
        path.write_text(text)
        with pytest.raises(DataError, match=r"dot-small-4\.json: is no result of a sweep"):
            sweep_models(criteo_like(tmp_path), grid, tmp_path, workers=1)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"mlps": ("tiny",)}, "mlp must be one of small, medium, large, not 'tiny'"),
        ({"interactions": ("cat",)}, "interaction must be one of concat, dot, not 'cat'"),
        ({"dimensions": (0,)}, r"dimension must be 1\.\.512, not 0"),
    ],
)
def test_bad_grid(change, text):
    with pytest.raises(ConfigError, match=text):
        Grid(**change)


def test_bad_settings(tmp_path):
    config = criteo_like(tmp_path)
    with pytest.raises(ConfigError, match="workers must be 1 or more, not 0"):
        sweep_models(config, Grid(), tmp_path, workers=0)
    demo = load(EXAMPLE.with_name("demo.toml"))
    for what in (lambda: sweep_models(demo, Grid(), tmp_path, workers=1),
                 lambda: with_test_queries(demo, 3)):  # fmt: skip
        with pytest.raises(ConfigError, match="'movielens-latest-small' is no click log"):
            what()
    with pytest.raises(ConfigError, match="test queries must be 1 or more, not 0"):
        with_test_queries(config, 0)


def test_more_test_queries_begin_with_the_same(tmp_path):
    config = criteo_like(tmp_path)
    more = with_test_queries(config, 30)
    assert Config.model_validate(more.model_dump()) == more
    logs = [open_dataset(each) for each in (config, more)]
    assert all(isinstance(log, ClickLog) for log in logs)
    few, many = (log.candidates(Split.TEST, items=128) for log in logs)
    assert (len(few), len(many)) == (20, 30)
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.relevant, other.relevant)
        np.testing.assert_array_equal(one.inputs.dense, other.inputs.dense)


def test_training_of_one(tmp_path):
    (model,) = Grid(dimensions=(4,), mlps=("small",), interactions=("dot",)).models()
    result = train_one(criteo_like(tmp_path), model)
    assert result["queries"] == 20
    assert result["seconds"] > 0
    assert 0.15 < result["error"]["mean"] < 0.3
    assert result["auc"]["low"] < result["auc"]["mean"] < result["auc"]["high"]


def small_example(tmp_path, *, test=8192):
    """The example with few impressions and rows."""
    text = re.sub(
        r"periods = .*",
        f"periods = {{ training = 8192, calibration = 4096, test = {test} }}",
        EXAMPLE.read_text(),
    )
    path = tmp_path / "small.toml"
    path.write_text(re.sub(r"rows = \d{3,}", "rows = 100", text))
    return path


@pytest.mark.slow
def test_command(tmp_path):
    config = small_example(tmp_path)
    call = ["sweep", str(config), "-o", str(tmp_path / "out"), "--dimension", "2", "--dimension",
            "4", "--mlp", "small", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert [m["name"] for m in report["models"]] == [
        f"{kind}-small-{d}" for kind in ("concat", "dot") for d in (2, 4)
    ]
    assert (tmp_path / "out/sweep.png").exists()
    again = CliRunner().invoke(app, call)
    assert json.loads(again.stdout) == report  # nothing is trained again


CLI = """
import signal
from rpaccel.cli import app

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
"""
"""The command, with Ctrl-C as in a terminal where the tests run without one."""


@pytest.mark.slow
def test_interrupted(tmp_path):
    """Ctrl-C ends the workers too; what they finished before is not done again."""
    script, out = tmp_path / "cli.py", tmp_path / "out"
    script.write_text(CLI)
    call = [sys.executable, str(script), "sweep", str(small_example(tmp_path)), "-o", str(out),
            "--mlp", "small", "--interaction", "concat", "--workers", "1",
            "--dimension", "2", "--dimension", "4"]  # fmt: skip
    with subprocess.Popen(
        call, stderr=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        first = out / "concat-small-4.json"
        while not first.exists():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "rpaccel: interrupted"
    assert [path.name for path in out.iterdir()] == [first.name]
    for _ in range(100):  # no worker is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes are left")
    kept = first.stat().st_mtime_ns
    subprocess.run(call, check=True, capture_output=True)
    assert {p.name for p in out.iterdir()} == {first.name, "concat-small-2.json", "sweep.png"}
    assert first.stat().st_mtime_ns == kept


@pytest.mark.slow
def test_a_worker_that_fails(tmp_path, monkeypatch):
    """Its error is ours; one that is killed is named."""
    call = ["sweep", str(small_example(tmp_path, test=1)), "-o", str(tmp_path / "out"),
            "--dimension", "2", "--mlp", "small"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert "gives no query of 4096 items with a click" in done.stderr
    monkeypatch.setattr(model_sweep, "_work", _dies)
    with pytest.raises(ToolError, match=r"concat-small-2 ended without a result \(exit code 7\)"):
        sweep_models(
            load(small_example(tmp_path)),
            Grid((2,), ("small",), ("concat",)),
            tmp_path,
            workers=1,
        )


def _dies(*_):
    raise SystemExit(7)
