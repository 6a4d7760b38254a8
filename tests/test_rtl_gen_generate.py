"""Generated Verilog: lint clean, the same each time, with the ports that bus models look for."""

import json
import re
import subprocess
import sys

import pytest

from rpaccel import abi
from rpaccel.config import parse
from rpaccel.counters import counters_of
from rpaccel.errors import BuildError, ConfigError
from rpaccel.registers import CAPABILITY_BASE, REGISTERS
from rtl_gen.generate import verilog, write
from sim.lint import WAIVERS, lint
from sim.verilog import port_names
from tests.machines import small_hardware

MACHINE = {
    "groups": [{"stages": [0], "cols": 2}, {"stages": [1], "rows": 2}],
    "memory": {"channels": 2, "bus_bytes": 8, "line_bytes": 32},
    "topk_depth": [8, 4],
    "sram_macro_bits": 4096,
}


@pytest.fixture(scope="module")
def sources():
    return verilog(small_hardware(2, **MACHINE))


def test_lint(sources):
    lint(sources, "rpaccel", waivers=WAIVERS)


def test_lint_of_shared_sub_arrays():
    groups = [{"stages": [0, 1], "at": [0, 0], "cols": 2, "shapes": [[1, 2], [1, 1]]}]
    groups += [{"stages": [n], "at": [0, n]} for n in range(2)]
    machine = {**MACHINE, "groups": groups, "settings": [[0], [1, 2]]}
    lint(verilog(small_hardware(2, **machine)), "rpaccel", waivers=WAIVERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tile", "size"),
    [((128, 128), (1, 1)), ((64, 64), (2, 2)), ((32, 32), (4, 4)), ((16, 16), (8, 8))]
    + [((4, 5), (3, 4))],
)
def test_lint_of_arrays_of_full_size(tile, size):
    """128x128 multipliers in every way of cutting them, and a ragged array."""
    rows, cols = size
    groups = [{"rows": rows, "cols": cols, "shapes": [[1, 1], [rows, cols]], "stages": [0, 1]}]
    groups[0]["shapes"] = groups[0]["shapes"][: rows * cols]  # one shape of one sub-array
    machine = {"tile_rows": tile[0], "tile_cols": tile[1], "groups": groups}
    lint(verilog(small_hardware(2, **machine)), "rpaccel", waivers=WAIVERS)


def test_groups_alike_are_written_once():
    groups = [{"stages": [0, 1]}, {"stages": [0, 1]}, {"stages": [0, 1], "cols": 2}]
    hardware = small_hardware(2, groups=groups)
    assert [hardware.first_alike(group) for group in range(3)] == [0, 0, 2]
    text = verilog(hardware)["rpaccel.v"]
    assert re.findall(r"^module (group_\d+)\(", text, re.MULTILINE) == ["group_0", "group_2"]
    assert re.findall(r"^  (group_\d+) (group\d+) \(", text, re.MULTILINE) == [
        ("group_0", "group0"),
        ("group_0", "group1"),
        ("group_2", "group2"),
    ]


def test_every_waiver_is_needed(sources):
    with pytest.raises(BuildError) as error:
        lint(sources, "rpaccel")
    found = re.findall(r"%Warning-(\w+): (\S+?):.*: (.*)", str(error.value))
    needed = {(rule, file) for rule, file, _ in found}
    truncated = [text for rule, _, text in found if rule == "WIDTHTRUNC"]
    for waiver in WAIVERS:
        assert (waiver.rule, waiver.file.strip("*")) in needed
        if waiver.match:
            assert any(waiver.match.strip("*") in text for text in truncated)


def test_ports(sources):
    ports = port_names(sources["rpaccel.v"], "rpaccel")
    assert {"clk", "rst", "irq"} < set(ports)
    assert sum(p.startswith("s_axil_") for p in ports) == 19
    assert sum(p.startswith("m_axi_host_") for p in ports) == 16 + 19
    for channel in range(2):
        assert sum(p.startswith(f"m_axi_mem{channel}_") for p in ports) == 16
    assert len(ports) == 3 + 19 + 35 + 32


def test_text_does_not_depend_on_the_process():
    """Neither the order of hashes nor what was generated before shows."""
    program = (
        "from rpaccel.hardware import HardwareConfig; from rtl_gen.generate import verilog; "
        "import sys; sys.stdout.write(verilog(HardwareConfig.model_validate_json("
        "sys.argv[1]))['rpaccel.v'])"
    )
    hardware = small_hardware(1, topk_depth=[4])
    command = [sys.executable, "-c", program, hardware.model_dump_json()]
    done = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == verilog(hardware)["rpaccel.v"]
    assert "(* src" not in done.stdout


def configuration():
    return parse(
        {
            "name": "small",
            "features": {"tables": [{"name": "movie", "rows": 10}]},
            "models": [{"name": "only", "dimensions": 4, "top": [1]}],
            "funnel": {"stages": ["only"], "items": 8, "keep": [4]},
            "hardware": small_hardware(1, topk_depth=[4]).model_dump(),
        }
    )


def test_write(tmp_path):
    config = configuration()
    paths = write(config, tmp_path / "new" / "folder")
    models = ["rpaccel_sram.v", "rpaccel_static.v"]
    assert [p.name for p in paths] == ["rpaccel.v", *models, "rpaccel.json"]
    about = json.loads(paths[3].read_text())
    assert about["digest"] == f"{config.hardware.digest():016x}"
    assert parse(about["configuration"]) == config
    assert about["registers"]["CONTROL"]["address"] == REGISTERS["CONTROL"].address
    counter = counters_of(config.hardware)["topk0.released"]
    assert about["counters"]["topk0.released"]["address"] == counter.address
    assert about["capabilities"]["stages"] == {"address": CAPABILITY_BASE, "value": 1}
    bias = about["layouts"]["param"]["fields"]["bias"]
    assert (bias["offset"], bias["bits"], bias["signed"]) == (0, 32, True)
    assert about["enumerations"]["Status"]["BAD_INDEX"] == abi.Status.BAD_INDEX


def test_write_where_it_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: cannot be written: "):
        write(configuration(), tmp_path / "file")
