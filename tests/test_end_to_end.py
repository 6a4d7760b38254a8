"""Random machines, models and queries: gateware against golden model, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, QueryError
from rpaccel.image import Image
from rpaccel.simulation import SimulationConfig
from rpaccel.states import shares
from rpaccel.verify import compare
from sim.transport import SimulatedTransport
from sw_model.funnel import rank_query
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.random_models import random_models, random_query
from tests.random_machines import (
    random_dots,
    random_hardware,
    random_settings,
    random_workload,
)
from tests.workloads import workload

MACHINES = 25
QUICK = (1, 22)  # one stage; two with bins on two groups
QUICK_SETTINGS = (3,)
DOTS = 12  # machines with dot interactions
SETTINGS = 10  # machines whose groups share sub-arrays
WORKLOADS, FEWER = 4, 2  # of a machine, and of one in `make test`
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
        SimulatedTransport(work.config, work.image.data, tables=work.image.generated, **transport),
        work.config,
        work.image,
    ) as device:
        submitted = []
        rng = np.random.default_rng(len(work.image.data))
        hardware = work.config.hardware
        for query, keep, sub_batch in work.queries:
            groups = {s: hardware.groups_of(s) for s in range(hardware.stages)}
            if hardware.settings:
                device.regroup(int(rng.integers(len(hardware.settings))))
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
            golden = rank_query(work.config, work.models, query, **how)
            compare(number, golden, device.wait(handle).result())
        shares(hardware, device.counters())  # which add up to all cycles since reset


def cases(seeds: int, quick: tuple[int, ...]) -> list[Any]:
    """Seeds and numbers of workloads: some of a few machines in `make test`, all slow."""
    every = [pytest.param(seed, WORKLOADS, marks=pytest.mark.slow) for seed in range(seeds)]
    return [*((seed, FEWER) for seed in quick), *every]


@pytest.mark.parametrize(("seed", "workloads"), cases(MACHINES, QUICK))
def test_random_machine(seed: int, workloads: int) -> None:
    rng = np.random.default_rng([seed, 2021])
    hardware = random_hardware(rng)
    for _ in range(workloads):
        run_work(draw_work(rng, hardware))


@pytest.mark.parametrize(("seed", "workloads"), cases(SETTINGS, QUICK_SETTINGS))
def test_random_machine_with_settings(seed: int, workloads: int) -> None:
    """Groups share sub-arrays, and are changed between queries; some machines have dot units."""
    rng = np.random.default_rng([seed, 2210])
    hardware = random_settings(rng, random_hardware(rng))
    if seed % 3 == 2:
        hardware = random_dots(rng, hardware)
    for _ in range(workloads):
        run_work(draw_work(rng, hardware))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DOTS))
def test_random_machine_with_dot_interactions(seed: int) -> None:
    """Some stages have a unit, which some of their models use."""
    rng = np.random.default_rng([seed, 2109])
    hardware = random_dots(rng, random_hardware(rng))
    works = (draw_work(rng, hardware) for _ in range(100))
    used = (work for work in works if any(m.dot is not None for m in work.models))
    for work in islice(used, WORKLOADS):
        run_work(work)


@pytest.mark.slow
def test_dot_in_one_stage(rng: np.random.Generator) -> None:
    """Concat in one stage, dot in the other, and the other way round, on one small machine."""
    plain = {"name": "plain", "dimensions": 3, "bottom": [5], "top": [6, 1]}
    dot = {"name": "dot", "dimensions": 4, "bottom": [7, 4], "top": [5, 1], "interaction": "dot"}
    unit = {"vectors": 4, "dimension": 4, "macs": 20}
    for models in ([plain, dot], [dot, plain], [dot, {**dot, "name": "other"}]):
        config = workload(
            models=models,
            groups=[{"cols": 2, "shapes": [[1, 1], [1, 2]], "stages": [0, 1]}],
            hardware={"dot": [{**unit, "stage": 0}, {**unit, "stage": 1, "macs": 6}]},
            items=90,
        )
        config = config.model_copy(
            update={"simulation": SimulationConfig(memory_stall=30, host_stall=20, seed=7)}
        )
        drawn = random_models(config, rng)
        queries = [
            (random_query(config.features, items, rng), [20, 8], -(-items // parts))
            for items, parts in ((90, 4), (31, 1), (60, 7))
        ]
        run_work(Work(config, drawn, compile_image(config, drawn), queries))
