"""Random machines, models and queries: gateware against golden model, to the bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, QueryError
from rpaccel.image import Image
from rpaccel.states import shares
from rpaccel.verify import compare
from sim.transport import SimulatedTransport
from sw_model.funnel import rank
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.random_models import random_models, random_query
from sw_model.topk import filters_of
from tests.random_machines import random_hardware, random_workload

MACHINES = 25
QUICK = 6
WORKLOADS = 4
QUERIES = 3


@dataclass(frozen=True)
class Work:
    """Models of a machine, and queries with how they are run."""

    config: Config
    models: list[QuantisedModel]
    image: Image
    queries: list[tuple[Query, list[int], int]]  # query, keep, sub-batch


def draw_work(rng: np.random.Generator, hardware: dict) -> Work:
    """Draw until models and queries fit the machine."""
    for _ in range(200):
        config = random_workload(rng, hardware)
        models = random_models(config, rng)
        try:
            image = compile_image(config, models)
        except ConfigError:
            continue
        queries = []
        largest = image.stages[0].max_items
        for _ in range(QUERIES):
            items = int(rng.integers(1, config.funnel.items + 1))
            keep, left = [], items
            for _ in config.funnel.stages:
                left = int(rng.integers(1, left + 1))
                keep.append(left)
            count = int(rng.integers(1, 9))
            sub_batch = min(largest, -(-items // count))
            queries.append((random_query(config.features, items, rng), keep, sub_batch))
        return Work(config, models, image, queries)
    raise AssertionError("no workload fits this machine")


def run_work(work: Work, **transport: object) -> None:
    """Run queries, as many outstanding as the rings take, and compare each."""
    with Device(
        SimulatedTransport(work.config, work.image.data, **transport), work.config, work.image
    ) as device:
        submitted = []
        rng = np.random.default_rng(len(work.image.data))
        hardware = work.config.hardware
        for query, keep, sub_batch in work.queries:
            groups = {s: hardware.groups_of(s) for s in range(hardware.stages)}
            device.dispatch(
                {s: rng.permutation(g)[: rng.integers(1, 4)] for s, g in groups.items()}
            )
            how = {"keep": keep, "global_release": np.flatnonzero(rng.random(len(keep)) < 0.3)}
            try:
                handle = device.submit(query, sub_batch=sub_batch, **how)
            except QueryError:  # an inner stage takes fewer at a time: one sub-batch less full
                sub_batch = 1
                handle = device.submit(query, sub_batch=sub_batch, **how)
            submitted.append((query, handle, {**how, "sub_batch": sub_batch}))
        for number, (query, handle, how) in enumerate(submitted):
            golden = rank(
                work.models,
                work.config.features,
                query,
                filters=filters_of(work.config),
                **how,
            )
            compare(number, golden, device.wait(handle).result())
        shares(hardware, device.counters())  # which add up to all cycles since reset


@pytest.mark.parametrize(
    "seed",
    [pytest.param(s, marks=() if s < QUICK else pytest.mark.slow) for s in range(MACHINES)],
)
def test_random_machine(seed: int) -> None:
    rng = np.random.default_rng([seed, 2021])
    hardware = random_hardware(rng)
    for _ in range(WORKLOADS):
        run_work(draw_work(rng, hardware))
