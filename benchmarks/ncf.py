"""Neural Collaborative Filtering on its published test split, float and int8.

    python -m benchmarks.ncf FOLDER --train RATINGS [-o DIR] [--json]

trains a NeuMF of our own on MovieLens 1M (RATINGS is the folder of ``ratings.dat`` and
``movies.dat``) and measures it beside the published weights. FOLDER has the test split,
``item_ids.tsv`` and the published weights. An interrupted training goes on when called again.
Without ``--train``, ``DIR/neumf.safetensors`` is measured if it is there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config, load
from rpaccel.errors import DataError, RPAccelError
from rpaccel.importer import import_model
from sw_model.bootstrap import bootstrap, bootstrap_difference
from sw_model.dlrm import FloatModel, Inputs
from sw_model.funnel import score_items
from sw_model.metrics import hit_rate, ndcg, served
from sw_model.ncf import LeaveOneOut, load_leave_one_out
from sw_model.quantise import quantise
from sw_model.quantised import QuantisedModel
from sw_model.query import Query

CONFIG = Path(__file__).parents[1] / "examples" / "ncf.toml"

WEIGHTS = {"gmf": "ml-1m_GMF_8.h5", "mlp": "ml-1m_MLP_64-32-16-8.h5"}
"""File of each of the configuration's models."""

K = 10

CALIBRATION_PAIRS = 20_000
"""Users and items drawn evenly, without labels, to observe ranges on."""

NOWHERE = np.iinfo(np.int64).min // 2
"""Score of a place without a candidate."""


def evaluate(folder: str | Path, trained: Path | None = None) -> dict[str, Any]:
    """HR@10 and NDCG@10 of each model, with confidence intervals.

    Parameters
    ----------
    folder : path
        With the weights and the test split.
    trained : Path, optional
        Weights of the configuration's NeuMF.

    Returns
    -------
    dict
        By model: for ``float`` and ``int8``, and for ``int8 - float`` (paired), ``hr`` and
        ``ndcg`` as ``mean``, ``low``, ``high``; ``saturated``, the share of clamped int8 logits.
    """
    config = load(CONFIG)
    split = load_leave_one_out(folder)
    for table, ids in zip(config.features.tables, (split.users, split.items), strict=True):
        if ids.max() >= table.rows:
            raise DataError(f"{folder}: {table.name} {ids.max()}, but there are {table.rows}")
    report: dict[str, Any] = {"queries": len(split.users), "models": {}}
    models = [import_model(config, name, Path(folder) / file) for name, file in WEIGHTS.items()]
    if trained is not None:
        shape = next(m for m in config.models if m.name == "neumf")
        models.append(FloatModel.load(trained, shape, config.features))
    for model in models:
        int8 = quantise(model, _calibration(config), dense_scale=1.0, rounding="compensated")
        logits, saturated = _int8_logits(config, int8, split)
        values = {
            "float": _values(_float_logits(model, split), split),
            "int8": _values(logits, split),
        }
        report["models"][model.name] = {
            **{
                kind: {metric: bootstrap(v)._asdict() for metric, v in found.items()}
                for kind, found in values.items()
            },
            "int8 - float": {
                metric: bootstrap_difference(v, values["float"][metric])._asdict()
                for metric, v in values["int8"].items()
            },
            "saturated": saturated,
        }
    return report


def table(report: dict[str, Any]) -> str:
    """Lay a report out as text."""
    lines = [
        f"{report['queries']} users, held-out item among 99 others, with 95% intervals over users",
        f"{'':20}{f'HR@{K}':>8}{'from':>9}{'to':>9}{f'NDCG@{K}':>10}{'from':>9}{'to':>9}",
    ]
    for name, model in report["models"].items():
        for kind in ("float", "int8", "int8 - float"):
            hr, gain = (model[kind][metric].values() for metric in ("hr", "ndcg"))
            numbers = "".join(f"{v:9.4f}" for v in [*hr, *gain])
            lines.append(f"{name + ', ' + kind:19}{numbers}")
        lines.append(f"{name}: {model['saturated']:.2%} of the int8 logits are clamped")
    return "\n".join(lines)


def _calibration(config: Config) -> Inputs:
    rng = np.random.default_rng(0)
    indices = {
        t.name: rng.integers(t.rows, size=(CALIBRATION_PAIRS, 1)) for t in config.features.tables
    }
    return Inputs(np.zeros((CALIBRATION_PAIRS, 0), np.float32), indices)


def _float_logits(model: FloatModel, split: LeaveOneOut) -> NDArray[np.float32]:
    users = np.broadcast_to(split.users[:, None], split.items.shape)
    indices = {"user": users.reshape(-1, 1), "item": split.items.reshape(-1, 1)}
    inputs = Inputs(np.zeros((split.items.size, 0), np.float32), indices)
    return model(inputs).reshape(split.items.shape)


def _int8_logits(
    config: Config, model: QuantisedModel, split: LeaveOneOut
) -> tuple[NDArray[np.int16], float]:
    """Logits of all candidates from the golden model, and how many of them were clamped."""
    logits, saturated = [], 0
    for user, items in zip(split.users, split.items, strict=True):
        indices = {"user": np.array([user]), "item": items[:, None]}
        nothing = np.zeros((len(items), 0), np.int8)
        scores = score_items(
            model, config.features, Query(nothing[0], nothing, indices, len(items))
        )
        logits.append(scores.logits)
        saturated += int(scores.saturated.sum())
    return np.array(logits), saturated / split.items.size


def _values(logits: NDArray, split: LeaveOneOut) -> dict[str, NDArray[np.float64]]:
    hits = served(np.where(split.used, logits.astype(np.float64), NOWHERE), split.relevant, K)
    return {"hr": hit_rate(hits), "ndcg": ndcg(hits, split.relevant.sum(axis=1))}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ncf", description=__doc__)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--train", metavar="RATINGS", help="train first, on these ratings")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/ncf"), metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    trained = options.output / "neumf.safetensors"
    seconds = {}
    try:
        if options.train:
            from benchmarks.ncf_training import train

            wall, cpu = time.monotonic(), time.process_time()
            train(CONFIG, options.train, options.folder, options.output)
            seconds = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
        report = evaluate(options.folder, trained if trained.exists() else None)
    except RPAccelError as error:
        print(f"ncf: error: {error}", file=sys.stderr)
        return error.exit_code
    if seconds:
        report["training seconds"] = seconds
    print(json.dumps(report, indent=2) if options.json else table(report))
    if seconds and not options.json:
        print(f"training took {seconds['wall']:.0f} s, {seconds['cpu']:.0f} s of CPU time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
