"""The SDRAM controller against a model that knows a JEDEC part's rules."""

import os
from importlib.resources import files

import pytest
from amaranth.hdl import Cat, ClockSignal, Fragment, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.sim import Simulator

from rpaccel.errors import BuildError
from rtl_gen import sdram
from rtl_gen.block_memory import byte_port_signature
from rtl_gen.board import BoardTop
from rtl_gen.emit import emit
from rtl_gen.sdram import Sdram
from rtl_gen.signatures import axi_read_signature
from sim.build import build

SIZE = 1 << 25
SHAPE = {"data_bytes": 8, "address_bits": 32, "id_bits": 3}


class Bench(wiring.Component):
    """Controller and SDRAM, with parameters of its own."""

    def __init__(self, clock_hz, part):
        self.clock_hz, self.part = clock_hz, part
        super().__init__(
            {"read": In(axi_read_signature(**SHAPE)), "bytes": In(byte_port_signature())}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sdram = dut = Sdram(size=SIZE, clock_hz=self.clock_hz, **SHAPE)
        connect(m, flipped(self.read), dut.read)
        connect(m, flipped(self.bytes), dut.bytes)
        pins = dut.pins
        m.submodules.part = Instance(
            "sdram",
            p_PERIOD_PS=10**12 // self.clock_hz,
            i_clk=~ClockSignal(),
            i_command=pins.command.as_value(),
            i_bank=pins.bank,
            i_address=pins.address,
            i_mask=pins.mask,
            i_data=pins.data,
            i_drive=pins.drive,
            o_read=pins.read,
            **{f"p_{name}": value for name, value in self.part.items()},
        )
        return m


def run(request, tmp_path, clock_hz, cycles=60, **part):
    text, _ = emit(Bench(clock_hz, part), "sdram_bench")
    model = files("sim").joinpath("sdram.v").read_text(encoding="utf-8")
    simulator = build(dict(text) | {"sdram.v": model}, "sdram_bench", quiet=True)
    seed = os.environ.get("RPACCEL_SEED", request.node.nodeid)
    environment = {"SIZE": str(SIZE), "SEED": seed, "CYCLES": str(cycles)}
    simulator.run("tests.tb_sdram", work=tmp_path, env=environment)


@pytest.mark.parametrize(
    ("clock_hz", "cycles"),
    [(25_000_000, 40), pytest.param(50_000_000, 41, marks=pytest.mark.slow)],
)
def test_no_rule_is_broken(request, tmp_path, clock_hz, cycles):
    run(request, tmp_path, clock_hz, cycles)


@pytest.mark.slow
@pytest.mark.parametrize("rule", sdram.TIMES)
def test_each_time_is_kept(request, tmp_path, monkeypatch, rule):
    """A part that takes longer is served by a controller that knows, and only by that."""
    part = {f"T_{rule.upper()}": 95_000}
    with pytest.raises(BuildError, match=f"t{rule.upper()}"):
        run(request, tmp_path, 50_000_000, **part)
    monkeypatch.setitem(sdram.TIMES, rule, 95)
    run(request, tmp_path, 50_000_000, **part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("POWER_UP_NS", 100_000, "before power-up is over"),
        ("REFRESH_NS", 12_000, "too few refreshes"),
        ("FIRST_REFRESHES", 7, "mode before eight refreshes"),
    ],
)
def test_initialisation_and_refresh(request, tmp_path, monkeypatch, name, value, rule):
    monkeypatch.setattr(sdram, name, value)
    with pytest.raises(BuildError, match=rule):
        run(request, tmp_path, 25_000_000)


@pytest.mark.slow
def test_data_that_come_too_late(request, tmp_path):
    with pytest.raises(BuildError, match="tAC"):
        run(request, tmp_path, 50_000_000, T_AC=10_000)


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"Size must be one of \(16777216, .*, not 1048576"):
        Sdram(size=1 << 20, clock_hz=25_000_000, **SHAPE)
    with pytest.raises(ValueError, match="Clock must be at most 50000000 Hz, not 133000000"):
        Sdram(size=SIZE, clock_hz=133_000_000, **SHAPE)


class Chip:
    """An SDRAM's pins as a board has them: active low, clock and chip select in the FPGA's hand."""

    def __init__(self):
        for name, width in {"a": 13, "ba": 2, "dqm": 2}.items():
            setattr(self, name, io.SimulationPort("o", width))
        for name in ("ras", "cas", "we", "cs"):
            setattr(self, name, io.SimulationPort("o", 1, invert=True))
        self.clk, self.clk_en = io.SimulationPort("o", 1), io.SimulationPort("o", 1)
        self.dq = io.SimulationPort("io", 16)
        self.clk_halves = Signal(2)

    def get_io_buffer(self, buffer):
        """A buffer; Amaranth has none of two data a cycle in simulation."""
        if not isinstance(buffer, io.DDRBuffer):
            return buffer.elaborate(None)
        assert buffer.port is self.clk
        m = Module()
        m.d.comb += self.clk_halves.eq(Cat(buffer.o))
        return m

    def request(self, name, number, dir):
        assert (name, number, dir) == ("sdram", 0, "-")
        return self


@pytest.mark.parametrize("command", sdram.Command)
def test_pins_of_a_board(command):
    """What is asked for is on the pins, and the clock is low first, high in the second half."""
    pins, chip, m = sdram.sdram_pins().create(), Chip(), Module()
    BoardTop(config=None)._sdram(m, chip, pins)
    simulator = Simulator(Fragment.get(m, chip))
    low = {"ACTIVATE": "ras", "READ": "cas", "WRITE": "cas we", "PRECHARGE": "ras we"}
    low |= {"REFRESH": "ras cas", "MODE": "ras cas we", "NOP": ""}

    async def bench(ctx):
        values = {"bank": 2, "address": 0x1555, "mask": 1, "data": 0xCAFE, "drive": 1}
        for name, value in values.items():
            ctx.set(getattr(pins, name), value)
        ctx.set(pins.command, command)
        ctx.set(chip.dq.i, 0x1234)
        assert ctx.get(chip.clk_halves) == 0b10
        names = ("ras", "cas", "we")
        assert [n for n in names if not ctx.get(getattr(chip, n).o)] == low[command.name].split()
        assert (ctx.get(chip.cs.o), ctx.get(chip.clk_en.o)) == (0, 1)
        outputs = (ctx.get(port.o) for port in (chip.ba, chip.a, chip.dqm, chip.dq))
        assert list(outputs) == [2, 0x1555, 1, 0xCAFE]
        assert ctx.get(chip.dq.oe) == 0xFFFF
        ctx.set(pins.drive, 0)
        assert (ctx.get(chip.dq.oe), ctx.get(pins.read)) == (0, 0x1234)

    simulator.add_testbench(bench)
    simulator.run()
