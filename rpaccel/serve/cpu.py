"""The CPU as a device: a funnel of float models in PyTorch, on one thread, behind the service."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.errors import QueryError
from sw_model.dataset import DENSE_SCALE
from sw_model.dlrm import FloatModel
from sw_model.numerics import logits
from sw_model.query import Query, Ranking
from sw_model.topk import top_k

__all__ = ["CpuFunnel", "CpuHandle"]


class CpuHandle:
    """A query that was submitted."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.ranking: Ranking | None = None

    def result(self) -> Ranking:
        """The ranking, once :meth:`CpuFunnel.poll` says so."""
        assert self.ranking is not None
        return self.ranking


class CpuFunnel:
    """A funnel on this process's CPU, query after query; a :class:`rpaccel.serve.worker.Runner`.

    Stages are those of the configuration, exact filters without sub-batches between them. It takes
    what a device takes, int8 dense inputs included, and computes in float32.

    Parameters
    ----------
    config : Config
    models : sequence of FloatModel
        Of the funnel's stages.

    Raises
    ------
    ToolError
        On entry: PyTorch is missing.
    """

    def __init__(self, config: Config, models: Sequence[FloatModel]) -> None:
        self.config = config
        self._models = models
        self._networks: list[Any] = []
        self._torch: Any = None

    def __enter__(self) -> CpuFunnel:
        from rpaccel.schedule.cpu import import_torch
        from rpaccel.train_network import Network

        self._torch = import_torch()
        self._torch.set_num_threads(1)
        for stage, model in enumerate(self._models):
            network = Network(self._torch, self.config, self.config.model(stage))
            network.load_weights(model)
            network.modules().eval()
            self._networks.append(network)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._networks = []

    def submit(self, query: Query) -> CpuHandle:
        """Take a query.

        Raises
        ------
        QueryError
            It has no items, too many of them, or a row that a table does not have.
        """
        if not 1 <= query.items <= self.config.funnel.items:
            raise QueryError(
                f"a query has 1..{self.config.funnel.items} items here, not {query.items}"
            )
        for table in self.config.features.tables:
            rows = query.indices[table.name]
            bad = ((rows < 0) | (rows >= table.rows)) & (rows != table.empty_index)
            if bad.any():
                raise QueryError(
                    f"table {table.name} has rows 0..{table.rows - 1}, not {int(rows[bad][0])}"
                )
        return CpuHandle(query)

    def poll(self, handle: CpuHandle) -> bool:
        """Rank the query, if that is not done yet; always True."""
        if handle.ranking is None:
            handle.ranking = self.rank(handle.query)
        return True

    def rank(self, query: Query) -> Ranking:
        """Rank a query's items: scores are logits in the unit of the device's."""
        positions, scores = np.arange(query.items), np.zeros(0, np.int64)
        for network, keep in zip(self._networks, self.config.funnel.keep, strict=True):
            scores = logits(self._score(network, query, positions))
            positions, scores = top_k(positions, scores, min(keep, len(positions)))
        return Ranking(positions, scores)

    def _score(self, network: Any, query: Query, positions: NDArray[np.int64]) -> NDArray:
        torch, features, count = self._torch, self.config.features, len(positions)
        first = np.broadcast_to(query.dense_query, (count, features.dense_query))
        dense = np.concatenate([first, query.dense_item[positions]], axis=1)
        bags = {}
        for table in features.tables:
            rows = query.indices[table.name]
            if table.scope == "item":
                rows = rows[positions]
            rows = np.broadcast_to(rows, (count, table.lookups))
            bags[table.name] = torch.from_numpy(np.minimum(rows, table.rows))
        with torch.inference_mode():
            scaled = torch.from_numpy(dense.astype(np.float32) * np.float32(DENSE_SCALE))
            return network.forward(scaled, bags, {}).numpy()
