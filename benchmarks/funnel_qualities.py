"""Quality of every funnel of a configuration on held-out queries of its click log, as a table.

    python -m benchmarks.funnel_qualities CONFIG -o FILE [--queries N] [--float]

The table is one for ``rpaccel schedule --qualities`` and ``rpaccel bench headline --qualities``:
NDCG with intervals, float and int8 (or float alone, which takes a tenth of the time), and the lower
bound of each funnel's paired difference to the last stage's model alone. Weights are those of
``data.weights``.
"""

import argparse
from pathlib import Path

import numpy as np

from rpaccel.click_quality import with_test_queries
from rpaccel.config import load
from rpaccel.quality import ScoredQueries
from rpaccel.schedule.qualities import measure
from rpaccel.workflow import Workflow


def floats(work):
    """Labelled queries with float logits alone."""
    assert work.dataset is not None
    inputs = [work.dataset.candidate_inputs(each) for each in work.candidates]
    logits = [np.array([model(each) for each in inputs]) for model in work.float_models]
    return ScoredQueries(np.array([each.relevant for each in work.candidates]), {"float": logits})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--float", action="store_true", help="no int8 models")
    options = parser.parse_args()
    config = with_test_queries(load(options.config), options.queries)
    work = Workflow(config)
    table = measure(config, floats(work) if options.float else work.scored)
    table.save(options.output)
    best = table.reference
    print(f"{len(table.rows)} rows; {best.stages[0]} alone {best.mean:.4f} {table.metric}")


if __name__ == "__main__":
    main()
