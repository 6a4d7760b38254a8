"""Hand-written Verilog passes Verilator's linter; so does generated (test_rtl_gen_generate.py)."""

from pathlib import Path

import pytest

import rtl_gen
import sim
from rpaccel.errors import BuildError
from sim.lint import WAIVERS, Waiver, lint

UNUSED = "module m(input wire a, b, output wire c); assign c = a; endmodule\n"


def test_axi_memory():
    source = Path(sim.__file__).with_name("axi_memory.v")
    lint({source.name: source.read_text()}, "axi_memory", parameters={"NAME": '"mem0"'})


@pytest.mark.parametrize("granularity", [128, 8])
def test_sram_macro(granularity):
    source = Path(rtl_gen.__file__).with_name("rpaccel_sram.v")
    parameters = {"GRANULARITY": granularity}
    lint({source.name: source.read_text()}, "rpaccel_sram", waivers=WAIVERS, parameters=parameters)


def test_static_macros():
    source = Path(rtl_gen.__file__).with_name("rpaccel_static.v")
    lint({source.name: source.read_text()}, "rpaccel_static")


def test_a_warning_is_an_error():
    with pytest.raises(BuildError, match=r"UNUSEDSIGNAL: m\.v:1:"):
        lint({"m.v": UNUSED}, "m")


def test_a_waiver_covers_what_it_names():
    lint({"m.v": UNUSED}, "m", waivers=[Waiver("UNUSEDSIGNAL", "a test", match="*'b'*")])
    with pytest.raises(BuildError):
        lint({"m.v": UNUSED}, "m", waivers=[Waiver("UNUSEDSIGNAL", "a test", match="*'c'*")])
    with pytest.raises(BuildError):
        lint({"m.v": UNUSED}, "m", waivers=[Waiver("UNUSEDSIGNAL", "a test", file="other.v")])


def test_a_waiver_needs_a_reason():
    with pytest.raises(ValueError, match="waiver of UNUSEDSIGNAL must give a reason"):
        Waiver("UNUSEDSIGNAL", " ")


def test_a_syntax_error_is_an_error():
    with pytest.raises(BuildError, match="syntax error"):
        lint({"m.v": "module m(; endmodule\n"}, "m")
