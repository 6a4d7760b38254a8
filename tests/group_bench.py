"""A bench for groups: a gather unit and a top-k unit to play, and what must come out."""

from dataclasses import dataclass, field

import numpy as np

from rpaccel.counters import DISPATCHER_COUNTERS, GROUP_COUNTERS, states_of
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import pairs_target, target_id
from rpaccel.space import pair_words
from rtl_gen.array import ReconfigurableArray
from rtl_gen.group import Group
from sim.pysim import idle, simulate, stream_get, stream_put
from sw_model.group import score
from tests.group_memories import Memories

STATES = states_of(GROUP_COUNTERS)


def hardware(tile, size, stages=1, *, shapes=None, **values):
    """A machine with one group of ``size`` tiles that serves all stages."""
    gather = {"cache_lines": 4}
    return HardwareConfig.model_validate(
        {
            "tile_rows": tile[0],
            "tile_cols": tile[1],
            "groups": [
                {
                    "rows": size[0],
                    "cols": size[1],
                    "shapes": shapes and [list(shape) for shape in shapes],
                    "stages": list(range(stages)),
                }
            ],
            "gather": [gather] * stages,
            "topk_depth": [4] * stages,
            "accumulator_depth": 64,
            "activation_rows": 1024,
            "weight_rows": 4096,
            "param_rows": 256,
            "program_depth": 256,
            "memory": {"bus_bytes": 64, "line_bytes": 64},
            "sram_macro_bits": 1 << 30,  # Amaranth cannot simulate macros
            **values,
        }
    )


@dataclass
class Token:
    """A sub-batch for a group: inputs, and what the group makes of it."""

    stage: int
    slot: int
    last: bool
    dense: np.ndarray
    pooled: list
    positions: np.ndarray

    @property
    def items(self):
        return len(self.positions)


@dataclass
class Bench:
    """Groups with the programs of a model a stage.

    These are for the shape numbered ``uses[stage]``, and are said to take ``costs[stage]`` cycles.
    ``settings`` are cycles after the loading, and the numbers that are then written to ``setting``.
    """

    hardware: HardwareConfig
    models: list
    uses: list | None = None
    costs: list | None = None
    barred: int = 0
    settings: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)

    def __post_init__(self):
        self.groups = range(len(self.hardware.groups))
        single = len(self.groups) == 1
        self.dut = (
            Group(hardware=self.hardware, group=0) if single else ReconfigurableArray(self.hardware)
        )
        count = len(self.models)
        self.costs = self.costs or [0] * count
        geometries = [self.hardware.geometry(group) for group in self.groups]
        kinds = {geometry.shapes for geometry in geometries}
        # Inputs of a stage lie at the same place in all groups.
        slices = {s.k_width for kind in kinds for s in kind} if len(kinds) > 1 else ()
        made = {}
        for group, geometry in zip(self.groups, geometries):
            key = geometry.shapes, tuple(self.hardware.groups[group].stages)
            if key not in made:
                given = self.models, self.uses or [0] * count, self.costs, slices
                made[key] = Memories(self.hardware, group, *given)
            self.memories = [*getattr(self, "memories", []), made[key]]
        self.alike = len(made) == 1
        self.spaces = self._by_stage("spaces")
        self.programs, self.shapes = self._by_stage("programs"), self._by_stage("shapes")
        self.gather_bytes = [
            geometries[self.hardware.groups_of(stage)[0]].gather_bytes for stage in range(count)
        ]

    def _by_stage(self, name):
        """What the first group has that serves each stage."""
        serving = [self.hardware.groups_of(stage)[0] for stage in range(len(self.models))]
        return [getattr(self.memories[g], name)[stage] for stage, g in enumerate(serving)]

    def token(self, rng, stage, items, *, extreme=False, last=False):
        """A random token."""
        model = self.models[stage]

        def inputs(width):
            values = rng.integers(-128, 128, size=(items, width))
            if extreme:
                values = np.where(rng.random((items, width)) < 0.5, -128, 127)
            return values.astype(np.int8)

        return Token(
            stage,
            int(rng.integers(self.hardware.query_slots)),
            last,
            inputs(model.bottom[0].weights.shape[1] if model.bottom else 0),
            [inputs(t.rows.shape[1]) for t in model.tables],
            rng.integers(2**16, size=items),
        )

    def expected(self, token):
        """What must leave at the score port for a token."""
        if not token.items:
            return [(0, 0, 0, 1, token.slot, int(token.last), 0)]
        golden = score(self.models[token.stage], token.dense, token.pooled)
        rows = zip(
            token.positions.tolist(),
            golden.logits.tolist(),
            golden.saturated.tolist(),
            range(1 - token.items, 1),
        )
        return [
            (position, logit, 1, int(left == 0), token.slot, int(token.last), int(saturated))
            for position, logit, saturated, left in rows
        ]

    def contents(self):
        """Contents of all memories by their targets."""
        contents = {
            target_id(target, group): content
            for group, memories in zip(self.groups, self.memories)
            for target, content in memories.words().items()
        }
        for stage, model in enumerate(self.models):
            unit = self.hardware.dot_shape(stage) if model.dot else None
            if unit is not None:
                contents[pairs_target(stage)] = [w.tobytes() for w in pair_words(unit, model)]
        return contents

    async def _load(self, ctx):
        bus = self.dut.load
        beat = self.hardware.memory.bus_bytes
        for target, content in self.contents().items():
            at = {"valid": 1, "target": target}
            ctx.set(bus, {**at, "first": 1, "address": 0, "data": 0})
            await ctx.tick()
            for word in content:
                for offset in range(0, len(word), beat):
                    part = int.from_bytes(word[offset : offset + beat], "little")
                    ctx.set(bus, {**at, "first": 0, "address": 0, "data": part})
                    await ctx.tick()
        ctx.set(bus.valid, 0)
        if len(self.groups) > 1:
            ctx.set(self.dut.barred, self.barred)
            await ctx.tick()  # a choice is made a cycle before it is used

    def _writes(self, rng, token, item):
        """The chunk writes of an item, in random order, some chunks in two parts."""
        space = self.spaces[token.stage]
        parts = list(zip(space.tables, token.pooled)) + [(space.dense, token.dense)]
        chunks = {}
        for offset, values in parts:
            for number, value in enumerate(values[item].tolist()):
                chunk, byte = divmod(offset + number, self.gather_bytes[token.stage])
                chunks.setdefault(chunk, {})[byte] = value & 255
        writes = []
        for chunk, values in chunks.items():
            cut = int(rng.integers(len(values) + 1)) if rng.random() < 0.3 else len(values)
            bytes_ = list(values.items())
            writes += [(chunk, part) for part in (bytes_[:cut], bytes_[cut:]) if part]
        return [writes[i] for i in rng.permutation(len(writes))]

    async def _gather(self, ctx, rng, stage, tokens, stall):
        port = self.dut.i[stage]
        for token in tokens:
            start = {"slot": token.slot, "first": 0, "last": token.last, "items": token.items}
            await stream_put(ctx, port.start, start, rng=rng, stall=stall)
            for item in range(token.items):
                writes = [
                    {
                        "chunk": chunk,
                        "item": item,
                        "mask": sum(1 << byte for byte, _ in part),
                        "data": sum(value << 8 * byte for byte, value in part),
                    }
                    for chunk, part in self._writes(rng, token, item)
                ]
                for payload in writes[:-1]:
                    await stream_put(ctx, port.write, payload, rng=rng, stall=stall)
                await idle(ctx, rng, stall)
                await self._finish(ctx, port, writes[-1], int(token.positions[item]))

    async def _finish(self, ctx, port, payload, position):
        """Make the last write of an item, and say in the same cycle that it was the last."""
        ctx.set(port.write.payload, payload)
        ctx.set(port.write.valid, 1)
        while not ctx.get(port.write.ready):
            await ctx.tick()
        ctx.set(port.item_position, position)
        ctx.set(port.item_valid, 1)
        await ctx.tick()
        ctx.set(port.write.valid, 0)
        ctx.set(port.item_valid, 0)

    def _counter(self, name):
        """Increment of a counter, of all groups together."""
        if len(self.groups) == 1:
            return self.dut.counters[name]
        return sum(self.dut.counters[f"group{number}"][name] for number in self.groups)

    def run(self, rng, tokens, *, stall=0.0, score_stall=None, vcd=None):
        """Run tokens and compare all scores; leaves the counters in ``counts``."""
        loaded = False
        stages = range(self.dut.stages)
        names = list(GROUP_COUNTERS)
        self.counts = dict.fromkeys(names, 0)
        self.scores = {stage: [] for stage in stages}
        self.cycles = {}
        self.dispatched = dict.fromkeys(DISPATCHER_COUNTERS, 0)  # states of that of stage 0
        self.starts_seen = {stage: [] for stage in stages}  # token: its start, its items' ends
        self.offers_seen = {stage: [] for stage in stages}  # from when on it waited to be started
        self.score_cycles = {stage: [] for stage in stages}
        self.changes_seen = []  # cycle from which on the array has a setting, its number
        # What one stage does must not depend on the draws of another.
        draws = {stage: rng.spawn(2) for stage in stages}
        expected = {
            s: [beat for t in tokens if t.stage == s for beat in self.expected(t)] for s in stages
        }

        async def loader(ctx):
            nonlocal loaded
            await self._load(ctx)
            loaded = True

        def gather(stage):
            async def testbench(ctx):
                while not loaded:
                    await ctx.tick()
                mine = [t for t in tokens if t.stage == stage]
                await self._gather(ctx, draws[stage][0], stage, mine, stall)

            return testbench

        async def regroup(ctx):
            while not loaded:
                await ctx.tick()
            for delay, number in self.settings:
                await ctx.tick().repeat(delay)
                ctx.set(self.dut.setting, number)

        def topk(stage):
            async def testbench(ctx):
                fields = ("position", "score", "keep", "last", "slot", "query_last", "saturated")
                waiting = stall if score_stall is None else score_stall
                port = self.dut.scores[stage]
                for _ in expected[stage]:
                    beat = await stream_get(ctx, port, rng=draws[stage][1], stall=waiting)
                    self.scores[stage].append(tuple(int(getattr(beat, f)) for f in fields))
                await idle(ctx, draws[stage][1], 0.9)
                await ctx.tick().repeat(20)
                assert not ctx.get(port.valid), "a score too many"

            return testbench

        async def monitor(ctx):
            cycle = 0
            ports = [
                signal
                for s in stages
                for port in [self.dut.i[s]]
                for signal in (
                    port.start.valid,
                    port.start.valid & port.start.ready,
                    port.item_valid,
                    self.dut.scores[s].valid & self.dut.scores[s].ready,
                )
            ]
            counters = [self._counter(n) for n in names]
            if len(self.hardware.groups_of(0)) > 1:
                ports += [self.dut.counters["dispatcher0"][n] for n in self.dispatched]
            if self.hardware.settings:
                ports.append(self.dut.setting)
            offered, setting = {}, 0
            async for values in ctx.tick().sample(*counters, *ports):
                for name, value in zip(self.dispatched, values[2 + len(names) + 4 * len(stages) :]):
                    self.dispatched[name] += value
                if self.hardware.settings and values[-1] != setting:
                    setting = values[-1]
                    self.changes_seen.append((cycle, setting))
                for s in stages:
                    offers, started, finished, scored = values[2 + len(names) + 4 * s :][:4]
                    if scored:
                        self.score_cycles[s].append(cycle)
                    if offers:
                        offered.setdefault(s, cycle)
                    if started:
                        self.starts_seen[s].append((cycle, []))
                        self.offers_seen[s].append(offered.pop(s))
                    if finished:
                        self.starts_seen[s][-1][1].append(cycle)
                each = dict(zip(names, values[2:]))
                assert sum(each[name] for name in STATES) == len(self.groups)
                for name, value in zip(names, values[2:]):
                    self.counts[name] += value
                    if value:
                        times = value if name == "busy" else 1  # of several groups
                        self.cycles.setdefault(name, []).extend([cycle] * times)
                cycle += 1
                if all(len(self.scores[s]) == len(expected[s]) for s in stages):
                    return

        simulate(
            self.dut,
            loader,
            monitor,
            *(gather(s) for s in stages),
            *(topk(s) for s in stages),
            *([regroup] if self.settings else []),
            timeout=20_000,
            vcd=vcd,
        )
        for stage in stages:
            assert self.scores[stage] == expected[stage]
        useful = sum(
            p["rows"] * p["cols"] * t.items for t in tokens for p in self.programs[t.stage]
        )
        assert self.counts["macs"] == useful
        if not self.alike:
            return  # which group did which token?
        assert self.counts["busy"] == sum(
            self.shapes[t.stage].item_rows(t.items) * len(self.programs[t.stage]) for t in tokens
        )
        assert self.counts["passes"] == sum(len(self.programs[t.stage]) for t in tokens if t.items)
