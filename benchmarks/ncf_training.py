"""A NeuMF trained on MovieLens 1M without the held-out items of the published test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rpaccel.config import load
from rpaccel.errors import DataError
from rpaccel.progress import progress_bar
from rpaccel.trainer import Trainer, import_torch, reproducible
from sw_model.dlrm import Inputs
from sw_model.metrics import hit_rate, ndcg, served
from sw_model.movielens_files import load_1m
from sw_model.ncf import load_leave_one_out

MODEL = "neumf"

OTHERS = 99
"""Items that a validation user's held-out item is ranked among."""


@dataclass(frozen=True)
class NcfRecipe:
    """Binary cross entropy with negatives drawn anew in each epoch, AdamW.

    The learning rate falls linearly to a twentieth. Of ``validation_users`` the latest training
    rating is held out; the epoch with the best NDCG@10 on these is kept.
    """

    epochs: int = 12
    patience: int = 4
    negatives: int = 6
    dropout: float = 0.2
    batch: int = 8192
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    logit_limit: float = 8.0
    logit_penalty: float = 0.02
    validation_users: int = 1000


def training_pairs(ratings, folder):
    """Users, items and times of all ratings but the held-out ones, ids of the test split."""
    data, split = load_1m(ratings), load_leave_one_out(folder)
    path = Path(folder) / "item_ids.tsv"
    try:
        ids = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    number = dict(zip(ids[:, 1].tolist(), ids[:, 0].tolist(), strict=True))
    missing = set(data.movie_ids.tolist()) - set(number)
    if missing:
        raise DataError(f"{path}: movie {min(missing)} of the ratings is missing")
    items = np.array([number[m] for m in data.movie_ids.tolist()])[data.movies]
    held = np.zeros((len(data.user_ids), len(ids)), dtype=bool)
    held[split.users, split.items[:, -1]] = True
    train = ~held[data.users, items]
    if (~train).sum() != len(split.users):
        raise DataError(f"{folder}: the held-out items are not among the ratings of {ratings}")
    return data.users[train], items[train], data.timestamps[train]


class NcfTrainer(Trainer):
    """Trains the configuration's NeuMF on pairs of users and items."""

    metric = "NDCG@10"

    def __init__(self, torch, config, pairs, recipe=NcfRecipe(), checkpoint=None):
        model = next(m for m in config.models if m.name == MODEL)
        super().__init__(torch, config, model, recipe, checkpoint)
        self.recipe = recipe
        users, items, times = pairs
        rows = {t.name: t.rows for t in self.features.tables}
        self.seen = np.zeros((rows["user"], rows["item"]), dtype=bool)
        self.seen[users, items] = True
        draw = np.random.default_rng([config.data.seed, 1])
        order = np.lexsort((items, times, users))
        present = np.unique(users)
        chosen = draw.permutation(present)[: recipe.validation_users]
        last = order[np.searchsorted(users[order], chosen, side="right") - 1]
        others = [
            draw.choice(np.flatnonzero(~self.seen[user]), OTHERS, replace=False) for user in chosen
        ]
        self.held_users = np.repeat(chosen, OTHERS + 1)
        self.held_items = np.column_stack([np.array(others), items[last]])
        kept = np.ones(len(users), dtype=bool)
        kept[last] = False
        self.users, self.items = users[kept], items[kept]

    def steps(self):
        return -(-len(self.users) * (1 + self.recipe.negatives) // self.recipe.batch)

    def batches(self):
        users = np.repeat(self.users, self.recipe.negatives)
        items = self.rng.integers(self.seen.shape[1], size=len(users))
        new = ~self.seen[users, items]
        order = self.rng.permutation(len(self.users) + int(new.sum()))
        parts = (
            np.concatenate([self.users, users[new]])[order],
            np.concatenate([self.items, items[new]])[order],
            (order < len(self.users)).astype(np.float32),
        )
        done = 0
        for batch in zip(
            *(self.torch.from_numpy(p).split(self.recipe.batch) for p in parts), strict=True
        ):
            yield *batch, (self.epoch + done / len(order)) / self.recipe.epochs
            done += len(batch[0])

    def rate(self, batch):
        return 1 - 0.95 * batch[-1]

    def error(self, batch):
        users, items, targets, _ = batch
        bags = {"user": users[:, None], "item": items[:, None]}
        dropout = dict.fromkeys(bags, self.recipe.dropout)
        logits = self.forward(self.torch.zeros(len(users), 0), bags, dropout)
        limit, penalty = self.recipe.logit_limit, self.recipe.logit_penalty
        return self.loss(logits, targets, limit=limit, penalty=penalty)

    def validate(self, model):
        bags = {"user": self.held_users[:, None], "item": self.held_items.reshape(-1, 1)}
        logits = model(Inputs(np.zeros((len(self.held_users), 0), np.float32), bags))
        relevant = np.zeros(self.held_items.shape, dtype=bool)
        relevant[:, -1] = True
        hits = served(logits.reshape(relevant.shape).astype(np.float64), relevant, 10)
        self.hit_rate = float(hit_rate(hits).mean())
        return float(ndcg(hits, relevant.sum(axis=1)).mean())


def train(config_path, ratings, folder, output):
    """Train, or go on from a checkpoint in ``output``; returns the file of weights."""
    torch = import_torch()
    config = load(config_path)
    pairs = training_pairs(ratings, folder)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / f"{MODEL}.checkpoint"
    with reproducible(torch):
        trainer = NcfTrainer(torch, config, pairs, checkpoint=checkpoint)
        if checkpoint.exists():
            trainer.restore()
        with progress_bar() as bar:
            task = bar.add_task(f"training {MODEL}", total=None)
            model = trainer.run(lambda done, total: bar.update(task, completed=done, total=total))
    path = output / f"{MODEL}.safetensors"
    model.save(path)
    checkpoint.unlink()
    return path
