"""The registers over AXI4-Lite, with the channels in any order."""

import pytest

from rpaccel import abi
from rpaccel.counters import counters_of
from rpaccel.registers import (
    CAPABILITIES,
    CAPABILITY_BASE,
    DEVICE_ID,
    REGISTER_SPACE_BITS,
    REGISTERS,
    Control,
    DeviceErrorBit,
    DeviceStatus,
    Interrupt,
    Setting,
    capability_values,
)
from rtl_gen.registers import Registers
from sim.pysim import idle, simulate
from tests.machines import small_hardware


class Bus:
    """An AXI4-Lite master; address and data of a write go out on their own."""

    def __init__(self, dut, rng, stall):
        self.bus, self.rng, self.stall = dut.bus, rng, stall
        self.writes = []
        self.running = True

    async def send(self, ctx, valid, ready, **payload):
        await idle(ctx, self.rng, self.stall)
        for name, value in payload.items():
            ctx.set(getattr(self.bus, name), value)
        ctx.set(valid, 1)
        await ctx.tick().until(ready)
        ctx.set(valid, 0)

    async def receive(self, ctx, valid, ready, *values):
        await idle(ctx, self.rng, self.stall)
        ctx.set(ready, 1)
        sampled = await ctx.tick().sample(*values).until(valid)
        ctx.set(ready, 0)
        return sampled

    async def read(self, ctx, at):
        bus = self.bus
        await self.send(ctx, bus.arvalid, bus.arready, araddr=at)
        value, response = await self.receive(ctx, bus.rvalid, bus.rready, bus.rdata, bus.rresp)
        assert response == 0
        return value

    async def write(self, ctx, at, value, strobe=0xF):
        self.writes.append((at, value, strobe))
        (response,) = await self.receive(ctx, self.bus.bvalid, self.bus.bready, self.bus.bresp)
        assert response == 0

    async def addresses(self, ctx):
        sent = 0
        while self.running:
            if sent == len(self.writes):
                await ctx.tick()
                continue
            await self.send(ctx, self.bus.awvalid, self.bus.awready, awaddr=self.writes[sent][0])
            sent += 1

    async def data(self, ctx):
        sent = 0
        while self.running:
            if sent == len(self.writes):
                await ctx.tick()
                continue
            _, value, strobe = self.writes[sent]
            await self.send(ctx, self.bus.wvalid, self.bus.wready, wdata=value, wstrb=strobe)
            sent += 1


def run(dut, rng, testbench, *others, stall=0.0):
    bus = Bus(dut, rng, stall)

    async def main(ctx):
        await testbench(ctx, bus)
        bus.running = False

    async def channel_addresses(ctx):
        await bus.addresses(ctx)

    async def channel_data(ctx):
        await bus.data(ctx)

    simulate(dut, main, channel_addresses, channel_data, *others, timeout=20_000)


def at(name):
    return REGISTERS[name].address


PLAIN = {
    "IMAGE_ADDRESS_LO": 32,
    "IMAGE_ADDRESS_HI": 32,
    "IRQ_ENABLE": 3,
    "SQ_BASE_LO": 32,
    "SQ_BASE_HI": 32,
    "SQ_LOG2": 4,
    "CQ_BASE_LO": 32,
    "CQ_BASE_HI": 32,
    "CQ_LOG2": 4,
    "CQ_HEAD": 16,
}


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_read_and_write(rng, stall):
    """Random writes with random strobes, each read back; the outputs follow."""
    dut = Registers(small_hardware(2))
    values = dict.fromkeys(PLAIN, 0)

    async def testbench(ctx, bus):
        for _ in range(60):
            name = str(rng.choice(list(PLAIN)))
            value, strobe = int(rng.integers(2**32)), int(rng.integers(16))
            mask = sum(0xFF << 8 * lane for lane in range(4) if strobe >> lane & 1)
            await bus.write(ctx, at(name), value, strobe)
            values[name] = ((values[name] & ~mask) | (value & mask)) & (1 << PLAIN[name]) - 1
            other = str(rng.choice(list(PLAIN)))
            assert await bus.read(ctx, at(other)) == values[other]
            assert await bus.read(ctx, at(name)) == values[name]
        for port, low in (
            (dut.image_address, "IMAGE_ADDRESS_LO"),
            (dut.sq_base, "SQ_BASE_LO"),
            (dut.cq_base, "CQ_BASE_LO"),
        ):
            assert ctx.get(port) == values[low] | values[low[:-2] + "HI"] << 32
        assert ctx.get(dut.sq_log2) == values["SQ_LOG2"]
        assert ctx.get(dut.cq_log2) == values["CQ_LOG2"]
        assert ctx.get(dut.cq_head) == values["CQ_HEAD"]

    run(dut, rng, testbench, stall=stall)


def test_setting(rng):
    """Its number can be written, and shows whether it is in force; other bits stay zero."""
    groups = [{"stages": [0, 1], "at": [0, 0]}] * 2
    dut = Registers(small_hardware(2, groups=groups, settings=[[0], [1]]))

    async def testbench(ctx, bus):
        for value in (1, 0xFFFFFFF3, 0):
            await bus.write(ctx, at("SETTING"), value)
            assert ctx.get(dut.setting) == value & 15
            for changing in (1, 0):
                ctx.set(dut.changing, changing)
                shown = changing << Setting.CHANGING | value & 15 << Setting.NUMBER
                assert await bus.read(ctx, at("SETTING")) == shown

    run(dut, rng, testbench)


def test_no_setting(rng):
    async def testbench(ctx, bus):
        await bus.write(ctx, at("SETTING"), 1)
        assert await bus.read(ctx, at("SETTING")) == 0

    run(Registers(small_hardware(2)), rng, testbench)


def test_read_only(rng):
    """Identity, capabilities and status; writes to them and to unknown addresses do nothing."""
    hardware = small_hardware(2)
    dut = Registers(hardware)
    digest = hardware.digest()
    fixed = {
        at("ID"): DEVICE_ID,
        at("VERSION"): abi.VERSION,
        at("DIGEST_LO"): digest & 0xFFFFFFFF,
        at("DIGEST_HI"): digest >> 32,
        at("IMAGE_ID"): 0x1234_5678,
        at("SQ_HEAD"): 0xBEEF,
        at("CQ_TAIL"): 0xCAFE,
        at("STATUS"): 1 << DeviceStatus.IMAGE_LOADED | 1 << DeviceStatus.IDLE,
        0x0FC: 0,
        0x3FC: 0,
        0xFFC: 0,
    }
    for number, value in enumerate(capability_values(hardware).values()):
        fixed[CAPABILITY_BASE + 4 * number] = value
    assert list(capability_values(hardware)) == list(CAPABILITIES)

    async def testbench(ctx, bus):
        ctx.set(dut.image_id, 0x1234_5678)
        ctx.set(dut.sq_head, 0xBEEF)
        ctx.set(dut.cq_tail, 0xCAFE)
        ctx.set(dut.image_loaded, 1)
        ctx.set(dut.idle, 1)
        for where in fixed:
            await bus.write(ctx, where, 0xFFFF_FFFF)
        for where, value in fixed.items():
            assert await bus.read(ctx, where) == value, hex(where)
        ctx.set(dut.idle, 0)
        ctx.set(dut.loading, 1)
        ctx.set(dut.image_loaded, 0)
        assert await bus.read(ctx, at("STATUS")) == 1 << DeviceStatus.LOADING

    run(dut, rng, testbench)


def test_load(rng):
    """LOAD is one pulse, only while idle; else an error and an interrupt. ENABLE stays."""
    dut = Registers(small_hardware(1))
    pulses = 0
    both = 1 << Control.LOAD | 1 << Control.ENABLE
    busy = 1 << DeviceErrorBit.LOAD_BUSY

    async def testbench(ctx, bus):
        for is_idle, loading, want in ((1, 0, 1), (1, 1, 1), (0, 0, 1), (1, 0, 2)):
            ctx.set(dut.idle, is_idle)
            ctx.set(dut.loading, loading)
            await bus.write(ctx, at("CONTROL"), both)
            assert pulses == want
            assert await bus.read(ctx, at("ERROR")) == (0 if is_idle and not loading else busy)
            assert await bus.read(ctx, at("CONTROL")) == 1 << Control.ENABLE
            assert ctx.get(dut.enable)
            await bus.write(ctx, at("ERROR"), busy)
        await bus.write(ctx, at("CONTROL"), 1 << Control.LOAD, strobe=0b1110)
        assert pulses == 2
        assert ctx.get(dut.enable)
        await bus.write(ctx, at("CONTROL"), 0)
        assert not ctx.get(dut.enable)
        bus.running = False

    async def counter(ctx):
        nonlocal pulses
        for _ in range(200):
            _, _, load = await ctx.tick().sample(dut.load)
            pulses += load

    run(dut, rng, testbench, counter)


def test_doorbell(rng):
    """A tail more than the ring ahead of the head is ignored, also around 2**16."""
    dut = Registers(small_hardware(1))
    overrun = 1 << DeviceErrorBit.RING_OVERRUN

    async def testbench(ctx, bus):
        await bus.write(ctx, at("SQ_LOG2"), 3)
        for head, tail, taken in (
            (0, 8, True),
            (0, 9, False),
            (5, 13, True),
            (5, 14, False),
            (5, 4, False),
            (65_530, 2, True),
            (65_530, 3, False),
        ):
            ctx.set(dut.sq_head, head)
            before = ctx.get(dut.sq_tail)
            await bus.write(ctx, at("SQ_TAIL"), tail)
            assert ctx.get(dut.sq_tail) == (tail if taken else before)
            assert await bus.read(ctx, at("SQ_TAIL")) == (tail if taken else before)
            assert await bus.read(ctx, at("ERROR")) == (0 if taken else overrun)
            await bus.write(ctx, at("ERROR"), overrun)

    run(dut, rng, testbench)


def test_errors_and_interrupts(rng):
    """Events set bits, ones clear them, the enable bits gate the interrupt line."""
    dut = Registers(small_hardware(1))

    async def pulse(ctx, signal, value=1):
        ctx.set(signal, value)
        await ctx.tick()
        ctx.set(signal, 0)

    async def testbench(ctx, bus):
        await pulse(ctx, dut.error, 0b1010_0001)
        await pulse(ctx, dut.error, 0b0000_0010)
        assert await bus.read(ctx, at("ERROR")) == 0b1010_0011
        assert await bus.read(ctx, at("IRQ_STATUS")) == 1 << Interrupt.ERROR
        assert not ctx.get(dut.irq)
        await bus.write(ctx, at("IRQ_ENABLE"), 0b111)
        assert ctx.get(dut.irq)
        await bus.write(ctx, at("ERROR"), 0b1000_0001)
        assert await bus.read(ctx, at("ERROR")) == 0b0010_0010
        await bus.write(ctx, at("IRQ_STATUS"), 0b111)
        assert not ctx.get(dut.irq)
        for signal, bit in (
            (dut.completion, Interrupt.COMPLETION),
            (dut.loaded, Interrupt.LOADED),
        ):
            await pulse(ctx, signal)
            assert await bus.read(ctx, at("IRQ_STATUS")) == 1 << bit
            assert ctx.get(dut.irq)
            await bus.write(ctx, at("IRQ_ENABLE"), 0b111 & ~(1 << bit))
            assert not ctx.get(dut.irq)
            await bus.write(ctx, at("IRQ_ENABLE"), 0b111)
            await bus.write(ctx, at("IRQ_STATUS"), 1 << bit)
            assert not ctx.get(dut.irq)

    run(dut, rng, testbench)


def test_event_while_clearing(rng):
    """An event in the very cycle of the write that clears its bit is not lost."""
    dut = Registers(small_hardware(1))
    started = None
    late = False  # the event came in the cycle of the write, or after it
    collisions = 0

    async def testbench(ctx, bus):
        nonlocal started
        for offset in range(6):
            started = offset
            await bus.write(ctx, at("IRQ_STATUS"), 0b111)
            while started is not None:
                await ctx.tick()
            want = late << Interrupt.COMPLETION
            assert await bus.read(ctx, at("IRQ_STATUS")) == want, offset
            await bus.write(ctx, at("IRQ_STATUS"), 0b111)
        assert collisions == 1

    async def event(ctx):
        nonlocal started, late, collisions
        for _ in range(6):
            while started is None:
                await ctx.tick()
            late = False
            for _ in range(started):
                await ctx.tick()
                late |= bool(ctx.get(dut.bus.bvalid))
            ctx.set(dut.completion, 1)
            before = late
            await ctx.tick()
            ctx.set(dut.completion, 0)
            late |= bool(ctx.get(dut.bus.bvalid))
            collisions += late and not before
            started = None

    run(dut, rng, testbench, event)


def test_counters(rng):
    """Each counter counts its own input; all are read as they were when the cycles were read."""
    hardware = small_hardware(2)
    dut = Registers(hardware)
    counters = counters_of(hardware)
    clock = counters["device.cycles"].address
    names = [n for n in counters if n != "device.cycles"]
    steps = {
        name: 1 if counters[name].unit == "cycles" else int(rng.integers(1, 2**16))
        for name in names
    }

    async def testbench(ctx, bus):
        begin = await bus.read(ctx, clock)
        for name in names:
            unit, field = name.split(".")
            ctx.set(dut.counters[unit][field], steps[name])
        await ctx.tick().repeat(70)
        for word in 0, 4:
            assert await bus.read(ctx, counters[names[-1]].address + word) == 0
        end = await bus.read(ctx, clock)
        counted = set()
        for name in names:
            low = await bus.read(ctx, counters[name].address)
            high = await bus.read(ctx, counters[name].address + 4)
            cycles, rest = divmod(low | high << 32, steps[name])
            assert rest == 0, name
            counted.add(cycles)
        assert len(counted) == 1
        assert 70 < counted.pop() <= end - begin
        # Two reads of the cycle counter are as far apart as the clock says.
        first = await bus.read(ctx, clock)
        await ctx.tick().repeat(100)
        second = await bus.read(ctx, clock)
        assert 100 < second - first < 110

    run(dut, rng, testbench)


def test_counters_of_the_largest_machine_have_addresses():
    groups = [{"stages": [0, 1, 2, 3]}] * abi.MAX_GROUPS
    hardware = small_hardware(4, groups=groups, memory={"channels": 4})
    last = max(counter.address for counter in counters_of(hardware).values())
    assert last + 8 <= 1 << REGISTER_SPACE_BITS


def test_counter_carries(rng):
    """A counter runs over 32 bits; both words are copied together."""
    groups = [{"rows": 64, "cols": 64, "stages": [0]}]
    hardware = small_hardware(1, tile_rows=128, tile_cols=128, groups=groups)
    step = hardware.macs
    dut = Registers(hardware)
    where = counters_of(hardware)["group0.macs"].address
    clock = counters_of(hardware)["device.cycles"].address

    async def count(ctx, cycles):
        ctx.set(dut.counters.group0.macs, step)
        await ctx.tick().repeat(cycles)
        ctx.set(dut.counters.group0.macs, 0)

    async def testbench(ctx, bus):
        await count(ctx, (1 << 32) // step - 1)
        await bus.read(ctx, clock)
        assert await bus.read(ctx, where) == (1 << 32) - step
        await count(ctx, 2)
        assert await bus.read(ctx, where) == (1 << 32) - step
        assert await bus.read(ctx, where + 4) == 0
        await bus.read(ctx, clock)
        assert await bus.read(ctx, where) == step
        assert await bus.read(ctx, where + 4) == 1

    run(dut, rng, testbench)
