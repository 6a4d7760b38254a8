"""The sub-arrays that groups have in common, each used by the one of these that is on."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rpaccel.geometry import GroupGeometry
from rpaccel.hardware import HardwareConfig
from rtl_gen.cell import Cell, cell_port
from rtl_gen.emit import share
from rtl_gen.subarray import sum_bits

__all__ = ["SharedCells", "cell_ports", "cell_sizes", "join"]


def cell_sizes(geometry: GroupGeometry, row: int, col: int) -> dict[str, int]:
    """Parameters of the :class:`rtl_gen.cell.Cell` that a group needs at a place of its own."""
    hardware, shapes = geometry.hardware, geometry.shapes
    first = any(col % shape.cols == 0 for shape in shapes)
    return {
        "rows": hardware.tile_rows,
        "cols": hardware.tile_cols,
        "sum_bits": sum_bits(max(shape.k_width for shape in shapes)),
        "depth": hardware.accumulator_depth,
        "stages": len(hardware.groups[geometry.group].stages) if first else 0,
        "words": hardware.activation_rows,
        "row_bytes": geometry.row_bytes,
        "results": any(row % shape.rows == shape.rows - 1 for shape in shapes),
        "delays": max(shape.cols - 1 - col % shape.cols for shape in shapes),
        "macro_bits": hardware.sram_macro_bits,
    }


def cell_ports(geometry: GroupGeometry) -> dict[str, Out]:
    """Members of a group that shares its cells with others: where these are connected."""
    group = geometry.hardware.groups[geometry.group]
    if not geometry.shares:
        return {}
    return {
        f"cell_{row}_{col}": Out(cell_port(**cell_sizes(geometry, row, col)))
        for row in range(group.rows)
        for col in range(group.cols)
    }


def join(m, cell, west=None, north=None):
    """Connect a cell with those west and north of it."""
    if west is not None:
        m.d.comb += [
            cell.w.eq(west.e),
            cell.w_valid.eq(west.e_valid),
            cell.w_set.eq(west.e_set),
        ]
    if north is not None:
        m.d.comb += cell.n.eq(north.s)


class SharedCells(wiring.Component):
    """Cells at their places in the array, joined with their neighbours.

    Each has what any of its groups needs, and does what the one that is active tells it. Where no
    group of a cell is active, nothing may be under way in it.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    active : In(groups)
        At most one of the groups that share a cell.
    group_0, group_1 and so on : In(signature of cell_ports(...))
        Of each group that shares its cells.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        self.groups = [g for g in range(len(hardware.groups)) if hardware.overlapping(g)]
        super().__init__(
            {
                "active": In(len(hardware.groups)),
                **{
                    f"group_{g}": In(wiring.Signature(cell_ports(hardware.geometry(g))))
                    for g in self.groups
                },
            }
        )

    def elaborate(self, platform):
        m = Module()
        cells = {}
        for place, users in sorted(self._users().items()):
            needs = [cell_sizes(self.hardware.geometry(g), *at) for g, at in users]
            sizes = {name: max(each[name] for each in needs) for name in needs[0]}
            cell = cells[place] = Cell(**sizes)
            m.submodules[f"cell_{place[0]}_{place[1]}"] = share(cell, platform)
            row, col = place
            join(m, cell, cells.get((row, col - 1)), cells.get((row - 1, col)))
            ports = [getattr(getattr(self, f"group_{g}"), f"cell_{r}_{c}") for g, (r, c) in users]
            self._choose(m, cell, cell_port(**sizes), ports, [self.active[g] for g, _ in users])
        return m

    def _users(self):
        """For each place, the groups that have a cell there, and where it is in each."""
        users: dict[tuple[int, int], list[tuple[int, tuple[int, int]]]] = {}
        for group in self.groups:
            row, col = self.hardware.groups[group].at
            for place in self.hardware.groups[group].places:
                users.setdefault(place, []).append((group, (place[0] - row, place[1] - col)))
        return users

    def _choose(self, m, cell, signature, ports, active):
        """Let the active of some groups tell a cell what to do; all see what it shows."""
        for name, member in signature.members.items():
            if member.flow == In:
                m.d.comb += [getattr(port, name).eq(getattr(cell, name)) for port in ports]
                continue
            given = [dict(_leaves(getattr(port, name, []))) for port in ports]
            for path, leaf in _leaves(getattr(cell, name)):
                # A group that does not have it has no use for it.
                value, *others = [each.get(path, 0) for each in given]
                for one, other in zip(active[1:], others, strict=True):
                    value = Mux(one, other, value)
                m.d.comb += leaf.eq(value)


def _leaves(value):
    """Paths and values of what a member consists of."""
    if isinstance(value, data.View):
        parts = ((name, value[name]) for name, _ in value.shape())
    elif isinstance(value, Sequence):
        parts = enumerate(value)
    else:
        yield (), value
        return
    for name, part in parts:
        for path, leaf in _leaves(part):
            yield (name, *path), leaf
