"""Who writes what into the activation memories of a group's cells."""

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.geometry import GroupGeometry
from rtl_gen.cell import write_layout
from rtl_gen.token_input import fill_layout

__all__ = ["CellWrites"]


def _split(m: Module, value: Value, name: str, *, bits: int = 8) -> list[Signal]:
    """Split a value into signals: Amaranth takes all of a signal for each slice of it."""
    parts = [Signal(bits, name=f"{name}_{number}") for number in range(len(value) // bits)]
    m.d.comb += Cat(parts).eq(value)
    return parts


class _Fill:
    """What a gather unit writes, in signals of their own; see :func:`_split`."""

    def __init__(self, m: Module, fill: data.View, number: int):
        self.number = number
        self.data = _split(m, fill.data, f"fill_data_{number}")
        self.mask = _split(m, fill.mask, f"fill_mask_{number}", bits=1)
        layout = {name: field.shape for name, field in fill.shape() if name not in vars(self)}
        self.head = Signal(data.StructLayout(layout), name=f"fill_head_{number}")
        m.d.comb += [self.head[name].eq(fill[name]) for name in layout]


class CellWrites(wiring.Component):
    """Connect the results of a group's cells, and what gather units fill in, with its memories.

    Cells that never are in the first column of a shape have no memory.

    Parameters
    ----------
    geometry : GroupGeometry

    Members
    -------
    write : In(form, en, address, chunk, mask)
        Of the results of the next cycle: number of the shape, token buffer that they are written
        to, word, chunk of it, and bytes of the chunk.
    made_0_0 and so on : In(8 * tile_cols)
        Results of each cell.
    fill : In(fill_layout(...)).array(stages)
        What gather units write.
    write_0_0 and so on : Out(en, address, mask, data)
        Results, for a cell.
    fill_0_0 and so on : Out(en, address, mask, data).array(stages)
        What gather units write, for a cell.
    """

    def __init__(self, geometry: GroupGeometry):
        self.geometry = geometry
        hardware, shapes = geometry.hardware, geometry.shapes
        group = hardware.groups[geometry.group]
        self.stages = len(group.stages)
        tile = f"{hardware.tile_rows}x{hardware.tile_cols}"
        fused = "_".join(f"{shape.rows}x{shape.cols}" for shape in shapes)
        widths = geometry.row_bytes, geometry.gather_bytes, hardware.activation_rows, self.stages
        self.module_name = (
            f"cell_writes_{tile}_{group.rows}x{group.cols}_{fused}_{'_'.join(map(str, widths))}"
        )
        self.places = [(row, col) for row in range(group.rows) for col in range(group.cols)]
        self.memories = [at for at in self.places if any(at[1] % s.cols == 0 for s in shapes)]
        port = {"words": hardware.activation_rows, "row_bytes": geometry.row_bytes}
        write = Out(write_layout(2 * self.stages, **port))
        fill = Out(write_layout(2, **port)).array(self.stages)
        now = {
            "form": ceil_log2(len(shapes)),
            "en": 2 * self.stages,
            "address": ceil_log2(hardware.activation_rows),
            "chunk": max(ceil_log2(shape.chunks) for shape in shapes),
            "mask": max(shape.n_width for shape in shapes),
        }
        super().__init__(
            {
                "write": In(data.StructLayout(now)),
                "fill": In(fill_layout(geometry)).array(self.stages),
                **{self.name("made", at): In(8 * hardware.tile_cols) for at in self.places},
                **{self.name("write", at): write for at in self.memories},
                **{self.name("fill", at): fill for at in self.memories},
            }
        )

    @staticmethod
    def name(port: str, at: tuple[int, int]) -> str:
        """Name of the port for the cell at a place."""
        return f"{port}_{at[0]}_{at[1]}"

    def elaborate(self, platform):
        m = Module()
        now = Signal.like(self.write)
        m.d.sync += now.eq(self.write)
        made = {}
        for at in self.places:
            name = self.name("made", at)
            made[at] = _split(m, getattr(self, name), f"{name}_byte")
        mask = _split(m, now.mask, "mask", bits=1)
        fills = [_Fill(m, fill, number) for number, fill in enumerate(self.fill)]
        rows = {row: [self._filled(m, fill, row) for fill in fills] for row, _ in self.memories}
        for at in self.memories:
            write, ports = (getattr(self, self.name(port, at)) for port in ("write", "fill"))
            m.d.comb += write.address.eq(now.address)
            for port, fill, (word, written) in zip(ports, fills, rows[at[0]]):
                m.d.comb += [
                    port.address.eq(fill.head.address),
                    port.data.eq(word),
                    port.mask.eq(written),
                ]
            for shape in self.geometry.shapes:
                if at[1] % shape.cols == 0:
                    self._results(m, write, at, shape, made, now, mask)
                    for port, fill in zip(ports, fills):
                        self._enable(m, port, at, shape, fill.head)
        return m

    def _results(self, m, port, at, shape, made, now, mask):
        """Write what the southern edge of a part makes, in a shape."""
        row, col = at
        south = row // shape.rows * shape.rows + shape.rows - 1
        values = [byte for c in range(shape.cols) for byte in made[south, col + c]]
        source = (values, mask, now.chunk)
        with m.If(now.form == shape.index):
            m.d.comb += [
                port.en.eq(now.en),
                *self._place(port.data, port.mask, shape, row, source, shape.n_width),
            ]

    def _filled(self, m, fill, row):
        """A gather unit's word and mask for the cells in a row of the group."""
        bytes_ = self.geometry.row_bytes
        word = Signal(8 * bytes_, name=f"filled_{fill.number}_{row}")
        mask = Signal(bytes_, name=f"filled_mask_{fill.number}_{row}")
        source = (fill.data, fill.mask, fill.head.place)
        for shape in self.geometry.shapes:
            with m.If(fill.head.form == shape.index):
                m.d.comb += self._place(word, mask, shape, row, source, self.geometry.gather_bytes)
        return word, mask

    def _enable(self, m, port, at, shape, head):
        """Let a gather unit write to a cell that has the first column of its part, in a shape."""
        part = self.geometry.part(shape, *at)
        with m.If((head.form == shape.index) & (head.part == part)):
            m.d.comb += port.en.eq(head.en << head.buffer)

    def _place(self, word, mask, shape, row, source, width):
        """Put ``width`` bytes at a place of a word: the statements for a cell's bytes of it."""
        values, given, place = source
        tile_rows = self.geometry.hardware.tile_rows
        places = shape.word_bytes // width
        chosen = [place == number for number in range(places)] if places > 1 else [Const(1)]
        bytes_ = [
            slice_ * shape.k_width + row % shape.rows * tile_rows + lane
            for slice_ in range(shape.slices)
            for lane in range(tile_rows)
        ]
        return [
            word.eq(Cat(values[byte % width] for byte in bytes_)),
            mask.eq(
                Cat(given[byte % width] for byte in bytes_)
                & Cat(chosen[byte // width] for byte in bytes_)
            ),
        ]
