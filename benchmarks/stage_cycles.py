"""Cycles of each model, number of items and of sub-arrays, which come with the package.

    python -m benchmarks.stage_cycles [CONFIG]

Some minutes for examples/recpipe.toml.
"""

from __future__ import annotations

import argparse

from rpaccel.config import load
from rpaccel.progress import telling
from rpaccel.schedule.array import ArrayBackend, shipped_cycles
from rpaccel.schedule.qualities import sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/recpipe.toml")
    config = load(parser.parse_args().config)
    path = shipped_cycles(config)
    path.unlink(missing_ok=True)
    backend = ArrayBackend(config)
    with telling("cycles") as tell:
        for model in config.funnel.stages:
            for items in sizes(config):
                tell(f"{model} on {items} items")
                for units in range(1, backend.units + 1):
                    backend.serve(model, items, units)
    backend.save(path)


if __name__ == "__main__":
    main()
