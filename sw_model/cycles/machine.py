"""The model of a machine with an image: queries in, cycles out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.counters import states_of, unit_counters
from rpaccel.hardware import HardwareConfig
from rpaccel.simulation import SimulationConfig
from sw_model.cycles import controller, walker
from sw_model.cycles.access import DrawnHits, StageAccess
from sw_model.cycles.build import Builder
from sw_model.cycles.kernel import kernel
from sw_model.cycles.programs import Programs
from sw_model.cycles.records import FAR
from sw_model.cycles.tables import table
from sw_model.funnel import Token
from sw_model.planner import plan

__all__ = ["Cycles", "Job", "Work", "simulate"]


@dataclass(frozen=True)
class Job:
    """A query, with what the golden model says of its way through the funnel.

    Attributes
    ----------
    record : uint8, shape (bytes,)
        Its features (docs/abi.md).
    items, sub_batch : int
    keep : sequence of int
        Of the stages from ``first_stage`` to ``last_stage``.
    tokens : sequence of Token
        In the order of the plan.
    first_stage, last_stage : int
    global_release : collection of int
        Stages of the machine that release once.
    """

    record: NDArray[np.uint8]
    items: int
    sub_batch: int
    keep: Sequence[int]
    tokens: Sequence[Token]
    first_stage: int
    last_stage: int
    global_release: Collection[int] = ()


@dataclass(frozen=True)
class Cycles:
    """What a run took.

    Attributes
    ----------
    queries : record array, shape (queries,)
        Cycles in which each query was ``fetched`` (its descriptor was there), ``opened`` (it got a
        slot), ``ranked``, ``requested`` (its completion was made) and ``completed``.
    tokens : list of record arrays, one a stage
        ``query``, ``items``, ``group``, and the cycles of a token in its units.
    states : dict of dict of int
        Cycles of each unit in each state, by unit and state.
    layers : dict of int64 arrays, shape (passes, 2)
        By stage and group, of each pass of the program: cycles of the array up to its last row,
        from that of the pass before (only while it issues if that one was another token's), over
        all tokens; and how many tokens.
    waits : int64, shape (stages,)
        Cycles that the lanes of each stage waited for lines, all lookups together.
    cycles, active : int
        In all, and with a query in flight.
    """

    queries: Any
    tokens: list[Any]
    states: dict[str, dict[str, int]]
    layers: dict[tuple[int, int], NDArray[np.int64]]
    waits: NDArray[np.int64]
    cycles: int
    active: int


class Work:
    """Queries of a machine in their order, as the model takes them.

    Parameters
    ----------
    hardware : HardwareConfig
    image : bytes
    jobs : sequence of Job
    hits : DrawnHits, optional
        See :class:`sw_model.cycles.access.StageAccess`.
    """

    def __init__(
        self,
        hardware: HardwareConfig,
        image: bytes,
        jobs: Sequence[Job],
        hits: DrawnHits | None = None,
    ) -> None:
        self.hardware = hardware
        self.programs = Programs(hardware, image)
        self.jobs = list(jobs)
        self.drawn = hits is not None
        stages = range(hardware.stages)
        used = [s for s in stages if self.programs.stages[s]["steps"]]
        access = {s: StageAccess(hardware, self.programs, s, hits) for s in used}
        self.access = [access[s].lanes if s in access else [] for s in stages]
        self._queries: list[dict[str, int]] = []
        self._plan: list[dict[str, int]] = []
        self._tokens: list[list[dict[str, int]]] = [[] for _ in stages]
        self._positions: list[list[NDArray[np.int64]]] = [[] for _ in stages]
        for number, job in enumerate(self.jobs):
            self._add(number, job, access)
        self._lay_out()

    def events(self) -> dict[str, int]:
        """Counters of the gather units' lookups, such as ``"gather0.misses"``; none are drawn."""
        if self.drawn:
            return {}
        found = Counter(
            {
                f"gather{stage}.items": sum(t["items"] for t in tokens)
                for stage, tokens in enumerate(self._tokens)
            }
        )
        for stage, lanes in enumerate(self.access):
            for lane in lanes:
                found.update({f"gather{stage}.{name}": n for name, n in lane.events.items()})
        return dict(found)

    def _add(self, number: int, job: Job, access: Mapping[int, StageAccess]) -> None:
        words = self.programs.stages[job.first_stage]
        head, size = words["query_bytes"], words["item_bytes"]
        items = job.record[head : head + job.items * size].reshape(job.items, size)
        once = {s - job.first_stage for s in job.global_release}
        steps = plan(job.items, job.sub_batch, job.keep, once)
        begin = len(self._plan)
        for step, token in zip(steps, job.tokens, strict=True):
            stage = token.stage
            over = stage == job.last_stage
            self._plan.append(
                {
                    "stage": stage,
                    "token": len(self._tokens[stage]),
                    "inner": not over and stage not in job.global_release,
                    "emit": step.emit,
                    "final": over,
                    "last": step.last,
                    "count": step.count,
                    "candidates": step.candidates,
                    "query": number,
                    "issued": FAR,
                }
            )
            self._tokens[stage].append(
                {"query": number, "items": step.items, "listed": stage != job.first_stage}
            )
            self._positions[stage].append(token.positions)
            access[stage].token(job.record[:head], items[token.positions])
        count = job.keep[-1]
        self._queries.append(
            {
                "first": job.first_stage,
                "last": job.last_stage,
                "blocks": -(-(head + job.items * size) // abi.BLOCK_BYTES),
                "steps": begin,
                "result_blocks": -(-count * abi.RESULT.bytes // abi.BLOCK_BYTES),
            }
        )

    def _lay_out(self) -> None:
        """Put stage behind stage."""
        self.token_first = np.cumsum([0, *map(len, self._tokens)]).tolist()
        flat = [t for stage in self._tokens for t in stage]
        places = [p for stage in self._positions for p in stage]
        self.positions = np.concatenate([*places, np.empty(0, np.int64)])
        firsts = np.cumsum([0, *map(len, places)]).tolist()
        for token, first in zip(flat, firsts, strict=False):
            token["first"] = first
        for step in self._plan:
            step["token"] += self.token_first[step["stage"]]
        self.order = [
            [n for n, step in enumerate(self._plan) if step["stage"] == s]
            for s in range(self.hardware.stages)
        ]
        self.tokens = table(walker.TOKEN, flat, planned=FAR, started=FAR, group=-1, **_SPANS)
        self.plan = table(controller.PLAN, self._plan)
        self.queries = table(controller.QUERY, self._queries, **_TIMES)


_SPANS = dict.fromkeys(
    ("taken", "gathered", "first_row", "last_row", "first_score", "last_score"), -1
) | {"first_left": -1, "last_left": -1}
_TIMES = dict.fromkeys(("planned", "opened", "fetched", "ranked", "requested", "completed"), FAR)


def simulate(
    work: Work,
    simulation: SimulationConfig,
    arrivals: Sequence[int],
    *,
    groups: Mapping[int, Collection[int]] | None = None,
    setting: int = 0,
    skip: bool = True,
) -> Cycles:
    """Run queries.

    Parameters
    ----------
    work : Work
    simulation : SimulationConfig
        Timing of memory and host. Their random pauses are not modelled.
    arrivals : sequence of int, ascending
        Cycle in which each query is in the submission ring.
    groups : mapping, optional
        For a stage, the groups that get its tokens; others use all theirs.
    setting : int
        Of the machine's settings, the one that is used all the time.
    skip : bool
        Skip cycles in which nothing changes, which makes no difference to results.

    Returns
    -------
    Cycles

    Raises
    ------
    RuntimeError
        The machine stopped: the model is wrong.
    """
    builder = Builder(work, simulation, groups or {}, setting)
    machine = builder.machine()
    machine.query["arrives"] = arrivals
    machine.clock["skip"] = skip
    units = [u for u in unit_counters(work.hardware) if u != "device"]
    counts = np.zeros((len(units), 16), np.int64)
    end = kernel()(machine, np.zeros(1, np.int64), counts, FAR - 1)
    if end < 0:
        raise RuntimeError("the modelled machine waits for itself")
    tables = unit_counters(work.hardware)
    waits = np.zeros(work.hardware.stages, np.int64)
    np.add.at(waits, machine.lane["stage"], machine.lane["waited"])
    return Cycles(
        queries=machine.query,
        tokens=np.split(machine.token, work.token_first[1:-1]),
        states={
            unit: dict(zip(states_of(tables[unit]), row.tolist(), strict=False))
            for unit, row in zip(units, counts, strict=True)
        },
        layers=builder.layers(machine),
        waits=waits,
        cycles=int(end),
        active=int(machine.clock["active"][0]),
    )
