"""Poisson arrivals through driver and RTL: when each query came, began and ended, in device cycles.

An open loop: arrivals do not wait for the device. Gaps are exponential; their mean is that of a
given share of what the machine can do, which is measured first, with as many queries outstanding as
the rings take. The record is for an event simulation to be compared with.

    python -m benchmarks.poisson CONFIG -o FILE [--queries 200] [--load 0.7] [--seed 1]
    python -m benchmarks.poisson CONFIG --compare FILE

Arrivals are what was drawn; ``submitted`` is the clock when the driver saw that a query was due (it
is later by what the driver takes, above all while no room is in the rings); ``opened`` when the
query got its slot, ``copied`` when its features were there, ``completed`` when its completion was
in host memory. Device memory answers in order. The latency is ``completed - arrival``.
``--compare`` has the cycle model run the queries of a record (:func:`errors`), and prints how far
its latencies are from the RTL's.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from rpaccel.config import load as load_config
from rpaccel.driver import Device
from rpaccel.progress import progress_bar
from rpaccel.verify import compare
from rpaccel.workflow import Workflow
from sim.trace import read
from sim.transport import SimulatedTransport
from sw_model.random_models import random_query

SATURATED = 20
"""Queries that measure what the machine can do."""


def drive(device, queries, gap, rng, progress=lambda: None):
    """Submit queries as they are due; arrivals, submissions and handles."""
    arrivals = device.cycles() + np.cumsum(rng.exponential(gap, size=len(queries))).astype(int)
    submitted, handles = [], []
    for arrival, query in zip(arrivals.tolist(), queries, strict=True):
        submitted.append(device.run_until(arrival))
        handles.append(device.submit(query))
        progress()
    return arrivals.tolist(), submitted, [device.wait(handle) for handle in handles]


def in_order(config):
    """The same with memory that answers in order: the cycle model draws no random order."""
    simulation = config.simulation.model_copy(update={"memory_reorder": False})
    return config.model_copy(update={"simulation": simulation})


def draw(config, queries, rng):
    """All queries of a record, those that measure the machine first."""
    features, items = config.features, config.funnel.items
    return [random_query(features, items, rng) for _ in range(SATURATED + queries)]


def errors(config, record_):
    """Errors of the cycle model's latencies of a record's queries, relative, of shape (queries,).

    A query is in the ring some cycles after the driver saw that it was due: as many for all, those
    of the first. Also returned are these, and cycles a query when saturated.
    """
    from rpaccel.predict import Predictor

    config = in_order(config)
    work = Workflow(config)
    rows = {name: np.array([q[name] for q in record_["queries"]]) for name in record_["queries"][0]}
    drawn = draw(config, len(record_["queries"]), np.random.default_rng(record_["seed"]))
    predictor = Predictor(config, work.quantised, work.image)
    queries = predictor.work([predictor.job(query) for query in drawn])
    first = predictor.run(queries, [0] * SATURATED + rows["submitted"].tolist())
    delay = int(rows["opened"][0] - first.queries["opened"][SATURATED])
    due = [0] * SATURATED + (rows["submitted"] + delay).tolist()
    ends = predictor.run(queries, due).queries["completed"]
    found = (ends[SATURATED:] - rows["arrival"]) / rows["latency"] - 1
    return found, delay, ends[SATURATED - 1] / SATURATED


def compare_text(values):
    """What is to be said of errors."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return (
        f"{len(values)} latencies, the cycle model against the RTL: {(values == 0).sum()} exact, "
        f"median {middle:+.2%}, 5 % to 95 % of them {low:+.2%} to {high:+.2%}, "
        f"worst {np.abs(values).max():.2%}"
    )


def record(config, *, queries, load, seed):
    """Run queries; the document that is written."""
    config = in_order(config)
    work = Workflow(config)
    rng = np.random.default_rng(seed)
    drawn = draw(config, queries, rng)
    with tempfile.TemporaryDirectory(prefix="poisson-") as folder, progress_bar() as bar:
        file = Path(folder) / "record"
        task = bar.add_task("queries", total=queries)
        transport = SimulatedTransport(config, work.image.data, trace=file)
        with Device(transport, config, work.image) as device:
            begin = device.counters()["device.active"]
            device.run(drawn[:SATURATED], outstanding=config.host.ring_entries)
            service = (device.counters()["device.active"] - begin) / SATURATED
            arrivals, submitted, handles = drive(
                device, drawn[SATURATED:], service / load, rng, lambda: bar.advance(task)
            )
        trace = read(config.hardware, file)
    rows = []
    for number, (query, handle) in enumerate(zip(drawn[SATURATED:], handles, strict=True)):
        compare(number, work.golden(query), handle.result())
        seen = trace.queries[SATURATED + number]
        assert seen.query_id == handle.query_id
        rows.append(
            {
                "arrival": arrivals[number],
                "submitted": submitted[number],
                "opened": seen.opened,
                "copied": seen.copied,
                "completed": seen.completed[1],
                "latency": seen.completed[1] - arrivals[number],
            }
        )
    return {
        "configuration": config.name,
        "digest": f"{config.hardware.digest():#018x}",
        "items": config.funnel.items,
        "keep": list(config.funnel.keep),
        "sub_batches": config.funnel.sub_batches,
        "ring_entries": config.host.ring_entries,
        "query_slots": config.hardware.query_slots,
        "load": load,
        "seed": seed,
        "cycles_a_query": service,
        "queries": rows,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-o", "--output", type=Path)
    what.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--load", type=float, default=0.7, help="of what the machine can do")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.compare:
        document = json.loads(options.compare.read_text())
        found, delay, saturated = errors(load_config(options.config), document)
        print(compare_text(found))
        print(
            f"{saturated:.1f} cycles a query when saturated, RTL {document['cycles_a_query']:.1f}; "
            f"{delay} cycles from the driver's look at the clock to the ring"
        )
        return
    made = record(
        load_config(options.config), queries=options.queries, load=options.load, seed=options.seed
    )
    lines = ",\n".join("  " + json.dumps(row) for row in made.pop("queries"))
    head = json.dumps(made)[1:-1]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(f'{{{head}, "queries": [\n{lines}\n]}}\n')
    latencies = [json.loads(line.rstrip(","))["latency"] for line in lines.splitlines()]
    print(f"{len(latencies)} queries, {made['cycles_a_query']:.0f} cycles each when saturated")
    print(
        f"latency: p50 {np.percentile(latencies, 50):.0f}, p99 {np.percentile(latencies, 99):.0f}"
    )


if __name__ == "__main__":
    main()
