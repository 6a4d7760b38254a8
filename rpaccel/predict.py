"""What queries take on a machine, by the cycle model of all its units (docs/results/predict.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.config import Config
from rpaccel.errors import ConfigError, ToolError
from rpaccel.features import pack
from rpaccel.image import Image, StageInfo
from rpaccel.report import grid
from rpaccel.states import state_rows
from sw_model.funnel import Token, Trace, rank_query
from sw_model.planner import plan
from sw_model.quantised import QuantisedModel
from sw_model.query import Query

try:
    from sw_model.cycles.access import DrawnHits
    from sw_model.cycles.machine import Cycles, Job, Work, simulate
except ModuleNotFoundError as error:
    raise ToolError(f"{error.name} is missing: pip install -e '.[bench]'") from None

__all__ = ["Predictor", "drawn_hits", "report", "text"]


class Predictor:
    """A machine with an image, whose queries are predicted.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    image : Image
    """

    def __init__(self, config: Config, models: Sequence[QuantisedModel], image: Image) -> None:
        self.config = config
        self.models = models
        self.image = image

    def job(self, query: Query, **how: Any) -> Job:
        """A query with its way through the funnel, by the golden model.

        Parameters
        ----------
        query : Query
        how
            ``keep``, ``first_stage``, ``last_stage``, ``sub_batch`` and ``global_release``, as of
            :meth:`rpaccel.driver.Device.submit`, with the same defaults.
        """
        trace = Trace()
        rank_query(self.config, self.models, query, trace=trace, **how)
        return Job(
            record=np.frombuffer(pack(self.config.features, query), np.uint8),
            items=query.items,
            tokens=trace.tokens,
            **self.config.funnel.way(query.items, **how),
        )

    def untraced(self, query: Query | None = None) -> Job:
        """A query of the configuration's funnel that nobody ranked: the first items survive.

        Without ``query`` all its rows are 0. With one it is exact where no later stage follows.
        """
        features, funnel = self.config.features, self.config.funnel
        once = set(funnel.global_release)
        nothing = np.empty(0, np.int64)
        tokens = [
            Token(
                step.stage,
                step.sub_batch,
                np.arange(step.base, step.base + step.items),
                *(nothing, nothing, 0, 0, 0, 0),
            )
            for step in plan(funnel.items, funnel.sub_batch_items, funnel.keep, once)
        ]
        size_bytes = features.query_bytes + funnel.items * features.item_bytes
        return Job(
            record=(
                np.frombuffer(pack(features, query), np.uint8)
                if query
                else np.zeros(size_bytes, np.uint8)
            ),
            items=funnel.items,
            tokens=tokens,
            **funnel.way(funnel.items),
        )

    def work(self, jobs: Sequence[Job], hits: DrawnHits | None = None) -> Work:
        """Queries in their order; with ``hits``, hits and misses are drawn, not traced."""
        return Work(self.config.hardware, self.image.data, jobs, hits)

    def run(self, work: Work, arrivals: Sequence[int] | None = None) -> Cycles:
        """Run queries that come in given cycles, by default all at once."""
        funnel = self.config.funnel
        return simulate(
            work,
            self.config.simulation,
            [0] * len(work.jobs) if arrivals is None else arrivals,
            groups=dict(enumerate(funnel.groups)),
            setting=funnel.setting,
        )

    def completions(self, queries: Sequence[Query], arrivals: Sequence[int]) -> list[int]:
        """Cycle in which each query's completion is in host memory.

        Parameters
        ----------
        queries : sequence of Query
        arrivals : sequence of int, ascending
            Cycle in which each is in the submission ring.
        """
        done = self.run(self.work([self.job(q) for q in queries]), arrivals)
        return [int(cycle) for cycle in done.queries["completed"]]

    def layers(
        self, taken: Mapping[tuple[int, int], NDArray[np.int64]]
    ) -> dict[str, list[dict[str, Any]]]:
        """Cycles a token of each layer, by stage and group.

        Of a token, those from the last row of the layer before to its own last row.

        Parameters
        ----------
        taken : mapping
            Of passes: :attr:`sw_model.cycles.machine.Cycles.layers`.
        """
        found = {}
        for (stage, group), passes in sorted(taken.items()):
            info: StageInfo = self.image.stages[stage]
            program = next(p for p in info.programs if p.group == group)
            rows, at = [], 0
            for layer in program.layers:
                mine = passes[at : at + layer.passes]
                at += layer.passes
                tokens = int(mine[:, 1].max(initial=0))
                if tokens:
                    cycles = int(mine[:, 0].sum()) / tokens
                    rows.append({"layer": layer.name, "passes": layer.passes, "cycles": cycles})
            if rows:
                found[f"stage {stage} ({info.model}) on group {group}"] = rows
        return found


def drawn_hits(config: Config, rates: Sequence[float]) -> DrawnHits:
    """Hits to be drawn: ``rates`` gives for each stage the share of row segments on chip.

    Raises
    ------
    ConfigError
        They are not a share for each stage.
    """
    stages = len(config.funnel.stages)
    if len(rates) != stages or not all(0 <= rate <= 1 for rate in rates):
        raise ConfigError(
            f"hit rates must be {stages} shares of 0..1, one a stage, not {list(rates)}"
        )
    return DrawnHits(tuple(rates), config.data.seed)


def report(
    predictor: Predictor, jobs: Sequence[Job], hits: DrawnHits | None = None
) -> dict[str, Any]:
    """Predict queries, each alone and all back to back.

    Parameters
    ----------
    predictor : Predictor
    jobs : sequence of Job
    hits : DrawnHits, optional
        Without it hits are traced; with it the report is labelled statistical.

    Returns
    -------
    dict
        Plain values that JSON can hold; :func:`text` shows it.
    """
    alone = [predictor.run(predictor.work([job], hits)) for job in jobs]
    work = predictor.work(jobs, hits)
    started = time.process_time()
    done = predictor.run(work)
    seconds = time.process_time() - started
    latency = done.queries["requested"] - done.queries["fetched"]
    units = {
        unit: {state: count / done.cycles for state, count in states.items()}
        for unit, states in done.states.items()
    }
    return {
        "name": predictor.config.name,
        "kind": "statistical" if hits else "traced",
        "hit_rates": None if hits is None else list(hits.rates),
        "queries": len(jobs),
        "alone": [int(d.queries["requested"][0] - d.queries["fetched"][0]) for d in alone],
        "back_to_back": {
            "cycles": done.cycles,
            "per_query": done.active / len(jobs),
            "latencies": latency.tolist(),
        },
        "layers": predictor.layers(done.layers),
        "states": {"cycles": done.cycles, "units": units},
        "limit": _limit(units),
        "model": {"seconds": seconds, "cycles_per_second": done.cycles / seconds},
    }


def _limit(units: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The unit that is busy most, and what it waits for most."""
    unit = max(units, key=lambda name: units[name]["busy"])
    states = units[unit]
    stalls = {name: share for name, share in states.items() if name.startswith("stall_")}
    stall = max(stalls, key=lambda name: stalls[name])
    return {"unit": unit, "busy": states["busy"], "stall": stall, "stalled": stalls[stall]}


def text(found: Mapping[str, Any]) -> str:
    """Lay a report out as text."""
    both, limit = found["back_to_back"], found["limit"]
    how = "hits and misses as the golden model finds them"
    if found["kind"] == "statistical":
        rates = ", ".join(f"{rate:.1%}" for rate in found["hit_rates"])
        how = f"STATISTICAL: hits drawn at rates of {rates}, survivors not known"
    parts = [
        f"{found['name']}: {found['queries']} queries, predicted by the cycle model; {how}",
        f"A query alone: {np.mean(found['alone']):.0f} cycles; back to back: "
        f"{both['per_query']:.0f} cycles a query",
        f"Busy most: {limit['unit']} ({limit['busy']:.1%}); it waits most for "
        f"{limit['stall'].removeprefix('stall_')} ({limit['stalled']:.1%})",
    ]
    for place, layers in found["layers"].items():
        rows = [[r["layer"], str(r["passes"]), f"{r['cycles']:.1f}"] for r in layers]
        parts.append(grid(f"Cycles a token, {place}", ["layer", "passes", "cycles"], rows))
    header = ["unit", "busy", "stalled", "starved", "stalled by"]
    rows = state_rows(found["states"]["units"])
    parts.append(grid("States of units, back to back", header, rows, left=(0, 4)))
    return "\n\n".join(parts)
