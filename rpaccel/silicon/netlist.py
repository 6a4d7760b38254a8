"""A machine's Verilog as a tree of modules: what instances there are, and which are memories."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from rpaccel.silicon.sram import Memory

__all__ = ["MACRO_BITS", "SRAM", "STATIC", "Instance", "Module", "Netlist", "parse"]

MACRO_BITS = 1024
"""Memories of the RAM component with fewer bits are flip-flops."""

SRAM, STATIC = "rpaccel_sram", "rpaccel_static"

_MODULE = re.compile(r"(?m)^module (\\?\S+?) ?\(")
_INSTANCE = re.compile(
    r"(?m)^  (\\?[\w.$]+) +(?:#\(([^;]*?)\) )?(?:\\(\S+) |([\w$]+)) +\((?=\n    \.)"
)
_PORT = re.compile(r"(?m)^  (?:input|output) [^;]*;$")
_STORE = re.compile(r"(?m)^  reg (?:\[(\d+):0\] )?memory \[(\d+):0\];$")
_PARAMETER = re.compile(r"\.(\w+)\((?:\d+'d)?(\d+)\)")
_BOX = re.compile(r"(?ms)^module .*?^\);\n")
_INITIAL = re.compile(r"(?ms)^  initial begin\n.*?^  end\n")


@dataclass(frozen=True)
class Child:
    """An instance in a module: its name, its module, and parameters of those not in the text."""

    name: str
    module: str
    parameters: Mapping[str, int]


@dataclass(frozen=True)
class Module:
    """A module of the text."""

    name: str
    text: str

    @cached_property
    def children(self) -> tuple[Child, ...]:
        """The instances in it."""
        return tuple(
            Child(
                match[3] or match[4],
                match[1],
                {name: int(value) for name, value in _PARAMETER.findall(match[2] or "")},
            )
            for match in _INSTANCE.finditer(self.text)
        )

    @cached_property
    def memory(self) -> Memory | None:
        """The memory that the module is, if it is one of the RAM component and large enough."""
        match = _STORE.search(self.text)
        if match is None or self.children:
            return None
        memory = Memory(int(match[1] or 0) + 1, int(match[2]) + 1)
        return memory if memory.bits >= MACRO_BITS else None

    @property
    def interface(self) -> str:
        """A module with its ports and nothing in it."""
        header = self.text[: self.text.index(";") + 1]
        return "\n".join(["(* keep *)", header, *_PORT.findall(self.text), "endmodule\n"])


@dataclass(frozen=True)
class Instance:
    """A place in the machine: a module, or an SRAM."""

    path: tuple[str, ...]
    module: str
    memory: Memory | None = None
    count: int = 1
    """Memories alike at this place."""


class Netlist:
    """Modules by name, below a top module.

    Parameters
    ----------
    modules : mapping of name to Module
    top : str
    boxes : mapping of name to Verilog
        Ports and parameters of the modules that are black boxes.
    """

    def __init__(self, modules: Mapping[str, Module], top: str, boxes: Mapping[str, str]) -> None:
        self.modules = modules
        self.top = top
        self.boxes = boxes
        self._digests: dict[str, str] = {}

    def instances(self) -> Iterator[Instance]:
        """All places, from the top down."""
        pending: list[tuple[tuple[str, ...], str]] = [((), self.top)]
        while pending:
            path, name = pending.pop()
            module = self.modules[name]
            yield Instance(path, name, module.memory)
            for child in module.children:
                below = (*path, child.name)
                if child.module in self.modules:
                    pending.append((below, child.module))
                else:
                    yield _macro(below, child)

    def logic(self) -> list[str]:
        """Modules that are used and have logic, once each of those that are alike."""
        used = dict.fromkeys(i.module for i in self.instances() if i.memory is None)
        alike = {self.digest(name): name for name in used if name in self.modules}
        return list(alike.values())

    def digest(self, name: str) -> str:
        """Equal for modules that are synthesised to the same: names of modules do not count."""
        if name not in self._digests:
            module = self.modules[name]
            text = _INITIAL.sub("", module.text).replace(name, "", 1)
            parts = [text]
            for number, child in enumerate(module.children):
                parts[0] = parts[0].replace(f"  {child.module} ", f"  child{number} ", 1)
                if child.module in self.modules:
                    interface = self.modules[child.module].interface
                    parts.append(interface.replace(child.module, "", 1))
            self._digests[name] = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
        return self._digests[name]

    def source(self, name: str) -> tuple[str, str]:
        """Verilog of a module, and of the interfaces of those in it."""
        module = self.modules[name]
        inside = dict.fromkeys(child.module for child in module.children)
        return module.text, "".join(
            self.modules[name].interface if name in self.modules else self.boxes[name]
            for name in inside
        )


def _macro(path: tuple[str, ...], child: Child) -> Instance:
    """A black box of the text: SRAM, or the macros of the static region."""
    given = child.parameters
    if child.module == SRAM:
        return Instance(path, SRAM, Memory(given["WIDTH"], given["DEPTH"]))
    if child.module == STATIC:
        return Instance(path, STATIC, Memory(given["WIDTH"], given["MACRO_WORDS"]), given["MACROS"])
    raise ValueError(f"module {child.module} of {'.'.join(path)} is not in the Verilog")


def _box(text: str) -> str:
    """A model without what is in it: Yosys would go through its memory word by word."""
    match = _BOX.search(text)
    if match is None:
        raise ValueError(f"no module in {text[:60]!r}")
    return f"(* keep *)\n{match[0]}endmodule\n"


def parse(files: Mapping[str, str], top: str) -> Netlist:
    """Read the Verilog that :func:`rtl_gen.generate.verilog` writes.

    Parameters
    ----------
    files : mapping of file name to Verilog
        The top module's file has all modules but those of SRAM, which have a file each.
    top : str
    """
    verilog = files[f"{top}.v"]
    boxes = {
        file.removesuffix(".v"): _box(text) for file, text in files.items() if file != f"{top}.v"
    }
    starts = [match.start() for match in _MODULE.finditer(verilog)]
    modules = {}
    for start, end in zip(starts, [*starts[1:], len(verilog)], strict=True):
        text = verilog[start:end]
        match = _MODULE.match(text)
        assert match is not None
        modules[match[1]] = Module(match[1], text)
    return Netlist(modules, top, boxes)
