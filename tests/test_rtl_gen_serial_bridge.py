"""The bridge at its pins against the golden bridge: requests, damaged ones, noise."""

import random
from types import SimpleNamespace

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from rpaccel.registers import REGISTER_SPACE_BITS
from rpaccel.serial import Frames, frame
from rpaccel.serial_protocol import DELIMITER, ESCAPE, REPLY, REQUEST, Operation, ReplyStatus
from rtl_gen.block_memory import BlockMemory
from rtl_gen.serial_bridge import SerialBridge
from sim.noisy_line import NoisyLine
from sim.pysim import simulate
from sw_model.serial_bridge import SerialBridge as GoldenBridge
from tests.test_rtl_gen_uart import drive

DIVISOR = 4
SIZES = {"host_bytes": 256, "memory_bytes": 128}


def request(operation, sequence, address=0, count=0, data=b""):
    fields = {"operation": operation, "sequence": sequence, "count": count, "address": address}
    return frame(REQUEST.pack(**fields) + data)


class Board:
    """Bridge, memories and a register file in the simulator; the same as a golden bridge."""

    def __init__(self):
        self.registers = [0] * (1 << REGISTER_SPACE_BITS - 2)
        self.written = []
        self.irq = False
        self.golden = GoldenBridge(
            read32=lambda at: self.registers[at // 4],
            write32=lambda at, value: self.written.append((at, value)),
            irq=lambda: self.irq,
            clock_hz=7_000_000,
            **SIZES,
        )
        self.module = m = Module()
        m.submodules.bridge = self.bridge = SerialBridge(
            divisor=DIVISOR, clock_hz=7_000_000, **SIZES
        )
        shape = {"data_bytes": 8, "address_bits": 32, "id_bits": 1, "writable": False}
        m.submodules.host = host = BlockMemory(size=SIZES["host_bytes"], **shape)
        m.submodules.memory = memory = BlockMemory(size=SIZES["memory_bytes"], **shape)
        connect(m, self.bridge.host, host.bytes)
        connect(m, self.bridge.memory, memory.bytes)
        self.sent = bytearray()
        self.quiet = 0
        self.done = []

    async def slave(self, ctx):
        """An AXI-Lite slave; writes are kept to be compared."""
        bus = self.bridge.registers
        address = data = None
        ctx.set(bus.awready, 1)
        ctx.set(bus.wready, 1)
        ctx.set(bus.arready, 1)
        while True:
            await ctx.tick()
            # Values before the edge are gone, but the bridge's outputs fall a cycle after.
            if ctx.get(bus.bvalid):
                ctx.set(bus.bvalid, 0)
            if ctx.get(bus.rvalid):
                ctx.set(bus.rvalid, 0)
            if ctx.get(bus.arvalid):
                ctx.set(bus.rdata, self.registers[ctx.get(bus.araddr) // 4])
                await ctx.tick()
                ctx.set(bus.rvalid, 1)
            if ctx.get(bus.awvalid):
                address = ctx.get(bus.awaddr)
            if ctx.get(bus.wvalid):
                data = ctx.get(bus.wdata)
            if address is not None and data is not None:
                self.done.append((address, data))
                address = data = None
                await ctx.tick()
                ctx.set(bus.bvalid, 1)

    async def listen(self, ctx):
        """Bytes from the bridge's pin."""
        pin = self.bridge.tx
        while True:
            await ctx.tick()
            self.quiet += 1
            if ctx.get(pin):
                continue
            bits = []
            for cycles in (DIVISOR + DIVISOR // 2, *(DIVISOR,) * 8):
                await ctx.tick().repeat(cycles)
                bits.append(ctx.get(pin))
            assert bits.pop() == 1, "stop bit"
            self.sent.append(sum(bit << i for i, bit in enumerate(bits)))
            self.quiet = 0

    async def send(self, ctx, data):
        """Bytes into the bridge's pin, None for one with a bad stop bit; checks the replies."""
        expected = b""
        for byte in data:
            expected += self.golden.feed(byte)
            if byte is None:
                ctx.set(self.bridge.rx, 0)
                await ctx.tick().repeat(10 * DIVISOR + 3)
                ctx.set(self.bridge.rx, 1)
                await ctx.tick().repeat(DIVISOR)
            else:
                await drive(ctx, self.bridge.rx, [byte], DIVISOR)
        self.quiet = 0
        while self.quiet < 30 * DIVISOR or len(self.sent) < len(expected):
            await ctx.tick()
        assert bytes(self.sent) == expected
        self.sent.clear()
        assert self.done == self.written
        return [content[2:] for content in Frames().feed(expected)]

    def run(self, testbench):
        background = [self.slave, self.listen]
        simulate(self.module, testbench, background=background, timeout=400_000)


def test_requests():
    board = Board()
    special = bytes((DELIMITER, ESCAPE, 0x5E, 0, 255, DELIMITER, 1))

    async def talk(ctx):
        async def ask(*args, **kwargs):
            (reply,) = await board.send(ctx, request(*args, **kwargs))
            return reply

        await ask(Operation.POLL, 1)  # no session yet
        assert len(await ask(Operation.HELLO, 250, 0xDEADBEEF)) == 24
        await ask(Operation.WRITE_HOST, 251, 13, len(special), special)
        assert await ask(Operation.READ_HOST, 252, 12, 9) == b"\0" + special + b"\0"
        await ask(Operation.WRITE_MEMORY, 253, 120, 8, b"8 bytes.")
        await ask(Operation.WRITE_MEMORY, 254, 121, 8, b"too far.")
        assert await ask(Operation.READ_MEMORY, 255, 124, 4) == b"tes."
        board.registers[0x104 // 4] = 0x12345678
        assert await ask(Operation.READ_REGISTER, 0, 0x104, 4) == bytes.fromhex("78563412")
        await ask(Operation.WRITE_REGISTER, 1, 0x10, 4, b"\1\2\3\4")
        assert board.done == [(0x10, 0x04030201)]
        await ask(Operation.WRITE_REGISTER, 1, 0x10, 4, b"\1\2\3\4")  # again: not done twice
        assert len(board.done) == 1
        await ask(Operation.WRITE_REGISTER, 0, 0x10, 4, b"\1\2\3\4")  # an old one
        await ask(Operation.WRITE_REGISTER, 3, 0x10, 4, b"\1\2\3\4")  # one is missing
        assert len(board.done) == 1
        board.irq = True
        ctx.set(board.bridge.irq, 1)
        await ask(Operation.POLL, 2)
        await ask(Operation.HELLO, 250, 0xDEADBEEF)  # repeated: the session goes on
        await ask(Operation.POLL, 3)
        await ask(Operation.HELLO, 77, 0xFEEDBEEF)
        await ask(Operation.POLL, 4)
        await ask(Operation.POLL, 78)

    board.run(talk)


STRANGE = [
    (0x12, 0, 4, b""),  # no such operation
    (0x40, 0, 4, b""),
    (Operation.READ_REGISTER, 2, 4, b""),
    (Operation.READ_REGISTER, 0, 8, b""),
    (Operation.WRITE_REGISTER, 0, 4, b"abc"),
    (Operation.READ_REGISTER, 1 << REGISTER_SPACE_BITS, 4, b""),
    (Operation.READ_HOST, 0, 1025, b""),
    (Operation.READ_HOST, 250, 7, b""),
    (Operation.READ_HOST, 2**32 - 1, 2, b""),
    (Operation.READ_HOST, 0, 4, b"x"),
    (Operation.WRITE_MEMORY, 126, 3, b"abc"),
    (Operation.WRITE_MEMORY, 0, 2, b"abc"),
    (Operation.WRITE_HOST, 0, 0, b""),
]


def test_strange_requests():
    board = Board()

    async def talk(ctx):
        await board.send(ctx, request(Operation.HELLO, 0, 1))
        for sequence, (operation, address, count, data) in enumerate(STRANGE, 1):
            await board.send(ctx, request(operation, sequence, address, count, data))
        await board.send(ctx, request(Operation.READ_HOST, len(STRANGE) + 1, 0, 16))
        assert not board.done

    board.run(talk)


def test_damage(rng):
    """Frames of which bytes are flipped, lost, repeated, cut, or broken on the line."""
    board = Board()

    def damaged(data):
        data = list(data)
        at = int(rng.integers(len(data)))
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at]
        elif kind == 2:
            data.insert(at, data[at])
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            data[at] = None
        else:
            data = [int(b) for b in rng.integers(0, 256, 6)] + data
        return data

    async def talk(ctx):
        await board.send(ctx, [0x55, None, 3, DELIMITER, DELIMITER])
        await board.send(ctx, request(Operation.HELLO, 0, 9))
        for sequence in range(1, 8):
            data = bytes(int(b) for b in rng.integers(0, 256, 5))
            at = int(rng.integers(200))
            whole = request(Operation.WRITE_HOST, sequence, at, 5, data)
            await board.send(ctx, damaged(whole))
            await board.send(ctx, whole)
            assert board.golden.host[at : at + 5] == data
        await board.send(ctx, request(Operation.READ_HOST, 8, 0, 200))

    board.run(talk)


def test_copies_while_it_is_busy(rng):
    """A host that does not wait: injured copies of a request come before, during and after replies.

    What was answered was done once and whole, and nothing else was done.
    """
    board = Board()
    fire = random.Random(int(rng.integers(2**32)))
    injured = NoisyLine(SimpleNamespace(baud=1, slack=0), fire, 0.02).injure
    frames = Frames()
    memory = bytearray(SIZES["host_bytes"])
    written = []

    def answered(sequence):
        content = list(frames.feed(bytes(board.sent)))
        board.sent.clear()
        replies = [REPLY.unpack(reply[: REPLY.bytes]) for reply in content]
        for reply in replies:
            assert reply["status"] == ReplyStatus.OK
            assert reply["sequence"] in (sequence, (sequence - 1) % 256)  # or a late one
        return sequence in [reply["sequence"] for reply in replies]

    async def ask(ctx, sequence, *args):
        whole = request(args[0], sequence, *args[1:])
        copies = 0
        while not answered(sequence):
            copies += 1
            assert copies < 60
            await drive(ctx, board.bridge.rx, injured(whole), DIVISOR)
            await ctx.tick().repeat(fire.choice((0, 1, 7, 40, 300, 1200)) + 1)
        return copies

    async def talk(ctx):
        copies = await ask(ctx, 200, Operation.HELLO, 5)
        for step in range(1, 17):
            sequence = (200 + step) % 256
            if step % 4:
                at, data = fire.randrange(200), fire.randbytes(fire.randrange(1, 40))
                memory[at : at + len(data)] = data
                copies += await ask(ctx, sequence, Operation.WRITE_HOST, at, len(data), data)
            else:
                data = fire.randbytes(4)
                written.append((0x10, int.from_bytes(data, "little")))
                copies += await ask(ctx, sequence, Operation.WRITE_REGISTER, 0x10, 4, data)
            assert board.done == written
        assert copies > 25  # many came while another was served
        await ctx.tick().repeat(4000)
        board.sent.clear()
        whole = request(Operation.READ_HOST, (sequence + 1) % 256, 0, len(memory))
        await drive(ctx, board.bridge.rx, whole, DIVISOR)
        await ctx.tick().repeat(20 * DIVISOR * (len(memory) + 20))
        (reply,) = frames.feed(bytes(board.sent))
        assert reply[REPLY.bytes :] == memory

    board.run(talk)


@pytest.mark.slow
def test_longest_frame_and_one_that_is_too_long(rng):
    board = Board()

    async def talk(ctx):
        await board.send(ctx, request(Operation.HELLO, 0, 9))
        await board.send(ctx, request(Operation.WRITE_HOST, 1, 0, 1024, bytes(1024)))
        assert not await board.send(ctx, frame(bytes(1033)))  # its CRC is right
        await board.send(ctx, request(Operation.POLL, 2))

    board.run(talk)
