"""The SDRAM controller against a model that knows a JEDEC part's rules."""

import os
from importlib.resources import files

import pytest
from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from rpaccel.errors import BuildError
from rtl_gen import sdram
from rtl_gen.block_memory import byte_port_signature
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
