"""Cycle model against RTL on random machines: error a query, a layer, and of stalls; the picture.

    python -m benchmarks.predict_agreement --seeds 0..9 -o build/predict.jsonl
    python -m benchmarks.predict_agreement -o build/predict.jsonl --json
    python -m benchmarks.predict_agreement -o build/predict.jsonl --picture docs/results/predict.png

The first runs the machines of some seeds and adds a line for each configuration to the file, of
those that are not in it; the others tell what is in it. A machine (tests/random_machines.py) runs
several configurations: models, funnel, timing of memory and host, groups in use, queries. Random
pauses of memory and host are not modelled, so there are none.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel import abi
from rpaccel.compiler import compile_image
from rpaccel.config import Config, HardwareConfig
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, QueryError
from rpaccel.image import Image
from rpaccel.predict import Predictor
from sim.trace import Token, Trace, read
from sim.transport import SimulatedTransport
from sw_model.cycles.machine import Cycles, Job
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.random_models import random_models, random_query
from tests.random_machines import random_dots, random_hardware, random_workload

SETTINGS = 10  # configurations of a machine
QUERIES = 3
MEMORY_BYTES = 1 << 18
DOTS = 3  # every so many machines have dot interaction units
STREAM = 7117  # of the random numbers


@dataclass(frozen=True)
class Setting:
    """A configuration of a machine: models, an image, and queries with how they are run."""

    config: Config
    models: list[QuantisedModel]
    image: Image
    queries: list[tuple[Query, dict[str, Any]]]


def hardware_of(seed: int) -> dict[str, Any]:
    """The machine of a seed."""
    rng = np.random.default_rng([seed, STREAM])
    hardware = random_hardware(rng)
    return random_dots(rng, hardware) if seed % DOTS == DOTS - 1 else hardware


def settings(seed: int) -> Iterator[Setting]:
    """Configurations of a machine, without end."""
    hardware = hardware_of(seed)
    number = 0
    while True:
        rng = np.random.default_rng([seed, number, STREAM])
        number += 1
        config = _timed(random_workload(rng, hardware), rng)
        models = random_models(config, rng)
        try:
            image = compile_image(config, models)
        except ConfigError:  # too large for the machine
            continue
        yield Setting(config, models, image, list(_queries(rng, config, image)))


def _timed(config: Config, rng: np.random.Generator) -> Config:
    """A configuration without pauses, with a host link, and with 16 entries in its rings."""
    link = {
        "memory_stall": 0,
        "host_stall": 0,
        "host_latency": int(rng.integers(1, 400)),
        "host_rate": float(rng.uniform(1, config.hardware.host_bus_bytes)),
    }
    values = config.model_dump()
    values["simulation"] |= link
    values["host"] = {"ring_entries": 16}
    return Config.model_validate(values)


def _queries(
    rng: np.random.Generator, config: Config, image: Image
) -> Iterator[tuple[Query, dict[str, Any]]]:
    largest = image.stages[0].max_items
    for _ in range(QUERIES):
        items = int(rng.integers(1, config.funnel.items + 1))
        keep, left = [], items
        for _ in config.funnel.stages:
            left = int(rng.integers(1, left + 1))
            keep.append(left)
        sub_batch = min(largest, -(-items // int(rng.integers(1, 9))))
        once = tuple(np.flatnonzero(rng.random(len(keep) - 1) < 0.3).tolist())
        how = {"keep": keep, "sub_batch": sub_batch, "global_release": once}
        yield random_query(config.features, items, rng), how


class Rows(Trace):
    """A trace that keeps when each row of items entered the array, by group, in order."""

    def __init__(self, hardware: HardwareConfig) -> None:
        super().__init__(hardware)
        self.rows: list[list[tuple[Token, int]]] = [[] for _ in hardware.groups]

    def _group(self, cycle: int, group: int, seen: dict[str, int]) -> None:
        super()._group(cycle, group, seen)
        if seen["row"]:
            self.rows[group].append((self._in_array[group], cycle))

    def passes(self, image: Image) -> dict[tuple[int, int], np.ndarray]:
        """Cycles and tokens of each pass, as :attr:`sw_model.cycles.machine.Cycles.layers`."""
        found: dict[tuple[int, int], np.ndarray] = {}
        for group, rows in enumerate(self.rows):
            seen: Counter[int] = Counter()
            before, last, at = None, 0, 0
            while at < len(rows):
                token = rows[at][0]
                program = next(p for p in image.stages[token.stage].programs if p.group == group)
                shape = self.hardware.geometry(group).shapes[program.shape]
                size = shape.item_rows(token.items)
                end = rows[at + size - 1][1]
                count = sum(layer.passes for layer in program.layers)
                both = found.setdefault((token.stage, group), np.zeros((count, 2), np.int64))
                last = last if token is before else end - size
                both[seen[id(token)]] += end - last, 1
                seen[id(token)] += 1
                before, last, at = token, end, at + size
        return found


def measure(
    setting: Setting,
) -> tuple[list[int], dict[str, int], Rows, list[Job]]:
    """Run queries in RTL, all submitted before the device begins.

    Returns cycles of each query, counts of all counters, the trace, and the jobs as they were run.
    """
    predictor = Predictor(setting.config, setting.models, setting.image)
    jobs = []
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        transport = SimulatedTransport(
            setting.config,
            setting.image.data.ljust(MEMORY_BYTES, b"\0"),  # one simulator for all of a machine
            tables=setting.image.generated,
            optimise="-O1",
            trace=record,
        )
        with Device(transport, setting.config, setting.image) as device:
            device._link.write("CONTROL", 0)
            handles = []
            for query, how in setting.queries:
                try:
                    handles.append(device.submit(query, **how))
                except QueryError:  # an inner stage takes fewer at a time
                    how = how | {"sub_batch": 1}
                    handles.append(device.submit(query, **how))
                jobs.append(predictor.job(query, **how))
            before = device.counters()
            device._link.write("CONTROL", 1 << abi.Control.ENABLE)
            for handle in handles:
                device.wait(handle).result()
            after = device.counters()
        seen = Rows(setting.config.hardware)
        read(setting.config.hardware, record, seen)
    counts = {name: after[name] - before[name] for name in after}
    return [handle.cycles for handle in handles], counts, seen, jobs


def compare(setting: Setting) -> dict[str, Any]:
    """Run a configuration in RTL and in the model."""
    cycles, counts, seen, jobs = measure(setting)
    predictor = Predictor(setting.config, setting.models, setting.image)
    done = predictor.run(predictor.work(jobs))
    latency = (done.queries["requested"] - done.queries["fetched"]).tolist()
    simulation = setting.config.simulation
    return {
        "queries": [list(pair) for pair in zip(cycles, latency, strict=True)],
        "active": [counts["device.active"], done.active],
        "states": _states(counts, done),
        "layers": _layers(predictor, seen, done),
        "misses": sum(v for n, v in counts.items() if n.endswith(".misses")),
        "dot": any(model.dot is not None for model in setting.models),
        "groups": len(setting.config.hardware.groups),
        "stages": len(setting.models),
        "reorder": simulation.memory_reorder,
        "tiers": simulation.dram is not None or simulation.ssd is not None,
    }


def _layers(predictor: Predictor, seen: Rows, done: Cycles) -> list[list[float]]:
    """Cycles a token of each layer by RTL and by the model."""
    rtl = predictor.layers(seen.passes(predictor.image))
    model = predictor.layers(done.layers)
    return [
        [mine["cycles"], its["cycles"]]
        for place, rows in rtl.items()
        for mine, its in zip(rows, model[place], strict=True)
    ]


def _states(counts: Mapping[str, int], done: Cycles) -> dict[str, list[int]]:
    """Cycles of each state by RTL and by the model; those of starving are what is left."""
    return {
        f"{unit}.{state}": [counts[f"{unit}.{state}"], cycles]
        for unit, states in done.states.items()
        for state, cycles in states.items()
        if state != "starved" and (cycles or counts[f"{unit}.{state}"])
    }


def run(seeds: Sequence[int], file: Path) -> None:
    """Add what is missing of some machines to a file."""
    there = set()
    if file.exists():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            there.add((row["seed"], row["number"]))
    for seed in seeds:
        for number, setting in zip(range(SETTINGS), settings(seed), strict=False):
            if (seed, number) not in there:
                row = {"seed": seed, "number": number} | compare(setting)
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of the rows of a file."""
    errors = np.array([abs(m - r) / r for row in rows for r, m in row["queries"]])
    active = np.array([abs(m - r) / r for row in rows for r, m in [row["active"]]])
    layers = np.array([abs(m - r) / max(1, r) for row in rows for r, m in row["layers"]])
    stalls = [_stalled(row) for row in rows]
    return {
        "machines": len({row["seed"] for row in rows}),
        "configurations": len(rows),
        "queries": len(errors),
        "query_error": _distribution(errors),
        "configuration_error": _distribution(active),
        "layers": len(layers),
        "layer_error": _distribution(layers),
        "exact_queries": float((errors == 0).mean()),
        "same_cause": float(np.mean([same for same, _ in stalls])),
        "moved_cycles": float(np.mean([moved for _, moved in stalls])),
    }


def _distribution(errors: np.ndarray) -> dict[str, float]:
    named = {"median": 50, "p90": 90, "p99": 99, "max": 100}
    return {name: float(np.percentile(errors, q)) for name, q in named.items()}


def _stalled(row: Mapping[str, Any]) -> tuple[float, float]:
    """Share of units whose longest stall is the same, and of cycles in another state."""
    units: dict[str, list[tuple[str, int, int]]] = {}
    for name, (rtl, model) in row["states"].items():
        unit, _, state = name.partition(".")
        units.setdefault(unit, []).append((state, rtl, model))
    same, moved, total = [], 0, 0
    for states in units.values():
        stalls = [s for s in states if s[0].startswith("stall_")]
        if stalls:
            same.append(max(stalls, key=lambda s: s[1])[0] == max(stalls, key=lambda s: s[2])[0])
        moved += sum(abs(rtl - model) for _, rtl, model in states)
        total += row["active"][0]
    return float(np.mean(same)), moved / total


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the errors of all queries."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5))
    pairs = np.array([pair for row in rows for pair in row["queries"]])
    error = (pairs[:, 1] - pairs[:, 0]) / pairs[:, 0]
    axes[0].loglog(pairs[:, 0], pairs[:, 1], ".", markersize=3)
    axes[0].set(xlabel="RTL, cycles a query", ylabel="model")
    axes[1].plot(np.sort(np.abs(error)) * 100, np.linspace(0, 1, len(error)))
    axes[1].axvline(3, linestyle=":")
    axes[1].set(xlabel="error, %", ylabel="share of queries", xscale="symlog")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", metavar="A..B", help="machines to run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.seeds:
        first, _, last = args.seeds.partition("..")
        run(range(int(first), int(last or first) + 1), args.output)
    rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    found = summary(rows)
    if args.picture:
        draw(rows, args.picture)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
