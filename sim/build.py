"""Simulators of Verilog designs for cocotb: built once, cached, and run in their own process.

A build is cached under a digest of everything that went into it: sources, options, tool versions,
compiler flags. A stale simulator therefore cannot be run, and equal designs share one.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NoReturn

import cocotb_tools.config
from cocotb_tools import runner as cocotb_runner

from rpaccel.errors import BuildError, ConfigError
from sim.process import Simulation, clean_environment, run_logged
from sim.progress import status
from sim.toolchain import cache_root, cxx_version, iverilog, locked, verilator, version
from sim.verilog import control_file

__all__ = ["Build", "build"]

FORMAT = 1  # counts changes of this module that make old cache entries wrong

# Wide designs compile several times longer at -O2 for a fifth more speed, and are simulated for few
# cycles each; small ones are simulated for many.
_OPTIMISE_LIMIT = 400_000  # characters of Verilog from which on the generated C++ is built for size
_TIMESCALE = ("1ns", "1ps")


@dataclass(frozen=True)
class Build:
    """A simulator that is ready to run.

    Attributes
    ----------
    simulator : str
        ``verilator`` or ``icarus``.
    toplevel : str
        Module that cocotb sees as ``dut``.
    directory : Path
        Cache entry; nothing may be written there.
    waves : bool
        Whether a run can record a waveform.
    """

    simulator: str
    toplevel: str
    directory: Path
    waves: bool

    def start(
        self,
        module: str,
        *,
        work: Path | str,
        testcase: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        plusargs: Mapping[str, object] | Sequence[str] = (),
        waves: Path | str | None = None,
    ) -> Simulation:
        """Start a cocotb test module in a simulator process of its own.

        Parameters
        ----------
        module : str
            Importable name of the module with the cocotb tests.
        work : path
            Folder for the log and the results, created if missing; the process runs in it.
        testcase : str or list of str, optional
            Tests to run; all of the module by default.
        env : mapping, optional
            Additional environment variables.
        seed : int, optional
            Seed of cocotb's random numbers.
        plusargs : mapping of name to value, or list of ``+name=value``
            What ``$value$plusargs`` sees.
        waves : path, optional
            VCD file to write; the build must have been made with ``waves=True``.

        Raises
        ------
        ConfigError
            ``waves`` is given but the build cannot record any.
        """
        if waves is not None and not self.waves:
            raise ConfigError("this simulator was built without waves; build it with waves=True")
        if isinstance(plusargs, Mapping):
            plusargs = [f"+{name}={value}" for name, value in plusargs.items()]
        work = Path(work).absolute()
        wave_file = Path(waves).absolute() if waves is not None else None
        results = work / "results.xml"
        command = _capture(
            _RUNNERS[self.simulator](wave_file is not None).test,
            test_module=module,
            hdl_toplevel=self.toplevel,
            hdl_toplevel_lang="verilog",
            testcase=testcase,
            seed=seed,
            plusargs=[*plusargs, *self._wave_arguments(wave_file)],
            extra_env={"COCOTB_LOG_LEVEL": "INFO", **(env or {})},
            build_dir=self.directory,
            test_dir=work,
            results_xml=str(results),
        )
        environment = clean_environment(command.env)
        # The runner lets the caller's environment win; here what was asked for does.
        environment.update(env or {})
        for file in (results, work / "sim.log"):
            file.unlink(missing_ok=True)
        # Icarus writes FST for the runner; both simulators write VCD here.
        arguments = [
            "-vcd" if argument == "-fst" else argument for argument in command.commands[-1]
        ]
        return Simulation(arguments, environment, work, results)

    def run(
        self,
        module: str,
        *,
        work: Path | str,
        timeout: float | None = None,
        **options: Any,
    ) -> int:
        """Run a cocotb test module to its end; options as for :meth:`start`.

        Parameters
        ----------
        timeout : float, seconds, optional
            Limit after which the simulator is ended.

        Returns
        -------
        passed : int
            Number of tests that passed, at least 1.

        Raises
        ------
        MismatchError
            A test failed with an assertion or a :class:`~rpaccel.errors.MismatchError`.
        BuildError
            A test failed otherwise, none ran, the simulator crashed, or it took too long.
        """
        with self.start(module, work=work, **options) as simulation:
            return simulation.wait(timeout)

    def _wave_arguments(self, file: Path | None) -> list[str]:
        if file is None:
            return []
        file.parent.mkdir(parents=True, exist_ok=True)
        if self.simulator == "verilator":
            return ["--trace-file", str(file)]
        return [f"+dumpfile_path={file}"]


def build(
    sources: Mapping[str, str],
    toplevel: str,
    *,
    simulator: str = "verilator",
    waves: bool = False,
    parameters: Mapping[str, object] | None = None,
    macros: Mapping[str, object] | None = None,
    public: Mapping[str, Sequence[str]] | None = None,
    no_inline: Sequence[str] = (),
    optimise: str | None = None,
    quiet: bool = False,
) -> Build:
    """Build a simulator of a Verilog design, or find it in the cache.

    Processes that ask for the same simulator at the same time build it once. An interrupted build
    leaves nothing behind.

    Parameters
    ----------
    sources : mapping of file name to Verilog text
    toplevel : str
        Name of the top-level module. Its ports are what cocotb can see.
    simulator : {"verilator", "icarus"}
    waves : bool
        Make recording of waveforms possible (slower).
    parameters, macros : mapping of name to value, optional
        Of the top level, and of the preprocessor. Strings are taken literally.
    public : mapping of module name to signal names, optional
        Signals besides the top level's ports that cocotb must see; each costs speed.
    no_inline : list of module names
        Modules that Verilator compiles once however many instances there are.
    optimise : str, optional
        C++ optimisation option such as ``-O2``; chosen by the size of the sources by default.
    quiet : bool
        Show no progress.

    Raises
    ------
    ConfigError
        The simulator is unknown.
    ToolError
        The simulator, g++ or make is missing.
    BuildError
        The tools refuse the design; the message ends with what they said.
    """
    if simulator not in _RUNNERS:
        raise ConfigError(f"simulator must be one of {', '.join(_RUNNERS)}, not {simulator!r}")
    if optimise is None:
        small = sum(map(len, sources.values())) < _OPTIMISE_LIMIT
        optimise = "-O2" if small else "-Os"
    control = ""
    if simulator == "verilator":
        control = control_file(sources, toplevel, public or {}, no_inline)
    recipe = _Recipe(
        dict(sources),
        toplevel,
        simulator,
        waves,
        dict(parameters or {}),
        dict(macros or {}),
        control,
        optimise,
        *_tools(simulator),
    )
    root = cache_root() / "simulators"
    if " " in str(root):
        raise BuildError(f"make cannot build in {root}: set RPACCEL_CACHE to a path without spaces")
    entry = root / f"{toplevel}-{recipe.digest()}"
    if not (entry / "recipe.json").is_file():
        label = f"building the {simulator} simulator of {toplevel}"
        with status(label, quiet=quiet) as say, locked(root / f"{entry.name}.lock"):
            if not (entry / "recipe.json").is_file():
                _make(recipe, entry, say)
    return Build(simulator, toplevel, entry, waves)


@dataclass(frozen=True)
class _Recipe:
    """Everything that decides what a simulator does."""

    sources: dict[str, str]
    toplevel: str
    simulator: str
    waves: bool
    parameters: dict[str, object]
    macros: dict[str, object]
    control: str
    optimise: str
    tool: str
    tool_version: str
    compiler: str
    cocotb: str

    def digest(self) -> str:
        return _digest({"format": FORMAT, **vars(self)})

    def runtime_digest(self) -> str:
        """Of what decides Verilator's own run-time objects, which no design changes."""
        return _digest([FORMAT, self.waves, self.tool, self.tool_version, self.compiler])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tools(simulator: str) -> tuple[str, str, str, str]:
    # The simulator links to this environment's cocotb by path.
    cocotb = f"{package_version('cocotb')} {cocotb_tools.config.libs_dir} {sys.executable}"
    if simulator == "icarus":
        tool = iverilog()
        return str(tool), version(tool, "-V"), "", cocotb
    tool = verilator()
    return str(tool), version(tool), cxx_version(), cocotb


class _Captured(BaseException):
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
        raise _Captured([list(command) for command in cmds], dict(self.env))


class _Verilator(_Deferred, cocotb_runner.Verilator):
    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator())


class _Icarus(_Deferred, cocotb_runner.Icarus):
    def _simulator_in_path(self) -> None:
        iverilog()


_RUNNERS: dict[str, Any] = {"verilator": _Verilator, "icarus": _Icarus}


def _capture(method: Any, **arguments: Any) -> _Captured:
    try:
        method(**arguments)
    except _Captured as captured:
        return captured
    raise AssertionError("the cocotb runner ran nothing")


def _make(recipe: _Recipe, entry: Path, say: Any) -> None:
    """Build in a temporary folder and move the parts that a run needs into place in one step."""
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


def _commands(recipe: _Recipe, work: Path, files: list[Path], build_args: list[str]) -> _Captured:
    captured = _capture(
        _RUNNERS[recipe.simulator](recipe.waves).build,
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


def _make_verilator(recipe: _Recipe, work: Path, files: list[Path], log: Path, say: Any) -> Path:
    control = work / "control.vlt"
    control.write_text(recipe.control)
    options = [
        *["-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing"],
        # Style is what sim.lint is for; a simulator of what was generated is wanted here.
        *["-Wno-lint", "-Wno-style", "-Wno-fatal"],
        str(control),
    ]
    captured = _commands(recipe, work, files, options)
    generate, make = captured.commands
    generate.remove("--public-flat-rw")  # the control file names the ports instead: 4x faster
    make.append(f"OPT_FAST={recipe.optimise}")
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


def _make_icarus(recipe: _Recipe, work: Path, files: list[Path], log: Path, say: Any) -> Path:
    captured = _commands(recipe, work, files, [])
    log.unlink(missing_ok=True)
    say("compiling")
    for command in captured.commands:
        run_logged(command, captured.env, work, log)
    return work / "sim.vvp"
