"""How areas of modules become areas of arrays; synthesis itself is left to the benchmark."""

import json
import subprocess

import pytest

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
from sim import ecp5


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
    assert set(rows) == {*PARTS, "MAC fabric", "all"}
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
    assert whole["accumulators"] == 256 * 32 * 32
    assert bits["accumulators"] == 4 * whole["accumulators"]


def test_figures_of_a_failed_run_are_not_taken(tmp_path, monkeypatch):
    """Yosys may end early with status 0: then no old file is read."""
    (tmp_path / "stat.json").write_text(json.dumps({"design": {"num_cells_by_type": {"LUT4": 1}}}))
    done = subprocess.CompletedProcess([], 0, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(FileNotFoundError):
        ecp5.yosys("", tmp_path)
