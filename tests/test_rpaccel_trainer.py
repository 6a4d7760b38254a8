"""Epochs, early stopping, progress and checkpoints, on the smallest of trainings."""

import os
import pickle
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rpaccel.config
from rpaccel.cli import app
from rpaccel.errors import DataError
from rpaccel.train import train
from rpaccel.train_clicks import ClickTrainer
from rpaccel.trainer import Trainer, reproducible
from tests.interrupt import interrupt_at
from tests.workloads import criteo_like

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")

STEPS = 6
"""Batches of an epoch of the toy."""


@pytest.fixture(autouse=True)
def _one_thread():
    with reproducible(torch):
        yield


@dataclass(frozen=True)
class ToyRecipe:
    epochs: int = 4
    patience: int = 4
    learning_rate: float = 0.05
    weight_decay: float = 0.01


class Toy(Trainer):
    """Random targets; dropout on a table; qualities by epoch may be given."""

    metric = "quality"
    qualities: tuple[float, ...] = ()

    def steps(self):
        return STEPS

    def batches(self):
        for _ in range(STEPS):
            yield self.rng.normal(size=(8, self.features.dense)).astype(np.float32)

    def error(self, batch):
        bags = {
            t.name: torch.from_numpy(np.arange(8)[:, None] % t.rows) for t in self.features.tables
        }
        logits = self.forward(torch.from_numpy(batch), bags, dict.fromkeys(bags, 0.5))
        return self.loss(logits, torch.from_numpy((batch[:, 0] > 0) * 1.0), limit=8, penalty=0.1)

    def rate(self, batch):
        return 1 / (1 + self.epoch)

    def validate(self, model):
        if self.qualities:
            return self.qualities[self.epoch]
        return -float(np.square(model.top[-1].weight - 0.1).sum())


def toy(tmp_path, recipe=ToyRecipe()):
    config = criteo_like(tmp_path)
    return Toy(torch, config, config.models[0], recipe, tmp_path / "toy.checkpoint")


def same(a, b):
    def tensors(model):
        layers = [part for layer in model.bottom + model.top for part in (layer.weight, layer.bias)]
        return [*layers, *model.tables.values()]

    return all((x == y).all() for x, y in zip(tensors(a), tensors(b), strict=True))


@pytest.mark.parametrize("step", [0, STEPS - 2, STEPS - 1, STEPS, 3 * STEPS - 1])
def test_resumed_gives_the_same_weights(tmp_path, monkeypatch, step):
    whole = toy(tmp_path).run()
    with interrupt_at(monkeypatch, Toy, step), pytest.raises(KeyboardInterrupt):
        toy(tmp_path).run()
    again = toy(tmp_path)
    again.restore()
    assert again.epoch * STEPS + again.done == step + 1
    assert same(again.run(), whole)
    done = toy(tmp_path)
    done.restore()
    assert done.epoch == 4
    assert same(done.run(), whole)


def test_second_interruption_ends_at_once(tmp_path, monkeypatch):
    """Even where training never comes to a safe point."""
    monkeypatch.setattr(
        Toy, "error", lambda *_: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]
    )
    with pytest.raises(KeyboardInterrupt):
        toy(tmp_path).run()
    assert not (tmp_path / "toy.checkpoint").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_checkpoints_in_long_epochs(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("rpaccel.trainer.CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(
        "rpaccel.trainer.save_checkpoint",
        lambda torch, path, state: saved.append((state["epoch"], state["done"])),
    )
    toy(tmp_path, ToyRecipe(epochs=1)).run()
    assert saved == [(0, done) for done in range(1, STEPS + 1)] + [(1, 0)]


@pytest.mark.parametrize(
    "patience, qualities, epochs, best",
    [
        (1, (0.5, 0.4, 0.9, 1.0), 2, 1),
        (2, (0.5, 0.4, 0.6, 0.6), 4, 3),
        (2, (0.5, 0.5, float("nan"), 1.0), 3, 1),
        (4, (0.1, 0.2, 0.3, 0.4), 4, 4),
    ],
)
def test_early_stopping(tmp_path, patience, qualities, epochs, best):
    trainer = toy(tmp_path, ToyRecipe(patience=patience))
    trainer.qualities = qualities
    model = trainer.run()
    assert (trainer.epoch, trainer.best_epoch) == (epochs, best)
    short = toy(tmp_path, ToyRecipe(epochs=best))
    short.qualities = tuple(range(best))
    assert same(model, short.run())


def test_a_training_that_diverges(tmp_path):
    trainer = toy(tmp_path, ToyRecipe(patience=2))
    trainer.qualities = (float("nan"), float("-inf"))
    with pytest.raises(DataError, match="'front' diverged: after 2 epochs quality has never been"):
        trainer.run()


def test_progress(tmp_path):
    told = []
    trainer = toy(tmp_path)
    trainer.run(lambda *numbers: told.append(numbers))
    assert told == [(done, 4 * STEPS) for done in range(1, 4 * STEPS + 1)]


def test_other_settings(tmp_path):
    toy(tmp_path).run()
    with pytest.raises(DataError, match=r"toy.checkpoint: made with other .*: recipe was "):
        toy(tmp_path, ToyRecipe(epochs=5)).restore()


class Boom:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("damage", ["truncated", "text", "code", "other", "part"])
def test_damaged_checkpoints(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    trainer = toy(tmp_path)
    trainer.run()
    path = trainer.checkpoint
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "text":
        path.write_text("epochs = 4")
    elif damage == "code":
        path.write_bytes(pickle.dumps(Boom()))
    else:
        torch.save({"weights": torch.zeros(3), "version": 1 if damage == "part" else 0}, path)
    with pytest.raises(DataError, match=r"toy.checkpoint: (cannot be read as|not) a checkpoint"):
        toy(tmp_path).restore()
    assert not (tmp_path / "executed").exists()


def test_command_line(tmp_path, monkeypatch):
    """Interrupted in the second model; the first is not trained again."""
    settings = criteo_like(tmp_path)
    monkeypatch.setattr(rpaccel.config, "load", lambda path: settings)

    def call(*options):
        out = tmp_path / "out"
        return CliRunner().invoke(app, ["train", "x.toml", "-o", str(out), *options])

    steps = Counter()
    error = ClickTrainer.error

    def count(self, batch):
        steps[self.model.name] += 1
        return error(self, batch)

    monkeypatch.setattr(ClickTrainer, "error", count)
    whole = [path.read_bytes() for path in train(settings, tmp_path / "whole")]
    expected = steps.copy()
    steps.clear()
    with interrupt_at(monkeypatch, ClickTrainer, expected["front"] + 3):
        result = call()
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1] == "rpaccel: interrupted"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"front.checkpoint", "front.safetensors", "back.checkpoint"}
    result = call()
    assert result.exit_code == 2
    assert "front.checkpoint: a training was interrupted here; go on with --resume" in result.stderr
    result = call("--resume")
    assert result.exit_code == 0
    assert [Path(path).read_bytes() for path in result.stdout.split()] == whole
    assert steps == expected
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".safetensors"}


def test_checkpoint_of_nothing_interrupted(tmp_path):
    """Going on where there is nothing to go on from is training."""
    settings = criteo_like(tmp_path)
    paths = [train(settings, tmp_path / str(i), resume=bool(i))[1] for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
