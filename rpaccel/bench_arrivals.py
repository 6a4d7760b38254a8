"""Both machines in RTL under queries that come at random, and in pairs: to hold queueing against.

What a queueing model says of latencies rests on what queries do to each other when they meet. Here
they meet in the RTL: at exponential times at a given load, and two at a time, so many cycles apart.
Machines, queries and comparison with the golden model are those of :mod:`rpaccel.bench_pipeline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rpaccel.bench_pipeline import (
    TRAINING_QUERIES,
    Say,
    criteo_like_queries,
    hotness,
    prefixed,
    preset,
)
from rpaccel.compiler import compile_image
from rpaccel.config import Config, load
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.handle import Handle
from rpaccel.report import grid
from rpaccel.verify import compare
from sw_model.funnel import rank_query
from sw_model.query import Query
from sw_model.random_models import random_models

__all__ = ["bench", "open_loop", "pairs", "table"]

LOAD = 0.7
"""Of what the machine does back to back."""
PAIRS = 6
"""Pairs of queries, the second of which comes 0, 1/6, 2/6, ... of a lonely query's time later."""
STEP = 32
"""Cycles after which the driver looks again whether a query is complete."""
FIRST = TRAINING_QUERIES + 100
"""Number of the first query: others than those of ``rpaccel bench pipeline``."""


def open_loop(
    device: Device, queries: Sequence[Query], arrivals: Sequence[int], *, sub_batch: int
) -> tuple[dict[str, list[int]], list[Handle]]:
    """Submit queries at their times, whatever becomes of those before.

    Parameters
    ----------
    device : Device
        With nothing to do.
    queries : sequence of Query
    arrivals : sequence of int, cycles
        From now on, not decreasing.
    sub_batch : int
        Items in a sub-batch.

    Returns
    -------
    seen : dict of lists of int, cycles
        ``arrivals``; ``ends``, on the same clock, when the driver saw that the query was complete,
        some :data:`STEP` cycles late; ``cycles``, of the completion: without the way to the device.
    handles : list of Handle
    """
    now = begun = device.cycles()
    handles: list[Handle] = []
    ends: list[int] = []

    def running() -> int:
        ends.extend([0] * (len(handles) - len(ends)))
        for number, handle in enumerate(handles):
            if handle.done and not ends[number]:
                ends[number] = now - begun
        return ends.count(0)

    for arrival, query in zip(arrivals, queries, strict=True):
        while running() >= device.config.host.ring_entries - 1:
            now = device.run_until(now + STEP)
        while now < begun + arrival:
            now = device.run_until(min(begun + arrival, now + STEP))
            running()
        handles.append(device.submit(query, sub_batch=sub_batch))
    while running():
        now = device.run_until(now + STEP)
    seen = {"arrivals": list(arrivals), "ends": ends, "cycles": [h.cycles for h in handles]}
    return seen, handles


def pairs(alone: int) -> list[int]:
    """Arrivals of pairs far enough apart that no pair disturbs the next.

    Parameters
    ----------
    alone : int, cycles
        Of a query that meets no other.
    """
    return [
        3 * pair * alone + second * pair * alone // PAIRS
        for pair in range(PAIRS)
        for second in (0, 1)
    ]


def _run(
    config: Config, programs: int, sub_batches: int, arrivals: Sequence[int], first: int, say: Say
) -> dict[str, list[int]]:
    """Queries at some times, in so many sub-batches, by programs that are made for so many."""

    def parts(count: int) -> Config:
        funnel = config.funnel.model_copy(update={"sub_batches": count})
        return config.model_copy(update={"funnel": funnel})

    models = random_models(config, np.random.default_rng(config.data.seed))
    made, used = parts(programs), parts(sub_batches)
    image = compile_image(made, models, hotness=hotness(config, models))
    every = criteo_like_queries(config, FIRST + first, len(arrivals))
    with Device(open_transport("verilator", made, models, image), made, image) as device:
        say(f"{len(arrivals)} queries in {sub_batches} sub-batches")
        size = used.funnel.sub_batch_items
        seen, handles = open_loop(device, every, arrivals, sub_batch=size)
    say("comparing with the golden model")
    for number, (query, handle) in enumerate(zip(every, handles, strict=True)):
        compare(number, rank_query(used, models, query), handle.result())
    return seen


def bench(
    record: Mapping[str, Any],
    machines: Mapping[str, Path] | None = None,
    *,
    at_random: Sequence[int] = (40, 4),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Run both machines in RTL.

    Parameters
    ----------
    record : mapping
        What ``rpaccel bench pipeline --json`` printed of the same machines: the rate at which
        queries come, and the setting that is best for a query alone.
    machines : mapping of path, optional
        Configurations of ``rpaccel`` and ``baseline``; by default the presets.
    at_random : two ints
        Queries at exponential times on each.
    say : function
        Told what is going on.

    Returns
    -------
    dict
        Of each machine ``load``, ``cycles_per_query`` that it is a share of, ``at_random`` and, of
        one with several stages, ``pairs``, as of :func:`open_loop`.
    """
    found: dict[str, Any] = {}
    for name, count in zip(("rpaccel", "baseline"), at_random, strict=True):
        config = load(machines[name] if machines else preset(name))
        known, parts = record[name], config.funnel.sub_batches
        rng = np.random.default_rng(config.data.seed)
        gaps = rng.exponential(known["cycles_per_query"] / LOAD, count)
        drawn = np.cumsum(gaps).astype(int).tolist()
        tell = partial(prefixed, say, name)
        found[name] = {
            "name": config.name,
            "cycles_per_query": known["cycles_per_query"],
            "load": LOAD,
            "at_random": _run(config, parts, parts, drawn, 0, tell),
        }
        if len(config.funnel.stages) > 1:  # one stage is a line of queries: pairs say no more
            best = known["alone"]["best"]
            programs, used = best["programs"], best["sub_batches"]
            found[name]["pairs"] = _run(config, programs, used, pairs(best["cycles"]), count, tell)
    return found


def table(report: Mapping[str, Any]) -> str:
    """Lay latencies out as text."""
    rows = []
    for each in report.values():
        seen = each["at_random"]
        latencies = np.array(seen["ends"]) - seen["arrivals"]
        for p in (50, 90, 100):
            rows.append([each["name"], f"p{p}", f"{np.percentile(latencies, p):,.0f}"])
        seen = each.get("pairs", {"arrivals": [], "ends": []})
        latencies = (np.array(seen["ends"], int) - seen["arrivals"]).reshape(-1, 2)
        gaps = np.diff(seen["arrivals"])[::2]
        for gap, (first, second) in zip(gaps, latencies, strict=True):
            rows.append([each["name"], f"{gap:,d} apart", f"{first:,d} and {second:,d}"])
    return grid(
        f"Latencies in cycles, RTL: at random at a load of {LOAD:g}, and in pairs",
        ["machine", "", "cycles"],
        rows,
    )
