"""Area on ECP5 of an array whose sub-arrays fuse at run time, over that of one that is whole.

Both come from the same generator: 32x32 MACs with two sets of weights, as 4x4 sub-arrays of 8x8
that take three shapes, and as one sub-array. Modules are synthesised once each, the modules inside
them left out, and composed by their number. Multipliers are mapped to ``MULT18X18D`` and counted;
each counts as many LUT4 as one of 8x8 bits takes in logic, which is measured apart (``booth``).
RAMs are macros: their bits are listed. An epilogue of more than two channels is extrapolated from
those of one and of two.

With ``--cells`` areas are of OSU's standard cells of 180 nm, in um2 of logic and of flip-flops, and
OpenSTA says how long the longest paths are (Debian's packages qflow-tech-osu018 and opensta).

    python -m benchmarks.array_area [--cells] [--json FILE]
"""

from functools import partial
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.command import figures_parser, keep, run
from benchmarks.standard_cells import cell_area, path_ns
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import PARAM
from rpaccel.silicon import library
from rtl_gen.cell import Cell
from rtl_gen.cell_writes import CellWrites
from rtl_gen.cells import Cells
from rtl_gen.epilogue import Epilogue
from rtl_gen.group import Group
from rtl_gen.group_layouts import pass_layout
from rtl_gen.signatures import slot_bits
from rtl_gen.subarray import LANE, SubArray, sum_bits
from sim.ecp5 import luts, read, yosys
from sim.toolchain import require

SIZE = 32
ARRAYS = {
    "reconfigurable": {"tile": 8, "shapes": [[4, 4], [2, 2], [1, 1]]},
    "monolithic": {"tile": 32, "shapes": [[1, 1]]},
}
FABRIC = ("sub-arrays", "edge multiplexers", "wiring")
PARTS = (*FABRIC, "activation memory", "sequencer", "accumulators and epilogues")
"""Those of the array, and what is reported apart."""
WEST = {"w": 0, "w_valid": 0, "w_set": 0}
"""What a cell has in the west if there is none."""
PAPER = 0.041
"""Area that reconfigurability may add, relative."""


class Tied(wiring.Component):
    """A unit with some inputs constant."""

    def __init__(self, unit, **ties):
        self.unit, self.ties = unit, ties
        members = unit.signature.members.items()
        super().__init__({name: member for name, member in members if name not in ties})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        m.d.comb += [getattr(self.unit, name).eq(value) for name, value in self.ties.items()]
        own = {path: value for path, _, value in self.signature.flatten(self)}
        for path, member, value in self.unit.signature.flatten(self.unit):
            if path in own:
                sides = (value, own[path]) if member.flow == In else (own[path], value)
                m.d.comb += sides[0].eq(sides[1])
        return m


class Registered(wiring.Component):
    """A unit with a register before each input, so that the paths from there have a beginning."""

    def __init__(self, unit):
        self.unit = unit
        super().__init__(dict(unit.signature.members.items()))

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        own = {path: value for path, _, value in self.signature.flatten(self)}
        for path, member, value in self.unit.signature.flatten(self.unit):
            if member.flow == In:
                m.d.sync += value.eq(own[path])
            else:
                m.d.comb += own[path].eq(value)
        return m


class Multiplier(wiring.Component):
    """A product of two int8 numbers."""

    def __init__(self):
        super().__init__({"a": In(8), "b": In(8), "o": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.a.as_signed() * self.b.as_signed())
        return m


def hardware(*, tile, shapes):
    """A machine with one array, and as many bits of activations and of weights either way."""
    sub_arrays = (SIZE // tile) ** 2
    side = SIZE // tile
    return HardwareConfig.model_validate(
        {
            "tile_rows": tile,
            "tile_cols": tile,
            "groups": [{"rows": side, "cols": side, "shapes": shapes, "stages": [0, 1]}],
            "gather": [{"cache_lines": 4}] * 2,
            "topk_depth": [64, 64],
            "activation_rows": 4096 // sub_arrays,
            "weight_rows": 8192 * tile // SIZE,
            "sram_macro_bits": 0,
        }
    )


def area(unit, folder, *, apart=None, logic=False):
    """LUT4, flip-flops and multipliers of a unit.

    ``apart`` leaves out modules inside it: those of these names, and all that are written once.
    ``logic`` makes logic of multipliers.
    """
    steps = read(unit, folder, apart)
    if logic:
        # Booth's recoding makes smaller multipliers than synth_ecp5 does.
        steps += ["proc", "opt_clean", "booth"]
    steps.append(f"synth_ecp5 {'-nodsp ' if logic else ''}-nowidelut -top unit")
    cells = yosys("; ".join(steps), folder)
    return {
        "luts": luts(cells),
        "ffs": cells.get("TRELLIS_FF", 0),
        "multipliers": cells.get("MULT18X18D", 0),
    }


def paths(geometry, folder, cells):
    """Longest paths of the parts of an array: a row of a sub-array feeds all of its columns.

    Multiply-accumulate units are those at the edge of a cell, behind the multiplexers by which it
    is joined to others, if there are any.
    """
    hardware = geometry.hardware
    bits = sum_bits(max(shape.k_width for shape in geometry.shapes))
    epilogue = {"cols": 2, "depth": hardware.accumulator_depth, "macro_bits": 0}
    group = hardware.groups[geometry.group]
    alone = group.rows * group.cols == 1
    ties = {"own": 1, "top": 1, "n": 0, **WEST} if alone else {}
    units = {
        "multiply-accumulate": Registered(Tied(cell(geometry, stages=1, rows=2), **ties)),
        "epilogue": Epilogue(**epilogue, sum_bits=bits),
    }
    return {name: path_ns(unit, folder, cells) for name, unit in units.items()}


def extended(small, large, sizes, size):
    """Area of a unit of a size that grows evenly, from those of two smaller sizes."""
    steps = (size - sizes[1]) / (sizes[1] - sizes[0])
    return {key: round(large[key] + steps * (large[key] - small[key])) for key in large}


def times(count, area):
    """Area of some units alike."""
    return {key: count * value for key, value in area.items()}


def plus(*areas):
    """Sum of areas."""
    return {key: sum(a.get(key, 0) for a in areas) for key in {k for a in areas for k in a}}


def minus(area, other):
    """Difference of areas."""
    return plus(area, times(-1, other))


def sram(geometry):
    """Bits of an array's memories."""
    hardware = geometry.hardware
    group = hardware.groups[geometry.group]
    ends = [r for r in range(group.rows) if any(r % s.rows == s.rows - 1 for s in geometry.shapes)]
    starts = [c for c in range(group.cols) if any(c % s.cols == 0 for s in geometry.shapes)]
    buffers = 2 * len(group.stages) * len(starts) * group.rows
    columns = len(ends) * group.cols * hardware.tile_cols
    depth = hardware.accumulator_depth
    return {
        f"accumulators, depth {depth}": depth * LANE * columns,
        "activation memory": buffers * hardware.activation_rows * 8 * geometry.row_bytes,
        "weights": geometry.weight_rows * 8 * hardware.tile_cols * geometry.weight_tiles,
        "parameters": hardware.param_rows * PARAM.bits * hardware.tile_cols * geometry.max_cols,
    }


def cell(geometry, *, stages, results=False, delays=0, rows=None):
    """A cell of an array, or one of fewer rows."""
    hardware = geometry.hardware
    return Cell(
        rows=rows or hardware.tile_rows,
        cols=hardware.tile_cols,
        sum_bits=sum_bits(max(shape.k_width for shape in geometry.shapes)),
        depth=hardware.accumulator_depth,
        stages=stages,
        words=hardware.activation_rows,
        row_bytes=geometry.row_bytes,
        results=results,
        delays=delays,
        macro_bits=hardware.sram_macro_bits,
    )


def wires(geometry, *, without=()):
    """The cells of an array, without what some methods add."""
    work = pass_layout(geometry, slot=slot_bits(geometry.hardware))
    unit = Cells(geometry, work=work)
    for method in without:
        setattr(unit, method, lambda *_: None)
    return unit


def measure(geometry, folder, area=area):
    """Areas of the modules of an array, once each; see :func:`compose`."""
    hardware = geometry.hardware
    group = hardware.groups[geometry.group]
    bits = sum_bits(max(shape.k_width for shape in geometry.shapes))
    size = {"rows": hardware.tile_rows, "cols": hardware.tile_cols, "sum_bits": bits}
    stages = len(group.stages)
    # A cell in the first row and column; of what it does not use, nothing is left.
    corner = cell(geometry, stages=stages)
    found = {
        "northern": area(Tied(SubArray(**size), n=0), folder),
        "own": area(Tied(corner, own=1, top=1, n=0, **WEST), folder, apart=[]),
    }
    if group.rows > 1:
        found["inner"] = area(SubArray(**size), folder)
        found["north"] = minus(area(cell(geometry, stages=0), folder), found["inner"])
    if group.cols > 1:
        both = area(Tied(cell(geometry, stages=stages), top=1, n=0), folder, apart=[])
        found["west"] = minus(both, found["own"])
    for delays in range(group.cols):
        unit = Tied(cell(geometry, stages=0, results=True, delays=delays), top=1, n=0)
        found[f"delays_{delays}"] = area(unit, folder, apart=[])
    depth = hardware.accumulator_depth
    one, two = (
        area(Epilogue(cols=cols, depth=depth, sum_bits=bits, macro_bits=0), folder, logic=True)
        for cols in (1, 2)
    )
    found["epilogue"] = extended(one, two, (1, 2), hardware.tile_cols)
    found["writes"] = area(CellWrites(geometry), folder, apart=[])
    read = area(wires(geometry), folder, apart=[])
    found["wiring"] = area(wires(geometry, without=["_epilogues"]), folder, apart=[])
    found["control"] = minus(read, found["wiring"])
    group_unit = Group(hardware=hardware, group=geometry.group)
    found["sequencer"] = area(group_unit, folder, apart=["unit.cells"])
    return found


def compose(found, rows, cols):
    """Areas of the parts of an array of ``rows x cols`` cells, each of which ends some shape."""
    cells = rows * cols
    none = {"luts": 0, "ffs": 0, "multipliers": 0}
    inner = (rows - 1) * cols
    delays = [times(rows, found[f"delays_{col}"]) for col in range(cols)]
    return {
        "sub-arrays": plus(times(cols, found["northern"]), times(inner, found.get("inner", none))),
        "edge multiplexers": plus(
            times(inner, found.get("north", none)),
            times(rows * (cols - 1), found.get("west", none)),
        ),
        "wiring": found["wiring"],
        "activation memory": plus(times(cells, found["own"]), found["writes"]),
        "accumulators and epilogues": plus(
            times(cells, found["epilogue"]), found["control"], *delays
        ),
        "sequencer": found["sequencer"],
    }


def equivalent(area, multiplier):
    """LUT4 and flip-flops, multipliers as LUT4."""
    return area["luts"] + area["multipliers"] * multiplier, area["ffs"]


def table(parts, multiplier):
    """Rows (name, LUT4 and flip-flops of either array, ratios) of the parts and their sums."""
    rows = []
    sums = {"MAC fabric": FABRIC, "array": PARTS[:-1], "all": PARTS}
    for name in (*FABRIC, "MAC fabric", *PARTS[len(FABRIC) : -1], "array", PARTS[-1], "all"):
        names = sums.get(name, (name,))
        ours, base = (
            equivalent(plus(*(parts[array][part] for part in names)), multiplier)
            for array in ARRAYS
        )
        ratios = [a / b if b else None for a, b in zip(ours, base, strict=True)]
        rows.append((name, *ours, *base, *ratios))
    return rows


def main():
    parser = figures_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/array_area"))
    parser.add_argument("--cells", action="store_true", help="standard cells in place of ECP5")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    cells = library.read() if options.cells else None
    if options.cells:
        require("sta")
    taken = partial(cell_area, cells=cells) if cells else area
    multiplier = 0 if cells else area(Multiplier(), options.folder, logic=True)["luts"]
    parts, bits, modules, longest = {}, {}, {}, {}
    for name, array in ARRAYS.items():
        geometry = hardware(**array).geometry(0)
        side = SIZE // array["tile"]
        if cells:
            longest[name] = paths(geometry, options.folder, cells)
        modules[name] = measure(geometry, options.folder, taken)
        parts[name] = compose(modules[name], side, side)
        bits[name] = sram(geometry)
    rows = table(parts, multiplier)
    unit = "um2 of logic" if cells else "LUT4"
    print(f"| part | {unit} | flip-flops | monolithic: {unit} | flip-flops | {unit} | flip-flops |")
    print("|---|---|---|---|---|---|---|")
    for name, *counts, luts_ratio, ffs_ratio in rows:
        shown = [f"{count:,.0f}" for count in counts]
        shown += ["-" if r is None else f"{r - 1:+.1%}" for r in (luts_ratio, ffs_ratio)]
        print(f"| {name} | {' | '.join(shown)} |")
    if cells:
        for part in longest["monolithic"]:
            ours, base = (longest[name][part] for name in ARRAYS)
            print(f"\nLongest path, {part}: {ours:.2f} ns, monolithic {base:.2f} ns.")
    else:
        print(f"\nA multiplier of 8x8 bits: {multiplier} LUT4.")
    print(f"\nThe paper's array: {PAPER:+.1%}.\n")
    print("| bits of SRAM | reconfigurable | monolithic |\n|---|---|---|")
    for name in bits["monolithic"]:
        print(f"| {name} | {bits['reconfigurable'][name]:,} | {bits['monolithic'][name]:,} |")
    figures = {"multiplier": multiplier, "modules": modules, "parts": parts, "sram": bits}
    figures |= {"paths_ns": longest} if cells else {}
    keep(figures, options.json)


if __name__ == "__main__":
    run(main)
