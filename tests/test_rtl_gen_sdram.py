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
    """Controller and SDRAM."""

    def __init__(self, clock_hz):
        self.clock_hz = clock_hz
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
        )
        return m


def run(request, tmp_path, clock_hz, cycles=60):
    text, _ = emit(Bench(clock_hz), "sdram_bench")
    model = files("sim").joinpath("sdram.v").read_text(encoding="utf-8")
    simulator = build(dict(text) | {"sdram.v": model}, "sdram_bench", quiet=True)
    seed = os.environ.get("RPACCEL_SEED", request.node.nodeid)
    environment = {"SIZE": str(SIZE), "SEED": seed, "CYCLES": str(cycles)}
    simulator.run("tests.tb_sdram", work=tmp_path, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(("clock_hz", "cycles"), [(25_000_000, 40), (100_000_000, 44)])
def test_no_rule_is_broken(request, tmp_path, clock_hz, cycles):
    run(request, tmp_path, clock_hz, cycles)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rcd", "rp", "ras", "rfc", "wr"])
def test_the_model_sees_each_time(request, tmp_path, monkeypatch, rule):
    monkeypatch.setitem(sdram.TIMES, rule, 10)
    with pytest.raises(BuildError):
        run(request, tmp_path, 100_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("POWER_UP_NS", 100_000), ("REFRESH_NS", 80_000), ("FIRST_REFRESHES", 7)]
)
def test_the_model_sees_initialisation_and_refresh(request, tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(sdram, name, value)
    with pytest.raises(BuildError):
        run(request, tmp_path, 25_000_000)


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"Size must be one of \(16777216, .*, not 1048576"):
        Sdram(size=1 << 20, clock_hz=25_000_000, **SHAPE)
    with pytest.raises(ValueError, match="Clock must be at most 100000000 Hz, not 133000000"):
        Sdram(size=SIZE, clock_hz=133_000_000, **SHAPE)
