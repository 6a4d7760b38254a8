"""Ranking quality of a configuration's models: each alone and the funnel, float and int8.

    python -m benchmarks.quality [CONFIG] [--json]
    python -m benchmarks.quality --ncf FOLDER [--json]

Every user with held-out movies makes a query; nothing is trained and no hardware is simulated.
With ``--ncf``, the published weights of Neural Collaborative Filtering are measured on their test
split; both are read from the folder.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import ncf
from rpaccel.config import load
from rpaccel.errors import ConfigError, RPAccelError
from rpaccel.report import quality_tables
from rpaccel.workflow import Workflow


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/demo.toml")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--ncf", metavar="FOLDER", help="measure published NCF weights instead")
    arguments = parser.parse_args()
    try:
        if arguments.ncf:
            report = ncf.evaluate(arguments.ncf)
            print(json.dumps(report, indent=2) if arguments.json else ncf.table(report))
            return 0
        work = Workflow(load(arguments.config))
        if work.dataset is None:
            raise ConfigError(f"{arguments.config}: data.source = 'random' has no labels")
        found = {"quality_queries": len(work.candidates), **work.quality()}
    except RPAccelError as error:
        print(f"quality: error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n\n".join(quality_tables(found, work.config.funnel.keep[-1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
