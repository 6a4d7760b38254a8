"""How a simulator is built: everything that decides what it does, and the tools that make it."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NoReturn

import cocotb_tools.config
from cocotb_tools import runner as cocotb_runner

from sim.process import clean_environment, run_logged
from sim.toolchain import cache_root, cxx_version, iverilog, libpython, verilator, version
from sim.verilog import start_blocks

__all__ = ["RUNNERS", "Captured", "Recipe", "capture", "make", "tools"]

FORMAT = 3  # counts changes of this module that make old cache entries wrong

Say = Callable[[str], None]

_TIMESCALE = ("1ns", "1ps")
_VERILATOR_OPTIONS = (
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing"),
    # Style is what sim.lint is for; a simulator of what was generated is wanted here.
    *("-Wno-lint", "-Wno-style", "-Wno-fatal"),
)
# Small functions are more often the same in all instances of a module, and then compiled once
# (docs/decisions/0001-scale-skeleton.md).
_SMALL_OPTIONS = ("--output-split-cfuncs", "100")
# Scoped DFG writes the expressions behind a module's inputs into the module, another one in each
# instance: Table 3 is half the C++ without it, a demo a third slower.
_LARGE_OPTIONS = (
    "-fno-dfg-scoped",
    *("--output-split-cfuncs", "500"),  # with 100, ten times as many files for a symbol table
    *("--output-split", "100000"),
)
_SAIF_OPTIONS = ("--trace-saif", "--trace-max-width", "0")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a simulator does.

    One that is not ``large`` is compiled as two files of C++, not as dozens, whose common headers
    cost more than half.
    """

    sources: dict[str, str]
    toplevel: str
    simulator: str
    waves: bool | str
    parameters: dict[str, object]
    macros: dict[str, object]
    control: str
    optimise: str
    large: bool
    tool: str
    tool_version: str
    compiler: str
    cocotb: str

    @property
    def options(self) -> list[str]:
        """Verilator's options."""
        return [
            *_VERILATOR_OPTIONS,
            *(_LARGE_OPTIONS if self.large else _SMALL_OPTIONS),
            *(_SAIF_OPTIONS if self.waves == "saif" else ()),
        ]

    def digest(self) -> str:
        """Name of the simulator that this recipe gives, and no other does."""
        return _digest([FORMAT, _TIMESCALE, self.options, vars(self)])

    def runtime_digest(self) -> str:
        """Of what decides Verilator's own run-time objects, which no design changes."""
        options = [FORMAT, _VERILATOR_OPTIONS, self.waves]
        return _digest([*options, self.tool, self.tool_version, self.compiler])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tools(simulator: str) -> tuple[str, str, str, str]:
    """Path and version of a simulator, and versions of the compiler and of cocotb."""
    libpython()  # needed only when it runs, but better missed now than after a long build
    # The simulator links to this environment's cocotb by path.
    cocotb = f"{package_version('cocotb')} {cocotb_tools.config.libs_dir} {sys.executable}"
    if simulator == "icarus":
        tool = iverilog()
        return str(tool), version(tool, "-V"), "", cocotb
    tool = verilator()
    return str(tool), version(tool), cxx_version(), cocotb


class Captured(BaseException):
    """Commands that the cocotb runner would have run, in place of running them."""

    def __init__(self, commands: list[list[str]], env: dict[str, str]) -> None:
        super().__init__(commands)
        self.commands = commands
        self.env = env


class _Deferred:
    """Mixin of a cocotb runner that says what it would run: here it runs under our control."""

    env: dict[str, str]

    def __init__(self, waves: bool) -> None:
        self._waves = waves
        super().__init__()

    # The runner would let WAVES and GUI in the environment decide; the recipe does.
    waves = property(lambda self: self._waves, lambda self, value: None)
    gui = property(lambda self: False, lambda self, value: None)

    def _execute(self, cmds: Sequence[Sequence[str]], cwd: object) -> NoReturn:
        raise Captured([list(command) for command in cmds], dict(self.env))


class _Verilator(_Deferred, cocotb_runner.Verilator):
    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator())


class _Icarus(_Deferred, cocotb_runner.Icarus):
    def _simulator_in_path(self) -> None:
        iverilog()


RUNNERS: dict[str, Any] = {"verilator": _Verilator, "icarus": _Icarus}


def capture(method: Any, **arguments: Any) -> Captured:
    """Call a cocotb runner's ``build`` or ``test`` and return the commands it would run."""
    try:
        method(**arguments)
    except Captured as captured:
        return captured
    raise AssertionError("the cocotb runner ran nothing")


def make(recipe: Recipe, entry: Path, say: Say) -> None:
    """Build a simulator into a cache entry; the caller holds the entry's lock.

    All happens in a temporary folder; what a run needs is moved into place in one step at the end.

    Raises
    ------
    BuildError
        A tool failed; its log stays beside the entry.
    """
    work = entry.with_name(f"{entry.name}.tmp")
    kept = entry.with_name(f"{entry.name}.new")
    for folder in (work, kept, entry):
        shutil.rmtree(folder, ignore_errors=True)
    log = entry.with_name(f"{entry.name}.log")
    try:
        (work / "sources").mkdir(parents=True)
        files = []
        for name, text in recipe.sources.items():
            files.append(work / "sources" / name)
            files[-1].write_text(text)
        if recipe.simulator == "verilator":
            product = _make_verilator(recipe, work, files, log, say)
        else:
            product = _make_icarus(recipe, work, files, log, say)
        kept.mkdir()
        shutil.move(product, kept / product.name)
        shutil.move(work / "sources", kept / "sources")
        shutil.copy(log, kept / "build.log")
        described = {**vars(recipe), "sources": list(recipe.sources)}
        (kept / "recipe.json").write_text(json.dumps(described, indent=2, default=repr))
        kept.rename(entry)
        log.unlink()
    finally:
        for folder in (work, kept):
            shutil.rmtree(folder, ignore_errors=True)


def _commands(recipe: Recipe, work: Path, files: list[Path], build_args: list[str]) -> Captured:
    captured = capture(
        RUNNERS[recipe.simulator](bool(recipe.waves)).build,
        sources=files,
        hdl_toplevel=recipe.toplevel,
        parameters=recipe.parameters,
        defines=recipe.macros,
        build_args=build_args,
        build_dir=work,
        timescale=_TIMESCALE,
        always=True,
    )
    captured.env = clean_environment(captured.env)
    return captured


def _make_verilator(recipe: Recipe, work: Path, files: list[Path], log: Path, say: Say) -> Path:
    control = work / "control.vlt"
    control.write_text(recipe.control)
    captured = _commands(recipe, work, files, [*recipe.options, str(control)])
    generate, make = captured.commands
    generate.remove("--public-flat-rw")  # the control file names the ports instead: 4x faster
    make.append(f"OPT_FAST={recipe.optimise}")
    if not recipe.large:
        make.append("VM_PARALLEL_BUILDS=0")
    if ccache := shutil.which("ccache"):
        make.append(f"OBJCACHE={ccache}")
    log.unlink(missing_ok=True)
    say("verilating")
    run_logged(generate, captured.env, work, log)
    runtime = cache_root() / "simulators" / f"runtime-{recipe.runtime_digest()}"
    _use_runtime(runtime, work)
    total = len(list(work.glob("*.cpp"))) + 4

    def progress() -> None:
        say(f"compiling, {len(list(work.glob('*.o')))} of about {total} files")

    run_logged(make, captured.env, work, log, tick=progress)
    _keep_runtime(runtime, work)
    return work / recipe.toplevel


def _use_runtime(runtime: Path, work: Path) -> None:
    """Put Verilator's run-time objects where make finds them up to date: saves most of a minute."""
    for file in runtime.glob("*.o"):
        shutil.copy(file, work)


def _keep_runtime(runtime: Path, work: Path) -> None:
    if runtime.is_dir():
        return
    fresh = runtime.with_name(f"{runtime.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    # verilator.o is cocotb's main program, which includes the design's own header.
    for file in work.glob("verilated*.o"):
        shutil.copy(file, fresh)
    with suppress(OSError):  # another process was first
        fresh.rename(runtime)
    shutil.rmtree(fresh, ignore_errors=True)


def _make_icarus(recipe: Recipe, work: Path, files: list[Path], log: Path, say: Say) -> Path:
    for file in files:
        text = file.read_text()
        if text.startswith("/* Generated by "):
            file.write_text(start_blocks(text))
    captured = _commands(recipe, work, files, [])
    log.unlink(missing_ok=True)
    say("compiling")
    for command in captured.commands:
        run_logged(command, captured.env, work, log)
    return work / "sim.vvp"
