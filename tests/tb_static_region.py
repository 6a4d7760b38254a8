"""cocotb tests of a pair of static regions: what tests/test_rtl_gen_static_region.py runs."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

TARGET = 2 << 5


async def start(dut):
    """Reset; the lanes' ports."""
    lanes = [
        tuple(getattr(dut, f"lane__{n}__{name}") for name in ("en", "addr"))
        for n in range(int(os.environ["LANES"]))
    ]
    for port in (dut.load, *(en for en, _ in lanes)):
        port.value = 0
    Clock(dut.clk, 4, "ns", impl="gpi").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    return lanes


def beat(*, first, address=0, data=0):
    """A beat of the load bus, as rtl_gen.signatures.load_bus_layout packs it."""
    return 1 | first << 1 | TARGET << 2 | address << 10 | data << 42


async def load(dut, address, words):
    """Write words, a beat each, from an address on."""
    await FallingEdge(dut.clk)
    dut.load.value = beat(first=1, address=address)
    for word in words:
        await FallingEdge(dut.clk)
        dut.load.value = beat(first=0, data=word)
    await FallingEdge(dut.clk)
    dut.load.value = 0
    await ClockCycles(dut.clk, 2)


@cocotb.test()
async def lanes_read_their_macros(dut):
    """All lanes read at once, each in its macros; then these are loaded anew for other lanes."""
    choose = random.Random(os.environ["SEED"])
    lanes = await start(dut)
    macros, words = int(os.environ["MACROS"]), int(os.environ["MACRO_WORDS"])
    for _ in range(3):
        content = [choose.getrandbits(64) for _ in range(macros * words)]
        await load(dut, 0, content)
        owner = [choose.randrange(len(lanes)) for _ in range(macros)]
        expected = [None] * len(lanes)
        for _ in range(200):
            await FallingEdge(dut.clk)
            for number, (en, addr) in enumerate(lanes):
                shown = [getattr(dut, f"{kind}_data{number}").value for kind in ("memory", "macro")]
                assert shown[0] == shown[1]
                assert expected[number] in (None, shown[0].to_unsigned())
                mine = [m for m in range(macros) if owner[m] == number]
                reads = bool(mine) and choose.random() < 0.7
                en.value = reads
                at = choose.choice(mine or [0]) * words + choose.randrange(words)
                addr.value = at
                if reads:
                    expected[number] = content[at]
        for en, _ in lanes:
            en.value = 0


@cocotb.test()
async def two_lanes_read_a_macro(dut):
    """The model of the macros ends the simulation."""
    lanes = await start(dut)
    for en, addr in lanes[:2]:
        await FallingEdge(dut.clk)
        addr.value = 2 * int(os.environ["MACRO_WORDS"])
        en.value = 1
        await FallingEdge(dut.clk)
        en.value = 0
    await ClockCycles(dut.clk, 2)
