"""Errors of a configuration's models on the test period of its click log.

    python -m benchmarks.click_models [CONFIG] [--json]

For each model in float: share of impressions on the wrong side of a CTR of one half (the error that
RecPipe gives), log loss, AUC and NDCG of the served list when it ranks all items alone; means over
queries with 95 % bootstrap intervals, and the differences of each model to the next, query by
query. Nothing is trained: weights are read from ``data.weights``.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise

import numpy as np

from rpaccel.config import load
from rpaccel.errors import ConfigError, RPAccelError
from sw_model.bootstrap import bootstrap, bootstrap_difference
from sw_model.click_log import ClickLog
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel
from sw_model.metrics import auc, log_loss, ndcg, served
from sw_model.movielens import Split

METRICS = ("error", "log_loss", "auc", "ndcg")


def measure(config):
    """A value for each query, by model and metric."""
    data = open_dataset(config)
    if not isinstance(data, ClickLog):
        raise ConfigError(f"data.source = {config.data.source!r} is no click log")
    if config.data.weights is None:
        raise ConfigError("data.weights must name the folder of the models' weights")
    queries = data.candidates(Split.TEST, items=config.funnel.items)
    relevant = np.array([query.relevant for query in queries])
    values = {}
    for shape in config.models:
        path = f"{config.data.weights}/{shape.name}.safetensors"
        model = FloatModel.load(path, shape, config.features)
        logits = np.array([model(query.inputs) for query in queries])
        best = served(logits, relevant, config.funnel.keep[-1])
        values[shape.name] = {
            "error": ((logits > 0) != relevant).mean(axis=1),
            "log_loss": log_loss(logits, relevant),
            "auc": auc(logits, relevant),
            "ndcg": ndcg(best, relevant.sum(axis=1)),
        }
    return values


def summarise(values):
    """Means and differences with their intervals."""
    names = list(values)
    return {
        "queries": len(next(iter(values[names[0]].values()))),
        "models": {n: {m: bootstrap(values[n][m])._asdict() for m in METRICS} for n in names},
        "differences": [
            {"of": of, "against": against}
            | {
                m: bootstrap_difference(values[of][m], values[against][m])._asdict()
                for m in METRICS
            }
            for against, of in pairwise(names)
        ],
    }


def table(report):
    def line(name, each, sign):
        cells = (
            "{:{sign}.4f} ({:{sign}.4f} .. {:{sign}.4f})".format(*each[m].values(), sign=sign)
            for m in METRICS
        )
        return f"{name:16}" + "  ".join(f"{cell:30}" for cell in cells).rstrip()

    lines = [f"{report['queries']} queries, means and 95 % intervals"]
    lines.append(" " * 16 + "  ".join(f"{m:30}" for m in METRICS).rstrip())
    lines += [line(name, each, "") for name, each in report["models"].items()]
    lines += [line(f"{d['of']} - {d['against']}", d, "+") for d in report["differences"]]
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.click_models", description=__doc__)
    parser.add_argument("config", nargs="?", default="examples/criteo-like.toml")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        report = summarise(measure(load(options.config)))
    except RPAccelError as error:
        print(f"click_models: error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
