"""The cheapest funnel that is as good as the large model alone, on a machine's array."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.schedule.qualities import Qualities, Rated
from rpaccel.space import Space
from rpaccel.tiling import passes
from sw_model.random_models import random_model

__all__ = ["LOSS", "arriving", "cheapest", "tile_cycles"]

LOSS = 0.001
"""Share of the reference's quality that the lower bound of a funnel may be below it."""


def tile_cycles(config: Config) -> Mapping[str, float]:
    """Cycles an item of each model, all of the machine's tiles busy: its tiles by theirs.

    A tile is one of the model's layers, cut to the machine's ``tile_rows`` x ``tile_cols``.
    """
    hardware = config.hardware
    shape = hardware.geometry(0).shapes[0]
    every = hardware.macs // (hardware.tile_rows * hardware.tile_cols)
    features = config.features.model_copy(
        update={"tables": [t.model_copy(update={"rows": 2}) for t in config.features.tables]}
    )
    found = {}
    for each in config.models:
        model = random_model(each, features, np.random.default_rng(0))
        space = Space.plan(shape, model, features.dense, hardware.activation_rows)
        found[each.name] = sum(map(len, passes(shape, space))) / every
    return found


def arriving(config: Config, items: float) -> float:
    """Cycles that the features of so many items take over the configuration's host link."""
    rate = config.simulation.host_rate or config.hardware.host_bus_bytes
    return items * config.features.item_bytes / rate


def cheapest(qualities: Qualities, cycles: Mapping[str, float], *, loss: float = LOSS) -> Rated:
    """Find the funnel of the fewest cycles whose quality is surely that of the reference.

    The lower bound of the paired difference to the reference must be -``loss`` of it or better.
    Of rows of int8 models where there are any; funnels of other models are left out.

    Parameters
    ----------
    qualities : Qualities
        Measured, with ``change_low``.
    cycles : mapping of float
        An item, by model.
    loss : float

    Raises
    ------
    ConfigError
        The table has no such bounds, or no funnel is good enough.
    """
    rows = [row for row in qualities.rated(int8=True).values() if set(row.stages) <= set(cycles)]
    bounded = [row for row in rows if row.change_low is not None]
    if not bounded:
        raise ConfigError(f"qualities {qualities.name!r} have no paired bounds (change_low)")
    good = [row for row in bounded if row.change_low is not None and row.change_low >= -loss]
    if not good:
        raise ConfigError(f"qualities {qualities.name!r}: no funnel surely loses {loss:g} or less")

    return min(
        good, key=lambda row: sum(cycles[s] * n for s, n in zip(row.stages, row.items, strict=True))
    )
