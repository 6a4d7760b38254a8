"""What may import what, so that gateware and golden model cannot lean on each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sim import generated

ROOT = Path(__file__).parents[1]
OURS = {"rpaccel", "rtl_gen", "sim", "sw_model", "tests"}
CONTRACT = {f"rpaccel.{name}" for name in generated.CONTRACT}
GATEWARE_TOOLS = {"amaranth", "amaranth_boards", "cocotb", "cocotb_tools", "cocotbext"}
COMMAND_LINE = {"rpaccel.cli"} | {
    f"rpaccel.{path.stem}" for path in (ROOT / "rpaccel").glob("cli_*.py")
}


def imports(path, *, top_level_only=False):
    """Full names of all modules that a file imports, function bodies included unless told not."""
    tree = ast.parse(path.read_text())
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = (node.module or "").split(".")
            if node.level:
                inside = path.relative_to(ROOT).parent.parts
                package = [*inside[: len(inside) - node.level + 1], *filter(None, package)]
            module = ".".join(package)
            yield module
            # `from rpaccel import abi` names a module as much as `import rpaccel.abi` does.
            if module in OURS:
                yield from (f"{module}.{alias.name}" for alias in node.names)
        is_body = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not (top_level_only and is_body):
            pending.extend(ast.iter_child_nodes(node))


def roots(names):
    return {name.partition(".")[0] for name in names}


def files(*names):
    found = []
    for name in names:
        path = ROOT / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert found, names
    return found


def test_this_test_sees_imports():
    path = ROOT / "tests" / "x.py"
    text = "import a.b\nfrom rpaccel import abi\ndef f():\n from c.d import e\n from . import g\n"
    fake = type("Fake", (), {"read_text": lambda self: text, "relative_to": path.relative_to})()
    assert set(imports(fake)) == {"a.b", "rpaccel", "rpaccel.abi", "c.d", "tests", "tests.g"}
    assert set(imports(fake, top_level_only=True)) == {"a.b", "rpaccel", "rpaccel.abi"}


@pytest.mark.parametrize("module", sorted(CONTRACT))
def test_contract_needs_only_its_configuration_library(module):
    path = ROOT / f"{module.replace('.', '/')}.py"
    found = set(imports(path))
    assert roots(found) <= set(sys.stdlib_module_names) | {"pydantic", "rpaccel"}
    assert {name for name in found if name.startswith("rpaccel.")} <= CONTRACT


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("rtl_gen", {"numpy", "sw_model", "sim", "cocotb", "cocotbext", "tests"}),
        ("sw_model", {"rtl_gen", "sim", "tests"} | GATEWARE_TOOLS),
    ],
)
def test_gateware_and_golden_model_know_only_the_contract(package, forbidden):
    for path in files(package):
        found = set(imports(path))
        assert not roots(found) & forbidden, path
        assert {name for name in found if name.startswith("rpaccel.")} <= CONTRACT, path


@pytest.mark.parametrize(
    "module", ["descriptor", "driver", "load", "schedule", "serial", "serve", "transport"]
)
def test_host_software_runs_without_gateware_tools(module):
    path = ROOT / "rpaccel" / module
    candidates = [path, path.with_suffix(".py")]
    for file in [f for c in candidates if c.exists() for f in files(c.relative_to(ROOT))]:
        assert not roots(imports(file)) & (GATEWARE_TOOLS | {"rtl_gen", "sim"}), file


@pytest.mark.parametrize("module", sorted(COMMAND_LINE))
def test_command_line_imports_in_its_subcommands(module):
    path = ROOT / f"{module.replace('.', '/')}.py"
    found = set(imports(path, top_level_only=True))
    assert roots(found) <= set(sys.stdlib_module_names) | {"rpaccel", "rich", "typer"}
    assert {name for name in found if name.startswith("rpaccel.")} <= COMMAND_LINE | {
        "rpaccel.errors"
    }


def test_command_line_help_loads_nothing_heavy():
    script = "import sys, rpaccel.cli\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"amaranth", "cocotb", "matplotlib", "numpy", "pydantic", "rtl_gen", "sim", "sw_model"}
    assert not set(done.stdout.split()) & heavy
