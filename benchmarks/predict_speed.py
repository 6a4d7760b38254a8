"""Speed of the cycle model on the machine of Table 3: modelled cycles a second of wall time.

    python -m benchmarks.predict_speed [--queries 4] [--json]

Windows of 200 cycles are timed one by one; the median window counts, so that what else the computer
does in between does not. Neither compilation nor the making of the trace is part of it.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, hotness, preset
from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.predict import Predictor
from sw_model.cycles.build import Builder
from sw_model.cycles.kernel import kernel
from sw_model.random_models import random_models

WINDOW = 200


def measure(queries: int) -> dict[str, float]:
    """Run queries back to back; nanoseconds a cycle of the windows."""
    config = load(preset("rpaccel"))
    models = random_models(config, np.random.default_rng(config.data.seed))
    predictor = Predictor(
        config, models, compile_image(config, models, hotness=hotness(config, models))
    )
    drawn = criteo_like_queries(config, TRAINING_QUERIES, queries)
    work = predictor.work([predictor.job(query) for query in drawn])
    builder = Builder(work, config.simulation, {}, 0)
    machine, ports = builder.machine(), np.zeros(1, np.int64)
    machine.query["arrives"] = 0
    machine.clock["skip"] = 1
    counts = np.zeros((len(builder.units), 16), np.int64)
    run, last, windows = kernel(), WINDOW, []
    run(machine, ports, counts, 0)
    while machine.query["completed"][-1] > last:
        before, started = machine.clock["now"][0], time.perf_counter_ns()
        run(machine, ports, counts, last)
        windows.append((time.perf_counter_ns() - started) / (machine.clock["now"][0] - before))
        last += WINDOW
    nanoseconds = float(np.median(windows))
    return {
        "cycles": int(machine.clock["now"][0]),
        "nanoseconds_a_cycle": nanoseconds,
        "p10": float(np.percentile(windows, 10)),
        "p90": float(np.percentile(windows, 90)),
        "cycles_a_second": 1e9 / nanoseconds,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.queries)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name}: {value:,.0f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
