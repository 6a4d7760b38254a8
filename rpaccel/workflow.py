"""The main job: data and weights to quantised models, image, device, results, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.compiler import compile_image
from rpaccel.config import Config
from rpaccel.devices import open_transport
from rpaccel.driver import Device
from rpaccel.errors import ConfigError
from rpaccel.image import Image
from rpaccel.measurements import demand_traffic, measurements
from rpaccel.progress import progress_bar
from rpaccel.quality import KINDS, ScoredQueries, differences, measure, summary
from rpaccel.sweep import sweep
from rpaccel.verify import compare
from sw_model.funnel import rank_query, score_items
from sw_model.hotness import accesses
from sw_model.quantise import quantise
from sw_model.quantised import QuantisedModel
from sw_model.query import Query, Ranking
from sw_model.random_models import random_models, random_query
from sw_model.topk import filters_of

if TYPE_CHECKING:
    from sw_model.datasets import RankingTask
    from sw_model.dlrm import FloatModel, Inputs
    from sw_model.quantisation_error import TensorError

__all__ = ["Workflow"]

log = logging.getLogger(__name__)

CALIBRATION_QUERIES = 64
OUTSTANDING = 2


class Workflow:
    """Everything a configuration leads to, each step made when it is first needed.

    Parameters
    ----------
    config : Config
    test_queries : int, optional
        At most so many labelled queries; all of the test split by default.
    """

    def __init__(self, config: Config, *, test_queries: int | None = None) -> None:
        self.config = config
        self.test_queries = test_queries

    @cached_property
    def dataset(self) -> RankingTask | None:
        """The data set; None where models and queries are random."""
        if self.config.data.source == "random":
            return None
        from sw_model.datasets import open_dataset

        log.info("reading %s", self.config.data.source)
        return open_dataset(self.config)

    @cached_property
    def float_models(self) -> list[FloatModel]:
        """The trained models of the funnel's stages, float32."""
        from sw_model.dlrm import FloatModel
        from sw_model.movielens import WEIGHTS

        folder = Path(self.config.data.weights or WEIGHTS)
        return [
            FloatModel.load(folder / f"{model.name}.safetensors", model, self.config.features)
            for model in map(self.config.model, range(len(self.config.funnel.stages)))
        ]

    @cached_property
    def _calibration(self) -> list[Any]:
        from sw_model.movielens import Split

        assert self.dataset is not None
        return self.dataset.candidates(
            Split.CALIBRATION,
            items=self.config.funnel.items,
            count=CALIBRATION_QUERIES,
            seed=self.config.data.seed,
        )

    @cached_property
    def candidates(self) -> list[Any]:
        """Labelled queries of the test split."""
        from sw_model.movielens import Split

        assert self.dataset is not None
        return self.dataset.candidates(
            Split.TEST,
            items=self.config.funnel.items,
            count=self.test_queries,
            seed=self.config.data.seed,
        )

    @cached_property
    def quantised(self) -> list[QuantisedModel]:
        """The models in int8, calibrated on the calibration split."""
        if self.dataset is None:
            return random_models(self.config, np.random.default_rng(self.config.data.seed))
        from sw_model.dataset import DENSE_SCALE

        data = self.config.data
        names = ", ".join(self.config.funnel.stages)
        log.info("quantising %s (%s, %s)", names, data.calibration, data.rounding)
        inputs = self._inputs(self._calibration)
        return [
            quantise(
                model,
                inputs,
                dense_scale=DENSE_SCALE,
                kind=data.calibration,
                rounding=data.rounding,
            )
            for model in self.float_models
        ]

    def _inputs(self, queries: Sequence[Any]) -> Inputs:
        """Real inputs of all candidates of some queries."""
        from sw_model.dlrm import Inputs

        assert self.dataset is not None
        parts = [self.dataset.candidate_inputs(c) for c in queries]
        return Inputs(
            np.concatenate([p.dense for p in parts]),
            {name: np.concatenate([p.indices[name] for p in parts]) for name in parts[0].indices},
        )

    def tensor_errors(self) -> dict[str, dict[str, TensorError]]:
        """What quantisation costs each tensor of each model, on the queries that a device runs.

        Empty where models are random.
        """
        if self.dataset is None:
            return {}
        from sw_model.equalise import EXPONENTS, equalise
        from sw_model.quantisation_error import tensor_errors

        calibration = self._inputs(self._calibration)
        exponent = EXPONENTS[self.config.data.rounding]
        shown = self._inputs(self.candidates[: self.config.data.queries])
        return {
            model.name: tensor_errors(equalise(model, calibration, exponent=exponent), int8, shown)
            for model, int8 in zip(self.float_models, self.quantised, strict=True)
        }

    @cached_property
    def hotness(self) -> list[dict[str, NDArray[np.int64]]] | None:
        """How often each stage touches each row in the calibration queries."""
        if self.dataset is None:
            return None
        return accesses(self.config, self.quantised, map(self.dataset.query, self._calibration))

    @cached_property
    def image(self) -> Image:
        """The memory image."""
        return compile_image(self.config, self.quantised, hotness=self.hotness)

    @cached_property
    def queries(self) -> list[Query]:
        """The queries that the device runs.

        Raises
        ------
        ConfigError
            The test split has fewer.
        """
        wanted = self.config.data.queries
        if self.dataset is None:
            rng = np.random.default_rng([self.config.data.seed, 1])
            features, items = self.config.features, self.config.funnel.items
            return [random_query(features, items, rng) for _ in range(wanted)]
        if len(self.candidates) < wanted:
            raise ConfigError(f"data.queries: {wanted}; the test split has {len(self.candidates)}")
        return [self.dataset.query(c) for c in self.candidates[:wanted]]

    def golden(self, query: Query) -> Ranking:
        """The golden model's ranking of a query."""
        return rank_query(self.config, self.quantised, query)

    @cached_property
    def scored(self) -> ScoredQueries | None:
        """Logits of the labelled queries by every model, float and int8; None without labels."""
        if self.dataset is None:
            return None
        log.info("scoring %d queries", len(self.candidates))
        logits: dict[str, list[list[NDArray]]] = {
            kind: [[] for _ in self.config.funnel.stages] for kind in KINDS
        }
        with progress_bar() as bar:
            for candidates in bar.track(self.candidates, description="quality"):
                inputs = self.dataset.candidate_inputs(candidates)
                query = self.dataset.query(candidates)
                for stage, (real, int8) in enumerate(
                    zip(self.float_models, self.quantised, strict=True)
                ):
                    logits["float"][stage].append(real(inputs))
                    logits["int8"][stage].append(
                        score_items(int8, self.config.features, query).logits
                    )
        return ScoredQueries(
            np.array([c.relevant for c in self.candidates]),
            {kind: [np.array(stage) for stage in stages] for kind, stages in logits.items()},
            filters_of(self.config),
        )

    def quality(self) -> dict[str, Any]:
        """Quality on all labelled queries: each model alone and the funnel, float and int8.

        Returns
        -------
        dict
            ``quality`` and ``quality_differences``, empty without labels: see
            :func:`rpaccel.quality.summary` and :func:`rpaccel.quality.differences`.
        """
        if self.scored is None:
            return {"quality": {}, "quality_differences": []}
        measured = measure(self.scored, self.config.funnel)
        return {
            "quality": summary(measured),
            "quality_differences": differences(measured, self.config.funnel),
        }

    def sweep(self, sub_batches: Sequence[int]) -> dict[str, Any]:
        """Quality over items a stage and sub-batches; see :func:`rpaccel.sweep.sweep`.

        Raises
        ------
        ConfigError
            There are no labelled queries, or a number of sub-batches is not positive.
        """
        if self.scored is None:
            raise ConfigError("data.source = 'random' has no labels, so there is no quality")
        with progress_bar() as bar:
            return sweep(
                self.config,
                self.scored,
                sub_batches=sub_batches,
                progress=lambda every: iter(bar.track(every, description="settings")),
            )

    def run(
        self,
        *,
        device: str = "verilator",
        waves: str | Path | None = None,
        trace: str | Path | None = None,
    ) -> dict[str, Any]:
        """Rank the queries on a device, compare each with the golden model, and report.

        Parameters
        ----------
        device : {"golden", "verilator", "icarus", "serial:PORT"}
        waves : path, optional
        trace : path, optional
            Where to write when each token was where, as trace events (see :mod:`sim.trace_events`).

        Returns
        -------
        dict
            The report: plain values that JSON can hold; :func:`rpaccel.report.table` shows it.

        Raises
        ------
        MismatchError
            A result differs from the golden model's, or a gather unit was not put to the test
            (no static hits, look-ahead hits, misses or evictions).
        """
        config, queries, image = self.config, self.queries, self.image
        started = time.perf_counter()
        record = None if trace is None else Path(f"{trace}.record")
        transport = open_transport(device, config, self.quantised, image, waves=waves, trace=record)
        with Device(transport, config, image) as opened:
            ready = time.perf_counter()
            before = opened.counters()
            with progress_bar() as bar:
                task = bar.add_task("queries", total=len(queries))
                handles = opened.run(
                    queries,
                    outstanding=OUTSTANDING,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
            after = opened.counters()
        seconds = {"prepare": ready - started, "run": time.perf_counter() - ready}
        if trace is not None and record is not None:
            from sim.trace_events import write_events

            write_events(config, record, trace)
            record.unlink()
        compared = 0
        for number, (query, handle) in enumerate(zip(queries, handles, strict=True)):
            got = handle.result()
            compare(number, self.golden(query), got)
            compared += len(got.positions)
        funnel = config.funnel
        report: dict[str, Any] = {
            "name": config.name,
            "device": device,
            "queries": len(queries),
            "items": funnel.items,
            "keep": list(funnel.keep),
            "sub_batches": funnel.sub_batches,
            "outstanding": OUTSTANDING,
            "compared": compared,
            "quality_k": funnel.keep[-1],
            "quality_queries": len(self.candidates) if self.dataset else 0,
            **self.quality(),
            "seconds": seconds,
        }
        if device != "golden":
            counts = {name: after[name] - before[name] for name in after}
            report |= measurements(config, counts, [h.cycles for h in handles])
            if self.dataset is not None:
                demand_traffic(report["stages"])
        return report
