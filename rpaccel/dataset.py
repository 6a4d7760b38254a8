"""Where queries and trained weights come from: section ``data``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rpaccel.section import Natural, Positive, Section

__all__ = ["Calibration", "DataConfig", "PeriodsConfig", "Rounding"]

Calibration = Literal["mse", "min-max", "percentile"]
"""How an int8 tensor gets its scale (``sw_model.calibration``)."""
Rounding = Literal["nearest", "compensated"]
"""How weights and rows are rounded (``sw_model.rounding``)."""


class PeriodsConfig(Section):
    """Rows of a click log for training, calibration and test, in this order in time."""

    training: Positive
    calibration: Positive
    test: Positive


class DataConfig(Section):
    """Where queries and trained weights come from.

    ``path`` is where data are that do not come with the package: a folder of MovieLens, a file of
    Criteo Kaggle. A click log has ``periods``. Ids of Criteo Kaggle are taken modulo ``hash_size``,
    and those seen fewer than ``threshold`` times in training share a table's last row.
    """

    source: Literal[
        "movielens-latest-small", "movielens-1m", "movielens-20m", "criteo", "criteo-like", "random"
    ] = "random"
    path: str | None = None
    periods: PeriodsConfig | None = None
    threshold: Positive | None = None
    hash_size: Positive | None = None
    weights: str | None = None
    calibration: Calibration = "mse"
    rounding: Rounding = "nearest"
    seed: Natural = 0
    queries: Positive = 16

    @model_validator(mode="after")
    def _needs(self) -> DataConfig:
        read = ("movielens-1m", "movielens-20m", "criteo")
        for key, sources in ("path", read), ("periods", ("criteo", "criteo-like")):
            given = getattr(self, key) is not None
            if given != (self.source in sources):
                verb = "takes no" if given else "needs"
                raise ValueError(f'source = "{self.source}" {verb} data.{key}')
        for key in ("threshold", "hash_size"):
            if getattr(self, key) is not None and self.source != "criteo":
                raise ValueError(f'source = "{self.source}" takes no data.{key}')
        return self
