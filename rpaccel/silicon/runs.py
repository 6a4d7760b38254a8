"""What machines do: small ones in RTL, bit by bit; those of full size in counts only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, hotness
from rpaccel.compiler import compile_image
from rpaccel.config import Config, parse
from rpaccel.driver import Device
from rpaccel.image import Image
from rpaccel.silicon.activity import Activity, difference, read_saif
from sw_model.random_models import random_models

__all__ = ["Observed", "array_cycles", "compiled", "expect", "monolithic", "observe", "reduced"]

QUERIES = (2, 4)
"""Of a short run and a longer one, which begins with it: activity is of the queries between."""
LANES = 4
MACHINE = "dut"


@dataclass(frozen=True)
class Observed:
    """A machine at work: its configuration, what its counters advanced by, and its bits."""

    config: Config
    counts: dict[str, float]
    queries: int
    activity: Activity | None = None

    @property
    def cycles_per_query(self) -> float:
        """Device cycles from query to query."""
        return self.counts["device.cycles"] / self.queries

    @property
    def utilisation(self) -> float:
        """Useful multiply-accumulates, of those that the array could do."""
        macs = sum(count for name, count in self.counts.items() if name.endswith(".macs"))
        return macs / (self.config.hardware.macs * self.counts["device.cycles"])


def reduced(config: Config) -> Config:
    """Make a machine small enough to count each bit of it: one group, four tables, short queries.

    Parameters
    ----------
    config : Config
        The preset ``scaled``.
    """
    values = config.model_dump()
    hardware = values["hardware"]
    values["features"]["tables"] = values["features"]["tables"][:LANES]
    hardware["groups"] = hardware["groups"][:1]
    hardware["static_macros"] = 2 * LANES
    for gather in hardware["gather"]:
        gather["lanes"] = LANES
    values["funnel"] |= {"items": 256, "keep": [32, 8], "sub_batches": 2}
    return parse(values | {"name": f"{config.name}, reduced"})


def monolithic(config: Config) -> Config:
    """Make the baseline of a machine: one array, the last stage for all items, no filter.

    Lanes have an eighth of the look-ahead cache, which is only where fetched lines land.
    """
    values = config.model_dump()
    hardware, funnel = values["hardware"], values["funnel"]
    side = round(config.hardware.macs**0.5)
    gather = hardware["gather"][-1]
    gather["cache_lines"] = max(gather["cache_ways"], gather["cache_lines"] // 8)
    hardware |= {
        "tile_rows": side,
        "tile_cols": side,
        "groups": [{"stages": [0]}],
        "gather": [gather],
        "topk_depth": [funnel["items"]],
        "filter": ["none"],
    }
    funnel |= {"stages": funnel["stages"][-1:], "keep": [funnel["items"]]}
    return parse(values | {"name": f"{config.name}-baseline"})


def compiled(config: Config) -> Image:
    """Image of a machine's random models, static macros given by a training trace."""
    models = random_models(config, np.random.default_rng(config.data.seed))
    return compile_image(config, models, hotness=hotness(config, models))


def observe(config: Config, say: Callable[[str], object] = lambda text: None) -> Observed:
    """Run queries back to back in RTL and count how often each bit changes.

    Parameters
    ----------
    config : Config
        Of a small machine: full size is too slow.
    say : function
        Told what is going on.
    """
    from sim.transport import SimulatedTransport

    image = compiled(config)
    seen: list[tuple[Activity, dict[str, int]]] = []
    for count in QUERIES:
        say(f"activity of {config.name}, {count} queries")
        queries = criteo_like_queries(config, TRAINING_QUERIES, count)
        with tempfile.TemporaryDirectory(prefix="rpaccel-") as folder:
            file = Path(folder) / "activity.saif"
            # Compiling takes far longer than running: no optimisation.
            transport = SimulatedTransport(
                config, image.data, tables=image.generated, waves=file, optimise="-O0"
            )
            with Device(transport, config, image) as device:
                device.run(queries, outstanding=config.hardware.query_slots)
                counters = device.counters()
            seen.append((read_saif(file, MACHINE), counters))
    (short, before), (long, after) = seen
    counts = {name: float(after[name] - before[name]) for name in after}
    return Observed(config, counts, QUERIES[1] - QUERIES[0], difference(long, short))


def expect(config: Config) -> Observed:
    """Count what a machine of full size does for queries, without its RTL.

    Multiply-accumulates, items and lookups are the funnel's; hits in the static region are counted
    in the queries' indices (of survivors, the share that all items have: with random models they
    are a random choice); cycles are those that the compiler predicts for the array, which is what
    these machines wait for most.
    """
    image = compiled(config)
    count = QUERIES[1] - QUERIES[0]
    queries = criteo_like_queries(config, TRAINING_QUERIES, count)
    counts = {"device.cycles": count * array_cycles(config, image)}
    counts["device.host_read_bytes"] = float(count * config.hardware.feature_bytes)
    sizes = [config.funnel.items, *config.funnel.keep]
    macs = 0
    for number, (stage, items) in enumerate(zip(image.stages, sizes, strict=False)):
        layers = config.model(number).layers(config.features)
        macs += items * sum(outputs * inputs for outputs, inputs in layers.values())
        share = np.mean(
            [
                (query.indices[table.name] < table.hot_rows).mean()
                for query in queries
                for table in stage.tables
            ]
        )
        lookups = items * len(stage.tables)
        counts |= {
            f"gather{number}.items": float(count * items),
            f"gather{number}.lookups": float(count * lookups),
            f"gather{number}.static_hits": float(count * lookups * share),
        }
    groups = len(config.hardware.groups)
    counts |= {f"group{number}.macs": count * macs / groups for number in range(groups)}
    return Observed(config, counts, count)


def array_cycles(config: Config, image: Image) -> float:
    """Cycles a query that the groups need, all busy all the time."""
    return config.funnel.sub_batches * sum(
        sum(program.cycles for program in stage.programs) / len(stage.programs) ** 2
        for stage in image.stages
    )
