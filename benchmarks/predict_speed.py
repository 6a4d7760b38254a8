"""Speed of the cycle model on the machine of Table 3: modelled cycles a second of wall time.

    python -m benchmarks.predict_speed [--queries 16] [--rtl] [--json]

The median of five runs of queries back to back, and when each query is completed. Neither
compilation nor the making of the trace is part of it. With ``--rtl`` the first of them, as
many as are in flight, run in Verilator right before, and the ratio is of one run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, hotness, preset
from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.predict import Predictor
from sw_model.cycles.build import Builder
from sw_model.cycles.kernel import kernel
from sw_model.query import Query
from sw_model.random_models import random_models

RUNS = 5
FOREVER = 1 << 40


def rtl_rate(predictor: Predictor, queries: Sequence[Query]) -> float:
    """Cycles a second of the RTL in Verilator, with as many queries in flight as it takes."""
    config, image = predictor.config, predictor.image
    transport = open_transport("verilator", config, predictor.models, image)
    with Device(transport, config, image) as device:
        device.wait(device.submit(queries[0]))
        before, started = device.cycles(), time.perf_counter()
        for handle in [device.submit(query) for query in queries[1:]]:
            device.wait(handle)
        return (device.cycles() - before) / (time.perf_counter() - started)


def measure(queries: int, *, rtl: bool = False) -> dict[str, Any]:
    """Run queries back to back: cycles, seconds, and the cycle in which each is completed."""
    config = load(preset("rpaccel"))
    models = random_models(config, np.random.default_rng(config.data.seed))
    predictor = Predictor(
        config, models, compile_image(config, models, hotness=hotness(config, models))
    )
    drawn = criteo_like_queries(config, TRAINING_QUERIES, queries)
    rate = rtl_rate(predictor, drawn[: config.hardware.query_slots]) if rtl else None
    work = predictor.work([predictor.job(query) for query in drawn])
    run, seconds = kernel(), []
    for _ in range(RUNS):
        builder = Builder(work, config.simulation, {}, 0)
        machine, ports = builder.machine(), np.zeros(1, np.int64)
        machine.query["arrives"] = 0
        machine.clock["skip"] = 1
        counts = np.zeros((len(builder.units), 16), np.int64)
        run(machine, ports, counts, 0)  # compiles
        started = time.perf_counter()
        run(machine, ports, counts, FOREVER)
        seconds.append(time.perf_counter() - started)
    cycles = int(machine.clock["now"][0])
    rtl_found = {}
    if rate is not None:
        ratio = cycles / float(np.median(seconds)) / rate
        rtl_found = {"rtl_cycles_a_second": rate, "over_rtl": ratio}
    return {
        "cycles": cycles,
        "seconds": float(np.median(seconds)),
        "cycles_a_second": cycles / float(np.median(seconds)),
        **rtl_found,
        "completed": machine.query["completed"].tolist(),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--rtl", action="store_true", help="run the RTL, too (minutes)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.queries, rtl=args.rtl)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
