"""The compiled AXI memory, checked by cocotbext-axi and by raw bus cycles."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import sim
from rpaccel.errors import BuildError
from rpaccel.image import GeneratedTable, table_layout, table_lines
from sim.build import build
from sim.testbench import generated_plusargs
from sw_model.generated_rows import GeneratedRows
from tests.machines import small_hardware

SOURCE = Path(sim.__file__).with_name("axi_memory.v")
SIZE_BYTES = 8192
LINE_BYTES = 32
BANKS = {"banks": 4, "row_bytes": 256, "t_rcd": 4, "t_rp": 5, "t_cas": 3, "t_rc": 17}
SSD = {"ssd_latency": 90, "ssd_num": 5, "ssd_den": 2}
SIMULATORS = [
    "verilator",
    pytest.param(
        "icarus", marks=pytest.mark.skipif(not shutil.which("iverilog"), reason="no Icarus Verilog")
    ),
]


@pytest.fixture(params=SIMULATORS)
def memory(request):
    return build(
        {SOURCE.name: SOURCE.read_text()},
        "axi_memory",
        simulator=request.param,
        parameters={
            "DATA_BYTES": 8,
            "SIZE_BYTES": SIZE_BYTES,
            "NAME": '"mem0"',
            "LINE_BYTES": LINE_BYTES,
            "CHANNELS": 2,
            "CHANNEL": 1,
        },
    )


@pytest.fixture
def run(memory, rng, tmp_path):
    image = tmp_path / "image.bin"
    image.write_bytes(rng.bytes(SIZE_BYTES))

    def run(test, env=None, **settings):
        plusargs = {f"mem0_{name}": value for name, value in settings.items()}
        return memory.run(
            "sim.tb_axi_memory",
            testcase=test,
            work=tmp_path,
            timeout=120,
            seed=int(rng.integers(1, 2**31)),
            env={"IMAGE": str(image), **{k: str(v) for k, v in (env or {}).items()}},
            plusargs={"mem0_image": image, "mem0_seed": int(rng.integers(2**31)), **plusargs},
        )

    return run


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"latency": 20, "reorder": 1},
        {"latency": 7, "reorder": 1, "stall": 40, "gap_num": 3, "gap_den": 2},
        {"latency": 9, "reorder": 1, "stall": 20, **BANKS, "ssd_first": "c00", **SSD},
        {"latency": 9, "reorder": 0, **BANKS, "ssd_first": "c00", **SSD},
    ],
)
def test_random_reads(run, settings):
    run("random_reads", {"READS": 12, "PAUSE": int("stall" in settings)}, **settings)


def test_errors(run):
    first, last = 0x123, 0x1F0
    run(
        "errors",
        {"SIZE_BYTES": SIZE_BYTES, "ERROR_FIRST": first, "ERROR_LAST": last},
        error_first=f"{first:x}",
        error_last=f"{last:x}",
    )


@pytest.mark.parametrize(("latency", "gap_num", "gap_den"), [(1, 1, 1), (140, 1, 1), (9, 7, 3)])
def test_timing(run, latency, gap_num, gap_den):
    timing = {"latency": latency, "gap_num": gap_num, "gap_den": gap_den}
    run("timing", {"BURSTS": 160, **{k.upper(): v for k, v in timing.items()}}, **timing)


@pytest.mark.parametrize("reorder", [0, 1])
def test_order(run, reorder):
    run("order", {"REORDER": reorder}, reorder=reorder, latency=500, stall=20 * reorder)


@pytest.mark.parametrize("stall", [0, 30])
def test_generated_tables(run, rng, tmp_path, stall):
    """Their lines are made, inside the memory and behind its end; all others are the image's."""
    at = 2 * SIZE_BYTES // LINE_BYTES - 60  # lines of both channels
    image = np.frombuffer((tmp_path / "image.bin").read_bytes(), np.uint8)
    lines = np.zeros((at, LINE_BYTES), np.uint8)
    lines[1::2] = image.reshape(-1, LINE_BYTES)[: at // 2]
    parts, listed = [lines], []
    for dimension in 3, 20, 70, 1, 32:
        rows = GeneratedRows(int(rng.integers(2**32)), (77, dimension))
        made = table_lines(rows[:], LINE_BYTES)
        layout = table_layout(dimension, LINE_BYTES)
        listed.append(GeneratedTable(at, len(made), rows.key, 77, dimension, *layout))
        at += len(made)
        parts.append(made)
    expected = tmp_path / "expected.bin"
    expected.write_bytes(np.concatenate(parts)[1::2].tobytes())
    hardware = small_hardware(memory={"line_bytes": LINE_BYTES, "channels": 2})
    plusargs = generated_plusargs(hardware, listed, tmp_path)
    run(
        "random_reads",
        {"READS": 20, "PAUSE": int(stall > 0), "IMAGE": expected},
        tables=plusargs["mem0_tables"],
        stall=stall,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [("257\n", "lists 257 tables, not 0..256"), ("2\n1 2 3 4 5 6 7\n8", "table 1")],
)
def test_wrong_lists_of_tables_end_the_simulation(run, tmp_path, text, said):
    path = tmp_path / "tables.txt"
    path.write_text(text)
    with pytest.raises(BuildError, match=said):
        run("random_reads", {"READS": 1, "PAUSE": 0}, tables=path)


def environment(settings):
    return {name.upper(): value for name, value in settings.items()}


@pytest.mark.parametrize("reorder", [0, 1])
@pytest.mark.parametrize("test", ["bank_times", "busy_banks"])
def test_banks(run, test, reorder):
    settings = {"latency": 6, "reorder": reorder, **BANKS}
    run(test, {"SIZE_BYTES": SIZE_BYTES, **environment(settings)}, **settings)


@pytest.mark.parametrize("reorder", [0, 1])
def test_second_tier(run, reorder):
    settings = {"latency": 6, "reorder": reorder, **SSD}
    run(
        "second_tier",
        {"SSD_FIRST": 0x1000, **environment(settings)},
        ssd_first="1000",
        **settings,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"banks": 257}, "257 banks with rows of 2048 bytes"),
        ({"ssd_den": 0}, "0/0 cycles a byte of an SSD are impossible"),
    ],
)
def test_impossible_settings_end_the_simulation(run, settings, said):
    with pytest.raises(BuildError, match=said):
        run("random_reads", {"READS": 1, "PAUSE": 0}, **settings)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("crosses_boundary", "crosses a 4 KB boundary"),
        ("withdraws_address", "withdrawn or changed"),
    ],
)
def test_protocol_errors_end_the_simulation(run, test, said):
    with pytest.raises(BuildError, match=said):
        run(test, stall=50)


def test_missing_image_is_named(memory, tmp_path):
    with pytest.raises(BuildError, match="cannot open the memory image /nowhere/x"):
        memory.run("sim.tb_axi_memory", work=tmp_path, plusargs={"mem0_image": "/nowhere/x"})
