"""How often bits change and memories are used in a machine that works on queries, from SAIF."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Activity", "Scope", "difference", "read_saif"]

_LINE = re.compile(
    r"\((?P<instance>INSTANCE) (?P<name>[^\s()]+)"
    r"|\((?P<net>\S+?)(?:\\\[\d+\\\])? \(T0 \d+\) ?\(T1 (?P<high>\d+)\).*?\(TC (?P<changes>\d+)\)"
)
_CLOCK = "clk"


@dataclass
class Scope:
    """Nets of one module instance.

    Attributes
    ----------
    bits : int
    changes : int
        Of all bits together.
    nets : dict of name to (bits, time high, changes)
        Bits of a net together.
    """

    bits: int = 0
    changes: int = 0
    nets: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, name: str, high: int, changes: int) -> None:
        """Count a bit."""
        self.bits += 1
        self.changes += changes
        bits, before, changed = self.nets.get(name, (0, 0, 0))
        self.nets[name] = bits + 1, before + high, changed + changes


@dataclass
class Activity:
    """Scopes by path, below the machine's top module; ``cycles`` clock cycles."""

    cycles: int
    scopes: dict[tuple[str, ...], Scope]
    period: int
    """Time of a clock cycle, in the unit of the nets' times."""


def _events(path: Path) -> Iterator[tuple[int, re.Match[str]]]:
    """Instances and nets of a file, each with the depth of brackets before it."""
    depth = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            match = _LINE.search(line)
            if match is not None:
                yield depth, match
            depth += line.count("(") - line.count(")")


def read_saif(path: Path, top: str) -> Activity:
    """Read what Verilator counted of the instance ``top`` and of all below it.

    Parameters
    ----------
    path : path
    top : str
        Name of the instance.
    """
    scopes: defaultdict[tuple[str, ...], Scope] = defaultdict(Scope)
    stack: list[tuple[int, str]] = []
    cycles = high = 0
    for depth, match in _events(path):
        if match["instance"]:
            while stack and stack[-1][0] >= depth:
                stack.pop()
            stack.append((depth, match["name"].replace("\\", "")))
            continue
        names = [name for _, name in stack]
        if top not in names:
            continue
        below = tuple(names[names.index(top) + 1 :])
        net, changes = match["net"].replace("\\", ""), int(match["changes"])
        if net == _CLOCK:
            if not below:
                cycles, high = changes // 2, int(match["high"])
            continue
        scopes[below].add(net, int(match["high"]), changes)
    return Activity(cycles, dict(scopes), round(2 * high / max(1, cycles)))


def difference(longer: Activity, shorter: Activity) -> Activity:
    """What the longer of two runs did beyond the shorter one, which it begins with."""
    scopes = {}
    for path, scope in longer.scopes.items():
        before = shorter.scopes[path]
        nets = {
            name: (bits, high - before.nets[name][1], changes - before.nets[name][2])
            for name, (bits, high, changes) in scope.nets.items()
        }
        scopes[path] = Scope(scope.bits, scope.changes - before.changes, nets)
    return Activity(longer.cycles - shorter.cycles, scopes, longer.period)
