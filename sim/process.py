"""Child processes that end with us: tools that write to a log, and simulations under cocotb."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

from rpaccel.errors import BuildError, MismatchError

__all__ = ["Simulation", "clean_environment", "run_logged"]

_TAIL_LINES = 20
_COMPLAINT = re.compile(r"%Error|%Fatal|\b(?:FATAL|ERROR|error): ")
_DIFFERENCES = ("AssertionError", "MismatchError")
# Left by a make that runs us, or by pytest; they would change what our children do.
_UNWANTED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTEST_CURRENT_TEST")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment for a child process, without what a parent make or pytest left in it."""
    return {name: value for name, value in environment.items() if name not in _UNWANTED}


def run_logged(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    *,
    tick: Callable[[], None] | None = None,
) -> None:
    """Run a tool to its end, its output appended to a log file.

    Parameters
    ----------
    command : list of str
    env : mapping
        The whole environment of the tool.
    cwd, log : Path
    tick : function, optional
        Called about twice a second meanwhile.

    Raises
    ------
    BuildError
        The tool failed; the message ends with the last lines of the log.
    """
    with open(log, "a") as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                if tick is not None:
                    tick()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.5)
        finally:
            _end(child)
    if child.returncode:
        name = Path(command[0]).name
        raise BuildError(f"{name} failed ({child.returncode}), see {log}:\n{_said(log)}")


class Simulation:
    """A running simulator process with cocotb tests in it.

    Use it as a context manager: leaving the block, however that happens, ends the process.

    Parameters
    ----------
    command : list of str
    env : mapping
        The whole environment of the process.
    work : Path
        Folder in which it runs, and where ``sim.log`` is written.
    results : Path
        File in which cocotb leaves its results.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], work: Path, results: Path
    ) -> None:
        self.log = work / "sim.log"
        self.results = results
        with open(self.log, "w") as output:
            self._child = subprocess.Popen(
                command,
                cwd=work,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the simulator is still running."""
        return self._child.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the number of tests passed, at least 1.

        Parameters
        ----------
        timeout : float, seconds, optional

        Raises
        ------
        MismatchError, BuildError
            As for :meth:`sim.build.Build.run`.
        """
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"simulation still running after {timeout:g} s, see {self.log}:\n{_said(self.log)}"
            ) from None
        finally:
            self.kill()
        return self._judge()

    def kill(self) -> None:
        """End the simulator and everything that it started; harmless if it has ended."""
        _end(self._child)

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def _judge(self) -> int:
        # The exit status says little: a crashed simulator and a failed test may both give 0.
        try:
            cases = list(ElementTree.parse(self.results).getroot().iter("testcase"))
        except (OSError, ElementTree.ParseError):
            status = self._child.returncode
            raise BuildError(
                f"simulation ended without results (exit status {status}), see {self.log}:\n"
                f"{_said(self.log)}"
            ) from None
        passed = 0
        for case in cases:
            for failure in (*case.iter("failure"), *case.iter("error")):
                kind = MismatchError if failure.get("type") in _DIFFERENCES else BuildError
                reason = failure.get("message") or (failure.text or "").strip() or "no reason given"
                # A failed comparison says all there is to say; what broke otherwise is in the log.
                more = f"\n{_said(self.log)}" if kind is BuildError else ""
                raise kind(f"{case.get('name')} failed, see {self.log}: {reason}{more}")
            passed += case.find("skipped") is None
        if not passed:
            raise BuildError(f"simulation ran no test, see {self.log}:\n{_said(self.log)}")
        if self._child.returncode:
            raise BuildError(
                f"simulator ended with status {self._child.returncode}, see {self.log}:\n"
                f"{_said(self.log)}"
            )
        return passed


def _said(log: Path) -> str:
    """What a tool complained about in its log, or else the end of it."""
    lines = log.read_text(errors="replace").splitlines()
    complaints = [line for line in lines if _COMPLAINT.search(line)]
    return "\n".join(complaints[:_TAIL_LINES] or lines[-_TAIL_LINES:])


def _end(child: subprocess.Popen) -> None:
    """End a process and its group, gently first."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            child.wait(2)
