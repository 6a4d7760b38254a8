"""Which data a configuration ranks: what all ranking tasks have in common, and how they open."""

from __future__ import annotations

from typing import Any, Protocol

from rpaccel.config import Config
from sw_model.click_log import ClickLog
from sw_model.dataset import Dataset
from sw_model.dlrm import Inputs
from sw_model.movielens import Split
from sw_model.movielens_files import load_1m, load_20m
from sw_model.query import Query

__all__ = ["RankingTask", "open_dataset"]


class RankingTask(Protocol):
    """Labelled queries of a calibration and a test split.

    Candidates are of a class of the task's own; ``relevant`` (bool, shape (items,)) all have.
    """

    def candidates(
        self, split: Split, *, items: int, count: int | None = None, seed: int = 0
    ) -> list[Any]:
        """Queries of a split, at most ``count``."""

    def candidate_inputs(self, candidates: Any) -> Inputs:
        """Real model inputs of a query's candidates."""

    def query(self, candidates: Any) -> Query:
        """The query as a device gets it."""


def open_dataset(config: Config) -> Dataset | ClickLog | None:
    """Read the data that a configuration names; None where queries are random.

    Raises
    ------
    DataError
        A file is missing or damaged: names file and line.
    ConfigError
        The configuration's features do not fit the data.
    """
    data, features = config.data, config.features
    if data.source == "random":
        return None
    if data.periods is not None:
        return ClickLog(
            features,
            data.periods,
            path=data.path,
            seed=data.seed,
            threshold=data.threshold,
            hash_size=data.hash_size,
        )
    if data.path is None:
        return Dataset(features)
    return Dataset(features, (load_1m if data.source == "movielens-1m" else load_20m)(data.path))
