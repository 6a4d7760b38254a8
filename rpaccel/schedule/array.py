"""RPAccel as a platform: stages by the cycle model or in RTL, the host link by bounds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rpaccel.array_flow import FILTER
from rpaccel.compiler import compile_image
from rpaccel.config import Config, validate
from rpaccel.errors import ConfigError
from rpaccel.load import Stage
from rpaccel.schedule.backends import Backend, Served
from rpaccel.schedule.profiles import SHIPPED
from sw_model.quantised import QuantisedModel
from sw_model.query import Query
from sw_model.random_models import random_model, random_query

__all__ = ["ArrayBackend", "shipped_cycles"]

CLOCK = 250e6
LINK_BYTES, LINK_SECONDS = 11e9, 40e-6
"""The paper's host link: bytes a second, and latency each way."""
RESULT_BYTES = 8
MOST_SPLITS = 64
"""Parts of a sub-batch that are tried where the machine has no room for it."""
_ROOM = {"weight_rows": 1 << 16, "param_rows": 1 << 10, "program_depth": 1 << 12}
_Cycles = tuple[float, int]
"""Of a sub-batch: when others follow it, and of one alone."""


class ArrayBackend(Backend):
    """The machine of a configuration, its sub-arrays divided between the stages.

    A stage's sub-arrays are a group that shares the items of each sub-batch; its times are those
    of a machine with this stage alone, by the cycle model of all units or in RTL.

    Parameters
    ----------
    config : Config
    clock : float, Hz
    store : Path, optional
        Folder in which cycles are kept, in a file for each machine. Those of
        ``examples/recpipe.toml`` by the cycle model come with the package.
    rtl : bool
        Each machine is generated, built for Verilator and run: a minute each, or many.
    """

    int8 = True

    def __init__(
        self,
        config: Config,
        *,
        clock: float = CLOCK,
        store: Path | None = None,
        rtl: bool = False,
    ) -> None:
        hardware = config.hardware
        self.name = "rpaccel-rtl" if rtl else "rpaccel"
        self.kind = "simulated" if rtl else "modelled"
        self.rtl = rtl
        self.units = hardware.macs // (hardware.tile_rows * hardware.tile_cols)
        self.sub_batches = config.funnel.sub_batches
        self.machine = (
            f"{self.units} sub-arrays of {hardware.tile_rows}x{hardware.tile_cols} at "
            f"{clock / 1e6:g} MHz, {self.sub_batches} sub-batches"
        )
        how = "RTL in Verilator" if rtl else "cycle model of all units"
        self.source = how if rtl else f"{how} (rpaccel predict)"
        self.notes = (
            f"a stage: {how}, a machine with this stage alone, random queries; host link: "
            f"bound of {LINK_BYTES / 1e9:g} GB/s and {LINK_SECONDS * 1e6:g} us each way",
            "provisioning divides sub-arrays freely; groups of the configuration that cannot be "
            "divided so need a machine generated for it, with room for a program a sub-array",
        )
        self._clock = clock
        self._config = config
        self._item_bytes = config.features.item_bytes
        self._query_bytes = config.features.query_bytes
        self._models = [
            each.name
            for each in config.models
            # A unit for the dot interaction belongs to a group; here are none, but sub-arrays that
            # are divided freely.
            if each.name in config.funnel.stages and each.interaction == "concat"
        ]
        made = _digest(config, "rtl_gen" if rtl else "sw_model.cycles")
        self._store = None if store is None else store / f"{self.name}-{made}.json"
        self._known: dict[str, _Cycles | None] = {}
        for path in None if rtl else shipped_cycles(config), self._store:
            if path is not None and path.exists():
                self._known |= json.loads(path.read_text())
        self._model = cache(self._draw)

    def serve(self, model: str, items: int, units: int) -> Served | None:
        """Ask the cycle model, or the RTL; see :meth:`Backend.serve`."""
        if model not in self._models:
            return None
        key = f"{model} {items} on {units}"
        if key not in self._known:
            self._known[key] = self.cycles(model, items, units)
            if self._store is not None:
                self._store.parent.mkdir(parents=True, exist_ok=True)
                self.save(self._store)
        known = self._known[key]
        if known is None:
            return None
        interval, alone = known
        delay = max(0.0, alone - interval + FILTER)
        return Served(self.sub_batches * interval / self._clock, 1, delay / self._clock)

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

    def cycles(self, model: str, items: int, units: int) -> _Cycles | None:
        """Run a machine: cycles of a sub-batch, from its start to its last score.

        Parameters
        ----------
        model : str
        items : int
            Of a query.
        units : int
            Sub-arrays.

        Returns
        -------
        tuple of float and int, or None
            When others follow it, and of one alone. None: it does not fit the machine, not even in
            parts.
        """
        splits = 1
        while splits <= MOST_SPLITS:
            try:
                interval, alone = self._run(model, items, units, splits * self.sub_batches)
            except ConfigError:
                splits *= 2
            else:
                return splits * interval, round((splits - 1) * interval) + alone
        return None

    def _run(self, model: str, items: int, units: int, sub_batches: int) -> _Cycles:
        config = _one_stage(self._config, model, items, units, sub_batches)
        rng = np.random.default_rng(0)
        two = [random_query(config.features, items, rng, empty=0) for _ in range(2)]
        run = _in_rtl if self.rtl else _by_model
        started, ends = run(config, self._model(model), two)
        count = len(ends) // 2
        return float(ends[-1] - ends[count - 1]) / count, int(ends[0] - started)

    def _draw(self, name: str) -> QuantisedModel:
        config = self._config
        (model,) = (each for each in config.models if each.name == name)
        return random_model(model, config.features, np.random.default_rng(0))

    def save(self, path: Path) -> None:
        """Write all cycles that are known, a line each."""
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self._known.items())]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _by_model(
    config: Config, model: QuantisedModel, queries: Sequence[Query]
) -> tuple[int, Sequence[int]]:
    """Run queries back to back: when the first sub-batch starts, and when each has its scores."""
    from rpaccel.predict import Predictor

    predictor = Predictor(config, [model], compile_image(config, [model]))
    (tokens,) = predictor.run(predictor.work([predictor.untraced(q) for q in queries])).tokens
    return int(tokens["started"][0]), tokens["last_score"].tolist()


def _in_rtl(
    config: Config, model: QuantisedModel, queries: Sequence[Query]
) -> tuple[int, Sequence[int]]:
    """Do the same in Verilator; what :func:`rpaccel.devices.traced` raises."""
    from rpaccel.devices import traced

    tokens = traced(config, [model], compile_image(config, [model]), queries).tokens
    return tokens[0].started, [token.filter[1] for token in tokens]


def shipped_cycles(config: Config) -> Path:
    """Where the cycles of a machine are if they come with the package."""
    return SHIPPED / "cycles" / f"{_digest(config)}.json"


def _digest(config: Config, package: str = "") -> str:
    """What cycles depend on: the configuration as it was given, and the code of a package."""
    funnel, values = config.funnel, [config.features, *config.models]
    values += [config.hardware, config.simulation]
    parts = [v.model_dump_json(exclude_unset=True) for v in values]
    found = hashlib.sha256(json.dumps([*parts, funnel.sub_batches, list(funnel.stages)]).encode())
    spec = find_spec(package) if package else None
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _one_stage(config: Config, model: str, items: int, units: int, sub_batches: int) -> Config:
    """Make a machine with one stage, whose sub-arrays are a group that shares items.

    Raises
    ------
    ConfigError
        There is no such machine.
    """
    hardware, funnel = config.hardware, config.funnel
    stage = list(funnel.stages).index(model)
    depth = hardware.topk_depth[stage]
    return validate(
        Config,
        {
            **config.model_dump(),
            "funnel": {
                "stages": [model],
                "items": items,
                "keep": [min(items, depth)],
                "sub_batches": sub_batches,
            },
            "hardware": {
                **hardware.model_dump(),
                "groups": [{"rows": 1, "cols": units, "shapes": [[1, 1]], "stages": [0]}],
                "settings": [],
                # A sub-array of its own needs a whole program; no cycle depends on the room.
                **{name: max(most, getattr(hardware, name)) for name, most in _ROOM.items()},
                "dot": [],
                "gather": [hardware.gather[stage].model_dump()],
                "topk_depth": [depth],
                "filter": hardware.filter[stage : stage + 1],
                "static_macros": max(1, hardware.static_macros // hardware.stages),
            },
        },
        origin=f"{model} on {units} sub-arrays",
    )
