"""The loader: random images against what the load bus brings, and images that are wrong."""

import numpy as np
import pytest

from rpaccel import abi
from rpaccel.image import Segment, assemble, table_start
from rpaccel.image_layout import (
    IMAGE_HEADER,
    IMAGE_MAGIC,
    IMAGE_SEGMENT,
    Target,
    image_block_bytes,
    target_id,
)
from rpaccel.registers import DeviceErrorBit
from rtl_gen.loader import Loader, target_bytes
from sim.pysim import idle, simulate
from tests.machines import small_hardware


def machine(bus, line, channels=1):
    memory = {"bus_bytes": bus, "line_bytes": line, "channels": channels, "address_bits": 20}
    groups = [{"stages": [1], "rows": 2}, {"stages": [0], "cols": 3}]
    return small_hardware(2, memory=memory, groups=groups, tile_rows=3)


def random_segments(rng, hardware):
    """Segments of every target, some empty, some twice, in random order."""
    segments = []
    for target, size in target_bytes(hardware).items():
        if target == target_id(Target.STAGES, 0):
            words = rng.integers(256, size=(hardware.stages, size), dtype=np.uint8)
            segments.append(Segment(target, 0, words))
            continue
        for count in rng.integers(0, 9, size=2):
            words = rng.integers(256, size=(count, size), dtype=np.uint8)
            segments.append(Segment(target, int(rng.integers(2**32)), words))
    return [segments[i] for i in rng.permutation(len(segments))]


class Machine:
    """Device memory, load bus and control of a loader, modelled here."""

    def __init__(self, dut, memory, rng, stall, failing=None, latency=0):
        self.dut, self.memory, self.rng, self.stall = dut, memory, rng, stall
        self.failing = failing  # line answered with an error
        self.latency = latency  # cycles before a line is answered
        self.now = 0
        self.bus = []  # (target, address, bytes)
        self.flushes = 0
        self.lines = []
        self.pending = []  # (line, tag, cycle) asked for and not answered

    async def requests(self, ctx):
        request = self.dut.memory.request
        while True:
            await idle(ctx, self.rng, self.stall)
            ctx.set(request.ready, 1)
            valid = False
            while not valid:
                *_, taken, valid = await ctx.tick().sample(request.p, request.valid)
            ctx.set(request.ready, 0 if self.stall else 1)
            assert taken.tag not in [tag for _, tag, _ in self.pending]
            self.lines.append(taken.line)
            self.pending.append((taken.line, taken.tag, self.now))

    async def answers(self, ctx):
        """A line after the other, in any order of those asked for."""
        shape, port = self.dut.hardware.memory, self.dut.memory
        while True:
            if not self.pending or self.pending[0][2] + self.latency > self.now:
                await ctx.tick()
                continue
            await idle(ctx, self.rng, self.stall)
            window = len(self.pending) if self.stall else 1
            line, tag, asked = self.pending[int(self.rng.integers(window))]
            for beat in range(shape.beats):
                await idle(ctx, self.rng, self.stall)
                at = line * shape.line_bytes + beat * shape.bus_bytes
                word = self.memory[at : at + shape.bus_bytes].ljust(shape.bus_bytes, b"\xaa")
                last = beat == shape.beats - 1
                response = {
                    "tag": tag,
                    "beat": beat,
                    "data": int.from_bytes(word, "little"),
                    "error": line == self.failing and beat == 0,
                    "last": last,
                }
                ctx.set(port.response, response)
                ctx.set(port.response_valid, 1)
                if last:
                    self.pending.remove((line, tag, asked))
                await ctx.tick()
                ctx.set(port.response_valid, 0)

    async def load_bus(self, ctx):
        load = self.dut.load
        async for *_, beat, flush in ctx.tick().sample(load, self.dut.flush):
            self.now += 1
            self.flushes += flush
            if not beat.valid:
                continue
            if beat.first:
                self.bus.append((beat.target, beat.address, bytearray()))
            else:
                target, _, words = self.bus[-1]
                assert target == beat.target
                words += beat.data.to_bytes(self.dut.hardware.memory.bus_bytes, "little")

    async def start(self, ctx, address):
        """Load the image there; return error bits and cycles."""
        dut = self.dut
        ctx.set(dut.image_address, address)
        ctx.set(dut.start, 1)
        assert not ctx.get(dut.loading)
        await ctx.tick()
        ctx.set(dut.start, 0)
        busy = int(self.rng.integers(1, 20))
        cycles = 0
        while not ctx.get(dut.done):
            assert ctx.get(dut.loading)
            assert not ctx.get(dut.loaded)
            ctx.set(dut.busy, cycles < busy)
            assert cycles >= busy or not ctx.get(dut.memory.request.valid)
            await ctx.tick()
            cycles += 1
        error = ctx.get(dut.error)
        await ctx.tick()
        assert not ctx.get(dut.done)
        assert not ctx.get(dut.loading)
        return error, cycles - busy


def image_of(hardware, segments, address):
    table = np.full((3, hardware.memory.line_bytes), 0x55, np.uint8)
    return assemble(hardware, segments, [table], address=address)


@pytest.mark.parametrize(
    "bus, line, channels, stall",
    [(8, 16, 2, 0.0), (8, 128, 1, 0.4), (16, 64, 1, 0.0), (32, 32, 4, 0.4), (64, 64, 1, 0.0)],
)
def test_loads(rng, bus, line, channels, stall):
    hardware = machine(bus, line, channels)
    dut = Loader(hardware)
    segments = random_segments(rng, hardware)
    address = 7 * line
    image, identity = image_of(hardware, segments, address)
    model = Machine(dut, bytes(address) + image, rng, stall)

    async def testbench(ctx):
        for _ in range(2):
            model.bus.clear()
            error, cycles = await model.start(ctx, address)
            assert error == 0
            assert ctx.get(dut.loaded)
            assert ctx.get(dut.image_id) == identity
            want = []
            for segment in segments:
                size = -(-segment.words.shape[1] // bus) * bus
                padded = np.zeros((len(segment.words), size), np.uint8)
                padded[:, : segment.words.shape[1]] = segment.words
                want.append((segment.target, segment.address, padded.tobytes()))
            assert [(t, a, bytes(d)) for t, a, d in model.bus] == want
            table = next(s for s in segments if s.target == 0).words
            for stage in range(hardware.stages):
                entry = ctx.get(dut.stages[stage].as_value())
                assert entry == int.from_bytes(table[stage].tobytes(), "little")
            if not stall:
                lines = len(model.lines)
                runs = 2 * len(segments) + 1  # a block and its data
                beats = hardware.memory.beats
                assert cycles <= lines * beats + (8 + beats) * runs
            model.lines.clear()

    simulate(dut, testbench, background=[model.requests, model.answers, model.load_bus])
    assert model.flushes == 2


@pytest.mark.parametrize("bus, line", [(64, 64), (32, 64), (8, 128)])
def test_a_beat_a_cycle_at_a_latency_of_100(rng, bus, line):
    """Enough lines are in flight that only memory's bandwidth limits a long segment."""
    hardware = machine(bus, line)
    dut = Loader(hardware)
    lines = 600 * bus // line
    words = rng.integers(256, size=(lines * line // bus, bus), dtype=np.uint8)
    image, _ = image_of(hardware, [Segment(target_id(Target.STATIC, 0), 0, words)], 0)
    model = Machine(dut, image, rng, 0.0, latency=100)

    async def testbench(ctx):
        error, cycles = await model.start(ctx, 0)
        assert error == 0
        assert [bytes(data) for _, _, data in model.bus] == [words.tobytes()]
        assert len(words) < cycles <= len(words) + 3 * (100 + 20 + line // bus)

    simulate(dut, testbench, background=[model.requests, model.answers, model.load_bus])


def broken_images(rng, hardware, address):
    """Images and addresses that must not load: error bit, memory, address, failing line."""
    segments = random_segments(rng, hardware)
    good, _ = image_of(hardware, segments, address)
    line_bytes = hardware.memory.line_bytes

    def patched(at, value, size=4):
        image = bytearray(good)
        image[at : at + size] = value.to_bytes(size, "little")
        return bytes(address) + bytes(image)

    header, block = IMAGE_HEADER, image_block_bytes(line_bytes)
    digest = header.offset("digest") // 8
    memory = DeviceErrorBit.IMAGE_MEMORY
    yield DeviceErrorBit.IMAGE_MAGIC, patched(0, IMAGE_MAGIC ^ 1), address, None
    yield DeviceErrorBit.IMAGE_VERSION, patched(4, abi.VERSION + (1 << 16)), address, None
    wrong = hardware.digest() ^ 1 << 63
    yield DeviceErrorBit.IMAGE_DIGEST, patched(digest, wrong, 8), address, None
    for target in (0x01, 0x22, 0x82, 0xE2):
        yield memory, patched(2 * block, target, 1), address, None
    line = IMAGE_SEGMENT.offset("line") // 8
    number = next(i for i, s in enumerate(segments) if len(s.words))
    yield memory, patched((1 + number) * block + line, 2**32 - 1), address, None
    yield memory, patched(0, IMAGE_MAGIC), address + 1, None
    yield memory, patched(0, IMAGE_MAGIC), address + (1 << 20), None
    yield memory, patched(0, IMAGE_MAGIC), address + (1 << 63), None
    for failing in (0, 1, table_start(hardware, segments) - 1):
        yield memory, patched(0, IMAGE_MAGIC), address, address // line_bytes + failing


def test_refuses(rng):
    hardware = machine(16, 64)
    address = 128
    good, identity = image_of(hardware, random_segments(rng, hardware), address)
    dut = Loader(hardware)
    model = Machine(dut, b"", rng, 0.0)

    async def testbench(ctx):
        for bit, memory, at, failing in broken_images(rng, hardware, address):
            # Each time a good image comes before, so that it must be forgotten.
            model.memory, model.failing = bytes(address) + good, None
            assert (await model.start(ctx, address))[0] == 0
            assert ctx.get(dut.image_id) == identity
            model.memory, model.failing = memory, failing
            error, _ = await model.start(ctx, at)
            assert error == 1 << bit
            assert not ctx.get(dut.loaded)
            assert ctx.get(dut.image_id) == 0
            if bit != DeviceErrorBit.IMAGE_MEMORY:
                assert ctx.get(dut.stages.as_value()) == 0

    simulate(dut, testbench, background=[model.requests, model.answers, model.load_bus])


def test_targets():
    """A word of each on-chip memory, as docs/architecture.md gives its width."""
    sizes = target_bytes(machine(16, 64))
    assert sizes == {
        0x00: 16,
        **{0x20: 32, 0x21: 32, 0x40: 16, 0x60: 32, 0x61: 32},
        **{0x80: 2 * 4, 0x81: 3 * 4, 0xA0: 4 * 8, 0xA1: 4 * 8, 0xC0: 8, 0xC1: 8},
        **{0xE0: 4 + 2 * 4, 0xE1: 4 + 2 * 4},
    }
