"""What all training has in common: epochs, early stopping, progress, checkpoints."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rpaccel.checkpoint import interruption, load_checkpoint, save_checkpoint
from rpaccel.config import Config
from rpaccel.errors import ConfigError, DataError, ToolError
from rpaccel.models import ModelConfig
from rpaccel.train_network import Network
from sw_model.dlrm import FloatModel

if TYPE_CHECKING:
    import torch as torch_module

__all__ = [
    "AnyRecipe",
    "Progress",
    "Trainer",
    "check_device",
    "import_torch",
    "refuse_leftover",
    "reproducible",
    "training_settings",
]

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0
"""A checkpoint is written after each epoch, and when so much time has passed since the last."""

Progress = Callable[[int, int], None]
"""Told the steps done and the steps of all epochs."""


class AnyRecipe(Protocol):
    """What every recipe says (they are frozen dataclasses)."""

    @property
    def epochs(self) -> int:
        """At most so many passes."""

    @property
    def patience(self) -> int:
        """Epochs in a row without a better validation after which training ends."""

    @property
    def learning_rate(self) -> float:
        """Of AdamW."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


def import_torch() -> Any:
    """PyTorch, which only training needs.

    Raises
    ------
    ToolError
        It is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ToolError(
            "training needs PyTorch, which is not installed: pip install -e '.[train]'"
        ) from None
    return torch


def check_device(torch: Any, device: str) -> None:
    """Check that PyTorch can train on a device.

    Raises
    ------
    ConfigError
        It cannot: names what there is.
    """
    if device == "cpu":
        return
    found = ["cpu", *["cuda"] * torch.cuda.is_available()]
    if device not in found:
        raise ConfigError(
            f"device must be {' or '.join(found)} here, not {device!r}: "
            f"PyTorch {torch.__version__} finds no other"
        )


@contextmanager
def reproducible(torch: Any, device: str = "cpu") -> Iterator[None]:
    """One thread and deterministic algorithms: the same weights on the same machine.

    On a GPU, algorithms are deterministic where PyTorch has such.
    """
    if device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)  # the order of sums, and so the weights, would depend on the cores
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


class Trainer(Network, ABC):
    """Trains one model; what a kind of data brings is in the methods that are abstract here.

    Batches are drawn by ``rng``, dropout by PyTorch's generator, both seeded by ``data.seed``. A
    checkpoint has weights, optimiser and both generators, so that a training that was interrupted
    at any step and goes on later gives the weights of one that was not.

    Parameters
    ----------
    torch : module
    config : Config
    model : ModelConfig
    recipe : AnyRecipe
    checkpoint : Path, optional
        Where checkpoints are written; by default none are, and Ctrl-C ends at once.
    device : str
        Where PyTorch computes.
    """

    metric: str
    """What :meth:`validate` gives, in words."""

    def __init__(
        self,
        torch: Any,
        config: Config,
        model: ModelConfig,
        recipe: AnyRecipe,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(torch, config, model, device)
        self.checkpoint = checkpoint
        self._recipe = recipe
        self._settings = training_settings(torch, config, model, recipe) | {"device": device}
        self._weights = self.modules()
        self._optimiser = torch.optim.AdamW(
            self._weights.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.epoch, self.done, self.loss_sum = 0, 0, 0.0
        self._drawn_from = self.rng.bit_generator.state  # before this epoch's batches
        self.best_epoch, self.quality = 0, -math.inf
        self._best = self._copy()

    @abstractmethod
    def steps(self) -> int:
        """Batches of an epoch, as nearly as is known before it."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Batches of an epoch; nothing but ``rng`` may be drawn from."""

    @abstractmethod
    def error(self, batch: Any) -> torch_module.Tensor:
        """What training minimises, a scalar."""

    @abstractmethod
    def rate(self, batch: Any) -> float:
        """Share of the learning rate that the step of a batch uses."""

    @abstractmethod
    def validate(self, model: FloatModel) -> float:
        """Quality of a model on held-out data; higher is better."""

    def restore(self) -> None:
        """Go on from the checkpoint.

        Raises
        ------
        DataError
            It is damaged, or was made with other settings.
        """
        assert self.checkpoint is not None
        state = load_checkpoint(self.torch, self.checkpoint, self._settings)
        self._weights.load_state_dict(state["weights"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self.rng.bit_generator.state = self._drawn_from = state["rng"]
        self.torch.set_rng_state(state["torch_rng"])
        if self.device == "cuda":
            self.torch.cuda.set_rng_state(state["cuda_rng"])
        for name in ("epoch", "done", "loss_sum", "best_epoch", "quality"):
            setattr(self, name, state[name])
        log.info("%s: goes on in epoch %d, step %d", self.model.name, self.epoch + 1, self.done)

    def run(self, progress: Progress | None = None) -> FloatModel:
        """Train, and return the model of the epoch that validates best.

        Raises
        ------
        DataError
            It diverged: no epoch gives a quality that is a number.
        KeyboardInterrupt
            Ctrl-C; the checkpoint was written.
        """
        with interruption() if self.checkpoint else _never() as asked:
            self._saved = time.monotonic()
            while self.epoch < min(self._recipe.epochs, self.best_epoch + self._recipe.patience):
                self._train_epoch(asked, progress)
                self._finish_epoch()
                self._save()
                if asked():
                    raise KeyboardInterrupt
        if not self.best_epoch:
            raise DataError(
                f"the training of {self.model.name!r} diverged: after {self.epoch} epochs "
                f"{self.metric} has never been a finite number"
            )
        self._weights.load_state_dict(self._best)
        return self.snapshot()

    def _train_epoch(self, asked: Callable[[], bool], progress: Progress | None) -> None:
        every = self.steps()
        for number, batch in enumerate(self.batches()):
            if number < self.done:
                continue  # before the checkpoint: drawn again, so that the draws that follow agree
            for group in self._optimiser.param_groups:
                group["lr"] = self._recipe.learning_rate * self.rate(batch)
            error = self.error(batch)
            self._optimiser.zero_grad()
            error.backward()
            self._optimiser.step()
            self.loss_sum += error.item()
            self.done += 1
            if progress is not None:
                progress(self.epoch * every + self.done, self._recipe.epochs * every)
            if asked() or time.monotonic() > self._saved + CHECKPOINT_SECONDS:
                self._save()
            if asked():
                raise KeyboardInterrupt

    def _finish_epoch(self) -> None:
        found = self.validate(self.snapshot())
        log.info(
            "%s: epoch %d of %d, loss %.4f, %s %.5f",
            self.model.name, self.epoch + 1, self._recipe.epochs, self.loss_sum / self.done,
            self.metric, found,
        )  # fmt: skip
        self.epoch, self.done, self.loss_sum = self.epoch + 1, 0, 0.0
        self._drawn_from = self.rng.bit_generator.state
        if found > self.quality:
            self.quality, self.best_epoch, self._best = found, self.epoch, self._copy()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        save_checkpoint(
            self.torch,
            self.checkpoint,
            {
                "settings": self._settings,
                "weights": self._weights.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "best": self._best,
                "rng": self._drawn_from,
                "torch_rng": self.torch.get_rng_state(),
                "cuda_rng": self.torch.cuda.get_rng_state() if self.device == "cuda" else None,
                "epoch": self.epoch,
                "done": self.done,
                "loss_sum": self.loss_sum,
                "best_epoch": self.best_epoch,
                "quality": self.quality,
            },
        )
        self._saved = time.monotonic()

    def _copy(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self._weights.state_dict().items()}


def refuse_leftover(checkpoint: Path) -> None:
    """Check that no training was interrupted that a new one would make worthless.

    Raises
    ------
    ConfigError
        There is a checkpoint.
    """
    if checkpoint.exists():
        raise ConfigError(
            f"{checkpoint}: a training was interrupted here; go on with --resume, or remove it"
        )


def training_settings(
    torch: Any, config: Config, model: ModelConfig, recipe: Any
) -> dict[str, str]:
    """All that the weights depend on, in words."""
    data = config.data.model_dump(include={"source", "path", "periods", "seed"})
    data |= config.data.model_dump(include={"threshold", "hash_size"}, exclude_none=True)
    values = {
        "model": model.model_dump(),
        "features": config.features.model_dump(),
        "data": data,
        "funnel.items": config.funnel.items,
        "recipe": asdict(recipe),
        "PyTorch": torch.__version__,
    }
    return {key: json.dumps(value) for key, value in values.items()}


@contextmanager
def _never() -> Iterator[Callable[[], bool]]:
    yield lambda: False
