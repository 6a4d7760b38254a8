"""Simulators of Verilog designs for cocotb: built once, cached, and run in their own process.

A build is cached under a digest of everything that went into it: sources, options, tool versions,
compiler flags. A stale simulator therefore cannot be run, and equal designs share one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rpaccel.errors import BuildError, ConfigError
from sim.process import Simulation, clean_environment
from sim.progress import status
from sim.recipe import RUNNERS, Recipe, capture, make, tools
from sim.toolchain import cache_root, locked
from sim.verilog import control_file

__all__ = ["Build", "build"]

# Characters of Verilog. Below the first limit C++ is compiled with -O2, else with -Og: the demo's
# machine (1.7 million) at -O1 is an eighth faster, but takes twice as long to compile, which pays
# from some million cycles on. From the second on, modules are compiled once: Table 3 (6.2 million).
_SMALL, _LARGE = 400_000, 5_000_000


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
    waves : bool or "saif"
        Whether a run can record a waveform, or count in SAIF how often each bit changes.
    """

    simulator: str
    toplevel: str
    directory: Path
    waves: bool | str

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
            VCD or SAIF file to write; the build must have been made with ``waves``.

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
        command = capture(
            RUNNERS[self.simulator](wave_file is not None).test,
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
    waves: bool | Literal["saif"] = False,
    parameters: Mapping[str, object] | None = None,
    macros: Mapping[str, object] | None = None,
    public: Mapping[str, Sequence[str]] | None = None,
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
    waves : bool or "saif"
        Make recording of waveforms possible (slower), or, with Verilator, counting of changes.
    parameters, macros : mapping of name to value, optional
        Of the top level, and of the preprocessor. Strings are taken literally.
    public : mapping of module name to signal names, optional
        Signals besides the top level's ports that cocotb must see; each costs speed.
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
    if simulator not in RUNNERS:
        raise ConfigError(f"simulator must be one of {', '.join(RUNNERS)}, not {simulator!r}")
    size = sum(map(len, sources.values()))
    large = size >= _LARGE
    if optimise is None:
        optimise = "-O2" if size < _SMALL else "-Og"
    control = ""
    if simulator == "verilator":
        control = control_file(sources, toplevel, public or {}, apart=large)
    recipe = Recipe(
        dict(sources),
        toplevel,
        simulator,
        waves,
        dict(parameters or {}),
        dict(macros or {}),
        control,
        optimise,
        large,
        *tools(simulator),
    )
    root = cache_root() / "simulators"
    if " " in str(root):
        raise BuildError(f"make cannot build in {root}: set RPACCEL_CACHE to a path without spaces")
    entry = root / f"{toplevel}-{recipe.digest()}"
    if not (entry / "recipe.json").is_file():
        label = f"building the {simulator} simulator of {toplevel}"
        with status(label, quiet=quiet) as say, locked(root / f"{entry.name}.lock"):
            if not (entry / "recipe.json").is_file():
                make(recipe, entry, say)
    return Build(simulator, toplevel, entry, waves)
