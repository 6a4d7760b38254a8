"""Access times of the embedding memory inside the whole machine: look-ahead, hit rates, an SSD.

A machine runs queries back to back. Its cycle model (:mod:`sw_model.cycles`) says how long each
lookup waits for its row; a small machine runs in RTL, too, where every ranking is compared with the
golden model's, and every query's cycles and the gather units' waits with the cycle model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, hotness, preset
from rpaccel.compiler import compile_image
from rpaccel.config import Config, load, parse
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.errors import DeviceError
from rpaccel.image import Image
from rpaccel.predict import Predictor
from rpaccel.verify import compare
from sw_model.cycles.machine import Cycles, Work
from sw_model.funnel import rank_query
from sw_model.query import Query
from sw_model.random_models import random_models

__all__ = ["CASES", "Access", "Case", "Machine", "bench", "static_only"]

QUERIES = 8

Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """Queries and memory.

    Attributes
    ----------
    uniform : float
        Share of the ids that are drawn uniformly from their table.
    spilled : float
        Share of the back end's generated lines, at the end of memory, that the SSD holds.
    one_stage : bool
        The back end ranks all items.
    banked : bool
        Memory has banks with open rows, and reorders.
    """

    uniform: float = 0.0
    spilled: float = 0.0
    one_stage: bool = False
    banked: bool = False


CASES = (
    Case(),
    Case(banked=True),
    *(Case(uniform=share) for share in (0.25, 0.5, 1.0)),
    *(Case(spilled=share) for share in (0.25, 0.5, 1.0)),
    *(Case(spilled=share, one_stage=True) for share in (0.0, 0.25, 0.5, 1.0)),
)


@dataclass(frozen=True)
class Access:
    """What queries met.

    Attributes
    ----------
    hits : float
        Share of lookups whose rows were on chip, or on their way.
    amat : float
        Cycles a lookup: one, and its wait for its row.
    hidden_back : float, or None
        Share of the misses' ``memory_latency`` that the last stage did not wait for; none without
        misses, and not told with an SSD, whose latency is another.
    item_wait : float
        Cycles an item of a gather unit that waits for nothing but rows (``stall_memory``).
    from_ssd : float
        Share of the fetched lines that came from the SSD.
    latency : float
        Cycles from a query's descriptor to its completion, mean.
    cycles_per_query : float
        Back to back.
    rtl : bool
        Counted in RTL, too, with the same result.
    """

    hits: float
    amat: float
    hidden_back: float | None
    item_wait: float
    from_ssd: float
    latency: float
    cycles_per_query: float
    rtl: bool


def static_only(config: Config) -> Config:
    """The same machine with all of its embedding memory static.

    A lane has one landing entry, and asks for a row when it is wanted.
    """
    values = config.model_dump()
    hardware = values["hardware"]
    lines = sum(gather.lanes * gather.cache_lines for gather in config.hardware.gather)
    hardware["static_macros"] += round(lines / config.hardware.macro_lines)
    for gather in hardware["gather"]:
        gather |= {"lookahead": 2, "cache_lines": 1, "cache_ways": 1, "outstanding": 1}
    return parse(values)


class Machine:
    """A machine with random models and an image.

    Parameters
    ----------
    config : Config
        Fit for :func:`rpaccel.bench_pipeline.criteo_like_queries`, two stages.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.models = random_models(config, np.random.default_rng(config.data.seed))
        hot = hotness(config, self.models)
        self.image: Image = compile_image(config, self.models, hotness=hot)

    def measure(self, case: Case, *, rtl: bool, queries: int = QUERIES) -> Access:
        """Run queries, all there when the machine begins, with empty caches.

        Raises
        ------
        DeviceError
            RTL counts other cycles than the cycle model.
        MismatchError
            It ranks in another way than the golden model.
        """
        config = self._configure(case)
        drawn = self._queries(case.uniform, queries)
        how = self._how(case)
        predictor = Predictor(config, self.models, self.image)
        work = predictor.work([predictor.job(query, **how) for query in drawn])
        done = predictor.run(work)
        if rtl:
            self._check(config, drawn, how, done, work.events())
        return self._access(config, work, done, rtl)

    def _how(self, case: Case) -> dict[str, Any]:
        last = len(self.config.funnel.stages) - 1
        return {"first_stage": last} if case.one_stage else {}

    def _configure(self, case: Case) -> Config:
        """The machine's configuration with the case's memory."""
        values = self.config.model_dump()
        simulation = values["simulation"]
        if case.banked:
            simulation |= {"dram": {}, "memory_reorder": True}
        if case.spilled:
            tables = self.image.generated
            own = tables[len(tables) - len(self.models[-1].tables) :]
            lines = sum(table.lines for table in own)
            first = own[-1].line + own[-1].lines - round(case.spilled * lines)
            simulation |= {"ssd": {"first_line": first}, "memory_reorder": True}
        return parse(values)

    def _queries(self, uniform: float, count: int) -> list[Query]:
        config = self.config
        rng = np.random.default_rng([config.data.seed, 3])
        rows = {table.name: table.rows for table in config.features.tables}
        return [
            replace(
                query,
                indices={
                    name: _mix(ids, rows[name], uniform, rng) for name, ids in query.indices.items()
                },
            )
            for query in criteo_like_queries(config, TRAINING_QUERIES, count)
        ]

    def _check(
        self,
        config: Config,
        queries: Sequence[Query],
        how: dict[str, Any],
        model: Cycles,
        events: dict[str, int],
    ) -> None:
        """Run in RTL; rankings are the golden model's, cycles and counters the cycle model's."""
        with Device(
            open_transport("verilator", config, self.models, self.image), config, self.image
        ) as device:
            with device.held():
                handles = [device.submit(query, **how) for query in queries]
                before = device.counters()
            for handle in handles:
                device.wait(handle)
            after = device.counters()
        for query, handle in zip(queries, handles, strict=True):
            golden = rank_query(config, self.models, query, **how)
            compare(handle.query_id, golden, handle.result())
        expected = (model.queries["requested"] - model.queries["fetched"]).tolist()
        seen = [handle.cycles for handle in handles]
        for number in range(how.get("first_stage", 0), config.hardware.stages):
            name = f"gather{number}.stall_memory"
            expected.append(model.states[f"gather{number}"]["stall_memory"])
            seen.append(after[name] - before[name])
        if seen != expected:
            raise DeviceError(
                f"RTL took {seen} cycles (queries, then waits of the gather units), "
                f"the cycle model says {expected}"
            )
        counted = {name: after[name] - before[name] for name in events}
        if counted != events:
            raise DeviceError(f"RTL counted {counted}, the cycle model says {events}")

    def _access(self, config: Config, work: Work, done: Cycles, rtl: bool) -> Access:
        ssd = config.simulation.ssd
        lanes = [lane for stage in work.access for lane in stage]
        lookups = sum(lane.rows for lane in lanes)
        lines = np.concatenate([lane.missed[:, 0] for lane in lanes])
        missed = sum(len(lane.missed) for lane in work.access[-1])
        hidden = None
        if missed and ssd is None:
            hidden = 1 - int(done.waits[-1]) / (missed * config.simulation.memory_latency)
        items = sum(int(token["items"].sum()) for token in done.tokens)
        stalls = sum(
            done.states[f"gather{n}"]["stall_memory"] for n in range(config.hardware.stages)
        )
        latency = done.queries["requested"] - done.queries["fetched"]
        return Access(
            hits=1 - len(lines) / lookups,
            amat=1 + int(done.waits.sum()) / lookups,
            hidden_back=hidden,
            item_wait=stalls / items,
            from_ssd=0.0 if ssd is None else float((lines >= ssd.first_line).mean()),
            latency=float(latency.mean()),
            cycles_per_query=done.active / len(done.queries),
            rtl=rtl,
        )


def _mix(
    ids: NDArray[np.int64], rows: int, uniform: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a share of ids anew, each row as likely as any other."""
    other = rng.integers(0, rows, ids.shape)
    return np.where(rng.random(ids.shape) < uniform, other, ids)


def bench(say: Say, *, rtl: bool = True) -> list[dict[str, Any]]:
    """Measure the machine of Table 3 by its cycle model, and a small one in RTL as well.

    Parameters
    ----------
    say : function
        Told what is going on.
    rtl : bool
        Run the small machine in RTL, too.

    Returns
    -------
    list of dict
        The machine, whether it is one with static rows only, :class:`Case` and :class:`Access`.
    """
    rows: list[dict[str, Any]] = []
    for name, in_rtl in ("rpaccel", False), ("scaled", rtl):
        config = load(preset(name))
        for only in (True, False):
            say(f"{config.name}: image")
            machine = Machine(static_only(config) if only else config)
            for case in CASES[:1] if only else CASES:
                say(f"{config.name}: {case}")
                found = machine.measure(case, rtl=in_rtl)
                where = {"machine": config.name, "static_only": only}
                rows.append(where | asdict(case) | asdict(found))
    return rows
