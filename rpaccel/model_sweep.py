"""Hyperparameter sweep (RecPipe's figure 2): models of many sizes, their errors and their work.

Every model of a grid is trained on a configuration's click log in a process of its own and
measured on the test period. A result is kept in a file, so that a sweep that was interrupted goes
on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rpaccel.click_quality import METRICS, measure
from rpaccel.config import Config
from rpaccel.errors import ConfigError, DataError, RPAccelError, ToolError
from rpaccel.models import ModelConfig
from rpaccel.progress import progress_bar
from rpaccel.train_clicks import ClickRecipe, ClickTrainer
from rpaccel.trainer import import_torch, reproducible, training_settings
from sw_model.bootstrap import bootstrap
from sw_model.click_log import ClickLog
from sw_model.datasets import open_dataset
from sw_model.dlrm import tensor_shapes

__all__ = ["DIMENSIONS", "INTERACTIONS", "MLPS", "Grid", "sweep_models"]

DIMENSIONS = (2, 4, 8, 16, 32)
INTERACTIONS = ("concat", "dot")
MLPS = {
    "small": ([64], [64, 1]),
    "medium": ([256, 64], [96, 1]),
    "large": ([512, 256, 128, 64], [96, 1]),
}
"""Layers of the bottom MLP, which ends in the dimension, and of the top MLP. RM-small is
``small`` with dimension 4, RM-med with 16, and RM-large is ``large`` with 32."""

RECIPE = ClickRecipe(epochs=1, patience=1)
"""One pass: with RecPipe's models on Criteo-like clicks, the second adds little."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Which of the models to sweep: all combinations.

    Raises
    ------
    ConfigError
        There is no such value.
    """

    dimensions: Sequence[int] = DIMENSIONS
    mlps: Sequence[str] = tuple(MLPS)
    interactions: Sequence[str] = INTERACTIONS

    def __post_init__(self) -> None:
        for name, given, known in (
            ("mlp", self.mlps, tuple(MLPS)),
            ("interaction", self.interactions, INTERACTIONS),
        ):
            for value in given:
                if value not in known:
                    raise ConfigError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        for dimension in self.dimensions:
            if not 1 <= dimension <= 512:
                raise ConfigError(f"dimension must be 1..512, not {dimension}")

    def models(self) -> list[ModelConfig]:
        """The models, in the order of interactions, MLPs and dimensions."""
        return [
            ModelConfig.model_validate(
                {
                    "name": f"{interaction}-{mlp}-{dimension}",
                    "dimensions": dimension,
                    "bottom": [*MLPS[mlp][0], dimension],
                    "top": MLPS[mlp][1],
                    "interaction": interaction,
                }
            )
            for interaction in dict.fromkeys(self.interactions)
            for mlp in dict.fromkeys(self.mlps)
            for dimension in dict.fromkeys(self.dimensions)
        ]


def sweep_models(config: Config, grid: Grid, folder: Path, *, workers: int) -> dict[str, Any]:
    """Train and measure every model of a grid that a folder has no result of yet.

    Parameters
    ----------
    config : Config
        With a click log; its models are not used.
    grid : Grid
    folder : Path
        Where results are kept, ``MODEL.json``.
    workers : int
        Models trained at a time, each by one thread.

    Returns
    -------
    dict
        ``name``, ``queries``, ``k`` and ``models``: of each ``name``, ``macs`` of an item,
        ``parameters``, CPU ``seconds`` of its training and test, whether no other model is as
        good with less of them (``best_macs``, ``best_parameters``), and for each of
        :data:`rpaccel.click_quality.METRICS` ``mean``, ``low`` and ``high``.

    Raises
    ------
    ConfigError
        The data are no click log, or a result in the folder was made with other settings.
    DataError
        A file in the folder is no result.
    ToolError
        PyTorch is missing, or a training ended without a result.
    """
    if config.data.periods is None:
        raise ConfigError(f"data.source = {config.data.source!r} is no click log to train on")
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more, not {workers}")
    torch = import_torch()
    models = grid.models()
    settings = {m.name: training_settings(torch, config, m, RECIPE) for m in models}
    results = {}
    for model in models:
        path = folder / f"{model.name}.json"
        if path.exists():
            results[model.name] = _read(path, settings[model.name])
    # the largest first, so that no processor waits for the last one
    missing = sorted(
        (m for m in models if m.name not in results),
        key=lambda m: _parameters(config, m) + m.macs(config.features),
        reverse=True,
    )
    with progress_bar() as bar:
        task = bar.add_task("models", total=len(models), completed=len(results))

        def keep(model: ModelConfig, result: Result) -> None:
            _write(folder / f"{model.name}.json", settings[model.name], result)
            results[model.name] = result
            bar.advance(task)

        _train_all(config, missing, workers, keep)
    return _report(config, models, results)


def train_one(config: Config, model: ModelConfig) -> Result:
    """Train a model and measure it: metrics with intervals, and CPU seconds."""
    torch = import_torch()
    data = open_dataset(config)
    assert isinstance(data, ClickLog)
    with reproducible(torch):
        trained = ClickTrainer(torch, config, model, data, RECIPE).run()
    values = measure(config, data, {model.name: trained})[model.name]
    return {
        "seconds": time.process_time(),
        "queries": len(values[METRICS[0]]),
        **{metric: bootstrap(values[metric])._asdict() for metric in METRICS},
    }


def _train_all(
    config: Config,
    models: Sequence[ModelConfig],
    workers: int,
    done: Callable[[ModelConfig, Result], None],
) -> None:
    """Give each model a process, so many at a time; Ctrl-C ends them all."""
    context = multiprocessing.get_context("spawn")
    waiting = list(models)
    running: dict[Connection, tuple[ModelConfig, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(theirs, config, waiting[0]))
                process.start()
                theirs.close()
                running[ours] = waiting.pop(0), process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                model, process = running[ready]
                try:
                    found = ready.recv()
                except EOFError:
                    found = None
                process.join()
                del running[ready]
                if isinstance(found, RPAccelError):
                    raise found
                if found is None:
                    raise ToolError(
                        f"the training of {model.name} ended without a result "
                        f"(exit code {process.exitcode})"
                    )
                done(model, found)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _work(connection: Connection, config: Config, model: ModelConfig) -> None:
    """What a process does: send a result, or an error that a user can meet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        connection.send(train_one(config, model))
    except RPAccelError as error:
        connection.send(error)


def _read(path: Path, settings: dict[str, str]) -> Result:
    try:
        content = json.loads(path.read_text())
        known, result = content["settings"], content["result"]
        assert {"seconds", "queries", *METRICS} <= set(result)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise DataError(f"{path}: is no result of a sweep; remove it") from None
    for key, value in settings.items():
        if known.get(key) != value:
            raise ConfigError(
                f"{path}: made with {key} = {known.get(key)}, not {value}; "
                "remove it, or give another folder"
            )
    return dict(result)


def _write(path: Path, settings: dict[str, str], result: Result) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"settings": settings, "result": result}, indent=2) + "\n")
    draft.replace(path)


def _parameters(config: Config, model: ModelConfig) -> int:
    total = 0
    for shape in tensor_shapes(model, config.features).values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def _report(
    config: Config, models: Sequence[ModelConfig], results: dict[str, Result]
) -> dict[str, Any]:
    rows = [
        {
            "name": model.name,
            "macs": model.macs(config.features),
            "parameters": _parameters(config, model),
            **results[model.name],
        }
        for model in models
    ]
    for cost in ("macs", "parameters"):
        for row in rows:
            row[f"best_{cost}"] = not any(
                other[cost] <= row[cost] and other["error"]["mean"] < row["error"]["mean"]
                for other in rows
            )
    return {
        "name": config.name,
        "training": config.data.periods.training if config.data.periods else 0,
        "queries": rows[0]["queries"],
        "k": config.funnel.keep[-1],
        "models": rows,
    }
