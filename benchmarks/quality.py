"""Ranking quality of a configuration's models: each alone and the funnel, float and int8.

    python -m benchmarks.quality [CONFIG] [--json]

Every user with held-out movies makes a query; nothing is trained and no hardware is simulated.
"""

from __future__ import annotations

import argparse
import json
import sys

from rpaccel.config import load
from rpaccel.errors import RPAccelError
from rpaccel.workflow import Workflow


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/demo.toml")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    try:
        work = Workflow(load(arguments.config))
        quality = work.quality()
        queries = len(work.candidates) if quality else 0
    except RPAccelError as error:
        print(f"quality: error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps({"queries": queries, "quality": quality}, indent=2))
        return 0
    k = work.config.funnel.keep[-1]
    print(f"{queries} queries of {work.config.funnel.items} items, held-out movies, k = {k}")
    print(f"{'':24}{'NDCG':>8}{'recall':>8}{'constant-ideal NDCG':>21}{'int8 - float':>14}")
    for name, values in quality.items():
        base = quality.get(name.replace("int8", "float"), values)["ndcg"]
        loss = f"{values['ndcg'] / base - 1:+.2%}" if "int8" in name else ""
        print(
            f"{name:24}{values['ndcg']:8.4f}{values['recall']:8.4f}"
            f"{values['ndcg_constant']:21.4f}{loss:>14}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
