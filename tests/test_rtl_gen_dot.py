"""The dot interaction unit against golden products: vectors, stalls, and its throughput."""

import numpy as np
import pytest

from rpaccel.image_layout import PAIR, pairs_target
from rtl_gen.dot import Dot
from sim.pysim import idle, simulate
from sw_model.numerics import requantise
from tests.group_bench import hardware


def machine(size, shapes, *, vectors, dimension, macs, items=16, **values):
    """A machine whose only group has a unit."""
    dot = {"stage": 0, "vectors": vectors, "dimension": dimension, "macs": macs, "items": items}
    return hardware((4, 4), size, shapes=shapes, dot=[dot], accumulator_depth=16, **values)


def pair_words(unit, pairs, vectors):
    """Words of a unit's PAIR structures; of pairs that are not there, anything."""
    word = np.zeros((unit.steps, unit.turns * unit.ring * PAIR.bytes), np.uint8)
    flat = word.reshape(-1, PAIR.bytes)
    flat[:] = 0x15
    for (i, j), (mantissa, shift) in pairs.items():
        at = unit.result(vectors[i], vectors[j])
        flat[at] = np.frombuffer(PAIR.pack(mantissa=mantissa, shift=shift), np.uint8)
    return [row.tobytes() for row in word]


def golden(v, pairs):
    """Results of all items by pair, from their vectors (items, vectors, dimension)."""
    zero = np.zeros(1, np.int64)
    return {
        (i, j): requantise(
            (v[:, i].astype(np.int64) * v[:, j]).sum(axis=1)[:, None],
            zero,
            np.array([mantissa]),
            np.array([shift]),
            -128,
            127,
        )[:, 0]
        for (i, j), (mantissa, shift) in pairs.items()
    }


class Play:
    """A unit with tokens of random vectors, and what must be written."""

    def __init__(self, rng, config, *, form, vectors, dimension, bottom, tokens):
        self.config, self.geometry = config, config.geometry(0)
        self.unit = self.geometry.dots[0]
        self.shape = self.geometry.shapes[form]
        self.bottom, self.dimension = bottom, dimension
        self.words = 2 + self.unit.results // self.shape.word_bytes
        # Places of the vectors: tables from the first on, the bottom MLP's output last.
        self.at = list(range(vectors))
        if bottom:
            self.at[-1] = self.unit.vectors - 1
        spread = np.sqrt(dimension) * 5500
        self.pairs = {
            (i, j): (int(rng.integers(2**16)), int(rng.integers(max(0, int(np.log2(spread))), 48)))
            if rng.random() < 0.2
            else (int(rng.integers(2**15, 2**16)), int(np.log2(spread)) + 9)
            for i in range(vectors)
            for j in range(i)
        }
        self.tokens = [
            rng.choice([-128, 127], (n, vectors, dimension)).astype(np.int8)
            if rng.random() < 0.2
            else rng.integers(-128, 128, (n, vectors, dimension)).astype(np.int8)
            for n in tokens
        ]
        self.dut = Dot(self.geometry, stage=0)
        self.memory, self.cycles, self.done = {}, [], 0

    async def load(self, ctx):
        dut, beat = self.dut, self.config.memory.bus_bytes
        ctx.set(
            dut.entry,
            {
                "form": self.shape.index,
                "words": self.words,
                "dimension": self.dimension,
                "bottom": self.bottom,
            },
        )
        target = {"valid": 1, "target": pairs_target(0)}
        ctx.set(dut.bus, {**target, "first": 1})
        await ctx.tick()
        for word in pair_words(self.unit, self.pairs, self.at):
            for offset in range(0, len(word), beat):
                part = int.from_bytes(word[offset : offset + beat], "little")
                ctx.set(dut.bus, {**target, "data": part})
                await ctx.tick()
        ctx.set(dut.bus.valid, 0)

    async def store(self, ctx, rng, buffer, item, vectors):
        """Write an item's pooled vectors, chunk by chunk."""
        width = self.geometry.gather_bytes
        chunks = {}
        for number, vector in enumerate(vectors):
            # Bytes beyond the model's dimension may be left from another model.
            junk = rng.integers(-128, 128, self.unit.dimension - self.dimension)
            for k, value in enumerate([*vector.tolist(), *junk.tolist()]):
                chunk, byte = divmod(number * self.unit.dimension + k, width)
                chunks.setdefault(chunk, {})[byte] = value & 255
        for chunk, values in chunks.items():
            write = {"en": 1, "buffer": buffer, "item": item, "chunk": chunk}
            write["mask"] = sum(1 << byte for byte in values)
            write["data"] = sum(value << 8 * byte for byte, value in values.items())
            write["data"] |= ~sum(255 << 8 * byte for byte in values) & (1 << 8 * width) - 1
            ctx.set(self.dut.store, write)
            await ctx.tick()
        ctx.set(self.dut.store.en, 0)

    async def feed(self, ctx, rng, stall):
        """Start tokens in turn, no more than two that are not done."""
        await self.load(ctx)
        dut, parts = self.dut, self.shape.parts
        for number, token in enumerate(self.tokens):
            buffer = number % 2
            while number - self.done >= 2:
                await ctx.tick()
            ctx.set(dut.arrived[buffer], 0)
            ctx.set(dut.token.p, {"buffer": buffer, "items": len(token)})
            ctx.set(dut.token.valid, 1)
            assert ctx.get(dut.token.ready)
            await ctx.tick()
            ctx.set(dut.token.valid, 0)
            for row, first in enumerate(range(0, len(token), parts)):
                items = token[first : first + parts]
                for item, vectors in enumerate(items, first):
                    tables = vectors[:-1] if self.bottom else vectors
                    await self.store(ctx, rng, buffer, item, tables)
                    await idle(ctx, rng, stall)
                ctx.set(dut.arrived[buffer], row + 1)
                if self.bottom:
                    await self.last(ctx, rng, buffer, row, items[:, -1])

    async def last(self, ctx, rng, buffer, row, vectors):
        """Write a row of last vectors, in two pieces."""
        cut = int(rng.integers(self.dimension + 1))
        size = self.unit.dimension
        data = [
            sum((v & 255) << 8 * k for k, v in enumerate(vector.tolist())) for vector in vectors
        ]
        data += [0] * (self.geometry.max_parts - len(data))
        for end, low, high in (0, 0, cut), (1, cut, size):
            mask = sum(1 << k for k in range(low, high))
            used = range(low, min(high, self.dimension))
            junk = sum(0x5A << 8 * k for k in range(size) if k not in used)
            keep = sum(255 << 8 * k for k in used)
            given = [d & keep | junk for d in data]
            row_ = {"en": 1, "end": end, "buffer": buffer, "row": row, "mask": mask, "data": given}
            ctx.set(self.dut.bottom, row_)
            await ctx.tick()
        ctx.set(self.dut.bottom.en, 0)

    async def take(self, ctx, rng, stall):
        """Take writes, and check each token when it is done."""
        writes = -(-self.unit.results // self.geometry.gather_bytes)
        for token in self.tokens:
            memory = {}
            for item in range(len(token)):
                for n in range(writes):
                    await idle(ctx, rng, stall)
                    ctx.set(self.dut.o.ready, 1)
                    while True:
                        _, _, valid, o, done = await ctx.tick().sample(
                            self.dut.o.valid, self.dut.o.p, self.dut.done
                        )
                        self.now += 1
                        if valid:
                            break
                    ctx.set(self.dut.o.ready, 0)
                    assert done == (item == len(token) - 1 and n == writes - 1)
                    self.keep(memory, o)
                self.cycles.append(self.now)
            self.done += 1
            self.check(memory, token)

    def keep(self, memory, o):
        assert o.en
        width = self.geometry.gather_bytes
        for byte in range(width):
            if o.mask >> byte & 1:
                at = (int(o.part), int(o.address), int(o.place) * width + byte)
                assert at not in memory
                value = int(o.data) >> 8 * byte & 255
                memory[at] = value - 256 if value > 127 else value

    def check(self, memory, token):
        for (i, j), results in golden(token, self.pairs).items():
            byte = self.unit.result(self.at[i], self.at[j])
            word, byte = divmod(byte, self.shape.word_bytes)
            for item, value in enumerate(results.tolist()):
                row, part = divmod(item, self.shape.parts)
                assert memory[part, row * self.words + word, byte] == value, (i, j, item)
        assert len(memory) == len(token) * self.unit.results

    def run(self, rng, stall):
        self.now = 0

        async def feed(ctx):
            await self.feed(ctx, rng, stall)

        async def take(ctx):
            await self.take(ctx, rng, stall)
            await ctx.tick().repeat(20)
            assert not ctx.get(self.dut.o.valid), "a write too many"

        simulate(self.dut, feed, take, timeout=20_000)


CASES = {  # size, shapes, form, then of the unit: vectors, dimension, macs; of the model
    "a rotation a slice": ((1, 1), None, 0, (5, 8, 20), (5, 8)),
    "one multiplier a vector": ((2, 2), [(2, 2), (1, 1)], 1, (3, 5, 3), (3, 5)),
    "several rotations": ((2, 2), [(1, 1), (1, 2)], 0, (9, 4, 80), (9, 4)),
    "all at once": ((1, 2), [(1, 2)], 0, (7, 2, 100), (7, 2)),
    "an even number": ((2, 1), [(1, 1), (2, 1)], 1, (6, 3, 42), (6, 3)),
    "a smaller model": ((2, 2), [(2, 1), (1, 1)], 0, (9, 7, 30), (4, 5)),
    "two vectors": ((1, 1), None, 0, (2, 6, 9), (2, 6)),
}


@pytest.mark.parametrize(("bottom", "stall"), [(True, 0.0), (True, 0.4), (False, 0.4)])
@pytest.mark.parametrize("case", CASES)
def test_matches_golden(rng, case, bottom, stall):
    size, shapes, form, (vectors, dimension, macs), (used, elements) = CASES[case]
    config = machine(size, shapes, vectors=vectors, dimension=dimension, macs=macs)
    play = Play(
        rng,
        config,
        form=form,
        vectors=used,
        dimension=elements,
        bottom=bottom,
        tokens=[1, 9, 2, int(rng.integers(3, 16)), 16],
    )
    play.run(rng, stall)


@pytest.mark.parametrize(
    ("vectors", "dimension", "macs", "cycles"),
    [(9, 4, 80, 2), (9, 4, 144, 1), (5, 8, 20, 4), (6, 3, 7, 9)],
)
def test_throughput(rng, vectors, dimension, macs, cycles):
    """An item takes its cycles, or its writes; nothing between items, or tokens that are there."""
    config = machine((1, 1), None, vectors=vectors, dimension=dimension, macs=macs, gather_bytes=12)
    unit = config.dot_shape(0)
    assert unit.cycles == cycles
    assert unit.multipliers <= macs
    play = Play(
        rng,
        config,
        form=0,
        vectors=vectors,
        dimension=dimension,
        bottom=False,
        tokens=[16, 16],
    )

    async def feed(ctx):
        await play.load(ctx)
        for buffer, token in enumerate(play.tokens):
            for item, v in enumerate(token):
                await play.store(ctx, rng, buffer, item, v)
        for buffer, token in enumerate(play.tokens):
            ctx.set(play.dut.arrived[buffer], len(token))
            ctx.set(play.dut.token.p, {"buffer": buffer, "items": len(token)})
            ctx.set(play.dut.token.valid, 1)
            await ctx.tick()
        ctx.set(play.dut.token.valid, 0)

    async def take(ctx):
        ctx.set(play.dut.o.ready, 1)
        writes = -(-unit.results // 12)
        seen, now = [], 0
        while len(seen) < 32 * writes:
            *_, valid = await ctx.tick().sample(play.dut.o.valid)
            now += 1
            seen += [now] * int(valid)
        ends = np.diff(seen[writes - 1 :: writes])
        assert (ends == max(cycles, writes)).all()

    simulate(play.dut, feed, take, timeout=20_000)
