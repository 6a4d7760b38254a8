"""cocotb tests of the compiled AXI memory, driven by cocotbext-axi's master.

``tests/test_sim_axi_memory.py`` builds the memory, chooses plusargs and says through the
environment what to expect.
"""

import itertools
import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiMasterRead, AxiReadBus, AxiResp

CLOCK_NS = 4


async def start(dut):
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
    dut.arvalid.value = 0
    dut.rready.value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)


def setting(name):
    return int(os.environ[name])


@cocotb.test()
async def random_reads(dut):
    """Random bursts, many at once, return the image whatever the timing."""
    await start(dut)
    master = AxiMasterRead(AxiReadBus.from_entity(dut), dut.clk, dut.rst)
    image = Path(os.environ["IMAGE"]).read_bytes()
    if setting("PAUSE"):
        for channel in (master.ar_channel, master.r_channel):
            channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))

    async def reader():
        for _ in range(setting("READS")):
            length = random.randint(1, 300)
            address = random.randrange(len(image) - length)
            size = random.randint(0, (len(dut.rdata) // 8).bit_length() - 1)
            response = await master.read(address, length, size=size)
            assert response.resp == AxiResp.OKAY
            assert response.data == image[address : address + length], hex(address)

    readers = [cocotb.start_soon(reader()) for _ in range(8)]
    for task in readers:
        await task


@cocotb.test()
async def errors(dut):
    """Beats in the error range answer SLVERR, beats outside the memory DECERR, others OKAY."""
    await start(dut)
    master = AxiMasterRead(AxiReadBus.from_entity(dut), dut.clk, dut.rst)
    size = setting("SIZE_BYTES")
    beat = len(dut.rdata) // 8
    first, last = setting("ERROR_FIRST"), setting("ERROR_LAST")
    for address in range(0, size + 4 * beat, beat):
        response = await master.read(address, beat)
        expected = AxiResp.OKAY
        if address >= size:
            expected = AxiResp.DECERR
        elif address <= last and address + beat > first:
            expected = AxiResp.SLVERR
        assert response.resp == expected, hex(address)
        if expected != AxiResp.OKAY:
            assert response.data == b"\xee" * beat


async def read_burst(dut, ident, address, beats, size):
    """Offer one address and wait until it is taken, raw, without a bus model."""
    dut.arid.value = ident
    dut.araddr.value = address
    dut.arlen.value = beats - 1
    dut.arsize.value = size
    dut.arburst.value = 1
    dut.arvalid.value = 1
    await RisingEdge(dut.clk)
    while not dut.arready.value:
        await RisingEdge(dut.clk)
    dut.arvalid.value = 0


async def collect(dut, count):
    """Take beats, always ready: list of (cycle, id, data, last)."""
    taken: list[tuple[int, int, int, int]] = []
    dut.rready.value = 1
    while len(taken) < count:
        await RisingEdge(dut.clk)
        if dut.rvalid.value:
            cycle = int(get_sim_time("ns")) // CLOCK_NS
            data = dut.rdata.value.to_unsigned()
            taken.append((cycle, int(dut.rid.value), data, int(dut.rlast.value)))
    dut.rready.value = 0
    return taken


@cocotb.test()
async def timing(dut):
    """Latency and bandwidth are those asked for; many bursts are outstanding."""
    await start(dut)
    beat = len(dut.rdata) // 8
    size = beat.bit_length() - 1
    image = Path(os.environ["IMAGE"]).read_bytes()
    latency, bursts, beats = setting("LATENCY"), setting("BURSTS"), 4
    per_beat = setting("GAP_NUM") / setting("GAP_DEN")
    collector = cocotb.start_soon(collect(dut, bursts * beats))
    accepted = []
    for number in range(bursts):
        await read_burst(dut, number % 64, number * beats * beat, beats, size)
        accepted.append(int(get_sim_time("ns")) // CLOCK_NS)
    assert accepted[-1] - accepted[0] == bursts - 1  # all accepted, one a cycle
    taken = await collector
    await ClockCycles(dut.clk, 1)  # the counters follow by one
    assert taken[0][0] - accepted[0] == latency
    assert abs((taken[-1][0] - taken[0][0]) - (len(taken) - 1) * per_beat) <= 1
    for number, (_, ident, data, last) in enumerate(taken):
        assert ident == number // beats % 64
        assert data.to_bytes(beat, "little") == image[number * beat : (number + 1) * beat]
        assert last == (number % beats == beats - 1)
    assert int(dut.bursts.value) == bursts
    assert int(dut.beats.value) == bursts * beats


@cocotb.test()
async def order(dut):
    """Bursts overtake each other, never within an ID, and never interleave."""
    await start(dut)
    beat = len(dut.rdata) // 8
    size = beat.bit_length() - 1
    image = Path(os.environ["IMAGE"]).read_bytes()
    beats, bursts, idents = 3, 400, 5  # more bursts than the memory holds
    sent = [(random.randrange(idents), 64 * random.randrange(32)) for _ in range(bursts)]
    collector = cocotb.start_soon(collect(dut, bursts * beats))
    for ident, address in sent:
        await read_burst(dut, ident, address, beats, size)
    taken = await collector
    expected = {ident: [a for i, a in sent if i == ident] for ident in range(idents)}
    arrived = []
    for number in range(0, len(taken), beats):
        group = taken[number : number + beats]
        ident = group[0][1]
        assert [g[1] for g in group] == [ident] * beats
        assert [g[3] for g in group] == [0] * (beats - 1) + [1]
        address = expected[ident].pop(0)
        data = b"".join(g[2].to_bytes(beat, "little") for g in group)
        assert data == image[address : address + beats * beat]
        arrived.append(ident)
    assert (arrived != [ident for ident, _ in sent]) == bool(setting("REORDER"))


def now():
    """Cycles since the start of the simulation."""
    return int(get_sim_time("ns")) // CLOCK_NS


async def reads(dut, sent, beats):
    """Offer (id, address) one after the other; cycles of acceptance, and of first beats by place.

    Checks the data of each burst, and that bursts of an ID come in order.
    """
    size = (len(dut.rdata) // 8).bit_length() - 1
    image = Path(os.environ["IMAGE"]).read_bytes()
    collector = cocotb.start_soon(collect(dut, len(sent) * beats))
    accepted = []
    for ident, address in sent:
        await read_burst(dut, ident, address, beats, size)
        accepted.append(now())
    taken = await collector
    first = [0] * len(sent)
    left = list(range(len(sent)))
    for number in range(0, len(taken), beats):
        cycle, ident, _, _ = taken[number]
        place = next(n for n in left if sent[n][0] == ident)
        left.remove(place)
        address, step = sent[place][1], 1 << size
        for i, (_, _, data, _) in enumerate(taken[number : number + beats]):
            at = address + i * step
            assert data.to_bytes(step, "little") == image[at : at + step]
        first[place] = cycle
    return accepted, first


class Bank:
    """Cycles at which a bank's data are there, as the head of axi_memory.v describes them."""

    def __init__(self):
        self.row, self.free, self.again = None, 0, 0

    def data_at(self, accepted, row, beats):
        """When the data of a burst are there."""
        at = max(accepted, self.free)
        if row != self.row:
            closing = setting("T_RP") if self.row is not None else 0
            at = max(at + closing, self.again)
            self.again = at + setting("T_RC")
            at += setting("T_RCD")
            self.row = row
        self.free = at + beats
        return at + setting("T_CAS")


@cocotb.test()
async def bank_times(dut):
    """Reads far apart take what their bank says, in open, closed and other rows."""
    await start(dut)
    beats, count, row_bytes = 2, setting("BANKS"), setting("ROW_BYTES")
    model = [Bank() for _ in range(count)]
    kinds = set()
    for _ in range(60):
        address = random.randrange(setting("SIZE_BYTES") // 16) * 16
        row, bank = divmod(address // row_bytes, count)
        kinds.add((model[bank].row is None, model[bank].row == row))
        (accepted,), (first,) = await reads(dut, [(random.randrange(9), address)], beats)
        expected = model[bank].data_at(accepted, row, beats) + setting("LATENCY")
        assert first == expected, hex(address)
        await ClockCycles(dut.clk, random.randrange(1, setting("T_RC")))
    assert len(kinds) == 3


@cocotb.test()
async def busy_banks(dut):
    """Rows of one bank come one after the other, those of several side by side."""
    await start(dut)
    beats, count, row_bytes = 2, setting("BANKS"), setting("ROW_BYTES")
    latency, cycle = setting("LATENCY"), setting("T_RC")
    rows = setting("SIZE_BYTES") // row_bytes // count
    accepted, first = await reads(dut, [(n, n * count * row_bytes) for n in range(rows)], beats)
    assert [b - a for a, b in itertools.pairwise(first)] == [cycle] * (rows - 1)
    await ClockCycles(dut.clk, 2 * cycle)
    # The last row of all banks, then the first of all, offered one a cycle: the data bus limits.
    last = (rows - 1) * count
    await reads(dut, [(n, (last + n) * row_bytes) for n in range(count)], beats)
    await ClockCycles(dut.clk, 2 * cycle)
    accepted, first = await reads(dut, [(n, n * row_bytes) for n in range(count)], beats)
    opened = setting("T_RP") + setting("T_RCD") + setting("T_CAS")
    assert first[0] - accepted[0] == latency + opened
    assert max(first) - accepted[0] <= latency + opened + (count - 1) * beats
    await ClockCycles(dut.clk, 2 * cycle)
    # Another row of bank 0, then what is open in bank 1.
    _, first = await reads(dut, [(1, count * row_bytes), (2, row_bytes + 16)], beats)
    assert (first[0] > first[1]) == bool(setting("REORDER"))
    await ClockCycles(dut.clk, 2 * cycle)
    _, first = await reads(dut, [(1, 0), (1, row_bytes)], beats)
    assert first[0] < first[1]


@cocotb.test()
async def second_tier(dut):
    """An SSD has its own latency and bandwidth; others overtake it, but not within an ID."""
    await start(dut)
    beats, latency = 2, setting("LATENCY")
    at, slow = setting("SSD_FIRST"), setting("SSD_LATENCY")
    transfer = beats * len(dut.rdata) // 8 * setting("SSD_NUM") // setting("SSD_DEN")
    for address, expected in (at - 16, latency), (at, latency + transfer + slow):
        (accepted,), (first,) = await reads(dut, [(0, address)], beats)
        assert first - accepted == expected
    accepted, first = await reads(dut, [(n, at + 16 * n) for n in range(20)], beats)
    assert first[-1] - accepted[0] == latency + slow + 20 * transfer
    _, first = await reads(dut, [(1, at), (2, 0)], beats)
    assert (first[0] > first[1]) == bool(setting("REORDER"))
    _, first = await reads(dut, [(1, at), (1, 0)], beats)
    assert first[0] < first[1]


@cocotb.test()
async def crosses_boundary(dut):
    """A burst over a 4 KB boundary ends the simulation."""
    await start(dut)
    beat = len(dut.rdata) // 8
    await read_burst(dut, 0, 4096 - beat, 2, beat.bit_length() - 1)
    await ClockCycles(dut.clk, 10)


@cocotb.test()
async def withdraws_address(dut):
    """A waiting address that disappears ends the simulation."""
    await start(dut)
    dut.arvalid.value = 1
    for name in ("arid", "arlen", "arsize"):
        getattr(dut, name).value = 0
    dut.arburst.value = 1
    for address in range(0, 4096, 64):  # one is taken a cycle, until a pause leaves one waiting
        dut.araddr.value = address
        await RisingEdge(dut.clk)
        if not dut.arready.value:
            break
    await RisingEdge(dut.clk)
    dut.arvalid.value = 0
    await ClockCycles(dut.clk, 10)
