"""Records of a machine at rest, from its configuration and the image in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rpaccel import abi
from rpaccel.counters import unit_counters
from rpaccel.geometry import GroupGeometry
from rpaccel.simulation import SimulationConfig
from sw_model.cycles import (
    completer,
    controller,
    dot,
    filter,
    group,
    lanes,
    link,
    memory,
    packer,
    walker,
)
from sw_model.cycles.arrays import Machine
from sw_model.cycles.records import FAR, record
from sw_model.cycles.tables import GatherTables, Row, table
from sw_model.group_cycles import GroupCycles, latency

if TYPE_CHECKING:
    from sw_model.cycles.machine import Work

__all__ = ["Builder"]


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
        names = [u for u in unit_counters(self.hardware) if u != "device"]
        self.units = {name: number for number, name in enumerate(names)}
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
        gather = GatherTables(work, [self.units[f"gather{s}"] for s in stages])
        most = max((g.lookahead for g in hardware.gather), default=1)
        tags = max((g.outstanding for g in hardware.gather), default=1)
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
            walker=table(walker.WALKER, gather.walkers),
            token=work.tokens.copy(),
            position=work.positions,
            step=table(walker.STEP, gather.steps),
            piece=np.array(gather.pieces, np.int64),
            lane=table(lanes.LANE, gather.lanes, wakes=FAR),
            makes=_flat([a.makes for a in memory_lanes], np.int8),
            segment=_flat([a.segments for a in memory_lanes], np.int32),
            missed=np.concatenate([np.zeros((1, 2), np.int64), *(a.missed for a in memory_lanes)]),
            arrived=np.full((lane_count, most), FAR, np.int64),
            freed=np.full((lane_count, tags), FAR, np.int64),
            dense=table(lanes.DENSE, gather.dense),
            packer=table(packer.PACKER, gather.packers, wakes=FAR),
            word=table(lanes.WORD, gather.words),
            part=table(lanes.PART, gather.parts),
            channel=self._channels(len(memory_lanes)),
            burst=np.zeros((hardware.memory.channels, memory.DEPTH), memory.BURST),
            bank=self._banks(),
            dispatcher=table(packer.DISPATCHER, [self._dispatcher(s) for s in stages], stale=1),
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
            row = common | {"unit": self.units[f"memory{channel}"]}
            row["random"] = _after(seed or 1, len(self._loaded(channel)))
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

    def _loaded(self, channel: int) -> list[int]:
        """Addresses that the loader has read from a channel, in their order."""
        memory_ = self.hardware.memory
        return [
            line // memory_.channels * memory_.line_bytes
            for line in self.programs.loaded_lines
            if line % memory_.channels == channel
        ]

    def _banks(self) -> Any:
        """Banks with the rows open that were read last when the image was loaded."""
        dram = self.simulation.dram
        banks = np.zeros((self.hardware.memory.channels, 256), memory.BANK)
        if dram is not None and dram.banks:
            for channel in range(len(banks)):
                for address in self._loaded(channel):
                    row, bank = divmod(address // dram.row_bytes, dram.banks)
                    banks["open"][channel, bank] = 1
                    banks["row"][channel, bank] = row
        return banks

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


def _after(random: int, bursts: int) -> int:
    """State of a memory's random numbers: one is drawn for each burst that may be overtaken."""
    for _ in range(bursts):
        random ^= random << 13 & 0xFFFFFFFF
        random ^= random >> 17
        random ^= random << 5 & 0xFFFFFFFF
    return random


def _flat(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([*arrays, np.zeros(1, dtype)])
