"""Verilator's linter, all warnings on, with waivers that say why."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpaccel.errors import BuildError
from sim.toolchain import verilator

__all__ = ["WAIVERS", "Waiver", "lint"]


@dataclass(frozen=True)
class Waiver:
    """A warning that is not a mistake, and the reason why.

    Attributes
    ----------
    rule : str
        Verilator's name of the warning.
    reason : str
        Why it says nothing here; never empty.
    file : str
        File name pattern it applies to.
    match : str, optional
        Pattern of the warning's text; any text by default.
    """

    rule: str
    reason: str
    file: str = "*"
    match: str | None = None

    def __post_init__(self) -> None:
        """Refuse a waiver without a reason."""
        if not self.reason.strip():
            raise ValueError(f"waiver of {self.rule} must give a reason")

    def control(self) -> str:
        """Line of a Verilator control file."""
        match = f' -match "{self.match}"' if self.match else ""
        return f'// {self.reason}\nlint_off -rule {self.rule} -file "{self.file}"{match}\n'


_GENERATED = "*rpaccel.v"

# Of the Verilog that `rpaccel generate` writes; tests/test_rtl_gen_generate.py checks that each is
# needed. In generated text these are matters of style: Amaranth checked widths and drivers before.
WAIVERS = (
    Waiver(
        "BLKSEQ",
        "the macro's model reads before it writes, in one process that nothing else looks into",
        file="*rpaccel_sram.v",
    ),
    Waiver("ASCRANGE", "a field without bits is declared [-1:0]; nothing reads it", _GENERATED),
    Waiver("CASEINCOMPLETE", "what a case assigns has a value before it", _GENERATED),
    Waiver("DECLFILENAME", "all modules of the machine are in one file", _GENERATED),
    Waiver("PROCASSINIT", "a register's declaration names its value at power-up", _GENERATED),
    Waiver("UNUSEDSIGNAL", "each field of a structure is declared, used or not", _GENERATED),
    Waiver("WIDTHEXPAND", "operands are written at their own width, unsigned", _GENERATED),
    Waiver("WIDTHTRUNC", "'! x' is written for x == 0", _GENERATED, "*LOGNOT*"),
    Waiver("WIDTHTRUNC", "the low bits of a right shift are a selection", _GENERATED, "*SHIFTR*"),
)


def lint(
    sources: Mapping[str, str],
    toplevel: str,
    *,
    waivers: Sequence[Waiver] = (),
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Check Verilog text with every warning of Verilator turned on.

    Parameters
    ----------
    sources : mapping of file name to Verilog text
    toplevel : str
    waivers : list of Waiver, optional
    parameters : mapping of name to value, optional
        Of the top level, taken literally.

    Raises
    ------
    ToolError
        Verilator, g++ or make is missing.
    BuildError
        There are errors or warnings without a waiver; the message lists them.
    """
    with tempfile.TemporaryDirectory(prefix="rpaccel-lint-") as folder:
        control = Path(folder) / "waivers.vlt"
        control.write_text("`verilator_config\n" + "".join(w.control() for w in waivers))
        files = [Path(folder) / name for name in sources]
        for file, text in zip(files, sources.values(), strict=True):
            file.write_text(text)
        options = [f"-G{name}={value}" for name, value in (parameters or {}).items()]
        command = [str(verilator()), "--lint-only", "-Wall", "--quiet", "--no-timing", *options]
        done = subprocess.run(
            [*command, "--top-module", toplevel, control.name, *(file.name for file in files)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if done.returncode or "%Warning" in done.stderr:
        raise BuildError(f"lint of {toplevel}:\n{done.stderr.strip() or done.stdout.strip()}")
