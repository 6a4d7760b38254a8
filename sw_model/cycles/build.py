"""Records of a machine at rest, from its configuration and the image in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.config import SimulationConfig
from rpaccel.geometry import GroupGeometry
from sw_model.cycles import completer, controller, dot, filter, group, lanes, link, memory, packer, walker
from sw_model.cycles.arrays import Machine
from sw_model.cycles.records import FAR, record
from sw_model.group_cycles import GroupCycles, latency

if TYPE_CHECKING:
    from sw_model.cycles.machine import Work

__all__ = ["Builder", "table"]

Row = dict[str, Any]


def table(dtype: np.dtype[Any], rows: Sequence[Mapping[str, Any]], **rest: int) -> Any:
    """Records of a type from values of some of their fields; ``rest``: those that all have."""
    made = np.zeros(len(rows), dtype)
    for name, value in rest.items():
        made[name] = value
    for number, row in enumerate(rows):
        for name, value in row.items():
            made[name][number] = value
    return made


class Builder:
    """Makes a machine.

    Parameters
    ----------
    work : Work
    simulation : SimulationConfig
    groups, setting
        See :func:`sw_model.cycles.machine.simulate`.
    """

    def __init__(
        self,
        work: Work,
        simulation: SimulationConfig,
        groups: Mapping[int, Collection[int]],
        setting: int,
    ) -> None:
        self.work = work
        self.hardware = work.hardware
        self.programs = work.programs
        self.simulation = simulation
        self.allowed, self.setting = groups, setting
        names = [u for u in abi.unit_counters(self.hardware) if u != "device"]
        self.units = {name: number for number, name in enumerate(names)}
        self._words: list[Row] = []
        self._parts: list[Row] = []
        self._inputs: list[Row] = []
        self._commands: list[Row] = []
        self._dots: list[Row] = []
        self._scores = 1
        self._groups()

    def machine(self) -> Machine:
        """A machine with nothing done."""
        work, hardware = self.work, self.hardware
        stages = range(hardware.stages)
        memory_lanes = [a for lanes_ in work.access for a in lanes_]
        walkers = self._walkers()
        lane_rows, packers, dense = self._lanes()
        most = max((g.lookahead for g in hardware.gather), default=1)
        tags = max((g.outstanding for g in hardware.gather), default=1)
        steps, pieces = self._steps()
        lane_count = max(1, len(memory_lanes))
        delay = max(max(row["latency"]) for row in self._group_rows)
        return Machine(
            clock=np.zeros(1, record("now moved wake skip active")),
            cause=np.zeros(len(self.units), np.int64),
            link=self._link(),
            due=np.zeros((2, link.RING + 1), np.int64),
            fetcher=np.zeros(1, controller.FETCHER),
            admission=table(controller.ADMISSION, [{"slots": hardware.query_slots}]),
            divider=np.zeros(1, controller.DIVIDER),
            planner=table(controller.PLANNER, [{"depth": 8 * hardware.query_slots}]),
            completer=self._completer(),
            query=work.queries.copy(),
            plan=work.plan.copy(),
            order=np.array([n for order in work.order for n in order], np.int64),
            walker=walkers,
            token=work.tokens.copy(),
            position=work.positions,
            step=table(walker.STEP, steps),
            piece=pieces,
            lane=table(lanes.LANE, lane_rows, wakes=FAR),
            makes=_flat([a.makes for a in memory_lanes], np.int8),
            segment=_flat([a.segments for a in memory_lanes], np.int32),
            missed=np.concatenate([np.zeros((1, 2), np.int64), *(a.missed for a in memory_lanes)]),
            arrived=np.full((lane_count, most), FAR, np.int64),
            freed=np.full((lane_count, tags), FAR, np.int64),
            dense=table(lanes.DENSE, dense),
            packer=table(packer.PACKER, packers),
            word=table(lanes.WORD, self._words),
            part=table(lanes.PART, self._parts),
            channel=self._channels(len(memory_lanes)),
            burst=np.zeros((hardware.memory.channels, memory.DEPTH), memory.BURST),
            bank=np.zeros((hardware.memory.channels, 256), memory.BANK),
            dispatcher=table(packer.DISPATCHER, [self._dispatcher(s) for s in stages]),
            group=table(group.GROUP, self._group_rows, token_last=-1),
            row=np.zeros((len(self._group_rows), delay + 2), group.ROW),
            input=table(group.INPUT, self._inputs, current=1),
            dot=table(dot.DOT, self._dots),
            scores=np.zeros((len(self._inputs), self._scores), np.int64),
            command=table(group.COMMAND, self._commands),
            filter=table(filter.FILTER, [self._filter(s) for s in stages]),
            release=np.zeros((hardware.stages, filter.RELEASES), filter.RELEASE),
        )

    def layers(self, machine: Machine) -> dict[tuple[int, int], NDArray[np.int64]]:
        """Cycles and tokens of each pass, by stage and group."""
        found = {}
        for row in self._inputs:
            mine = machine.command[row["program"] : row["program"] + row["passes"]]
            if len(mine):
                both = np.stack([mine["cycles"], mine["passes"]], axis=1)
                found[row["stage"], row["group"]] = both
        return found

    def _link(self) -> Any:
        bus = self.hardware.host_bus_bytes
        rate = Fraction(self.simulation.host_rate or bus).limit_denominator(1000)
        beat = max(Fraction(1), bus / rate)
        return table(
            link.LINK,
            [
                {
                    "latency": self.simulation.host_latency,
                    "gap_num": beat.numerator,
                    "gap_den": beat.denominator,
                    "read_credit": beat.numerator,
                    "write_credit": beat.numerator,
                    "outstanding": self.hardware.host_outstanding,
                    "beats": abi.BLOCK_BYTES // bus,
                }
            ],
        )

    def _completer(self) -> Any:
        bus = self.hardware.host_bus_bytes
        row = {"lanes": bus // abi.RESULT.bytes, "beats": abi.BLOCK_BYTES // bus, "accepts": -1}
        return table(completer.COMPLETER, [row])

    def _walkers(self) -> Any:
        rows, lane, step = [], 0, 0
        for stage, words in enumerate(self.programs.stages):
            rows.append(
                {
                    "steps": step,
                    "lanes": words["lanes"],
                    "lane": lane,
                    "query_bytes": words["query_bytes"],
                    "item_bytes": words["item_bytes"],
                    "read_bytes": self.hardware.feature_read,
                    "bus_bytes": self.hardware.host_bus_bytes,
                    "tokens": self.work.token_first[stage],
                }
            )
            lane += words["lanes"]
            step += words["steps"]
        return table(walker.WALKER, rows)

    def _steps(self) -> tuple[list[Row], NDArray[np.int64]]:
        rows: list[Row] = []
        pieces = []
        most = max(words["lanes"] for words in self.programs.stages)
        for stage in range(self.hardware.stages):
            for step, lanes_ in self.programs.steps(stage):
                item = step["scope"] == abi.FieldScope.ITEM
                rows.append({"address": step["address"], "item": item, "last": step["last"]})
                own = [p["count"] if p["used"] else 0 for p in lanes_[:-1]]
                own = (own + [0] * most)[:most]
                pieces.append([*own, lanes_[-1]["used"]])
        return rows, np.array(pieces, np.int64)

    def _lanes(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Lanes, packers and dense lanes of all stages."""
        rows: list[Row] = []
        packers: list[Row] = []
        dense: list[Row] = []
        makes = segment = 0
        missing = 1
        for stage, gather in enumerate(self.hardware.gather):
            used = self.programs.stages[stage]["lanes"]
            packers.append(
                {
                    "tokens": self.work.token_first[stage],
                    "lane": len(rows),
                    "lanes": used,
                    "unit": self.units[f"gather{stage}"],
                }
            )
            for number, access in enumerate(self.work.access[stage]):
                words, end = self._placed(stage, number)
                rows.append(
                    {
                        "stage": stage,
                        "makes": makes,
                        "segment": segment,
                        "missing": missing,
                        "words": words,
                        "words_end": end,
                        "lookahead": gather.lookahead,
                        "outstanding": gather.outstanding,
                    }
                )
                makes += len(access.makes)
                segment += len(access.segments)
                missing += len(access.missed)
            words, end = self._placed(stage, gather.lanes)
            row = {"words": words, "words_end": end, "depth": gather.lookahead}
            dense.append(row | {"tokens": self.work.token_first[stage]})
        return rows, packers, dense

    def _placed(self, stage: int, lane: int) -> tuple[int, int]:
        """Words that a lane makes of an item, in parts that lie in one chunk: first and end."""
        begin = len(self._words)
        if not self.programs.stages[stage]["steps"]:
            return begin, begin
        bus = self.hardware.memory.bus_bytes
        is_dense = lane == self.hardware.gather[stage].lanes
        fields = self.programs.fields(stage)[lane]
        pieces = [p[lane] for _, p in self.programs.steps(stage) if p[lane]["used"]]
        for piece in pieces:
            if is_dense:
                at = fields[piece["field"]]["output"] if fields else 0
                self._word(stage, at, piece["count"], bool(piece["item_last"]))
            elif piece["last"]:
                field = fields[piece["field"]]
                for first in range(0, field["count"], bus):
                    size = min(bus, field["count"] - first)
                    ends = first + size == field["count"] and bool(piece["item_last"])
                    self._word(stage, field["output"] + first, size, ends)
        return begin, len(self._words)

    def _word(self, stage: int, at: int, size: int, ends: bool) -> None:
        chunk = self.hardware.geometry(self.hardware.groups_of(stage)[0]).gather_bytes
        chunks = range(at // chunk, (at + max(1, size) - 1) // chunk + 1)
        self._words.append({"part": len(self._parts), "parts": len(chunks)})
        for number in chunks:
            last = number == chunks[-1] and ends
            self._parts.append({"chunk": number, "ends": last, "empty": size == 0})

    def _channels(self, lanes_: int) -> Any:
        simulation, memory_ = self.simulation, self.hardware.memory
        common: Row = {
            "latency": simulation.memory_latency,
            "gap_num": simulation.memory_gap + 1,
            "gap_den": 1,
            "credit": simulation.memory_gap + 1,
            "reorder": simulation.memory_reorder,
            "ready": 1,
            "lanes": lanes_,
            "channels": memory_.channels,
            "line_bytes": memory_.line_bytes,
            "beats": memory_.beats,
            "turn": -1,
            "ssd_first": FAR,
            "ssd_den": 1,
            "by_due": simulation.memory_reorder
            and (simulation.dram is not None or simulation.ssd is not None),
        }
        if simulation.dram is not None:
            common |= dict(simulation.dram)
        rows = []
        for channel in range(memory_.channels):
            seed = (simulation.seed + channel) * 0x9E3779B1 & 0xFFFFFFFF ^ 0x5DEECE6D
            row = common | {"unit": self.units[f"memory{channel}"], "random": seed or 1}
            if simulation.ssd is not None:
                ssd = simulation.ssd
                lines = max(0, -(-(ssd.first_line - channel) // memory_.channels))
                rate = Fraction(ssd.cycles_per_byte).limit_denominator(1000) * memory_.channels
                row |= {
                    "ssd_first": lines * memory_.line_bytes,
                    "ssd_latency": ssd.latency,
                    "ssd_num": rate.numerator,
                    "ssd_den": rate.denominator,
                }
            rows.append(row)
        return table(memory.CHANNEL, rows)

    def _dispatcher(self, stage: int) -> Row:
        serving = self.hardware.groups_of(stage)
        places = [
            next(
                n
                for n, row in enumerate(self._inputs)
                if row["stage"] == stage and row["group"] == g
            )
            for g in serving
        ]
        on = set(self.hardware.setting(self.setting)) & set(serving)
        allowed = on & set(self.allowed.get(stage, serving)) or on
        barred = [g not in allowed for g in serving]
        fill = abi.MAX_GROUPS - len(serving)
        return {
            "groups": len(serving),
            "group": [*serving, *[0] * fill],
            "input": [*places, *[0] * fill],
            "barred": [*barred, *[0] * fill],
        }

    def _groups(self) -> None:
        """Groups with their inputs and programs."""
        self._group_rows: list[Row] = []
        for number, config in enumerate(self.hardware.groups):
            geometry = self.hardware.geometry(number)
            shapes = geometry.shapes
            fill = [0] * (16 - len(shapes))
            delays = [latency(self.hardware.tile_rows, shape) for shape in shapes]
            self._group_rows.append(
                {
                    "unit": self.units[f"group{number}"],
                    "tile_rows": self.hardware.tile_rows,
                    "first": len(self._inputs),
                    "inputs": len(config.stages),
                    "latency": [*delays, *fill],
                    "late": [*(max(0, s.cols - 2) for s in shapes), *fill],
                }
            )
            first = len(self._dots)
            model = GroupCycles(geometry)
            for place, stage in enumerate(config.stages):
                there = self.programs.stages[stage]["steps"]
                entry = self.programs.entry(stage, number) if there else {"form": 0, "cycles": 0}
                program = self.programs.program(stage, number) if there else []
                depth = model.score_rows(place)
                self._scores = max(self._scores, depth + 2)
                unit = -1
                if there and entry["dimension"]:
                    unit = len(self._dots)
                    self._dots.append(self._dot(geometry, place, entry))
                self._inputs.append(
                    {
                        "dot": unit,
                        "number": len(self._inputs),
                        "group": number,
                        "place": place,
                        "stage": stage,
                        "parts": shapes[entry["form"]].parts,
                        "form": entry["form"],
                        "cost": entry["cycles"],
                        "program": len(self._commands),
                        "passes": len(program),
                        "depth": depth,
                    }
                )
                for word in program:
                    kept = ("wait_input", "wait_write", "final", "last", "vector", "pause")
                    row = {name: word[name] for name in kept}
                    self._commands.append(row | {"score": word["destination"]})
            found = {"dots": first, "dot_count": len(self._dots) - first}
            self._group_rows[-1] |= found

    def _dot(self, geometry: GroupGeometry, place: int, entry: Mapping[str, int]) -> Row:
        """The dot interaction unit of the input that comes next."""
        shape, width = geometry.dots[place], geometry.gather_bytes
        return {
            "input": len(self._inputs),
            "cycles": shape.cycles,
            "writes": -(-shape.results // width),
            "base": shape.base // width,
            "bottom": entry["bottom"],
        }

    def _filter(self, stage: int) -> Row:
        hardware = self.hardware
        first = sum(map(len, self.work.order[:stage]))
        return {
            "unit": self.units[f"topk{stage}"],
            "collector": self.units.get(f"dispatcher{stage}", 0),
            "unfiltered": hardware.filter_of(stage) == "none",
            "depth": hardware.topk_depth[stage],
            "first": first,
            "tokens": self.work.token_first[stage],
        }


def _flat(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([*arrays, np.zeros(1, dtype)])
