"""The dot interaction unit of a stage in a group: products of all pairs of an item's vectors."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rpaccel.image_layout import PAIR, pairs_target
from rtl_gen.dot_row import DOT_LATENCY, DotRow, dot_control_layout
from rtl_gen.dot_vectors import DotVectors, bottom_layout, dot_token_layout, store_layout
from rtl_gen.emit import share
from rtl_gen.group_layouts import entry_layout
from rtl_gen.loaded_ram import LoadedRam
from rtl_gen.queue import Queue
from rtl_gen.signatures import load_bus_layout
from rtl_gen.token_input import fill_layout

__all__ = ["Dot"]


class Dot(wiring.Component):
    """Multiply the pairs of the vectors of each item, in order, and write the results.

    An item takes ``DotShape.cycles`` cycles, or one a write if that is more. The vectors stand in a
    ring; a rotated copy of the ring turns beside it, so that no operand is chosen from many.

    Parameters
    ----------
    geometry : GroupGeometry
    stage : int
        Number of the stage among those of the group; it has a unit.

    Members
    -------
    bus : In(load_bus_layout(hardware))
        Fills the PAIR structures.
    entry : In(entry_layout(...))
        Of the stage.
    token : In(stream.Signature(dot_token_layout(...)))
        Tokens with items, in the order of their start.
    store : In(store_layout(...))
        What the gather unit writes.
    bottom : In(bottom_layout(...))
        A row of last vectors, one in each part.
    arrived : In(15).array(2)
        Rows of each token buffer that the gather unit has finished.
    o : Out(stream.Signature(fill_layout(...)))
        Results, for the activation memory.
    done : Out(1)
        With the last write of a token.
    """

    def __init__(self, geometry: GroupGeometry, *, stage: int):
        self.geometry = geometry
        self.stage = stage
        self.shape = geometry.dots[stage]
        hardware = self.hardware = geometry.hardware
        self.index = hardware.groups[geometry.group].stages[stage]
        super().__init__(
            {
                "bus": In(load_bus_layout(hardware)),
                "entry": In(entry_layout(geometry)),
                "token": In(stream.Signature(dot_token_layout())),
                "store": In(store_layout(geometry, stage)),
                "bottom": In(bottom_layout(geometry, stage)),
                "arrived": In(abi.ITEM_BITS).array(2),
                "o": Out(stream.Signature(fill_layout(geometry))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.vectors = vectors = DotVectors(self.geometry, stage=self.stage)
        m.submodules.writing = writing = Queue(dot_token_layout(), depth=2)
        m.d.comb += [
            vectors.entry.eq(self.entry),
            vectors.store.eq(self.store),
            vectors.bottom.eq(self.bottom),
            vectors.arrived[0].eq(self.arrived[0]),
            vectors.arrived[1].eq(self.arrived[1]),
            # Each has room for as many tokens as there are token buffers.
            self.token.ready.eq(vectors.token.ready & writing.i.ready),
            vectors.token.valid.eq(self.token.valid & writing.i.ready),
            writing.i.valid.eq(self.token.valid & vectors.token.ready),
            vectors.token.p.eq(self.token.p),
            writing.i.p.eq(self.token.p),
        ]
        en = Signal()  # the pipeline moves
        control, ends, a, b = self._ring(m, vectors, en)
        y, complete = self._rows(m, platform, en, control, ends, a, b)
        self._collect(m, en, y, complete, writing)
        return m

    def _ring(self, m, vectors, en):
        """Turn the vectors of an item. Returns control, whether it is the last, and operands."""
        shape = self.shape
        size = 8 * shape.slices * shape.width  # of a vector, whole slices
        a = Signal(size * shape.ring, reset_less=True)
        b = Signal(size * shape.ring, reset_less=True)
        control = Signal(dot_control_layout())
        slice_, step = Signal(range(shape.slices)), Signal(range(shape.steps))
        last_slice, last = Signal(), Signal()
        m.d.comb += [
            last_slice.eq(slice_ == shape.slices - 1),
            last.eq(last_slice & (step == shape.steps - 1)),
            control.first.eq(slice_ == 0),
            control.last.eq(last_slice),
            vectors.o.ready.eq(en & (~control.valid | last)),
        ]
        here, there = _places(a, size), _places(b, size)
        with m.If(en & control.valid):
            m.d.sync += slice_.eq(Mux(last_slice, 0, slice_ + 1))
            turned = [value.rotate_right(8 * shape.width) for value in there]
            m.d.sync += [
                a.eq(Cat(value.rotate_right(8 * shape.width) for value in here)),
                b.eq(Cat(turned)),
            ]
            with m.If(last_slice):
                m.d.sync += [
                    step.eq(Mux(last, 0, step + 1)),
                    b.eq(Cat(turned[shape.turns :] + turned[: shape.turns])),
                ]
        valid = control.valid
        with m.If(vectors.o.ready):
            m.d.sync += valid.eq(vectors.o.valid)
            with m.If(vectors.o.valid):
                given = _places(vectors.o.p, 8 * shape.dimension)
                padded = [Cat(value, Const(0, size - len(value))) for value in given]
                m.d.sync += [a.eq(Cat(padded)), b.eq(Cat(padded[1:] + padded[:1]))]
        low = 8 * shape.width
        return control, last, [v[:low] for v in here], [v[:low] for v in there]

    def _rows(self, m, platform, en, control, ends, a, b):
        """Multiply. Returns the results of a step, and whether they are the last of an item."""
        shape, ring = self.shape, self.shape.ring
        m.submodules.pairs = pairs = LoadedRam(
            hardware=self.hardware,
            target=pairs_target(self.index),
            width=PAIR.bits * ring * shape.turns,
            depth=shape.steps,
            parts=shape.turns,
        )
        m.d.comb += pairs.bus.eq(self.bus)
        # What is known of the operands at each place of the pipeline.
        known = data.StructLayout({"valid": 1, "ends": 1})
        flow = [Signal(known, name="flow_0")]
        m.d.comb += [flow[0].valid.eq(control.valid & control.last), flow[0].ends.eq(ends)]
        for number in range(1, DOT_LATENCY + 1):
            place = Signal(known, name=f"flow_{number}")
            with m.If(en):
                m.d.sync += place.eq(flow[-1])
            flow.append(place)
        step = Signal(range(shape.steps))  # of the product that is requantised next
        with m.If(en & flow[2].valid):
            m.d.sync += step.eq(Mux(flow[2].ends, 0, step + 1))
        made = []
        for turn in range(shape.turns):
            row = DotRow(lanes=ring, width=shape.width)
            m.submodules[f"row_{turn}"] = share(row, platform)
            m.d.comb += [
                pairs.read[turn].en.eq(en & flow[2].valid),
                pairs.read[turn].addr.eq(step),
                row.en.eq(en),
                row.control.eq(control),
                row.a.eq(Cat(a)),
                row.b.eq(Cat(b[turn:] + b[:turn])),
                row.pairs.eq(pairs.read[turn].data),
            ]
            made.append(row.y)
        return Cat(made), flow[DOT_LATENCY]

    def _collect(self, m, en, y, complete, writing):
        """Gather the results of an item's steps, and write them."""
        shape, geometry = self.shape, self.geometry
        width = geometry.gather_bytes
        writes = -(-shape.results // width)
        out = Signal(8 * width * writes, reset_less=True)
        left = Signal(range(writes + 1))
        token = writing.o.p
        taken, ends = Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(left != 0),
            taken.eq(self.o.valid & self.o.ready),
            ends.eq(taken & (left == 1)),
            en.eq(~(complete.valid & complete.ends) | (left == 0) | ends),
        ]
        item = y
        if shape.steps > 1:
            before = Signal(len(y) * (shape.steps - 1), reset_less=True)
            with m.If(en & complete.valid):
                m.d.sync += before.eq(Cat(before, y)[len(y) :])
            item = Cat(before, y)
        with m.If(taken):
            m.d.sync += [left.eq(left - 1), out.eq(out >> 8 * width)]
        with m.If(en & complete.valid & complete.ends):
            m.d.sync += [left.eq(writes), out.eq(item[: 8 * shape.results])]

        whole = (1 << width) - 1
        rest = (1 << shape.results - (writes - 1) * width) - 1
        m.d.comb += [
            self.o.p.en.eq(1),
            self.o.p.form.eq(self.entry.form),
            self.o.p.buffer.eq(token.buffer),
            self.o.p.mask.eq(Mux(left == 1, rest, whole)),
            self.o.p.data.eq(out[: 8 * width]),
        ]
        self._place(m, taken, ends, writing)

    def _place(self, m, taken, ends, writing):
        """Follow part, word and place in it from write to write."""
        shapes, form, o = self.geometry.shapes, self.entry.form, self.o.p
        last_part = Array(shape.parts - 1 for shape in shapes)[form]
        width = self.geometry.gather_bytes
        last_place = Array(shape.word_bytes // width - 1 for shape in shapes)[form]
        part, place = Signal.like(o.part), Signal.like(o.place)
        base, word = Signal.like(o.address), Signal.like(o.address)  # of the row, of the item
        item = Signal(abi.ITEM_BITS)
        last = item == writing.o.p.items - 1
        m.d.comb += [
            o.part.eq(part),
            o.place.eq(place),
            o.address.eq(base + word),
            self.done.eq(ends & last),
            writing.o.ready.eq(self.done),
        ]
        with m.If(taken):
            m.d.sync += place.eq(place + 1)
            with m.If(place == last_place):
                m.d.sync += [place.eq(0), word.eq(word + 1)]
        with m.If(ends):
            m.d.sync += [place.eq(0), word.eq(0), part.eq(part + 1), item.eq(item + 1)]
            with m.If(part == last_part):
                m.d.sync += [part.eq(0), base.eq(base + self.entry.words)]
        with m.If(self.done):
            m.d.sync += [part.eq(0), base.eq(0), item.eq(0)]


def _places(vector, size):
    """The vectors of a ring."""
    return [vector.word_select(place, size) for place in range(len(vector) // size)]
