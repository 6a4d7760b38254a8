"""A standard-cell library in Liberty: what synthesis maps to, and what its cells take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from rpaccel.errors import ToolError

__all__ = ["FLIP_FLOP", "Cell", "Library", "find", "read"]

DEBIAN_PACKAGE = "qflow-tech-osu018"
INSTALLED = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
FLIP_FLOP = "DFFPOSX1"

_TOKEN = re.compile(r'"[^"]*"|[\w.+\-!\']+|[^\s\w]')
_POINT = 1
"""Index in the library's tables of energy: the second lightest load, the second fastest slope."""


class Group:
    """A group of Liberty: ``name(arguments) { attributes and groups }``."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments
        self.values: dict[str, str | list[str]] = {}
        self.groups: list[Group] = []

    def all(self, name: str) -> Iterator[Group]:
        """Groups of a name that are directly in this one."""
        return (group for group in self.groups if group.name == name)

    def number(self, name: str) -> float:
        """A simple attribute that is a number; 0 if it is missing."""
        value = self.values.get(name, "0")
        assert isinstance(value, str)
        return float(value)


def _arguments(tokens: Iterator[str]) -> list[str]:
    found = []
    for token in tokens:
        if token == ")":
            break
        if token not in (",", "\\"):
            found.append(token.strip('"'))
    return found


def _body(group: Group, tokens: Iterator[str]) -> None:
    """Read what is in a group, up to its closing brace."""
    for name in tokens:
        if name == "}":
            return
        if name in (";", "\\"):
            continue
        mark = next(tokens)
        if mark == ":":
            words = []
            for token in tokens:
                if token == ";":
                    break
                words.append(token.strip('"'))
            group.values[name] = " ".join(words)
            continue
        arguments = _arguments(tokens)
        mark = next(tokens)
        if mark == "{":
            inner = Group(name, arguments)
            _body(inner, tokens)
            group.groups.append(inner)
        else:
            group.values[name] = arguments


def _energy(table: Group) -> float:
    """Energy of a table at the point that stands for all, pJ."""
    rows = table.values["values"]
    assert isinstance(rows, list)
    row = rows[min(_POINT, len(rows) - 1)]
    return float(row.split(",")[_POINT])


def _energies(pin: Group, name: str) -> list[float]:
    return [
        _energy(table)
        for group in pin.all("internal_power")
        for table in group.all(f"{name}_power")
    ]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    um2 : float
    toggle_pj : float
        Energy of a change of its output inside it, and of one of each of its inputs (but a clock):
        internal energy, and half of C V^2 of the inputs, which are what loads the nets.
    clock_pj : float
        Energy of a clock cycle, both edges and the clock net.
    leakage_nw : float
    """

    um2: float
    toggle_pj: float
    clock_pj: float
    leakage_nw: float


class Library:
    """Cells of a Liberty file by name.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def cells(self) -> Mapping[str, Cell]:
        """All cells."""
        text = re.sub(r"(?s)/\*.*?\*/", "", self.path.read_text(encoding="utf-8"))
        root = Group("", [])
        _body(root, iter(_TOKEN.findall(text)))
        (library,) = root.all("library")
        volts = library.number("nom_voltage")
        return {group.arguments[0]: _cell(group, volts) for group in library.all("cell")}


def _cell(group: Group, volts: float) -> Cell:
    toggle = clock = 0.0
    for pin in group.all("pin"):
        charge = pin.number("capacitance") * volts**2
        rise, fall = _energies(pin, "rise"), _energies(pin, "fall")
        if pin.values.get("clock") == "true":
            clock += charge + fmean(rise) + fmean(fall)
            continue
        if rise and fall:
            toggle += (fmean(rise) + fmean(fall)) / 2
        if pin.values.get("direction") == "input":
            toggle += charge / 2
    return Cell(group.number("area"), toggle, clock, group.number("cell_leakage_power"))


def find() -> Path:
    """Where the library is: ``RPACCEL_LIBERTY``, else where Debian's package puts it.

    Raises
    ------
    ToolError
        It is not there.
    """
    path = Path(os.environ.get("RPACCEL_LIBERTY") or INSTALLED)
    if not path.is_file():
        raise ToolError(
            f"no standard-cell library at {path}; on Debian: apt install {DEBIAN_PACKAGE}, or name "
            f"the file osu018_stdcells.lib in RPACCEL_LIBERTY"
        )
    return path


def read() -> Library:
    """Find the library.

    Raises
    ------
    ToolError
        It is not there, or has no flip-flop of the name that is needed.
    """
    library = Library(find())
    if FLIP_FLOP not in library.cells:
        raise ToolError(f"{library.path} has no cell {FLIP_FLOP}: OSU's 180 nm library is needed")
    return library
