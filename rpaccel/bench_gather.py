"""Items a cycle of a gather unit with a lane a table, in its gateware.

It runs in Amaranth's simulator: 26 tables with one lookup each and 13 dense inputs, an item's
features in one read, behind it a group that takes a write a cycle.

- *hits*: all rows in the static regions.
- *misses*: each lookup needs a line that was never fetched; behind the gather unit the memory ports
  and four channels that take a request and bring a line of 64 B a cycle, 100 cycles later. Share of
  their peak between the first and the last tenth of all lines.

Every byte that is written is compared with the golden model's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from rpaccel.hardware import HardwareConfig
from rtl_gen.gather import GatherUnit
from rtl_gen.memory import MemoryPorts
from sim.gather_bench import Bench
from sim.gather_stage import DENSE, ITEM, TABLE, Stage

__all__ = ["CASES", "bench", "measure"]

TABLES, DENSE_INPUTS = 26, 13
LATENCY = 100
CASES = (
    (4, 128, False, 26),
    (32, 1024, False, 26),
    (32, 128, False, 26),
    (4, 128, False, 13),
    (4, 128, True, 26),
    (32, 1024, True, 26),
)
"""Bytes of a row, bytes that are written in a cycle, whether all miss, and lanes."""


def hardware(dimension: int, write: int, macro_lines: int, lanes: int) -> HardwareConfig:
    """A machine with one stage and four channels."""
    return HardwareConfig.model_validate(
        {
            "groups": [{"stages": [0]}],
            "topk_depth": [4],
            "static_macros": lanes,
            "macro_lines": macro_lines,
            "gather": [
                {
                    "lanes": lanes,
                    "cache_lines": 256,
                    "lookahead": 128,
                    "outstanding": 32,
                    "max_dimension": dimension,
                    "max_fields": -(-TABLES // lanes),
                }
            ],
            "memory": {"channels": 4, "bus_bytes": 64, "line_bytes": 64, "address_bits": 24},
            "host_bus_bytes": 64,
            "read_bytes": 128,
            "gather_bytes": write,
            "feature_bytes": 65536,
            "query_slots": 1,
            "sram_macro_bits": 1 << 24,
        }
    )


class GatherWithMemory(wiring.Component):
    """A gather unit and its memory ports.

    Parameters
    ----------
    hardware : HardwareConfig
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int = 0):
        self.gather = GatherUnit(hardware=hardware, stage=stage)
        self.ports = MemoryPorts(hardware)
        members = {n: m for n, m in self.gather.signature.members.items() if n != "memory"}
        super().__init__(members | {"channels": self.ports.signature.members["channels"]})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.gather, m.submodules.ports = self.gather, self.ports
        for name, member in self.gather.signature.members.items():
            if name == "static":
                for lane, outside in zip(self.gather.static, self.static, strict=True):
                    wiring.connect(m, lane, wiring.flipped(outside))
            elif name == "memory":
                for lane, client in zip(self.gather.memory, self.ports.clients[1:], strict=True):
                    wiring.connect(m, lane, client)
            elif member.is_signature:
                wiring.connect(m, getattr(self.gather, name), wiring.flipped(getattr(self, name)))
            elif member.flow == Out:
                m.d.comb += getattr(self, name).eq(getattr(self.gather, name))
            else:
                m.d.comb += getattr(self.gather, name).eq(getattr(self, name))
        for inside, outside in zip(self.ports.channels, self.channels, strict=True):
            wiring.connect(m, inside, wiring.flipped(outside))
        return m


class Channel:
    """A channel of the memory: a request and a line a cycle, ``LATENCY`` cycles apart."""

    def __init__(self, port: Any, number: int, channels: int, stage: Stage) -> None:
        self.port, self.number, self.channels, self.stage = port, number, channels, stage
        self.arrivals: list[int] = []  # cycle of each line

    async def run(self, ctx: Any) -> None:
        """Serve in order."""
        port, now = self.port, 0
        flight: deque[tuple[int, int, int]] = deque()
        ctx.set(port.arready, 1)
        while True:
            ready = bool(flight) and flight[0][0] <= now
            if ready:
                _, tag, line = flight[0]
                ctx.set(port.rdata, int.from_bytes(self.stage.lines[line], "little"))
                ctx.set(port.rid, tag)
            ctx.set(port.rvalid, ready)
            ctx.set(port.rlast, 1)
            _, _, valid, tag, address, taken = await ctx.tick().sample(
                port.arvalid, port.arid, port.araddr, port.rready
            )
            if ready and taken:
                flight.popleft()
                self.arrivals.append(now)
            if valid:
                flight.append((now + LATENCY - 1, tag, address // 64 * self.channels + self.number))
            now += 1


def measure(dimension: int, *, write: int, items: int, miss: bool, lanes: int) -> dict[str, Any]:
    """Run one query; cycles an item from its second quarter on."""
    rng = np.random.default_rng(dimension)
    rows = items * 64 // dimension if miss else 64
    field = {"kind": TABLE, "scope": ITEM, "rows": rows, "hot_rows": 0 if miss else rows}
    field |= {"count": dimension, "lookups": 1, "index_bytes": 2, "shift": 0}
    fields = [dict(field) for _ in range(TABLES)]
    fields.append({"kind": DENSE, "scope": ITEM, "count": DENSE_INPUTS})
    lines = 1 if miss else rows * dimension // 64 * -(-TABLES // lanes)
    config = hardware(dimension, write, lines, lanes)
    stage = Stage(rng, config, fields, items=items, empty=0.0, gaps=False)
    if miss:
        _every_lookup_another_line(rng, stage, 64 // dimension)
    dut = GatherWithMemory(hardware=config) if miss else None
    bench = Bench(stage, [(0, None, 0, items)], dut=dut)
    channels = (
        [Channel(port, number, 4, stage) for number, port in enumerate(bench.dut.channels)]
        if miss
        else []
    )
    started = time.perf_counter()
    bench.run(timeout=100_000, background=[channel.run for channel in channels])
    bench.check()
    quarter = items // 4
    cycles = bench.item_cycles[-1] - bench.item_cycles[quarter]
    found = {
        "rows": dimension,
        "tables": TABLES,
        "lanes": lanes,
        "item_bytes": TABLES * dimension + DENSE_INPUTS,
        "write_bytes": config.geometry(0).gather_bytes,
        "items": items,
        "all": "misses" if miss else "hits",
        "cycles_per_item": cycles / (items - 1 - quarter),
        "seconds": time.perf_counter() - started,
    }
    if miss:
        # Of all lines, in order of arrival: those between the first and the last tenth.
        cycles_of = np.sort([cycle for channel in channels for cycle in channel.arrivals])
        first, last = len(cycles_of) // 10, len(cycles_of) * 9 // 10
        taken = int(cycles_of[last] - cycles_of[first])
        found["of_peak"] = (last - first) / taken / len(channels)
    return found


def _every_lookup_another_line(rng: np.random.Generator, stage: Stage, rows_a_line: int) -> None:
    """Indices, and their bytes in the record: the lines of each table once, in random order."""
    raw = bytearray(stage.slots[0][0])
    size = stage.record_bytes[ITEM]
    items = stage.slots[0][1]
    orders = [rng.permutation(len(items)) for _ in stage.fields]
    for item, values in enumerate(items):
        for number, field in enumerate(stage.fields):
            if field["kind"] == TABLE:
                index = int(orders[number][item]) * rows_a_line
                values[number][:] = index
                at = item * size + field["offset"]
                raw[at : at + 2] = index.to_bytes(2, "little")
    stage.slots[0] = (bytes(raw), stage.slots[0][1])


def bench(say: Callable[[str], None], *, items: int = 100) -> list[dict[str, Any]]:
    """Run all cases, each one query of so many items: minutes."""
    runs = []
    for dimension, write, miss, lanes in CASES:
        say(f"gather unit, {lanes} lanes, rows of {dimension} B, all {'miss' if miss else 'hit'}")
        runs.append(measure(dimension, write=write, items=items, miss=miss, lanes=lanes))
    return runs
