"""Quality of every funnel of a configuration on held-out queries of its click log, as a table.

    python -m benchmarks.funnel_qualities CONFIG -o FILE [--queries N]

The table is one for ``rpaccel schedule --qualities`` and ``rpaccel bench headline --qualities``:
NDCG with intervals, float and int8, and the lower bound of each funnel's paired difference to the
last stage's model alone. Weights are those of ``data.weights``.
"""

import argparse
from pathlib import Path

from rpaccel.click_quality import with_test_queries
from rpaccel.config import load
from rpaccel.schedule.qualities import measure
from rpaccel.workflow import Workflow


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=256)
    options = parser.parse_args()
    config = with_test_queries(load(options.config), options.queries)
    table = measure(config, Workflow(config).scored)
    table.save(options.output)
    best = table.reference
    print(f"{len(table.rows)} rows; {best.stages[0]} alone {best.mean:.4f} {table.metric}")


if __name__ == "__main__":
    main()
