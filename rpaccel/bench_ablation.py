"""What each of RPAccel's features O.1..O.5 is worth, alone and on top of each other, in RTL cycles.

One configuration gives all machines: features are taken out of it. Without O.3 the array is one
sub-array of as many MACs; without O.4 a lane finds out about a miss when the row is wanted, and
keeps no line; without O.1 the last stage ranks all items; without O.5 a query is one sub-batch.
Without O.2 the device returns every score of a stage, and the host, which ranks them, sends the
survivors to the next stage as a query of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_pipeline import (
    CLOCK_HZ,
    HOST_SECONDS,
    TRAINING_QUERIES,
    criteo_like_queries,
    hotness,
    preset,
    sorting,
)
from rpaccel.compiler import compile_image
from rpaccel.config import Config, load, parse
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.handle import Handle
from rpaccel.report import grid
from rpaccel.verify import compare
from sw_model.funnel import rank
from sw_model.query import Query, Ranking
from sw_model.random_models import random_models
from sw_model.topk import top_k

__all__ = ["FEATURES", "Variant", "bench", "machine", "run_variant", "table", "variants"]

FEATURES = {
    "O.1": "two stages",
    "O.2": "filter on chip",
    "O.3": "array in groups",
    "O.4": "look-ahead cache",
    "O.5": "sub-batches",
}
PAPER = {"O.1": "2.5x", "O.2": "1.5x", "O.3": "2x", "O.4": "-40 % AMAT", "O.5": "1.3x"}
"""The paper's own gains: of latency, but for O.3 (throughput) and O.4."""
KEYS = ("cycles_per_query", "cycles_alone", "seconds_alone")
"""What variants are compared by."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """A machine and how it is used: which features it has."""

    features: frozenset[str]

    @property
    def name(self) -> str:
        """Its features, for a table."""
        return ", ".join(sorted(self.features)) or "none"


def variants() -> list[Variant]:
    """Without any feature, with each alone, and with O.1 to O.n."""
    names = list(FEATURES)
    alone = [frozenset({name}) for name in names]
    cumulative = [frozenset(names[:count]) for count in range(2, len(names) + 1)]
    return [Variant(features) for features in (frozenset[str](), *alone, *cumulative)]


def machine(config: Config, variant: Variant) -> Config:
    """Take features out of a configuration.

    Parameters
    ----------
    config : Config
        Two stages with exact filters that keep all items if asked to, all features.
    variant : Variant
    """
    values = config.model_dump()
    hardware, funnel = values["hardware"], values["funnel"]
    if "O.3" not in variant.features:
        side = math.isqrt(config.hardware.macs)
        hardware |= {"tile_rows": side, "tile_cols": side, "groups": [{"stages": [0, 1]}]}
        hardware["settings"] = []
    if "O.4" not in variant.features:
        for gather in hardware["gather"]:
            gather |= {"lookahead": 2, "cache_lines": 1, "cache_ways": 1, "outstanding": 1}
    if "O.5" not in variant.features:
        funnel["sub_batches"] = 1
    if "O.1" not in variant.features:
        for key in ("stages", "keep"):
            funnel[key] = funnel[key][-1:]
        hardware["gather"] = [hardware["gather"][-1]]
        hardware["topk_depth"] = hardware["topk_depth"][-1:]
        hardware["groups"] = [group | {"stages": [0]} for group in hardware["groups"]]
    return parse(values)


@dataclass
class _Job:
    """A query on its way: on the device, or between two stages with the host."""

    query: Query
    handle: Handle
    cycles: int = 0
    ranking: Ranking | None = None


class _Runner:
    """Queries of a variant on its device."""

    def __init__(self, config: Config, variant: Variant, device: Device) -> None:
        self.config, self.device = config, device
        self.chip = "O.2" in variant.features
        self.last = len(config.funnel.stages) - 1

    def start(self, query: Query) -> _Job:
        """Submit a query: all stages, or the first one with every score wanted."""
        if self.chip:
            return _Job(query, self.device.submit(query))
        handle = self.device.submit(query, keep=[query.items], last_stage=0)
        return _Job(query, handle)

    def goes_on(self, job: _Job) -> bool:
        """Take what the device returned; without a filter, submit what the host chose of it."""
        got, keep = job.handle.result(), self.config.funnel.keep
        job.cycles += job.handle.cycles
        if self.chip:
            job.ranking = got
            return False
        second = job.ranking is not None or not self.last
        stage = self.last if second else 0
        best = Ranking(*top_k(got.positions, got.scores, keep[stage]))
        if second:
            before = (
                job.ranking.positions if job.ranking is not None else np.arange(job.query.items)
            )
            job.ranking = Ranking(before[best.positions], best.scores)
            return False
        # Without sub-batches the host's choice is that of one release.
        chosen = np.sort(best.positions)
        job.ranking = Ranking(chosen, best.scores)
        survivors = Query(
            items=len(chosen),
            dense_query=job.query.dense_query,
            dense_item=job.query.dense_item[chosen],
            indices={name: rows[chosen] for name, rows in job.query.indices.items()},
        )
        job.handle = self.device.submit(
            survivors, keep=[survivors.items], first_stage=1, last_stage=1
        )
        return True

    def alone(self, query: Query) -> _Job:
        """Run a query with nothing else."""
        job = self.start(query)
        while True:
            self.device.wait(job.handle)
            if not self.goes_on(job):
                return job

    def back_to_back(self, queries: Sequence[Query], slots: int) -> list[tuple[_Job, int]]:
        """Keep ``slots`` queries running; each with the cycle in which it was over."""
        waiting, running, over = list(queries), list[_Job](), []
        while waiting or running:
            while waiting and len(running) < slots:
                running.append(self.start(waiting.pop(0)))
            done = self.device.wait_any([job.handle for job in running])
            job = next(job for job in running if job.handle is done)
            if not self.goes_on(job):
                running.remove(job)
                over.append((job, self.device.cycles()))
        return over


def run_variant(config: Config, variant: Variant, queries: int) -> dict[str, Any]:
    """Run a variant; its rankings are compared with the golden model's."""
    config = machine(config, variant)
    models = random_models(config, np.random.default_rng(config.data.seed))
    image = compile_image(config, models, hotness=hotness(config, models))
    slots = config.hardware.query_slots
    every = criteo_like_queries(config, TRAINING_QUERIES, 2 + queries + slots)
    transport = open_transport("verilator", config, models, image)
    with Device(transport, config, image) as device:
        runner = _Runner(config, variant, device)
        alone = [runner.alone(query) for query in every[:2]]
        over = runner.back_to_back(every[2:], slots)
        trips = 2 if "O.1" in variant.features and not runner.chip else 1
    funnel = config.funnel
    for number, job in enumerate([*alone, *(job for job, _ in over)]):
        # The host that ranks between stages ranks all items at once.
        whole = job.query.items if not runner.chip else funnel.sub_batch_items
        golden = rank(models, config.features, job.query, keep=funnel.keep, sub_batch=whole)
        assert job.ranking is not None
        compare(number, golden, job.ranking)
    ends = [end for _, end in over]
    first = queries // 2 - 1
    return {
        "features": sorted(variant.features),
        "name": variant.name,
        "cycles_per_query": (ends[queries - 1] - ends[first]) / (queries - 1 - first),
        "cycles_alone": alone[1].cycles,
        "host_trips": trips,
    }


def bench(
    path: Path | None = None, *, queries: int = 12, say: Say = lambda text: None
) -> dict[str, Any]:
    """Run all variants in RTL.

    Parameters
    ----------
    path : path, optional
        Configuration with all features; by default ``rpaccel/presets/scaled.toml``.
    queries : int
        Back to back on each; the second half is measured.
    say : function
        Told what is going on.

    Returns
    -------
    dict
        ``variants``: cycles a query back to back, of one alone, and its latency with the host;
        gains against the one without features, and of the cumulative ones against the one before.
    """
    config = load(path or preset("scaled"))
    items = config.funnel.items
    sort = sorting(items, config.funnel.keep[-1])
    rows: list[dict[str, Any]] = []
    for variant in variants():
        say(variant.name)
        row = run_variant(config, variant, queries)
        host = row["host_trips"] * 2 * HOST_SECONDS
        if "O.2" not in variant.features:
            host += row["host_trips"] * sort
        rows.append(row | {"seconds_alone": host + row["cycles_alone"] / CLOCK_HZ})
    base = rows[0]
    for number, row in enumerate(rows):
        # O.1 alone is the first of the cumulative ones; the others follow the alone ones.
        before = rows[1] if number == len(FEATURES) + 1 else rows[number - 1]
        for key in KEYS:
            row[f"gain_{key}"] = base[key] / row[key]
            if number > len(FEATURES):
                row[f"step_{key}"] = before[key] / row[key]
    return {"name": config.name, "macs": config.hardware.macs, "variants": rows, "sort": sort}


def table(report: dict[str, Any]) -> str:
    """Lay the report out as text."""
    rows = []
    for row in report["variants"]:
        steps = [f"{row[key]:.2f}" if (key := f"step_{k}") in row else "" for k in KEYS]
        added = row["features"][-1] if row["features"] else ""
        rows.append(
            [
                row["name"],
                f"{row['cycles_per_query']:,.0f}",
                f"{row['gain_cycles_per_query']:.2f}",
                steps[0],
                f"{row['cycles_alone']:,d}",
                f"{row['gain_cycles_alone']:.2f}",
                steps[1],
                f"{1e6 * row['seconds_alone']:,.0f}",
                f"{row['gain_seconds_alone']:.2f}",
                steps[2],
                PAPER.get(added, ""),
            ]
        )
    header = ["features", "cycles", "gain", "step", "alone", "gain", "step", "us", "gain", "step"]
    return grid(
        f"{report['name']}, {report['macs']} MACs, RTL cycles a query back to back, of one alone, "
        f"and its latency with 40 us to the host and 40 back, and ranking there",
        [*header, "paper"],
        rows,
    )
