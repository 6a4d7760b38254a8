"""The serial line: bytes through both halves, speeds that differ, broken stop bits."""

import pytest
from amaranth.hdl import Module, Signal

from rtl_gen.uart import UartReceiver, UartTransmitter
from sim.pysim import simulate, stream_put


async def drive(ctx, pin, data, cycles):
    """Send bytes on a pin with so many cycles in a bit (not always whole)."""
    passed = due = 0
    for byte in data:
        for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
            ctx.set(pin, bit)
            due += cycles
            await ctx.tick().repeat(round(due) - passed)
            passed = round(due)


@pytest.mark.parametrize("divisor", [4, 5, 8, 25])
def test_bytes_arrive(rng, divisor):
    m = Module()
    m.submodules.sender = sender = UartTransmitter(divisor=divisor)
    m.submodules.receiver = receiver = UartReceiver(divisor=divisor)
    m.d.comb += receiver.rx.eq(sender.tx)
    data = [0x00, 0xFF, *(int(b) for b in rng.integers(0, 256, 30))]
    got = []
    cycles = Signal(32)
    m.d.sync += cycles.eq(cycles + 1)
    took = []

    async def send(ctx):
        for number, byte in enumerate(data):
            await stream_put(ctx, sender.i, byte)
            took.append(ctx.get(cycles))
            if number % 8 == 7:
                await ctx.tick().repeat(int(rng.integers(1, 4 * divisor)))

    async def receive(ctx):
        while len(got) < len(data):
            _, _, valid, byte, error = await ctx.tick().sample(
                receiver.valid, receiver.data, receiver.error
            )
            assert not error
            if valid:
                got.append(byte)

    simulate(m, send, receive)
    assert got == data
    assert took[4] - took[3] == 10 * divisor  # no pause between bytes


@pytest.mark.parametrize("error", [-0.03, 0.03])
def test_receiver_takes_a_sender_that_is_a_little_off(rng, error):
    dut = UartReceiver(divisor=25)
    data = [int(b) for b in rng.integers(0, 256, 20)]
    got = []

    async def send(ctx):
        await drive(ctx, dut.rx, data, 25 * (1 + error))
        await ctx.tick().repeat(30)

    async def receive(ctx):
        while True:
            await ctx.tick()
            assert not ctx.get(dut.error)
            if ctx.get(dut.valid):
                got.append(ctx.get(dut.data))

    simulate(dut, send, background=[receive])
    assert got == data


def test_a_missing_stop_bit_and_a_break_are_errors(rng):
    dut = UartReceiver(divisor=8)
    seen = []

    async def send(ctx):
        await drive(ctx, dut.rx, [0x41], 8)
        ctx.set(dut.rx, 0)  # a break: longer than any byte
        await ctx.tick().repeat(300)
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(20)
        ctx.set(dut.rx, 0)  # a glitch, shorter than half a bit
        await ctx.tick().repeat(2)
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(120)
        await drive(ctx, dut.rx, [0x42], 8)
        await ctx.tick().repeat(20)

    async def receive(ctx):
        while True:
            await ctx.tick()
            if ctx.get(dut.valid):
                seen.append(ctx.get(dut.data))
            if ctx.get(dut.error):
                seen.append("error")

    simulate(dut, send, background=[receive])
    assert seen == [0x41, "error", 0x42]


@pytest.mark.parametrize("divisor", [0, 3, 8.0])
def test_bad_divisor(divisor):
    with pytest.raises(TypeError, match="Divisor must be an integer of at least 4"):
        UartReceiver(divisor=divisor)
    with pytest.raises(TypeError, match="Divisor must be an integer of at least 4"):
        UartTransmitter(divisor=divisor)
