"""The GPU of this computer as a platform: PyTorch, really timed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.config import Config
from rpaccel.models import ModelConfig
from rpaccel.schedule.cpu import import_torch, once, random_inputs, timed
from rpaccel.schedule.profiles import Point, Profile, machine

__all__ = ["GpuScorer", "gpu_profile", "measure_gpu"]

log = logging.getLogger(__name__)


def gpu_profile(config: Config, items: Sequence[int], cache: Path) -> Profile:
    """Give the profile of this computer's GPU, timed once; without one, the T4's that is shipped.

    Parameters, errors as for :func:`rpaccel.schedule.cpu.cpu_profile`.
    """
    torch = import_torch()
    if not torch.cuda.is_available():
        log.info("no GPU that PyTorch can use: platform gpu is t4, derived from published figures")
        return Profile.load("t4")
    name = torch.cuda.get_device_name()
    return once(config, items, cache, "gpu", name, lambda: measure_gpu(config, items))


def measure_gpu(config: Config, items: Sequence[int], *, graphs: bool = True) -> Profile:
    """Time every model on every number of items on the GPU, copies there and back included.

    A query at a time, as RecPipe's scheduler has it. A point is the median.

    Parameters
    ----------
    config : Config
    items : sequence of int
    graphs : bool
        See :class:`GpuScorer`.
    """
    torch = import_torch()
    points = []
    for model in config.models:
        run = GpuScorer(config, model, 0, graphs=graphs)
        timed(run, max(items))  # clocks rise
        points += [
            Point(model=model.name, items=n, seconds=float(np.median(timed(run, n))))
            for n in sorted(items)
        ]
    how = "a CUDA graph a query" if graphs else "kernel by kernel"
    return Profile(
        name="gpu",
        kind="measured",
        machine=f"{torch.cuda.get_device_name()}, {machine()}",
        source=(
            f"PyTorch {torch.__version__}, {how}, a query at a time, "
            "from pinned host memory and back"
        ),
        units=1,
        notes=[
            "float32, no TF32; random weights, rows drawn evenly from tables of at most "
            f"{max(t.rows for t in config.features.tables):,} rows",
            "another platform goes on from host memory: no hand-over is counted",
        ],
        points=points,
    )


class GpuScorer:
    """Scores random items with a model of random weights, from pinned host memory and back to it.

    A query's features are two blocks, of dense inputs and of indices, table behind table.

    Parameters
    ----------
    config : Config
    model : ModelConfig
    seed : int
        Of the items.
    graphs : bool
        Record a query's copies and kernels once for each number of items, and launch them as one
        (a CUDA graph). Otherwise PyTorch launches one after the other.
    """

    def __init__(
        self, config: Config, model: ModelConfig, seed: int, *, graphs: bool = True
    ) -> None:
        from rpaccel.train_network import Network

        self._torch = import_torch()
        self._network = Network(self._torch, config, model, "cuda")
        self._network.modules().eval()
        self._inputs = random_inputs(config, seed)
        self._graphs = graphs
        self._ready: dict[int, tuple[Callable[[], None], Any]] = {}
        self._pinned: list[Any] = []  # a graph knows addresses, and keeps no memory

    def __call__(self, count: int) -> Any:
        """Score the first so many items: a float32 tensor in host memory, overwritten each time."""
        if count not in self._ready:
            self._ready[count] = self._prepare(count)
        launch, scores = self._ready[count]
        launch()
        self._torch.cuda.synchronize()
        return scores

    def _prepare(self, count: int) -> tuple[Callable[[], None], Any]:
        torch = self._torch
        all_dense, all_bags = self._inputs
        dense = all_dense[:count].contiguous().pin_memory()
        bags = {name: bag[:count] for name, bag in all_bags.items()}
        indices = torch.cat([bag.flatten() for bag in bags.values()]).int().pin_memory()
        scores = torch.empty(count).pin_memory()
        self._pinned += dense, indices

        def query() -> None:
            with torch.inference_mode():
                there = indices.to("cuda", non_blocking=True)
                parts = there.split([bag.numel() for bag in bags.values()])
                each = {
                    name: part.view(bag.shape)
                    for (name, bag), part in zip(bags.items(), parts, strict=True)
                }
                found = self._network.forward(dense.to("cuda", non_blocking=True), each, {})
                scores.copy_(found, non_blocking=True)

        if not self._graphs:
            return query, scores
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            query()  # libraries begin work that cannot be recorded
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            query()
        return graph.replay, scores
