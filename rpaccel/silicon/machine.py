"""A machine block by block: area, and energy of a query from activity."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rpaccel.hardware import HardwareConfig
from rpaccel.silicon.library import FLIP_FLOP, Library
from rpaccel.silicon.netlist import SRAM, STATIC, Instance, Netlist
from rpaccel.silicon.sram import Macro, Memory, sram
from rpaccel.silicon.synthesis import Counts, synthesise
from rpaccel.silicon.technology import (
    CLOCK_FJ,
    FLIP_FLOP_UM2,
    LEAKAGE_MW_PER_MM2,
    REFERENCE_LOGIC_UM2,
)

__all__ = ["Logic", "Place", "Scale", "Store", "places", "sources"]

LARGEST = 1024
"""Multipliers of a sub-array, and 32 times columns of an epilogue, that are synthesised whole."""
SIZES = (8, 16)
SELECTED, SELECTED_BITS = 16, 16
"""Words and bits of the selector that stands for the static region's crossbar."""

_SUBARRAY = re.compile(r"subarray_(\d+)x(\d+)_(\d+)$")
_EPILOGUE = re.compile(r"epilogue_(\d+)_(\d+)_(\d+)_(\d+)$")


@dataclass(frozen=True)
class Logic:
    """Logic of an instance, in 12 nm.

    Attributes
    ----------
    um2 : float
    flip_flops : float
    toggle_pj : float
        Energy if each of its nets changed once.
    """

    um2: float = 0.0
    flip_flops: float = 0.0
    toggle_pj: float = 0.0

    def __add__(self, other: Logic) -> Logic:
        return Logic(
            self.um2 + other.um2,
            self.flip_flops + other.flip_flops,
            self.toggle_pj + other.toggle_pj,
        )

    def __mul__(self, count: float) -> Logic:
        return Logic(count * self.um2, count * self.flip_flops, count * self.toggle_pj)

    @property
    def clock_pj(self) -> float:
        """Energy of a clock cycle in which nothing changes."""
        return 1e-3 * CLOCK_FJ * self.flip_flops

    @property
    def leakage_mw(self) -> float:
        """Leakage."""
        return LEAKAGE_MW_PER_MM2 * 1e-6 * self.um2


@dataclass(frozen=True)
class Store:
    """SRAM of an instance: ``count`` memories alike."""

    memory: Memory
    macro: Macro
    count: int


@dataclass(frozen=True)
class Place:
    """An instance with what it costs; ``path`` is where its activity is seen."""

    path: tuple[str, ...]
    logic: Logic = field(default_factory=Logic)
    store: Store | None = None


class Scale:
    """From cells of the library to logic in 12 nm.

    Flip-flops take the area and the clock energy that those of the paper's array do. Other cells
    take the area that makes a multiply-accumulate unit as large as the paper's, which takes out
    the difference of the tools, too. Energies of changes go with those of the clock.
    """

    def __init__(self, library: Library, reference: Counts) -> None:
        self.library = library
        flip_flop = library.cells[FLIP_FLOP]
        area = sum(
            count * library.cells[name].um2
            for name, count in reference.items()
            if name != FLIP_FLOP
        )
        self.logic = REFERENCE_LOGIC_UM2 / area
        self.flip_flop = FLIP_FLOP_UM2 / flip_flop.um2
        self.energy = 1e-3 * CLOCK_FJ / flip_flop.clock_pj

    def __call__(self, counts: Counts) -> Logic:
        """Cost of cells."""
        um2 = flip_flops = toggle = 0.0
        for name, count in counts.items():
            cell = self.library.cells[name]
            um2 += count * cell.um2 * (self.flip_flop if cell.clock_pj else self.logic)
            flip_flops += count if cell.clock_pj else 0
            toggle += count * cell.toggle_pj * self.energy
        return Logic(um2, flip_flops, toggle)


def sources(netlist: Netlist) -> dict[str, tuple[str, str]]:
    """Modules to be synthesised for a machine, with the interfaces of those in them, by name."""
    found = {name: _emitted(name) for name in ("reference", "selector")}
    for name in netlist.logic():
        parts = _parts(name)
        found |= {part: _emitted(part) for part, _ in parts}
        if not parts:
            found[name] = netlist.source(name)
    return found


def places(
    netlist: Netlist,
    hardware: HardwareConfig,
    library: Library,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Place]:
    """Cost of all instances of a machine.

    Parameters
    ----------
    netlist : Netlist
    hardware : HardwareConfig
    library : Library
    progress : function
        Called with the number of modules just done and the number of all.

    Raises
    ------
    ToolError, BuildError
        See :func:`rpaccel.silicon.synthesis.synthesise`.
    """
    needed = {netlist.digest(name): name for name in netlist.logic()}
    wanted = sources(netlist)
    counts = synthesise(wanted, library, lambda done: progress(done, len(wanted)))
    scale = Scale(library, counts["reference"])
    cost = {name: scale(found) for name, found in counts.items()}
    for name in needed.values():
        if parts := _parts(name):
            cost[name] = sum((cost[part] * factor for part, factor in parts), Logic())
    found = []
    for instance in netlist.instances():
        if instance.memory is None:
            name = needed[netlist.digest(instance.module)]
            found.append(Place(instance.path, cost[name]))
            continue
        logic = Logic()
        if instance.module == STATIC:
            logic = _crossbar(hardware, instance, cost["selector"])
        store = Store(instance.memory, sram(instance.memory), instance.count)
        found.append(Place(_used_at(instance), logic, store))
    return found


def _used_at(instance: Instance) -> tuple[str, ...]:
    """Where the ports of a memory are seen: an SRAM's in the RAM that it is in."""
    return instance.path[:-1] if instance.module == SRAM else instance.path


def _parts(name: str) -> list[tuple[str, float]]:
    """Smaller modules that a large one is the sum of, each with its factor; none if it is small.

    A sub-array is a bilinear function of its rows and columns, an epilogue a linear one of its
    columns.
    """
    if (match := _SUBARRAY.match(name)) and int(match[1]) * int(match[2]) > LARGEST:
        rows, cols, bits = map(int, match.groups())
        return [
            (f"subarray_{r}x{c}_{bits}", _weight(r, rows) * _weight(c, cols))
            for r in SIZES
            for c in SIZES
        ]
    if (match := _EPILOGUE.match(name)) and 32 * int(match[1]) > LARGEST:
        cols, *rest = map(int, match.groups())
        return [("_".join(map(str, ("epilogue", c, *rest))), _weight(c, cols)) for c in SIZES]
    return []


def _weight(size: int, wanted: int) -> float:
    """Share of the value at a size in the line through those at both of :data:`SIZES`."""
    low, high = SIZES
    return (wanted - low) / (high - low) if size == high else (high - wanted) / (high - low)


def _emitted(name: str) -> tuple[str, str]:
    """Verilog of a module that is no part of the machine, and of the interfaces in it."""
    from rpaccel.silicon.netlist import parse
    from rpaccel.silicon.reference import ReferenceMac, Selector
    from rtl_gen.emit import emit
    from rtl_gen.epilogue import Epilogue
    from rtl_gen.subarray import SubArray

    if match := _SUBARRAY.match(name):
        rows, cols, bits = map(int, match.groups())
        unit: object = SubArray(rows=rows, cols=cols, sum_bits=bits)
    elif match := _EPILOGUE.match(name):
        cols, depth, bits, macro_bits = map(int, match.groups())
        unit = Epilogue(cols=cols, depth=depth, sum_bits=bits, macro_bits=macro_bits)
    elif name == "selector":
        unit = Selector(count=SELECTED, width=SELECTED_BITS)
    else:
        unit = ReferenceMac()
    files, _ = emit(unit, name)
    return parse(files, name).source(name)


def _crossbar(hardware: HardwareConfig, static: Instance, selector: Logic) -> Logic:
    """Wires between the static region's macros and lanes, which have no Verilog for synthesis.

    Each lane selects a word of all macros, each macro an address of all lanes; a selector takes so
    much for each bit that it selects from.
    """
    assert static.memory is not None
    lanes = sum(gather.lanes for gather in hardware.gather)
    address = math.ceil(math.log2(static.memory.depth))
    selected = lanes * static.count * (static.memory.width + address)
    return selector * (selected / (SELECTED * SELECTED_BITS))
