"""The memory ports between clients and AXI channels modelled here: order, routing, errors."""

from collections import Counter

import pytest

from rtl_gen.memory import MemoryPorts
from sim.pysim import idle, simulate
from tests.machines import small_hardware

OUTSTANDING = 8


def machine(channels, bus, line, stages=2):
    gather = {"cache_lines": 4, "outstanding": OUTSTANDING}
    memory = {"channels": channels, "bus_bytes": bus, "line_bytes": line, "address_bits": 24}
    return small_hardware(stages, gather=[gather] * stages, memory=memory)


def content(line, beat, bus):
    """What memory holds: different for each beat of each line."""
    return (line * 0x9E3779B97F4A7C15 + beat * 0xD1B54A32D192ED03 + 1) % 2 ** (8 * bus)


class Channel:
    """An AXI memory channel: answers in any order, interleaved, sometimes with an error."""

    def __init__(self, dut, number, rng, stall):
        self.dut, self.number, self.rng, self.stall = dut, number, rng, stall
        self.port = dut.channels[number]
        self.pending = []  # [id, line, next beat]
        self.bursts = 0

    def failing(self, line, beat):
        return (line * 7 + beat) % 11 == 0

    async def addresses(self, ctx):
        memory, port = self.dut.hardware.memory, self.port
        while True:
            ready = self.stall == 0 or self.rng.random() > self.stall
            ctx.set(port.arready, ready)
            names = ("arid", "araddr", "arlen", "arsize", "arburst", "arvalid")
            *_, i, address, length, size, burst, valid = await ctx.tick().sample(
                *(getattr(port, name) for name in names)
            )
            if not (valid and ready):
                continue
            assert (length, 2**size, burst) == (memory.beats - 1, memory.bus_bytes, 1)
            assert address % memory.line_bytes == 0
            line = address // memory.line_bytes * memory.channels + self.number
            assert i not in [p[0] for p in self.pending]
            self.pending.append([i, line, 0])
            self.bursts += 1

    async def data(self, ctx):
        memory, port = self.dut.hardware.memory, self.port
        while True:
            await idle(ctx, self.rng, self.stall)
            if not self.pending:
                await ctx.tick()
                continue
            entry = self.pending[self.rng.integers(len(self.pending)) if self.stall else 0]
            i, line, beat = entry
            ctx.set(port.rid, i)
            ctx.set(port.rdata, content(line, beat, memory.bus_bytes))
            ctx.set(port.rresp, int(self.rng.integers(2, 4)) if self.failing(line, beat) else 0)
            ctx.set(port.rlast, beat == memory.beats - 1)
            ctx.set(port.rvalid, 1)
            await ctx.tick().until(port.rready)
            ctx.set(port.rvalid, 0)
            entry[2] += 1
            if entry[2] == memory.beats:
                self.pending.remove(entry)


class Client:
    """A unit that asks for lines, tags as they come free, and checks every answer."""

    def __init__(self, dut, number, lines, rng, stall):
        self.dut, self.number, self.lines, self.rng = dut, number, lines, rng
        self.stall = stall
        self.port = dut.clients[number]
        self.free = list(range(1 if number == 0 else OUTSTANDING))
        self.flying = {}  # tag: [line, next beat]
        self.answered = 0
        self.errors = 0

    async def requests(self, ctx):
        for line in self.lines:
            await idle(ctx, self.rng, self.stall)
            while not self.free:
                await ctx.tick()
            tag = self.free.pop(int(self.rng.integers(len(self.free))))
            self.flying[tag] = [line, 0]
            ctx.set(self.port.request.payload, {"line": line, "tag": tag})
            ctx.set(self.port.request.valid, 1)
            await ctx.tick().until(self.port.request.ready)
            ctx.set(self.port.request.valid, 0)
        while self.answered < len(self.lines):
            await ctx.tick()
        await ctx.tick().repeat(10)
        assert not self.flying

    async def responses(self, ctx):
        memory = self.dut.hardware.memory
        async for *_, valid, response in ctx.tick().sample(
            self.port.response_valid, self.port.response
        ):
            if not valid:
                continue
            line, beat = self.flying[response.tag]
            assert response.beat == beat
            assert response.data == content(line, beat, memory.bus_bytes)
            assert response.error == ((line * 7 + beat) % 11 == 0)
            self.errors += response.error
            assert response.last == (beat == memory.beats - 1)
            self.flying[response.tag][1] += 1
            if response.last:
                del self.flying[response.tag]
                self.free.append(response.tag)
                self.answered += 1


def run(dut, rng, stall, lines):
    channels = [Channel(dut, n, rng, stall) for n in range(dut.hardware.memory.channels)]
    clients = [Client(dut, n, own, rng, stall) for n, own in enumerate(lines)]
    total = cycles = 0
    states = [Counter() for _ in channels]

    async def count(ctx):
        nonlocal total, cycles
        async for _, _, step, *counted in ctx.tick().sample(dut.read_bytes, *dut.counters):
            total += step
            cycles += 1
            for own, values in zip(states, counted, strict=True):
                now = [name for name, _ in values.shape() if values[name]]
                assert len(now) == 1
                own.update(now)

    background = [count, *(c.addresses for c in channels), *(c.data for c in channels)]
    background += [c.responses for c in clients]
    simulate(dut, *(c.requests for c in clients), background=background)
    memory = dut.hardware.memory
    assert total == sum(len(own) for own in lines) * memory.line_bytes
    for number, channel in enumerate(channels):
        assert channel.bursts == sum(
            line % memory.channels == number for own in lines for line in own
        )
        assert not channel.pending
        assert states[number]["busy"] == channel.bursts * memory.beats
    return cycles, clients, states


@pytest.mark.parametrize("channels, bus, line", [(1, 8, 64), (1, 16, 16), (2, 8, 16), (4, 16, 128)])
def test_random_traffic(rng, channels, bus, line):
    dut = MemoryPorts(machine(channels, bus, line))
    top = 2**24 // line * channels
    lines = [rng.integers(top, size=n).tolist() for n in (12, 60, 60)]
    lines[1][:2] = [0, top - 1]
    _, clients, _ = run(dut, rng, 0.4, lines)
    assert sum(client.errors for client in clients) > 0


@pytest.mark.parametrize("channels", [1, 2])
def test_throughput(rng, channels):
    """Without stalls every channel brings a beat a cycle, for one client each or all for one."""
    dut = MemoryPorts(machine(channels, 16, 64))
    lines = [[], list(range(0, 25 * channels)), []]
    cycles, _, states = run(dut, rng, 0.0, lines)
    # One client takes a beat a cycle, whatever the number of channels.
    assert cycles <= 25 * channels * 4 + 24
    assert all((own["stall_clients"] > 20) == (channels > 1) for own in states)
    lines = [[], *([n + channels * i for i in range(25)] for n in range(channels))]
    lines += [[]] * (3 - len(lines))
    cycles, _, states = run(dut, rng, 0.0, lines)
    assert cycles <= 25 * 4 + 24
    if channels == 1:
        *_, slow = run(dut, rng, 0.8, lines)
        assert slow[0]["stall_memory"] > states[0]["stall_memory"] + 100
        assert slow[0]["stall_clients"] == states[0]["stall_clients"] == 0


def test_more_bits(rng):
    """Other numbers of clients and tags."""
    gather = [{"cache_lines": 4, "outstanding": n} for n in (1, OUTSTANDING, 64, 2)]
    dut = MemoryPorts(small_hardware(4, gather=gather))
    assert (dut.client_bits, dut.tag_bits) == (3, 6)
    assert len(dut.channels[0].arid) == 9
