"""Training of the configuration's models with PyTorch, from data to float weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.models import ModelConfig
from rpaccel.progress import progress_bar
from rpaccel.train_clicks import ClickTrainer
from rpaccel.trainer import (
    Trainer,
    check_device,
    import_torch,
    refuse_leftover,
    reproducible,
)
from sw_model.click_log import ClickLog
from sw_model.dataset import Candidates, Dataset
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel
from sw_model.metrics import ndcg
from sw_model.movielens import LIKED, Split

if TYPE_CHECKING:
    import torch

__all__ = ["RECIPE", "Recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: binary cross-entropy with sampled negatives, AdamW.

    Attributes
    ----------
    epochs : int
        Passes over the training ratings at most; the learning rate falls linearly over them, to a
        twentieth.
    patience : int
        Epochs in a row that validate no better than the best before, after which training ends.
    negatives : int
        Movies drawn for each training rating, anew in each epoch, from all that the user did not
        rate in the training split (held-out movies may be among them: training knows nothing of
        them).
    disliked : float
        Target of a movie rated below :data:`sw_model.movielens.LIKED`: watching it says something.
    dropout : float
        Of elements of the user's and the movie's embedding.
    logit_limit : float
        Logits beyond it, either way, are penalised by the square of their excess: an int16 logit
        ends at 16, and saturated logits have no order.
    validation_queries : int
        Queries of the calibration split; the epoch with the best NDCG@64 on them is kept.
    """

    epochs: int = 12
    patience: int = 4
    negatives: int = 6
    disliked: float = 0.5
    dropout: float = 0.2
    batch: int = 4096
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    logit_limit: float = 8.0
    logit_penalty: float = 0.02
    validation_queries: int = 256
    validation_items: int = 1024


RECIPE = Recipe()


def train(
    config: Config,
    output: str | Path,
    *,
    recipe: Recipe = RECIPE,
    dataset: Dataset | ClickLog | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> list[Path]:
    """Train every model of a configuration and write ``MODEL.safetensors`` for each.

    The same configuration gives the same files on the same machine and PyTorch; ``data.seed`` is
    the only source of randomness. Until all models are done, ``MODEL.checkpoint`` says how far each
    is. Ctrl-C ends with it, and going on later gives the same files as if nothing had happened.

    Parameters
    ----------
    config : Config
    output : path
        Folder for the weights, made if it is missing.
    recipe : Recipe
        For MovieLens; click logs have :data:`rpaccel.train_clicks.CLICK_RECIPE`.
    dataset : Dataset or ClickLog, optional
        By default the one of ``config.data.source``.
    resume : bool
        Go on from the checkpoints in ``output``; models without one are trained from the start.
    device : str
        Where PyTorch computes: ``cpu``, or ``cuda`` for a GPU, which adds in another order and
        gives other weights than the CPU.

    Returns
    -------
    list of Path
        A file for each model.

    Raises
    ------
    ToolError
        PyTorch is not installed.
    ConfigError
        The configuration names no data to train on, or its features do not fit the data; or there
        is a checkpoint, and ``resume`` is not set; or there is no such device.
    DataError
        A checkpoint is damaged, or is of another configuration; or there is nothing to validate
        on; or a training diverged.
    KeyboardInterrupt
        Ctrl-C; a checkpoint was written.
    """
    torch = import_torch()
    check_device(torch, device)
    if dataset is None:
        dataset = open_dataset(config)
        if dataset is None:
            raise ConfigError("data.source = 'random' has nothing to train on")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = {m.name: output / f"{m.name}.checkpoint" for m in config.models}
    if not resume:
        for checkpoint in checkpoints.values():
            refuse_leftover(checkpoint)
    paths = []
    with reproducible(torch, device):
        for model in config.models:
            checkpoint = checkpoints[model.name]
            trainer: Trainer
            if isinstance(dataset, ClickLog):
                trainer = ClickTrainer(
                    torch, config, model, dataset, checkpoint=checkpoint, device=device
                )
            else:
                trainer = _Trainer(
                    torch, config, model, dataset, recipe, checkpoint=checkpoint, device=device
                )
            if checkpoint.exists():
                trainer.restore()
            paths.append(output / f"{model.name}.safetensors")
            _run(trainer).save(paths[-1])
    for checkpoint in checkpoints.values():
        checkpoint.unlink()
    return paths


def _run(trainer: Trainer) -> FloatModel:
    with progress_bar() as bar:
        task = bar.add_task(f"training {trainer.model.name}", total=None)
        return trainer.run(lambda done, total: bar.update(task, completed=done, total=total))


class _Trainer(Trainer):
    """Trains one model on MovieLens."""

    metric = "NDCG@64"

    def __init__(
        self,
        torch: Any,
        config: Config,
        model: ModelConfig,
        dataset: Dataset,
        recipe: Recipe,
        *,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(torch, config, model, recipe, checkpoint, device)
        self.dataset = dataset
        self.recipe = recipe
        # so few that the user who rated the most movies has enough of the others
        room = dataset.movies - int(np.bincount(dataset.data.users).max()) + 1
        self.queries = dataset.candidates(
            Split.CALIBRATION,
            items=min(recipe.validation_items, dataset.movies // 2, room),
            count=recipe.validation_queries,
            seed=config.data.seed,
        )
        self.dense_query = self.tensor(dataset.dense_query)
        self.dense_item = self.tensor(dataset.dense_item)
        self.bags = {
            t.name: self.tensor(np.minimum(dataset.bags[t.name], t.rows))
            for t in self.features.tables
        }

    def logits(self, users: torch.Tensor, movies: torch.Tensor) -> torch.Tensor:
        """Logits of pairs, with dropout: the float model's formula in PyTorch."""
        dense = self.torch.cat([self.dense_query[users], self.dense_item[movies]], dim=1)
        bags = {
            t.name: self.bags[t.name][users if t.scope == "query" else movies]
            for t in self.features.tables
        }
        return self.forward(dense, bags, dict.fromkeys(("user", "movie"), self.recipe.dropout))

    def examples(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Users, movies and targets of an epoch, shuffled, with newly drawn negatives."""
        data = self.dataset.data
        mask = self.dataset.split == Split.TRAIN
        users, movies = data.users[mask], data.movies[mask]
        seen = np.zeros((self.dataset.users, self.dataset.movies), dtype=bool)
        seen[users, movies] = True
        targets = np.where(data.ratings[mask] >= LIKED, 1, self.recipe.disliked)
        other_users = np.repeat(users, self.recipe.negatives)
        other_movies = self.rng.integers(self.dataset.movies, size=len(other_users))
        unseen = ~seen[other_users, other_movies]
        order = self.rng.permutation(len(users) + unseen.sum())
        return (
            np.concatenate([users, other_users[unseen]])[order],
            np.concatenate([movies, other_movies[unseen]])[order],
            np.concatenate([targets, np.zeros(unseen.sum())])[order].astype(np.float32),
        )

    def steps(self) -> int:
        """Batches of an epoch; of the negatives drawn, those that the user rated fall away."""
        ratings = (self.dataset.split == Split.TRAIN).sum()
        return -(-int(ratings) * (1 + self.recipe.negatives) // self.recipe.batch)

    def batches(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """Users, movies and targets."""
        examples = [self.tensor(part) for part in self.examples()]
        yield from zip(*(e.split(self.recipe.batch) for e in examples), strict=True)

    def rate(self, batch: tuple[torch.Tensor, ...]) -> float:
        """It falls from epoch to epoch."""
        return 1 - 0.95 * self.epoch / self.recipe.epochs

    def error(self, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Cross entropy and the penalty of large logits."""
        users, movies, targets = batch
        logits = self.logits(users, movies)
        return self.loss(
            logits, targets, limit=self.recipe.logit_limit, penalty=self.recipe.logit_penalty
        )

    def validate(self, model: FloatModel) -> float:
        """Mean NDCG@64 on queries of the calibration split."""

        def one(query: Candidates) -> float:
            logits = model(self.dataset.candidate_inputs(query))
            served = query.relevant[np.argsort(-logits, kind="stable")[:64]]
            return float(ndcg(served, query.relevant.sum()))

        return float(np.mean([one(query) for query in self.queries]))
