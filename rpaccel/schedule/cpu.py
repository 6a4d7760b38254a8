"""The CPU of this computer as a platform: PyTorch, really timed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.config import Config
from rpaccel.errors import ConfigError, ToolError
from rpaccel.models import ModelConfig
from rpaccel.schedule.profiles import Point, Profile, machine

__all__ = [
    "cpu_profile",
    "import_torch",
    "measure",
    "once",
    "random_inputs",
    "scorer",
    "timed",
]

WARM_UP, LEAST_RUNS, LEAST_SECONDS = 3, 7, 0.25
TIMEOUT = 600.0
_Times = dict[tuple[str, int], list[float]]


def cpu_profile(config: Config, items: Sequence[int], cache: Path, *, workers: int = 0) -> Profile:
    """Give this computer's profile for a configuration's models: timed once, then from a file.

    Parameters
    ----------
    config : Config
    items : sequence of int
        Numbers of items to time.
    cache : Path
        Folder of profiles, by what they were made of: models, items, machine, workers, PyTorch.
    workers : int
        As many as there are processors by default.

    Raises
    ------
    ToolError
        PyTorch is missing.
    """
    workers = workers or len(os.sched_getaffinity(0))
    return once(
        config, items, cache, "cpu", workers, lambda: measure(config, items, workers=workers)
    )


def once(
    config: Config,
    items: Sequence[int],
    cache: Path,
    kind: str,
    units: object,
    measured: Callable[[], Profile],
) -> Profile:
    """Give a profile from its file, or measure it and keep it.

    Parameters
    ----------
    config : Config
    items : sequence of int
    cache : Path
    kind : str
        Of platform; the file's name begins with it.
    units : object
        What else it depends on.
    measured : callable
        Measures.
    """
    key = json.dumps(
        {
            "models": [model.model_dump() for model in config.models],
            "features": config.features.model_dump(),
            "items": sorted(items),
            "machine": machine(),
            "workers": units,
            "torch": import_torch().__version__,
        },
        sort_keys=True,
    )
    path = cache / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return Profile.load(str(path))
    profile = measured()
    cache.mkdir(parents=True, exist_ok=True)
    profile.save(path)
    return profile


def measure(config: Config, items: Sequence[int], *, workers: int) -> Profile:
    """Time every model on every number of items, all workers at work on the same at a time.

    A point is the median over all workers' queries. Weights are random and rows are drawn evenly,
    so that caches help less than they do with popular rows.

    Raises
    ------
    ConfigError
        Fewer than one worker.
    ToolError
        PyTorch is missing, or a worker ended before it was done.
    """
    torch = import_torch()
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more, not {workers}")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    with context.Pool(workers, initializer=_begin, initargs=(barrier,)) as pool:
        # A worker that waits at the barrier takes no second task: each does one.
        tasks = [
            pool.apply_async(_work, (config, sorted(items), number)) for number in range(workers)
        ]
        try:
            found = [task.get(TIMEOUT) for task in tasks]
        except multiprocessing.TimeoutError:
            raise ToolError(f"a worker was not done after {TIMEOUT:g} s, or was killed") from None
    points = [
        Point(model=name, items=count, seconds=float(np.median([t for f in found for t in f[key]])))
        for key in found[0]
        for name, count in [key]
    ]
    return Profile(
        name="cpu",
        kind="measured",
        machine=machine(),
        source=f"PyTorch {torch.__version__}, {workers} workers of one thread, all busy",
        units=workers,
        notes=["float32; random weights, rows drawn evenly; a query is scored by one worker"],
        points=points,
    )


def import_torch() -> Any:
    """Give PyTorch; ToolError without it."""
    try:
        import torch
    except ImportError:
        raise ToolError(
            "platform cpu needs PyTorch: pip install -e '.[train]', or give a profile (.json)"
        ) from None
    return torch


_barrier: Any = None


def _begin(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
    import_torch().set_num_threads(1)


def _work(config: Config, items: Sequence[int], seed: int) -> _Times:
    """One worker's times of each model and number of items."""
    times: _Times = {}
    for model in config.models:
        run = scorer(config, model, seed)
        for count in items:
            _barrier.wait(TIMEOUT)
            times[model.name, count] = timed(run, count)
    return times


def timed(run: Callable[[int], Any], count: int) -> list[float]:
    """Time scoring so many items, again and again after a warm-up; in seconds."""
    for _ in range(WARM_UP):
        run(count)
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or sum(taken) < LEAST_SECONDS:
        start = time.perf_counter()
        run(count)
        taken.append(time.perf_counter() - start)
    return taken


def random_inputs(config: Config, seed: int) -> tuple[Any, dict[str, Any]]:
    """Draw features of as many items as a query has.

    Returns
    -------
    dense : float32 tensor, shape (items, dense)
    bags : dict of int64 tensors by table name, shape (items, lookups)
    """
    torch, rng = import_torch(), np.random.default_rng(seed)
    features, most = config.features, config.funnel.items
    dense = torch.from_numpy(rng.standard_normal((most, features.dense), dtype=np.float32))
    bags = {
        t.name: torch.from_numpy(rng.integers(0, t.rows, (most, t.lookups)))
        for t in features.tables
    }
    return dense, bags


def scorer(config: Config, model: ModelConfig, seed: int) -> Callable[[int], Any]:
    """Make a function that scores so many random items with a model of random weights."""
    from rpaccel.train_network import Network

    torch = import_torch()
    network = Network(torch, config, model)
    network.modules().eval()
    dense, bags = random_inputs(config, seed)

    def run(count: int) -> Any:
        with torch.inference_mode():
            each = {name: bag[:count] for name, bag in bags.items()}
            return network.forward(dense[:count], each, {})

    return run
