"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rpaccel.verify
from rpaccel.cli import app

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo.toml"
RANDOM = ROOT / "tests" / "tiny.toml"


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.stdout, result.stderr


def changed(tmp_path: Path, old: str, new: str, source: Path = RANDOM) -> Path:
    text = source.read_text()
    assert old in text
    path = tmp_path / "changed.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("tile_rows = 4", "tile_rows = 1", "hardware.tile_rows"),
        ("tile_rows = 4", "tile_rows = 4\nspeed = 9", "hardware.speed: unknown key"),
        ("items = 24", "items = 0", "funnel.items"),
        ("items = 24", "items = '24'", "funnel.items"),
        ("keep = [10, 4]", "keep = [10, 40]", "40 > 10"),
        ("keep = [10, 4]", "keep = [10]", "2 stages"),
        ('stages = ["front", "back"]', 'stages = ["front", "rear"]', "'rear' names no model"),
        ("rows = 200", "rows = 70000", "index_bits = 16"),
        ("[features]", "[features", "not valid TOML"),
    ],
)
def test_bad_configuration(tmp_path: Path, old: str, new: str, said: str) -> None:
    code, _, error = call("compile", changed(tmp_path, old, new))
    assert code == 2
    assert said in error
    assert "Traceback" not in error


def test_missing_configuration() -> None:
    code, _, error = call("run", "no/such.toml", "--device", "golden")
    assert code == 2
    assert "no/such.toml: cannot be read" in error


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    code, _, error = call("compile", changed(tmp_path, "weight_rows = 512", "weight_rows = 16"))
    assert code == 2
    assert "weight_rows" in error
    assert "16" in error


def test_compile_explains_and_writes(tmp_path: Path) -> None:
    code, out, _ = call("compile", RANDOM, "--explain", "-o", tmp_path)
    assert code == 0
    assert "front.top.0" in out
    assert "configured" in out  # among other numbers of sub-batches
    assert (tmp_path / "image.bin").stat().st_size > 1000
    code, out, _ = call("compile", RANDOM, "--json")
    assert json.loads(out)["bytes"] > 1000


def test_quantise_reports_errors(tmp_path: Path) -> None:
    code, out, _ = call("quantise", RANDOM, "-o", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["front"]["errors"] == {}  # random models have no float ones
    text = 'calibration = "percentile"\nseed = 1 '
    code, out, _ = call("quantise", changed(tmp_path, "seed = 1 ", text, DEMO), "-o", tmp_path)
    assert code == 0
    assert "back.top.2" in out
    assert (tmp_path / "back.npz").exists()
    code, _, error = call("compile", changed(tmp_path, "seed = 1 ", "calibration = 3\n#", DEMO))
    assert code == 2
    assert "data.calibration" in error
    assert "min-max" in error
    nearest = (tmp_path / "back.npz").read_bytes()
    text = 'calibration = "percentile"\nrounding = "compensated"\nseed = 1 '
    code, _, _ = call("quantise", changed(tmp_path, "seed = 1 ", text, DEMO), "-o", tmp_path)
    assert code == 0
    assert (tmp_path / "back.npz").read_bytes() != nearest


def test_generate_writes_the_same_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        code, out, _ = call("generate", RANDOM, "-o", tmp_path / name)
        assert code == 0
        assert "rpaccel.v" in out
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    about = json.loads((tmp_path / "a" / "rpaccel.json").read_text())
    assert {"configuration", "registers", "digest"} <= set(about)


def test_run_on_the_golden_device(tmp_path: Path) -> None:
    code, out, _ = call("run", RANDOM, "--device", "golden", "-o", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["compared"] == 12
    assert json.loads((tmp_path / "report.json").read_text())["compared"] == 12


def test_the_golden_device_has_no_waveform(tmp_path: Path) -> None:
    code, _, error = call(
        "run", RANDOM, "--device", "golden", "-o", tmp_path, "--waves", tmp_path / "x.vcd"
    )
    assert code == 2
    assert "the golden device has no waveform; give a simulator" in error


@pytest.mark.parametrize(
    ("device", "expected", "message"),
    [
        ("fpga", 2, "'fpga' is not one of golden, verilator, icarus, serial:PORT"),
        ("serial:", 2, "'serial:' is not one of"),
        ("serial:/dev/no-such-port", 5, "serial:/dev/no-such-port: cannot be opened"),
        ("serial:/dev/no-such-port@9k", 5, "'9k' is no number of bits a second"),
    ],
)
def test_devices_that_are_none(
    tmp_path: Path, device: str, expected: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, _, error = call("run", RANDOM, "--device", device, "-o", tmp_path)
    assert code == expected
    assert message in error


@pytest.mark.parametrize("command", ["run", "quality", "quantise", "compile"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    code, _, error = call(command, RANDOM, "-o", tmp_path / "file" / "out")
    assert code == 2
    assert "out: cannot be made: Not a directory" in error


def test_verify_on_rtl() -> None:
    code, out, _ = call("verify", RANDOM, "--queries", 2, "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["queries"], report["results"]) == (2, 8)
    code, out, _ = call("verify", RANDOM, "--queries", 1, "--items", 3, "--seed", 5)
    assert code == 0
    assert "1 queries of 3 items" in out


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus is not installed")
def test_verify_on_icarus() -> None:
    code, out, error = call("verify", RANDOM, "--queries", 1, "--simulator", "icarus")
    assert code == 0, error
    assert "equal" in out


def test_verify_finds_a_wrong_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that drops a K tile cannot agree with the golden model."""
    from rpaccel import tiling

    right = tiling.passes

    def wrong(*arguments):
        return [
            [t for i, t in enumerate(layer) if i != 1 or t.command["final"]]
            for layer in right(*arguments)
        ]

    monkeypatch.setattr("rpaccel.stage_plan.passes", wrong)
    code, _, error = call("verify", RANDOM, "--queries", 1)
    assert code == 4
    assert "golden model" in error


def test_items_out_of_range() -> None:
    code, _, error = call("verify", RANDOM, "--items", 20_000)
    assert code == 2
    assert "16384" in error


def test_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rpaccel.verify, "verify", interrupted)
    assert call("verify", RANDOM)[0] == 130


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(rpaccel.verify, "verify", closed)
    code, output, error = call("verify", RANDOM)
    assert (code, output, error) == (1, "", "")
