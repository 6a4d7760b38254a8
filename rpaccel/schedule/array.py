"""RPAccel as a platform: its array by the cycle model, host link and gather units by bounds."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from rpaccel.config import Config, HardwareConfig
from rpaccel.load import Stage
from rpaccel.schedule.backends import Backend, Served
from rpaccel.space import Space
from rpaccel.tiling import passes
from sw_model.group_cycles import GroupCycles
from sw_model.quantised import QuantisedModel
from sw_model.random_models import random_model

__all__ = ["ArrayBackend"]

CLOCK = 250e6
LINK_BYTES, LINK_SECONDS = 11e9, 40e-6
"""The paper's host link: bytes a second, and latency each way."""
RESULT_BYTES = 8
_FILTER = 15  # cycles from the last score of a sub-batch to its first survivor


class ArrayBackend(Backend):
    """The machine of a configuration, its sub-arrays divided between the stages.

    A stage's sub-arrays share the items of each sub-batch. A sub-batch takes what the cycle model
    of the array says, or a cycle an item if that is more: gather unit and filter take one a cycle.

    Parameters
    ----------
    config : Config
    clock : float, Hz
    """

    kind = "modelled"
    int8 = True

    def __init__(self, config: Config, *, clock: float = CLOCK) -> None:
        hardware = config.hardware
        self.name = "rpaccel"
        self.units = hardware.macs // (hardware.tile_rows * hardware.tile_cols)
        self.sub_batches = config.funnel.sub_batches
        self.machine = (
            f"{self.units} sub-arrays of {hardware.tile_rows}x{hardware.tile_cols} at "
            f"{clock / 1e6:g} MHz, {self.sub_batches} sub-batches"
        )
        self.source = "cycle model of the array (sw_model.group_cycles)"
        self.notes = (
            "array: cycle model, every sub-array with its own program; gather unit: bound of an "
            "item a cycle, no misses; filter: bound of a score a cycle; host link: bound of "
            f"{LINK_BYTES / 1e9:g} GB/s and {LINK_SECONDS * 1e6:g} us each way",
            "provisioning divides sub-arrays freely; groups of the configuration that cannot be "
            "divided so need a machine generated for it",
        )
        self._clock = clock
        self._item_bytes = config.features.item_bytes
        self._query_bytes = config.features.query_bytes
        self._dense = config.features.dense
        self._depth = hardware.accumulator_depth
        self._rows = hardware.activation_rows
        self._hardware = HardwareConfig.model_validate(
            {
                **hardware.model_dump(),
                "groups": [{"stages": [0]}],
                "settings": [],
                "gather": [hardware.gather[0].model_dump()],
                "topk_depth": hardware.topk_depth[-1:],
                "filter": [],
            }
        )
        # Cycles depend on the layers' sizes only: neither on weights nor on the tables' rows.
        rows = [t.model_copy(update={"rows": 2}) for t in config.features.tables]
        features = config.features.model_copy(update={"tables": rows})
        self._models = {
            each.name: random_model(each, features, np.random.default_rng(0))
            for each in config.models
            # A unit for the dot interaction belongs to a group; here are none, but sub-arrays that
            # are divided freely.
            if each.interaction == "concat"
        }
        self._cycles = cache(self._measure)

    def serve(self, model: str, items: int, units: int) -> Served | None:
        """Ask the cycle model; see :meth:`Backend.serve`."""
        if model not in self._models:
            return None
        batch = math.ceil(items / self.sub_batches)
        known = self._cycles(model, math.ceil(batch / units))
        if known is None:
            return None
        steady, first = known
        cycles = max(steady, batch)
        return Served(
            self.sub_batches * cycles / self._clock, 1, (first - steady + _FILTER) / self._clock
        )

    def enter(self, items: int) -> tuple[Stage, ...]:
        """The link: features, one query after the other, then its latency."""
        size = self._query_bytes + items * self._item_bytes
        return self._link(size, "in")

    def leave(self, items: int, *, last: bool) -> tuple[Stage, ...]:
        """The link: results, then its latency."""
        return self._link(items * RESULT_BYTES, "out")

    def _link(self, size: int, way: str) -> tuple[Stage, ...]:
        return (
            Stage(size / LINK_BYTES, 1, f"{self.name}: link {way}"),
            Stage(LINK_SECONDS, None, f"{self.name}: link {way}, latency"),
        )

    def _measure(self, name: str, items: int) -> tuple[int, int] | None:
        """Cycles of a sub-batch on one sub-array: when others follow it, and of one alone.

        None if an item does not fit the activation memory.
        """
        geometry = self._hardware.geometry(0)
        (shape,) = geometry.shapes
        model: QuantisedModel = self._models[name]
        space = Space.plan(shape, model, self._dense, self._rows // self._depth)
        program = [tile.command for layer in passes(shape, space) for tile in layer]
        most = min(self._depth, self._rows // space.words)
        if not most:
            return None
        tokens = [min(most, items - start) for start in range(0, items, most)]
        group = GroupCycles(geometry)
        ends = []
        for _ in range(3):
            for token in tokens:
                done = group.run(program, shape, token)
            ends.append(done.end)
        return ends[2] - ends[1], ends[0]
