"""Training on a click log: a pass or more over its training period, in order of time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from rpaccel.config import Config, ModelConfig
from rpaccel.train_network import Network
from sw_model.click_log import ClickLog
from sw_model.dlrm import FloatModel
from sw_model.metrics import log_loss
from sw_model.movielens import Split

__all__ = ["CLICK_RECIPE", "ClickRecipe", "ClickTrainer"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClickRecipe:
    """How a model is trained on clicks: binary cross-entropy, AdamW.

    Attributes
    ----------
    epochs : int
        Passes over the training period at most; the one with the least log loss on the calibration
        period is kept, and the first that does not improve it is the last. The learning rate falls
        linearly to a twentieth over each.
    logit_limit, logit_penalty : float
        As of :class:`rpaccel.train.Recipe`.
    """

    epochs: int = 2
    batch: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    logit_limit: float = 8.0
    logit_penalty: float = 0.02


CLICK_RECIPE = ClickRecipe()


class ClickTrainer(Network):
    """Trains one model on a click log."""

    def __init__(
        self,
        torch: Any,
        config: Config,
        model: ModelConfig,
        data: ClickLog,
        recipe: ClickRecipe = CLICK_RECIPE,
    ) -> None:
        super().__init__(torch, config, model)
        self.data, self.recipe = data, recipe
        self.held_out = data.candidates(Split.CALIBRATION, items=config.funnel.items)

    def run(self) -> FloatModel:
        """Train, and return the model of the pass that validates best."""
        recipe = self.recipe
        parameters = self.modules().parameters()
        optimiser = self.torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        rows = len(self.data.periods.training)
        best, least = self.snapshot(), np.inf
        for epoch in range(recipe.epochs):
            done = 0
            for inputs, labels in self.data.training():
                order = self.rng.permutation(len(labels))
                for at in range(0, len(labels), recipe.batch):
                    chosen = order[at : at + recipe.batch]
                    for group in optimiser.param_groups:
                        group["lr"] = recipe.learning_rate * (1 - 0.95 * done / rows)
                    self._step(optimiser, inputs[chosen], labels[chosen])
                    done += len(chosen)
            model = self.snapshot()
            found = self.validate(model)
            log.info(
                "%s: epoch %d of %d, log loss %.5f",
                self.model.name,
                epoch + 1,
                recipe.epochs,
                found,
            )
            if found >= least:
                break
            best, least = model, found
        return best

    def _step(self, optimiser: Any, inputs: Any, labels: Any) -> None:
        torch = self.torch
        bags = {name: torch.from_numpy(ids) for name, ids in inputs.indices.items()}
        logits = self.forward(torch.from_numpy(inputs.dense), bags, {})
        error = self.loss(
            logits,
            torch.from_numpy(labels.astype(np.float32)),
            limit=self.recipe.logit_limit,
            penalty=self.recipe.logit_penalty,
        )
        optimiser.zero_grad()
        error.backward()
        optimiser.step()

    def validate(self, model: FloatModel) -> float:
        """Log loss on the calibration period."""
        return float(np.mean([log_loss(model(q.inputs), q.relevant) for q in self.held_out]))
