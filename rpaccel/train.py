"""Training of the configuration's models with PyTorch, from data to float weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config, ModelConfig
from rpaccel.errors import ConfigError, ToolError
from rpaccel.train_clicks import ClickTrainer
from rpaccel.train_network import Network
from sw_model.click_log import ClickLog
from sw_model.dataset import Candidates, Dataset
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel
from sw_model.metrics import ndcg
from sw_model.movielens import LIKED, Split

if TYPE_CHECKING:
    import torch

__all__ = ["RECIPE", "Recipe", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: binary cross-entropy with sampled negatives, AdamW.

    Attributes
    ----------
    epochs : int
        Passes over the training ratings; the learning rate falls linearly to zero over them.
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
) -> list[Path]:
    """Train every model of a configuration and write ``MODEL.safetensors`` for each.

    The same configuration gives the same files on the same machine and PyTorch; ``data.seed`` is
    the only source of randomness.

    Parameters
    ----------
    config : Config
    output : path
        Folder for the weights, made if it is missing.
    recipe : Recipe
        For MovieLens; click logs have :data:`rpaccel.train_clicks.CLICK_RECIPE`.
    dataset : Dataset or ClickLog, optional
        By default the one of ``config.data.source``.

    Returns
    -------
    list of Path
        A file for each model.

    Raises
    ------
    ToolError
        PyTorch is not installed.
    ConfigError
        The configuration names no data to train on, or its features do not fit the data.
    """
    torch = _torch()
    if dataset is None:
        dataset = open_dataset(config)
        if dataset is None:
            raise ConfigError("data.source = 'random' has nothing to train on")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)  # the order of sums, and so the weights, would depend on the cores
    torch.use_deterministic_algorithms(True)
    try:
        paths = []
        for model in config.models:
            trainer: _Trainer | ClickTrainer
            if isinstance(dataset, ClickLog):
                trainer = ClickTrainer(torch, config, model, dataset)
            else:
                trainer = _Trainer(torch, config, model, dataset, recipe)
            paths.append(output / f"{model.name}.safetensors")
            trainer.run().save(paths[-1])
        return paths
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ToolError(
            "training needs PyTorch, which is not installed: pip install 'rpaccel[train]'"
        ) from None
    return torch


class _Trainer(Network):
    """Trains one model."""

    def __init__(
        self, torch: Any, config: Config, model: ModelConfig, dataset: Dataset, recipe: Recipe
    ) -> None:
        super().__init__(torch, config, model)
        self.dataset = dataset
        self.recipe = recipe
        self.queries = dataset.candidates(
            Split.CALIBRATION,
            items=min(recipe.validation_items, dataset.movies // 2),
            seed=config.data.seed,
        )[: recipe.validation_queries]
        self.dense_query = torch.from_numpy(dataset.dense_query)
        self.dense_item = torch.from_numpy(dataset.dense_item)
        self.bags = {
            t.name: torch.from_numpy(np.minimum(dataset.bags[t.name], t.rows))
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

    def error(
        self, users: torch.Tensor, movies: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """What training minimises, a scalar."""
        logits = self.logits(users, movies)
        return self.loss(
            logits, targets, limit=self.recipe.logit_limit, penalty=self.recipe.logit_penalty
        )

    def run(self) -> FloatModel:
        """Train, and return the model of the epoch that validates best."""
        torch, recipe = self.torch, self.recipe
        optimiser = torch.optim.AdamW(
            self.modules().parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, recipe.epochs)
        best, quality = self.snapshot(), -1.0
        for epoch in range(recipe.epochs):
            loss, batches = 0.0, 0
            examples = [torch.from_numpy(part) for part in self.examples()]
            for users, movies, targets in zip(*(e.split(recipe.batch) for e in examples)):
                error = self.error(users, movies, targets)
                optimiser.zero_grad()
                error.backward()
                optimiser.step()
                loss, batches = loss + error.item(), batches + 1
            schedule.step()
            model = self.snapshot()
            found = self.validate(model)
            log.info(
                "%s: epoch %d of %d, loss %.4f, NDCG@64 %.4f",
                self.model.name, epoch + 1, recipe.epochs, loss / batches, found,
            )  # fmt: skip
            if found > quality:
                best, quality = model, found
        return best

    def validate(self, model: FloatModel) -> float:
        """Mean NDCG@64 on queries of the calibration split."""

        def one(query: Candidates) -> float:
            logits = model(self.dataset.candidate_inputs(query))
            served = query.relevant[np.argsort(-logits, kind="stable")[:64]]
            return float(ndcg(served, query.relevant.sum()))

        return float(np.mean([one(query) for query in self.queries]))
