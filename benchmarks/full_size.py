"""Time the machine of Table 3: Verilog generation, Verilator build, one query of 4,096 items.

    python -m benchmarks.full_size [--json FILE]

Nothing kept from before is used. Each time is given on the clock and in processor seconds, which
other work on the computer disturbs less; memory is the most that any one process had until then.
The query goes through RM-small and RM-large with everything live, and is compared with the golden
model.
"""

import os
import resource
import tempfile
import time
from contextlib import contextmanager

import numpy as np

from benchmarks.command import figures_parser, keep, run
from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, hotness, preset
from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.report import grid
from rpaccel.verify import compare
from sim.generated import generated
from sw_model.funnel import rank_query
from sw_model.random_models import random_models


def used():
    """Processor seconds and most bytes of memory of this process and of those it has ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in both)
    return seconds, 1024 * max(usage.ru_maxrss for usage in both)


@contextmanager
def step(steps, name):
    """Note the time of a step, and the most memory of a process until its end."""
    started, before = time.perf_counter(), used()[0]
    yield
    after, memory = used()
    seconds = {"seconds": time.perf_counter() - started, "processor_seconds": after - before}
    steps.append({"step": name, **seconds, "memory_bytes": memory})


def measure():
    """Run all steps."""
    config, steps = load(preset("rpaccel")), []
    with step(steps, "generation"):
        text = generated(config.hardware)
    models = random_models(config, np.random.default_rng(config.data.seed))
    image = compile_image(config, models, hotness=hotness(config, models))
    (query,) = criteo_like_queries(config, TRAINING_QUERIES, 1)
    with step(steps, "Verilator and C++"):
        transport = open_transport("verilator", config, models, image)
    with step(steps, "image and query"), Device(transport, config, image) as device:
        handle = device.submit(query)
        found = device.wait(handle).result()
        cycles = device.cycles()
    compare(0, rank_query(config, models, query), found)
    return {
        "characters": sum(map(len, text.values())),
        "steps": steps,
        "cycles": cycles,
        "query_cycles": handle.cycles,
    }


def main():
    """Run the command line."""
    arguments = figures_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="rpaccel-") as cache:
        os.environ["RPACCEL_CACHE"] = cache
        found = measure()
    keep(found, arguments.json)
    rows = [
        [
            each["step"],
            f"{each['seconds']:.0f}",
            f"{each['processor_seconds']:.0f}",
            f"{each['memory_bytes'] / 1e9:.2f}",
        ]
        for each in found["steps"]
    ]
    print(grid("the machine of Table 3", ["step", "s", "processor s", "GB"], rows))
    print(
        f"{found['characters']:,} characters of Verilog; {found['cycles']:,} cycles, "
        f"{found['query_cycles']:,} of them the query's; equal to the golden model's"
    )


if __name__ == "__main__":
    run(main)
