"""Training on a click log: a pass or more over its training period, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.models import ModelConfig
from rpaccel.trainer import Trainer
from sw_model.click_log import ClickLog
from sw_model.dlrm import FloatModel, Inputs
from sw_model.metrics import log_loss
from sw_model.movielens import Split

if TYPE_CHECKING:
    import torch

__all__ = ["CLICK_RECIPE", "ClickRecipe", "ClickTrainer"]


@dataclass(frozen=True)
class ClickRecipe:
    """How a model is trained on clicks: binary cross-entropy, AdamW.

    Attributes
    ----------
    epochs : int
        Passes over the training period at most; the one with the least log loss on the calibration
        period is kept. The learning rate falls linearly to a twentieth over each.
    patience : int
        Passes in a row that do not improve it, after which training ends.
    logit_limit, logit_penalty : float
        As of :class:`rpaccel.train.Recipe`.
    """

    epochs: int = 2
    patience: int = 1
    batch: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    logit_limit: float = 8.0
    logit_penalty: float = 0.02


CLICK_RECIPE = ClickRecipe()


class ClickTrainer(Trainer):
    """Trains one model on a click log."""

    metric = "negative log loss"

    def __init__(
        self,
        torch: Any,
        config: Config,
        model: ModelConfig,
        data: ClickLog,
        recipe: ClickRecipe = CLICK_RECIPE,
        *,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(torch, config, model, recipe, checkpoint, device)
        self.data, self.recipe = data, recipe
        self.held_out = data.candidates(Split.CALIBRATION, items=config.funnel.items)

    def steps(self) -> int:
        """Batches of a pass, or some fewer: each block of the log ends with a smaller one."""
        return -(-len(self.data.periods.training) // self.recipe.batch)

    def batches(self) -> Iterator[tuple[Inputs, NDArray[np.bool_], float]]:
        """Inputs, labels, and the share of the pass that is done; blocks are shuffled."""
        done, rows = 0, len(self.data.periods.training)
        for inputs, labels in self.data.training():
            order = self.rng.permutation(len(labels))
            for at in range(0, len(labels), self.recipe.batch):
                chosen = order[at : at + self.recipe.batch]
                yield inputs[chosen], labels[chosen], done / rows
                done += len(chosen)

    def rate(self, batch: tuple[Inputs, NDArray[np.bool_], float]) -> float:
        """It falls within each pass."""
        return 1 - 0.95 * batch[-1]

    def error(self, batch: tuple[Inputs, NDArray[np.bool_], float]) -> torch.Tensor:
        """Cross entropy and the penalty of large logits."""
        inputs, labels, _ = batch
        bags = {name: self.tensor(ids) for name, ids in inputs.indices.items()}
        logits = self.forward(self.tensor(inputs.dense), bags, {})
        return self.loss(
            logits,
            self.tensor(labels.astype(np.float32)),
            limit=self.recipe.logit_limit,
            penalty=self.recipe.logit_penalty,
        )

    def validate(self, model: FloatModel) -> float:
        """Log loss on the calibration period, negative."""
        return -float(np.mean([log_loss(model(q.inputs), q.relevant) for q in self.held_out]))
