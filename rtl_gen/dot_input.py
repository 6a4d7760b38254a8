"""The input side of a group for a stage with a dot interaction: token buffers and the unit."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rtl_gen.dot import Dot
from rtl_gen.signatures import load_bus_layout
from rtl_gen.token_input import TokenInput

__all__ = ["DotInput", "results_layout"]


def results_layout(geometry: GroupGeometry, work) -> data.StructLayout:
    """A row of results of a pass ``work``, one in each part."""
    width = max(shape.n_width for shape in geometry.shapes)
    return data.StructLayout(
        {
            "en": 1,
            "row": abi.ITEM_BITS,
            "work": work,
            "data": data.ArrayLayout(8 * width, geometry.max_parts),
        }
    )


class DotInput(wiring.Component):
    """A :class:`rtl_gen.token_input.TokenInput` with a dot interaction unit beside it.

    Where a model uses it, what the gather unit writes from the unit's base on is the unit's, which
    takes it at once. The unit's results go where the gather unit's other bytes go, and before
    these.

    Parameters
    ----------
    geometry, port, token, stage
        See :class:`rtl_gen.token_input.TokenInput`.
    work : StructLayout
        See :func:`rtl_gen.group_layouts.pass_layout`.

    Members
    -------
    i, entry, token, arrived, reserved, fill, free, read, positions
        See :class:`rtl_gen.token_input.TokenInput`.
    bus : In(load_bus_layout(hardware))
        Fills the unit's parameters.
    results : In(results_layout(geometry, work))
        Results of passes; those of the last vector are kept.
    dot : Out(stream.Signature(token))
        Accepted tokens of a model with a dot interaction; ``token`` gives the others.
    done : Out(1)
        The unit is done with a token.
    """

    def __init__(self, geometry: GroupGeometry, *, port, token, stage: int, work):
        self.geometry = geometry
        self.stage = stage
        self.shape = geometry.dots[stage]
        self.input = TokenInput(geometry, port=port, token=token, stage=stage)
        super().__init__(
            {
                **dict(self.input.signature.members),
                "bus": In(load_bus_layout(geometry.hardware)),
                "results": In(results_layout(geometry, work)),
                "dot": Out(stream.Signature(token)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.input = own = self.input
        m.submodules.dot = unit = Dot(self.geometry, stage=self.stage)
        started = self.i.start.valid & self.i.start.ready
        current = Signal(init=1)  # buffer that is being filled
        with m.If(started):
            m.d.sync += current.eq(own.token.p.buffer)
        used = self.entry.dimension != 0
        m.d.comb += [
            self.token.p.eq(own.token.p),
            self.token.valid.eq(own.token.valid & ~used),
            self.dot.p.eq(own.token.p),
            self.dot.valid.eq(own.token.valid & used),
            own.token.ready.eq(Mux(used, self.dot.ready, self.token.ready)),
            own.i.start.valid.eq(self.i.start.valid),
            own.i.start.p.eq(self.i.start.p),
            self.i.start.ready.eq(own.i.start.ready),
            own.i.item_valid.eq(self.i.item_valid),
            own.i.item_position.eq(self.i.item_position),
            own.entry.eq(self.entry),
            own.reserved.eq(self.reserved),
            own.free.eq(self.free),
            own.read.eq(self.read),
            *(mine.eq(given) for mine, given in zip(self.positions, own.positions, strict=True)),
            unit.bus.eq(self.bus),
            unit.entry.eq(self.entry),
            unit.token.valid.eq(started & used & (own.token.p.items != 0)),
            unit.token.p.buffer.eq(own.token.p.buffer),
            unit.token.p.items.eq(own.token.p.items),
            self.done.eq(unit.done),
        ]
        for buffer in range(2):
            m.d.comb += [
                self.arrived[buffer].eq(own.arrived[buffer]),
                unit.arrived[buffer].eq(own.arrived[buffer]),
            ]
        self._write(m, own, unit, current)
        self._keep(m, unit)
        return m

    def _write(self, m, own, unit, current):
        """Share out the gather unit's writes, and the port of the activation memory."""
        given, taken = self.i.write, own.i.write
        first = self.shape.base // self.geometry.gather_bytes
        there, writes = Signal(), Signal()  # the write is the unit's; the unit writes
        m.d.comb += [
            there.eq((given.p.chunk >= first) & (self.entry.dimension != 0)),
            writes.eq(unit.o.valid & unit.o.ready),
            unit.o.ready.eq(~self.reserved.bit_select(unit.o.p.buffer, 1)),
            taken.valid.eq(given.valid & ~there & ~writes),
            taken.p.eq(given.p),
            given.ready.eq(there | (taken.ready & ~writes)),
        ]
        m.d.sync += [
            unit.store.en.eq(given.valid & there),
            unit.store.buffer.eq(current),
            unit.store.item.eq(given.p.item),
            unit.store.chunk.eq(given.p.chunk - first),
            unit.store.mask.eq(given.p.mask),
            unit.store.data.eq(given.p.data),
        ]
        fill = Signal.like(self.fill)
        m.d.sync += [fill.eq(unit.o.p), fill.en.eq(writes)]
        m.d.comb += self.fill.eq(own.fill)
        with m.If(fill.en):
            m.d.comb += self.fill.eq(fill)

    def _keep(self, m, unit):
        """Give the unit the columns of the last vector, each where it belongs."""
        results, work, bottom = self.results, self.results.work, unit.bottom
        shapes, form = self.geometry.shapes, self.results.work.form
        dimension = self.shape.dimension

        def by_shape(values):
            return Array(values)[form]

        m.d.comb += [
            bottom.en.eq(results.en & (work.vector != 0) & (work.token.stage == self.stage)),
            bottom.end.eq(work.pause),
            bottom.buffer.eq(work.token.buffer),
            bottom.row.eq(results.row),
            bottom.mask.eq(
                by_shape(
                    Cat(
                        (work.vector == byte // shape.n_width + 1)
                        & (byte % shape.n_width < work.columns)
                        for byte in range(dimension)
                    )
                    for shape in shapes
                )
            ),
        ]
        for part, value in enumerate(results.data):
            m.d.comb += bottom.data[part].eq(
                by_shape(
                    Cat(value.word_select(byte % shape.n_width, 8) for byte in range(dimension))
                    for shape in shapes
                )
            )
