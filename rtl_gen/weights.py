"""The weight and parameter memories of a group."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.geometry import GroupGeometry
from rpaccel.image_layout import PARAM, Target, target_id
from rtl_gen.group_layouts import load_layout
from rtl_gen.load_port import LoadPort
from rtl_gen.loaded_ram import LoadedRam
from rtl_gen.ram import Ram
from rtl_gen.signatures import load_bus_layout

__all__ = ["ParamMemory", "WeightMemory"]


class WeightMemory(wiring.Component):
    """Rows of weights, read once for all blocks of cells that are loaded alike.

    A word holds a row of weights of ``weight_tiles`` sub-arrays: of one block in the shape with the
    largest blocks, of several tiles in others. Block row r is read ``r * row_delay`` cycles after
    block row 0, so that weights arrive in step with the items.

    Parameters
    ----------
    geometry : GroupGeometry
    row_delay : int
        Cycles by which a row of cells is behind the one north of it.

    Members
    -------
    bus : In(load_bus_layout(hardware))
        With the targets of group 0.
    shape : In
        Number of the shape of everything that is loaded.
    load : In(load_layout(...))
        Read in this cycle for row 0.
    rows : Out(en, set, row).array(rows)
        What is loaded in this cycle in each row of a block.
    data : list of list of Signal(8 * tile_cols)
        For each shape, the weights for each cell of a block, row by row.
    """

    def __init__(self, geometry: GroupGeometry, *, row_delay: int):
        self.geometry = geometry
        self.row_delay = row_delay
        hardware = geometry.hardware
        load = load_layout(geometry)
        self.block_rows = max(shape.rows for shape in geometry.shapes)
        control = data.StructLayout({n: load[n].shape for n in ("en", "set", "row")})
        self.data = [
            [
                Signal(8 * hardware.tile_cols, name=f"data_{shape.index}_{cell}")
                for cell in range(shape.rows * shape.cols)
            ]
            for shape in geometry.shapes
        ]
        super().__init__(
            {
                "bus": In(load_bus_layout(hardware)),
                "shape": In(ceil_log2(len(geometry.shapes))),
                "load": In(load),
                "rows": Out(control).array(self.block_rows),
            }
        )

    def elaborate(self, platform):
        m = Module()
        geometry, hardware = self.geometry, self.geometry.hardware
        tiles = geometry.weight_tiles
        m.submodules.memory = memory = LoadedRam(
            hardware=hardware,
            target=target_id(Target.WEIGHTS, 0),
            width=8 * hardware.tile_cols * tiles,
            depth=geometry.weight_rows,
            parts=tiles,
        )
        m.d.comb += memory.bus.eq(self.bus)

        shown = []  # which tile of the word each row of a block has
        loads = [self.load]
        for row, control in enumerate(self.rows):
            tile = Signal.like(self.load.tile, name=f"tile_{row}")
            shown.append(tile)
            m.d.sync += [control[name].eq(loads[-1][name]) for name in ("en", "set", "row")]
            m.d.sync += tile.eq(loads[-1].tile)
            if row + 1 < self.block_rows:
                line = loads[-1]
                for cycle in range(self.row_delay):
                    step = Signal(self.load.shape(), name=f"load_{row}_{cycle}")
                    m.d.sync += step.eq(line)
                    line = step
                loads.append(line)

        for number, read in enumerate(memory.read):
            # Row of a block that the part belongs to, in each shape.
            rows = [number % (s.rows * s.cols) // s.cols for s in geometry.shapes]
            en = Array(loads[row].en for row in rows)[self.shape]
            m.d.comb += [
                read.en.eq(en),
                read.addr.eq(Array(loads[row].address for row in rows)[self.shape]),
            ]
        for shape, cells in zip(geometry.shapes, self.data):
            size = shape.rows * shape.cols
            for cell, weights in enumerate(cells):
                options = [memory.read[n].data for n in range(cell, tiles // size * size, size)]
                m.d.comb += weights.eq(Array(options)[shown[cell // shape.cols]])
        return m


class ParamMemory(wiring.Component):
    """Parameters of the epilogues, for each column of a block at its own time.

    Parameters
    ----------
    geometry : GroupGeometry

    Members
    -------
    bus : In(load_bus_layout(hardware))
        With the targets of group 0.
    en : In(1).array(cols), addr : In(14).array(cols)
        Read for a column.
    data : Out(64 * tile_cols).array(cols)
        ``tile_cols`` PARAM structures, a cycle later.
    """

    def __init__(self, geometry: GroupGeometry):
        self.geometry = geometry
        hardware = geometry.hardware
        cols = geometry.max_cols
        self.width = PARAM.bits * hardware.tile_cols
        super().__init__(
            {
                "bus": In(load_bus_layout(hardware)),
                "en": In(1).array(cols),
                "addr": In(ceil_log2(hardware.param_rows)).array(cols),
                "data": Out(self.width).array(cols),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hardware = self.geometry.hardware
        m.submodules.port = port = LoadPort(
            hardware=hardware,
            target=target_id(Target.PARAMS, 0),
            width=self.width,
            depth=hardware.param_rows,
        )
        m.d.comb += port.bus.eq(self.bus)
        for col, (en, addr, shown) in enumerate(zip(self.en, self.addr, self.data)):
            ram = Ram(
                width=self.width, depth=hardware.param_rows, macro_bits=hardware.sram_macro_bits
            )
            m.submodules[f"column_{col}"] = ram
            m.d.comb += [
                ram.write.en.eq(port.en),
                ram.write.addr.eq(port.addr),
                ram.write.data.eq(port.data),
                ram.read.en.eq(en),
                ram.read.addr.eq(addr),
                shown.eq(ram.read.data),
            ]
        return m
