"""Cycle model against RTL on random machines: error a query, a layer, and of stalls; the picture.

    python -m benchmarks.predict_agreement --seeds 0..9 -o build/predict.jsonl
    python -m benchmarks.predict_agreement -o build/predict.jsonl --again --json
    python -m benchmarks.predict_agreement -o build/predict.jsonl --picture docs/results/predict.png

The first runs the machines of some seeds and adds a line for each configuration to the file, of
those that are not in it; the second runs the model anew for what is in it, which takes no RTL.
A machine (tests/random_machines.py) runs several configurations: models, funnel, timing of memory
and host, queries. Random pauses of memory and host are not modelled, so there are none.
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

from benchmarks.predict_errors import draw, summary
from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError
from rpaccel.hardware import HardwareConfig
from rpaccel.image import Image
from rpaccel.predict import Predictor
from sim.trace import Token, Trace, read
from sim.transport import SimulatedTransport
from sw_model.planner import largest_sub_batches
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.random_models import random_models, random_query
from tests.random_machines import random_dots, random_hardware, random_workload
from tests.workloads import workload

SETTINGS = 10  # configurations of a machine
QUERIES = 3
MEMORY_BYTES, SMALL_BYTES = 1 << 18, 1 << 16  # one simulator for all of a machine
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
    """The machine of a seed; negative ones have the small one of other tests."""
    if seed < 0:
        return workload().hardware.model_dump()
    rng = np.random.default_rng([seed, STREAM])
    hardware = random_hardware(rng)
    return random_dots(rng, hardware) if seed % DOTS == DOTS - 1 else hardware


def settings(seed: int) -> Iterator[Setting]:
    """Configurations of a machine, without end."""
    hardware = hardware_of(seed)
    number = 0
    while True:
        rng = np.random.default_rng([abs(seed), number, STREAM])
        number += 1
        config = _timed(random_workload(rng, hardware), rng)
        models = random_models(config, rng)
        try:
            image = compile_image(config, models)
        except ConfigError:  # too large for the machine
            continue
        if seed < 0 and len(image.data) > SMALL_BYTES:
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
    hardware, features = config.hardware, config.features
    largest, depths = image.stages[0].max_items, hardware.topk_depth
    room = (hardware.feature_bytes - features.query_bytes) // max(1, features.item_bytes)
    for _ in range(QUERIES):
        items = min(int(rng.integers(1, config.funnel.items + 1)), room)
        keep, left = [], items
        for depth in depths:
            left = int(rng.integers(1, min(left, depth) + 1))
            keep.append(left)
        sub_batch = min(largest, -(-items // int(rng.integers(1, 9))))
        bounds = largest_sub_batches(items, sub_batch, keep)
        if any(n > stage.max_items for n, stage in zip(bounds, image.stages, strict=True)):
            sub_batch = 1  # an inner stage takes fewer at a time
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


def measure(setting: Setting) -> dict[str, Any]:
    """Run queries in RTL, all submitted before the device begins.

    Returns cycles of each query, counts of all counters, and cycles of layers.
    """
    small = setting.config.hardware == workload().hardware
    size = SMALL_BYTES if small else MEMORY_BYTES
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        transport = SimulatedTransport(
            setting.config,
            setting.image.data.ljust(size, b"\0"),
            tables=setting.image.generated,
            trace=record,
            optimise="-O0" if small else None,
        )
        with Device(transport, setting.config, setting.image) as device:
            with device.held():
                handles = [device.submit(query, **how) for query, how in setting.queries]
                before = device.counters()
            for handle in handles:
                device.wait(handle).result()
            after = device.counters()
        seen = Rows(setting.config.hardware)
        read(setting.config.hardware, record, seen)
    predictor = Predictor(setting.config, setting.models, setting.image)
    return {
        "queries": [handle.cycles for handle in handles],
        "counts": {name: after[name] - before[name] for name in after},
        "layers": _layers(predictor.layers(seen.passes(setting.image))),
    }


def predict(setting: Setting) -> dict[str, Any]:
    """The same by the model."""
    predictor = Predictor(setting.config, setting.models, setting.image)
    jobs = [predictor.job(query, **how) for query, how in setting.queries]
    work = predictor.work(jobs)
    done = predictor.run(work)
    counts = {
        f"{unit}.{state}": cycles
        for unit, states in done.states.items()
        for state, cycles in states.items()
    }
    return {
        "queries": (done.queries["requested"] - done.queries["fetched"]).tolist(),
        "counts": counts | {"device.active": done.active},
        "events": work.events(),
        "layers": _layers(predictor.layers(done.layers)),
    }


def compare(setting: Setting) -> dict[str, Any]:
    """Run a configuration in RTL and in the model."""
    simulation = setting.config.simulation
    return {
        "rtl": measure(setting),
        "model": predict(setting),
        "dot": any(model.dot is not None for model in setting.models),
        "groups": len(setting.config.hardware.groups),
        "stages": len(setting.models),
        "reorder": simulation.memory_reorder,
        "tiers": simulation.dram is not None or simulation.ssd is not None,
    }


def _layers(places: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Cycles a token of each layer."""
    return {
        f"{place}, {number} {row['layer']}": row["cycles"]
        for place, rows in places.items()
        for number, row in enumerate(rows)
    }


def run(seeds: Sequence[int], file: Path) -> None:
    """Add what is missing of some machines to a file."""
    there = {(row["seed"], row["number"]) for row in _rows(file)}
    for seed in seeds:
        for number, setting in zip(range(SETTINGS), settings(seed), strict=False):
            if (seed, number) not in there:
                row = {"seed": seed, "number": number} | compare(setting)
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")


def again(file: Path) -> None:
    """Put what the model says now in the place of what it said."""
    rows = _rows(file)
    for seed in sorted({row["seed"] for row in rows}):
        mine = {row["number"]: row for row in rows if row["seed"] == seed}
        for number, setting in zip(range(max(mine) + 1), settings(seed), strict=False):
            if number in mine:
                mine[number]["model"] = predict(setting)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", metavar="A..B", help="machines; -B..-A: the small one")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--again", action="store_true", help="run the model anew, no RTL")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.seeds:
        first, _, last = args.seeds.partition("..")
        low, high = sorted((int(first), int(last or first)))
        run(range(low, high + 1), args.output)
    if args.again:
        again(args.output)
    rows = _rows(args.output)
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
