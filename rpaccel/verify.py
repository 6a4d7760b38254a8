"""Random models and queries for one machine: gateware against golden model, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.driver import Device
from rpaccel.errors import ConfigError, MismatchError
from rpaccel.section import MAX_ITEMS
from sw_model.funnel import rank_query
from sw_model.query import Ranking
from sw_model.random_models import random_models, random_query

__all__ = ["compare", "verify"]


def compare(number: int, golden: Ranking, got: Ranking) -> None:
    """Compare one query's results.

    Raises
    ------
    MismatchError
        Naming the query, the rank and both sides of the first difference.
    """
    if len(golden.positions) != len(got.positions):
        raise MismatchError(
            f"query {number}: golden model serves {len(golden.positions)} items, "
            f"the device {len(got.positions)}"
        )
    same = (golden.positions == got.positions) & (golden.scores == got.scores)
    if not same.all():
        at = int(np.argmin(same))
        raise MismatchError(
            f"query {number}, rank {at}: golden model has item {golden.positions[at]} with score "
            f"{golden.scores[at]}, the device item {got.positions[at]} with score {got.scores[at]} "
            f"({int((~same).sum())} of {len(same)} ranks differ)"
        )


def verify(
    config: Config, *, queries: int, items: int | None, seed: int, simulator: str
) -> dict[str, Any]:
    """Run random models and queries on a machine's RTL and compare with the golden model.

    Parameters
    ----------
    config : Config
        Its features, model shapes, funnel and hardware are used, not its data.
    queries : int
    items : int or None
        Items of a query; the funnel's by default. Stages keep at most that many.
    seed : int
        Of models and queries.
    simulator : {"verilator", "icarus"}

    Returns
    -------
    dict
        ``queries``, ``items``, ``results`` (compared), ``cycles``, ``seed``.

    Raises
    ------
    MismatchError
        Naming the first difference.
    ConfigError
        ``items`` is not accepted, or the models do not fit the machine.
    """
    from sim.transport import SimulatedTransport

    items = config.funnel.items if items is None else items
    if items > MAX_ITEMS:
        raise ConfigError(f"items must be 1..{MAX_ITEMS}, not {items}")
    rng = np.random.default_rng(seed)
    models = random_models(config, rng)
    image = compile_image(config, models)
    sub_batch = min(items, config.funnel.sub_batch_items)
    drawn = [random_query(config.features, items, rng) for _ in range(queries)]
    with Device(
        SimulatedTransport(config, image.data, tables=image.generated, simulator=simulator),
        config,
        image,
    ) as device:
        before = device.counters()["device.active"]
        handles = device.run(drawn, outstanding=2, sub_batch=sub_batch)
        cycles = device.counters()["device.active"] - before
    results = 0
    for number, (query, handle) in enumerate(zip(drawn, handles, strict=True)):
        golden = rank_query(config, models, query, sub_batch=sub_batch)
        compare(number, golden, handle.result())
        results += len(golden.positions)
    return {
        "queries": queries,
        "items": items,
        "results": results,
        "cycles": cycles,
        "seed": seed,
        "simulator": simulator,
    }
