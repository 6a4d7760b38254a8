"""The cells of a group, and the wires by which they are fused or share items."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.geometry import GroupGeometry, Shape
from rpaccel.hardware import HardwareConfig
from rtl_gen.cell import READ_LATENCY, Cell
from rtl_gen.cell_writes import CellWrites
from rtl_gen.emit import share
from rtl_gen.epilogue import EPILOGUE_LATENCY, control_layout
from rtl_gen.group_layouts import load_layout
from rtl_gen.shared_cells import cell_ports, cell_sizes, join
from rtl_gen.signatures import load_bus_layout
from rtl_gen.token_input import fill_layout
from rtl_gen.weights import ParamMemory, WeightMemory
from rtl_gen.writeback import PassTracker, flow_layout

__all__ = ["Cells", "cells_latency"]


def row_delay(hardware: HardwareConfig) -> int:
    """Cycles by which a row of sub-arrays is behind the one north of it."""
    return hardware.tile_rows + 1


def cells_latency(hardware: HardwareConfig, shape: Shape) -> int:
    """Cycles from the issue of a row of items to its results at the activation memory."""
    return READ_LATENCY + shape.rows * row_delay(hardware) + shape.cols - 1 + EPILOGUE_LATENCY


class Cells(wiring.Component):
    """Multiply slices of activations by tiles of weights, accumulate, requantise, write back.

    In a shape, blocks of R x C cells are fused: activations pass east and partial sums pass south.
    All blocks do the same at the same time, each with its own items. One row of items a cycle.
    All delays are constant: row r of a block is ``r * row_delay`` cycles behind the issue, and
    results are written ``cells_latency`` cycles after it.

    Parameters
    ----------
    geometry : GroupGeometry
    work : StructLayout
        See :func:`rtl_gen.group_layouts.pass_layout`.

    Members
    -------
    bus : In(load_bus_layout(hardware))
        Fills weights and parameters, which have the targets of group 0.
    shape : In
        Number of the shape of everything that is under way.
    load : In(load_layout(...))
        Row of weights to be read in this cycle. A row of items may be issued in the same cycle, and
        must not be sooner; what the row replaces is used by items issued until ``-cols`` cycles
        later.
    issue, work : In
        See :class:`rtl_gen.sequencer.Issuer`.
    take : Out(1)
        A pass can be issued.
    fill : In(fill_layout(...)).array(stages)
        What gather units write, never to a buffer that ``ahead`` says is written next.
    ahead : Out(valid, end, row, work)
        The row of items whose results are written or given at ``scores`` in the next cycle.
    scores : Out(score, saturated).array(parts)
        Logits, and whether they were clamped.
    chunks : Out(8 * n_width).array(parts)
        Results, in a group with dot interactions.
    cell_0_0 and so on : Out(cell_port(...))
        The cells, in a group that shares them with others.
    """

    def __init__(self, geometry: GroupGeometry, *, work):
        self.geometry = geometry
        self.pass_layout = work
        hardware = self.hardware = geometry.hardware
        group = hardware.groups[geometry.group]
        self.rows, self.cols = group.rows, group.cols
        self.stages = len(group.stages)
        self.row_delay = row_delay(hardware)
        self.latency = [cells_latency(hardware, shape) for shape in geometry.shapes]
        row = {"valid": 1, "start": 1, "end": 1, "set": 1, "row": abi.ITEM_BITS}
        ahead = {"valid": 1, "end": 1, "row": abi.ITEM_BITS, "work": work}
        score = wiring.Signature({"score": Out(16), "saturated": Out(1)})
        n_width = max(shape.n_width for shape in geometry.shapes)
        chunks = Out(8 * n_width).array(geometry.max_parts)
        super().__init__(
            {
                "bus": In(load_bus_layout(hardware)),
                "shape": In(ceil_log2(len(geometry.shapes))),
                "load": In(load_layout(geometry)),
                "issue": In(data.StructLayout(row)),
                "work": In(work),
                "take": Out(1),
                "fill": In(fill_layout(geometry)).array(self.stages),
                "ahead": Out(data.StructLayout(ahead)),
                "scores": Out(score).array(geometry.max_parts),
                **({"chunks": chunks} if geometry.dots else {}),
                **cell_ports(geometry),
            }
        )

    def elaborate(self, platform):
        m = Module()
        flow = self._flow(m)
        cells = self._cells(m, platform)
        self._reads(m, flow, cells)
        self._weights(m, cells)
        self._epilogues(m, flow, cells)
        self._writes(m, platform, flow, cells)
        return m

    # --- which is which, in each shape ---

    def _pick(self, values) -> Value:
        """Choose by shape among values, one a shape."""
        values = list(values)
        if len({value if isinstance(value, int) else id(value) for value in values}) == 1:
            return Value.cast(values[0])
        return Array(values)[self.shape]

    def _by_row(self, row, values) -> Value:
        """Choose among values, one a row of a block, for cells in a row of the group."""
        return self._pick(values[row % shape.rows] for shape in self.geometry.shapes)

    def _by_col(self, col, values) -> Value:
        """Choose among values, one a column of a block, for cells in a column of the group."""
        return self._pick(values[col % shape.cols] for shape in self.geometry.shapes)

    # --- the parts of it ---

    def _flow(self, m):
        """What travels beside a row of items: element d of the list is d cycles after its issue."""
        flow = [Signal(flow_layout(), name="flow_0")]
        m.d.comb += [flow[0][n].eq(self.issue[n]) for n in ("valid", "start", "end", "set")]
        for cycle in range(1, max(self.latency)):
            step = Signal(flow_layout(), name=f"flow_{cycle}")
            m.d.sync += step.eq(flow[-1])
            if cycle in self.latency:
                # A row leaves where its shape ends, not where the largest one does.
                goes_on = self._pick(int(latency > cycle) for latency in self.latency)
                m.d.sync += step.valid.eq(flow[-1].valid & goes_on)
            flow.append(step)
        return flow

    def _cells(self, m, platform):
        """Make the cells, or take those that are shared, and connect neighbours."""
        shapes = self.geometry.shapes
        cells = {}
        for row in range(self.rows):
            for col in range(self.cols):
                name = f"cell_{row}_{col}"
                if self.geometry.shares:
                    cell = getattr(self, name)
                else:
                    cell = Cell(**cell_sizes(self.geometry, row, col))
                    m.submodules[name] = share(cell, platform)
                cells[row, col] = cell
                m.d.comb += [
                    cell.own.eq(self._pick(int(col % s.cols == 0) for s in shapes)),
                    cell.top.eq(self._pick(int(row % s.rows == 0) for s in shapes)),
                ]
                if not self.geometry.shares:
                    join(m, cell, cells.get((row, col - 1)), cells.get((row - 1, col)))
        return cells

    def _tracker(self, m, name, shape, values, flow, *, row=0):
        """Make a tracker of passes at a place ``flow``; passes are queued in it as they start."""
        passes = -(-max(self.latency) // self.hardware.tile_rows) + 4
        m.submodules[name] = tracker = PassTracker(shape, depth=passes)
        m.d.comb += [
            tracker.i.valid.eq(
                self.issue.valid
                & self.issue.start
                & self._pick(int(row < s.rows) for s in self.geometry.shapes)
            ),
            *(tracker.i.p[field].eq(value) for field, value in values.items()),
            tracker.flow.eq(flow),
        ]
        return tracker

    def _stepped(self, m, flow, first, words):
        """Address of the row at ``flow``: the pass's first word, and some words on for each row."""
        following = Signal.like(first)
        address = Mux(flow.start, first, following)
        with m.If(flow.valid):
            m.d.sync += following.eq(address + words)
        return address

    def _reads(self, m, flow, cells):
        """Read slices in time for each row of cells, and tell the sub-arrays when they come."""
        work = self.work
        number = Cat(work.token.buffer, work.token.stage)
        passed = {
            "buffer": number,
            "source": work.source,
            "slice": work.slice,
            "words": work.words,
        }
        layout = data.StructLayout({name: value.shape() for name, value in passed.items()})
        reads, valids, sets = [], [], []
        for row in range(max(shape.rows for shape in self.geometry.shapes)):
            at = row * self.row_delay
            now = Signal(layout, name=f"reads_{row}")
            if row:
                m.d.comb += now.eq(
                    self._tracker(m, f"reading_{row}", layout, passed, flow[at], row=row).o
                )
            else:
                m.d.comb += [now[name].eq(value) for name, value in passed.items()]
            read = Signal(cells[0, 0].read.shape(), name=f"read_{row}")
            m.d.comb += [
                read.en.eq(flow[at].valid << now.buffer),
                read.address.eq(self._stepped(m, flow[at], now.source, now.words)),
                read.slice.eq(now.slice),
            ]
            reads.append(read.as_value())
            steps = flow[at + READ_LATENCY :][: self.hardware.tile_rows]
            valids.append(Cat(step.valid for step in steps))
            sets.append(Cat(step.set for step in steps))
        for (row, _), cell in cells.items():
            m.d.comb += [
                cell.read.as_value().eq(self._by_row(row, reads)),
                cell.feed_valid.eq(self._by_row(row, valids)),
                cell.feed_set.eq(self._by_row(row, sets)),
            ]

    def _weights(self, m, cells):
        """Load weights in step with the items."""
        m.submodules.weights = memory = WeightMemory(self.geometry, row_delay=self.row_delay)
        m.d.comb += [
            memory.bus.eq(self.bus),
            memory.shape.eq(self.shape),
            memory.load.eq(self.load),
        ]
        for (row, col), cell in cells.items():
            load = data.View(
                memory.rows[0].shape(),
                self._by_row(row, [control.as_value() for control in memory.rows]),
            )
            m.d.comb += [
                cell.load_en.eq(load.en),
                cell.load_set.eq(load.set),
                cell.load_row.eq(load.row),
                cell.load.eq(
                    self._pick(
                        memory.data[index][row % shape.rows * shape.cols + col % shape.cols]
                        for index, shape in enumerate(self.geometry.shapes)
                    )
                ),
            ]

    def _epilogues(self, m, flow, cells):
        """Tell the cells at the southern edges what to do with the sums, column by column."""
        geometry, work = self.geometry, self.work
        names = ("first", "final", "multiply", "relu", "params")
        layout = data.StructLayout({name: work[name].shape() for name in names})
        # An epilogue knows of an item a cycle before its sums.
        places = [shape.rows * self.row_delay + READ_LATENCY - 1 for shape in geometry.shapes]
        at_sums = data.View(flow_layout(), self._pick(flow[p].as_value() for p in places))
        tracker = self._tracker(
            m, "accumulating", layout, {name: work[name] for name in names}, at_sums
        )
        control = control_layout(depth=self.hardware.accumulator_depth)
        controls = [Signal(control, name="control_0")]
        params = Signal.like(work.params)
        m.d.comb += [
            controls[0].valid.eq(at_sums.valid),
            controls[0].start.eq(at_sums.start),
            controls[0].item.eq(tracker.item),
            *(controls[0][name].eq(tracker.o[name]) for name in names if name != "params"),
            params.eq(tracker.o.params),
        ]
        memory = ParamMemory(geometry)
        m.submodules.params = memory
        m.d.comb += memory.bus.eq(self.bus)
        for col in range(geometry.max_cols):
            following = Signal(control, name=f"control_{col + 1}")
            later = Signal.like(params, name=f"params_{col + 1}")
            m.d.sync += [following.eq(controls[-1]), later.eq(params)]
            m.d.comb += [
                memory.en[col].eq(following.valid & following.final & following.start),
                memory.addr[col].eq(later + col),
            ]
            controls.append(following)
            params = later
        for (row, col), cell in cells.items():
            last = self._pick(int(row % s.rows == s.rows - 1) for s in geometry.shapes)
            m.d.comb += [
                cell.control.as_value().eq(self._by_col(col, [c.as_value() for c in controls])),
                cell.param.eq(self._by_col(col, memory.data)),
            ]
            if "delay" in cell.signature.members:
                wait = self._pick(s.cols - 1 - col % s.cols for s in geometry.shapes)
                m.d.comb += cell.delay.eq(wait)
            with m.If(~last):
                m.d.comb += cell.control.valid.eq(0)

    def _writes(self, m, platform, flow, cells):
        """Write chunks where they belong, show scores, and let the gather unit write."""
        geometry = self.geometry
        here = data.View(
            flow_layout(), self._pick(flow[latency - 1].as_value() for latency in self.latency)
        )
        tracker = self._tracker(
            m,
            "writing",
            self.pass_layout,
            {name: self.work[name] for name, _ in self.pass_layout},
            here,
        )
        work = tracker.o
        m.d.comb += [
            self.take.eq(tracker.i.ready),  # the other trackers are never behind this one
            self.ahead.valid.eq(here.valid),
            self.ahead.end.eq(here.end),
            self.ahead.row.eq(tracker.item),
            self.ahead.work.eq(work),
        ]
        writes = CellWrites(geometry)
        write, bytes_ = writes.write, range(len(writes.write.mask))
        m.d.comb += [
            write.form.eq(self.shape),
            write.en.eq(
                (here.valid & work.final & ~work.score) << Cat(work.token.buffer, work.token.stage)
            ),
            write.address.eq(self._stepped(m, here, work.target, work.words)),
            write.chunk.eq(work.chunk),
            write.mask.eq(
                Cat((n >= work.column) & (n < work.column + work.columns) for n in bytes_)
            ),
        ]
        m.submodules.writes = share(writes, platform)
        m.d.comb += [port.eq(fill) for port, fill in zip(writes.fill, self.fill)]
        for at, cell in cells.items():
            m.d.comb += getattr(writes, writes.name("made", at)).eq(cell.chunk)
        for at in writes.memories:
            m.d.comb += cells[at].write.eq(getattr(writes, writes.name("write", at)))
            filled = getattr(writes, writes.name("fill", at))
            m.d.comb += [port.eq(fill) for port, fill in zip(cells[at].fill, filled)]
        for part, score in enumerate(self.scores):
            m.d.comb += [
                score.score.eq(self._at_edge(cells, part, lambda cell: cell.score)),
                score.saturated.eq(self._at_edge(cells, part, lambda cell: cell.saturated)),
            ]
            if self.geometry.dots:
                m.d.comb += self.chunks[part].eq(
                    self._at_edge(cells, part, lambda cell: cell.chunk, cols=self.cols)
                )

    def _at_edge(self, cells, part, value, *, cols=1):
        """Choose what the first cells of a part's last row have; 0 without the part."""
        found = []
        for shape in self.geometry.shapes:
            edge = [
                value(cell)
                for (row, col), cell in cells.items()
                if row % shape.rows == shape.rows - 1
                and col % shape.cols < cols
                and self.geometry.part(shape, row, col) == part
            ]
            found.append(Cat(edge) if edge else 0)
        return self._pick(found)
