"""The vectors of a dot interaction unit: kept as they come, read item by item."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rtl_gen.group_layouts import entry_layout
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram

__all__ = ["DotVectors", "bottom_layout", "dot_token_layout", "store_layout"]


def dot_token_layout() -> data.StructLayout:
    """A token in a dot interaction unit."""
    return data.StructLayout({"buffer": 1, "items": abi.ITEM_BITS})


def _item_bits(geometry: GroupGeometry, stage: int) -> int:
    """Width of an item's number in a unit's memory."""
    unit = geometry.hardware.dot_unit(geometry.hardware.groups[geometry.group].stages[stage])
    assert unit is not None
    return ceil_log2(unit.items)


def _chunks(geometry: GroupGeometry, stage: int) -> int:
    """Writes of a gather unit that an item's vectors take."""
    shape = geometry.dots[stage]
    return -(-shape.vectors * shape.dimension // geometry.gather_bytes)


def store_layout(geometry: GroupGeometry, stage: int) -> data.StructLayout:
    """What a gather unit writes into a unit's memory in a cycle."""
    return data.StructLayout(
        {
            "en": 1,
            "buffer": 1,
            "item": _item_bits(geometry, stage),
            "chunk": ceil_log2(_chunks(geometry, stage)),
            "mask": geometry.gather_bytes,
            "data": 8 * geometry.gather_bytes,
        }
    )


def bottom_layout(geometry: GroupGeometry, stage: int) -> data.StructLayout:
    """A row of last vectors, one in each part; ``end`` with the last bytes of them."""
    dimension = geometry.dots[stage].dimension
    return data.StructLayout(
        {
            "en": 1,
            "end": 1,
            "buffer": 1,
            "row": abi.ITEM_BITS,
            "mask": dimension,
            "data": data.ArrayLayout(8 * dimension, geometry.max_parts),
        }
    )


class DotVectors(wiring.Component):
    """Keep the vectors of two tokens, and give those of an item as soon as all are there.

    Parameters
    ----------
    geometry : GroupGeometry
    stage : int
        Number of the stage among those of the group.

    Members
    -------
    entry, token, store, bottom, arrived
        See :class:`rtl_gen.dot.Dot`.
    o : Out(stream.Signature(8 * dimension * ring))
        Vectors of an item, one a cycle; bytes beyond the model's dimension are zero.
    """

    def __init__(self, geometry: GroupGeometry, *, stage: int):
        self.geometry = geometry
        self.stage = stage
        self.shape = geometry.dots[stage]
        super().__init__(
            {
                "entry": In(entry_layout(geometry)),
                "token": In(stream.Signature(dot_token_layout())),
                "store": In(store_layout(geometry, stage)),
                "bottom": In(bottom_layout(geometry, stage)),
                "arrived": In(abi.ITEM_BITS).array(2),
                "o": Out(stream.Signature(8 * self.shape.dimension * self.shape.ring)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.tokens = tokens = Queue(dot_token_layout(), depth=2)
        wiring.connect(m, wiring.flipped(self.token), tokens.i)
        made = self._made(m)

        token = tokens.o.p
        item, row = Signal(abi.ITEM_BITS), Signal(abi.ITEM_BITS)
        part, shown = (Signal(range(self.geometry.max_parts), name=n) for n in ("part", "shown"))
        there, read = Signal(), Signal()
        m.d.comb += [
            there.eq(
                tokens.o.valid
                & (row < Array(self.arrived)[token.buffer])
                & (~self.entry.bottom | (row < Array(made)[token.buffer]))
            ),
            read.eq(there & (~self.o.valid | self.o.ready)),
            tokens.o.ready.eq(read & (item == token.items - 1)),
        ]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(there)
        last_part = Array(shape.parts - 1 for shape in self.geometry.shapes)[self.entry.form]
        with m.If(read):
            m.d.sync += [item.eq(item + 1), part.eq(part + 1), shown.eq(part)]
            with m.If(part == last_part):
                m.d.sync += [part.eq(0), row.eq(row + 1)]
            with m.If(tokens.o.ready):
                m.d.sync += [item.eq(0), part.eq(0), row.eq(0)]
        pooled = self._pooled(m, read, token.buffer, item)
        last = self._last(m, read, token.buffer, row, part, shown)
        self._show(m, pooled, last)
        return m

    def _made(self, m):
        """Count the rows of last vectors of each buffer."""
        made = [Signal(abi.ITEM_BITS, name=f"made_{buffer}") for buffer in range(2)]
        for buffer, rows in enumerate(made):
            with m.If(self.bottom.en & self.bottom.end & (self.bottom.buffer == buffer)):
                m.d.sync += rows.eq(rows + 1)
            with m.If(self.token.valid & self.token.ready & (self.token.p.buffer == buffer)):
                m.d.sync += rows.eq(0)
        return made

    def _ram(self, width, bits):
        """A memory of bytes for both buffers."""
        return Ram(
            width=8 * width,
            depth=2 << bits,
            granularity=8,
            macro_bits=self.geometry.hardware.sram_macro_bits,
        )

    def _pooled(self, m, read, buffer, item):
        """The memory of what the gather unit writes."""
        chunks, width = _chunks(self.geometry, self.stage), self.geometry.gather_bytes
        bits = _item_bits(self.geometry, self.stage)
        size = self.shape.vectors * self.shape.dimension
        m.submodules.pooled = ram = self._ram(size, bits)
        store = self.store
        chosen = [store.en & (store.chunk == n if chunks > 1 else 1) for n in range(chunks)]
        mask = Cat(store.mask & chosen[n].replicate(width) for n in range(chunks))
        m.d.comb += [
            ram.write.en.eq(mask),
            ram.write.addr.eq(Cat(store.item, store.buffer)),
            ram.write.data.eq(store.data.replicate(chunks)),
            ram.read.en.eq(read),
            ram.read.addr.eq(Cat(item[:bits], buffer)),
        ]
        return ram.read.data

    def _last(self, m, read, buffer, row, part, shown):
        """The memories of last vectors, one a part."""
        bits = ceil_log2(self.geometry.hardware.accumulator_depth)
        shown_data = []
        for number in range(self.geometry.max_parts):
            m.submodules[f"last_{number}"] = ram = self._ram(self.shape.dimension, bits)
            m.d.comb += [
                ram.write.en.eq(self.bottom.mask & self.bottom.en.replicate(len(ram.write.en))),
                ram.write.addr.eq(Cat(self.bottom.row[:bits], self.bottom.buffer)),
                ram.write.data.eq(self.bottom.data[number]),
                ram.read.en.eq(read & (part == number)),
                ram.read.addr.eq(Cat(row[:bits], buffer)),
            ]
            shown_data.append(ram.read.data)
        return Array(shown_data)[shown]

    def _show(self, m, pooled, last):
        """Put vectors in the ring's order, without bytes that the model's have not."""
        shape = self.shape
        size = 8 * shape.dimension
        places = [pooled.word_select(number, size) for number in range(shape.vectors)]
        places[-1] = Mux(self.entry.bottom, last, places[-1])
        places += [Const(0, size)] * (shape.ring - shape.vectors)
        inside = Signal(size)
        m.d.comb += [
            inside.eq(
                Cat((self.entry.dimension > byte).replicate(8) for byte in range(shape.dimension))
            ),
            self.o.p.eq(Cat(place & inside for place in places)),
        ]
