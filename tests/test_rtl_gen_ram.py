"""The RAM component against a Python list, and its macro against the Amaranth memory."""

import os
import re

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl_gen.emit import emit, share
from rtl_gen.ram import Ram
from sim.build import build
from sim.pysim import simulate


def step(words, last, ram, write_en, write_addr, write_data, read_en, read_addr):
    """Advance the reference by one cycle and return what ``read.data`` then shows."""
    last = words[read_addr] if read_en else last
    mask = sum(
        ((1 << ram.granularity) - 1) << (lane * ram.granularity)
        for lane in range(ram.lanes)
        if write_en >> lane & 1
    )
    words[write_addr] = (words[write_addr] & ~mask) | (write_data & mask)
    return last


@pytest.mark.parametrize(
    "width, depth, granularity", [(1, 2, None), (8, 1, None), (24, 5, 8), (32, 16, None), (6, 7, 1)]
)
def test_matches_reference(rng, width, depth, granularity):
    dut = Ram(width=width, depth=depth, granularity=granularity)
    words, last = [0] * depth, 0

    async def testbench(ctx):
        nonlocal last
        for _ in range(400):
            traffic = (
                int(rng.integers(2**dut.lanes)),
                int(rng.integers(depth)),
                int(rng.integers(2**width)),
                int(rng.integers(2)),
                int(rng.integers(depth)),
            )
            ports = dut.write.en, dut.write.addr, dut.write.data, dut.read.en, dut.read.addr
            for port, value in zip(ports, traffic, strict=True):
                ctx.set(port, value)
            await ctx.tick()
            last = step(words, last, dut, *traffic)
            assert ctx.get(dut.read.data) == last

    simulate(dut, testbench)


class Pair(wiring.Component):
    """A memory and a macro with the same inputs."""

    def __init__(self, *, width, depth, granularity):
        sizes = {"width": width, "depth": depth, "granularity": granularity}
        self.rams = [Ram(**sizes, macro_bits=limit) for limit in (width * depth, 0)]
        super().__init__(
            {
                **{name: self.rams[0].signature.members[name] for name in ("write", "read")},
                "memory_data": Out(width),
                "macro_data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for name, ram in zip(("memory", "macro"), self.rams, strict=True):
            m.submodules[name] = ram
            m.d.comb += [
                ram.write.en.eq(self.write.en),
                ram.write.addr.eq(self.write.addr),
                ram.write.data.eq(self.write.data),
                ram.read.en.eq(self.read.en),
                ram.read.addr.eq(self.read.addr),
                getattr(self, f"{name}_data").eq(ram.read.data),
            ]
        return m


@pytest.mark.parametrize("width, depth, granularity", [(24, 37, 8), (32, 16, None)])
def test_macro_equals_memory(request, tmp_path, width, depth, granularity):
    files, _ = emit(Pair(width=width, depth=depth, granularity=granularity), "ram_pair")
    simulator = build(files, "ram_pair", quiet=True)
    seed = os.environ.get("RPACCEL_SEED", request.node.nodeid)
    simulator.run("tests.tb_ram", work=tmp_path, env={"DEPTH": str(depth), "SEED": seed})


class Rom(wiring.Component):
    """A memory with initial words, which :class:`Ram` has not."""

    def __init__(self, words):
        self.words = words
        super().__init__({"addr": In(range(len(words))), "data": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=len(self.words), init=self.words)
        port = memory.read_port()
        m.d.comb += [port.addr.eq(self.addr), self.data.eq(port.data)]
        return m


@pytest.mark.parametrize("words", [[0] * 20, [7] * 20, [7] * 19 + [8], list(range(20)), [7] * 8])
def test_equal_initial_words_are_a_loop(words):
    text = emit(Rom(words), "rom")[0]["rom.v"]
    written = re.findall(r"memory\[(\w+)\] = 8'h(\w+);", text)
    if words in ([0] * 20, [7] * 20):
        assert "for (memory_word = 0; memory_word < 20; memory_word = memory_word + 1)" in text
        assert written == [("memory_word", f"{words[0]:02x}")]
    else:
        assert written == [(str(at), f"{word:02x}") for at, word in enumerate(words)]


class Wide(wiring.Component):
    """Registers on two ports of some width."""

    def __init__(self, width):
        self.module_name = f"wide_{width}"
        super().__init__({"i": In(8), "a": Out(width), "b": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.a.eq(self.i), self.b.eq(self.i)]
        return m


class Two(wiring.Component):
    """Two of them, shared where that can be."""

    def __init__(self, width):
        self.units = [Wide(width) for _ in range(2)]
        super().__init__({"i": In(8), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules += [share(unit, platform) for unit in self.units]
        m.d.comb += [unit.i.eq(self.i) for unit in self.units]
        m.d.comb += self.o.eq(Cat(unit.a ^ unit.b for unit in self.units).any())
        return m


@pytest.mark.parametrize(("width", "shared"), [(100, ["wide_100"]), (40_000, [])])
def test_what_has_too_many_outputs_is_not_shared(width, shared):
    files, modules = emit(Two(width), "two")
    assert modules == shared
    assert files["two.v"].count("module wide_") == len(shared)


def test_macro_above_the_threshold():
    assert not Ram(width=32, depth=16, macro_bits=512).macro
    assert Ram(width=32, depth=16, macro_bits=511).macro


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"width": 0, "depth": 4}, TypeError, "Width must be a positive integer, not 0"),
        ({"width": 8, "depth": "4"}, TypeError, "Depth must be a positive integer, not '4'"),
        (
            {"width": 8, "depth": 4, "granularity": 3},
            ValueError,
            "Granularity must divide the width, 8, not be 3",
        ),
    ],
)
def test_bad_parameters(arguments, error, text):
    with pytest.raises(error, match=text):
        Ram(**arguments)
