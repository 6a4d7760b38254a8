"""Errors of a configuration's models on the test period of its click log.

    python -m benchmarks.click_models [CONFIG] [--model NAME ...] [--queries N] [--json]

For each model in float: share of impressions on the wrong side of a CTR of one half (the error that
RecPipe gives), log loss, AUC and NDCG of the served list when it ranks all items alone; means over
queries with 95 % bootstrap intervals. Besides, query by query, the differences of every two models
with the same interaction, and of every two that differ in nothing else. Nothing is trained:
weights are read from ``data.weights``, of all models or of those named. Queries are drawn or read
as they are measured; N of them make a test period of another length than ``data.periods`` says.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations

from rpaccel import click_quality
from rpaccel.click_quality import METRICS
from rpaccel.config import load
from rpaccel.errors import ConfigError, RPAccelError
from sw_model.bootstrap import bootstrap, bootstrap_difference
from sw_model.click_log import ClickLog
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel


def measure(config):
    """A value for each query, by model and metric."""
    data = open_dataset(config)
    if not isinstance(data, ClickLog):
        raise ConfigError(f"data.source = {config.data.source!r} is no click log")
    if config.data.weights is None:
        raise ConfigError("data.weights must name the folder of the models' weights")
    models = {
        shape.name: FloatModel.load(
            f"{config.data.weights}/{shape.name}.safetensors", shape, config.features
        )
        for shape in config.models
    }
    return click_quality.measure(config, data, models)


def only(models, names):
    """Models of these names."""
    found = {model.name: model for model in models}
    for name in names:
        if name not in found:
            raise ConfigError(f"there is no model {name!r}; there are {list(found)}")
    return [found[name] for name in names]


def pairs(models):
    """Names of every two models with one interaction, or that are the same but for it."""
    found = []
    for first, second in combinations(models, 2):
        same = first.model_copy(update={"name": second.name, "interaction": second.interaction})
        if first.interaction == second.interaction or same == second:
            found.append((first.name, second.name))
    return found


def summarise(values, compared):
    """Means, and differences of pairs of models, with their intervals."""
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
            for against, of in compared
        ],
    }


def table(report):
    def line(name, each, sign):
        cells = (
            "{:{sign}.4f} ({:{sign}.4f} .. {:{sign}.4f})".format(*each[m].values(), sign=sign)
            for m in METRICS
        )
        return f"{name:22}" + "  ".join(f"{cell:30}" for cell in cells).rstrip()

    lines = [f"{report['queries']} queries, means and 95 % intervals"]
    lines.append(" " * 22 + "  ".join(f"{m:30}" for m in METRICS).rstrip())
    lines += [line(name, each, "") for name, each in report["models"].items()]
    lines += [line(f"{d['of']} - {d['against']}", d, "+") for d in report["differences"]]
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.click_models", description=__doc__)
    parser.add_argument("config", nargs="?", default="examples/criteo-like.toml")
    parser.add_argument("--model", action="append", metavar="NAME", help="measure only these")
    parser.add_argument("--queries", type=int, metavar="N", help="test queries")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config)
        if options.model:
            config = config.model_copy(update={"models": only(config.models, options.model)})
        if options.queries is not None:
            config = click_quality.with_test_queries(config, options.queries)
        report = summarise(measure(config), pairs(config.models))
    except RPAccelError as error:
        print(f"click_models: error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
