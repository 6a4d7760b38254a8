"""Sub-arrays fused into one array, with their weight memories, accumulators and epilogues."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.emit import share
from rtl_gen.epilogue import EPILOGUE_LATENCY, Epilogue, control_layout
from rtl_gen.load_port import LoadPort
from rtl_gen.loaded_ram import LoadedRam
from rtl_gen.sequencer import load_layout
from rtl_gen.signatures import load_bus_layout
from rtl_gen.subarray import SubArray, sum_bits

__all__ = ["FusedArray"]


def delayed(m: Module, value: Value, cycles: int) -> Value:
    """Value as it was some cycles ago, through a shift register without reset."""
    if not cycles:
        return value
    line = Signal(len(value) * cycles, reset_less=True)
    m.d.sync += line.eq(Cat(value, line))
    return line[-len(value) :]


class FusedArray(wiring.Component):
    """Multiply slices of activations by tiles of weights, accumulate, requantise.

    Activations pass east from sub-array to sub-array, partial sums pass south. One item a cycle.
    All delays are constant: sums of an item are in column 0 ``sum_latency`` cycles after its slice
    was presented, its results are at the outputs ``latency`` cycles after it.

    Parameters
    ----------
    hardware : HardwareConfig
    group : int
        Which of the machine's groups.

    Members
    -------
    load : In(load_bus_layout(hardware))
        Fills weights and parameters.
    slice : In(8 * k_width), valid : In(1), set : In(1)
        An item's slice, and the set of weights it meets.
    weights : In(load_layout(...))
        Row of weights to be read in this cycle. An item may be presented two cycles later, and must
        not be sooner; what the row replaces is used by items presented until ``2 - cols`` cycles
        later.
    control : In(control_layout(...))
        See :class:`rtl_gen.epilogue.Epilogue`, ``sum_latency - 1`` cycles after the slice.
    chunk : Out(8 * n_width)
        Activations.
    score, saturated : Out(16), Out(1)
        Logit and whether it was clamped.
    """

    def __init__(self, *, hardware: HardwareConfig, group: int):
        self.hardware = hardware
        self.group = group
        shape = hardware.groups[group]
        self.rows, self.cols = shape.rows, shape.cols
        self.k_width, self.n_width = hardware.k_width(group), hardware.n_width(group)
        # Row 0 of each row of sub-arrays is this much later than that of the one north of it.
        self.row_delay = hardware.tile_rows + 1
        self.sum_latency = self.rows * self.row_delay
        self.latency = self.sum_latency + self.cols - 1 + EPILOGUE_LATENCY
        super().__init__(
            {
                "load": In(load_bus_layout(hardware)),
                "slice": In(8 * self.k_width),
                "valid": In(1),
                "set": In(1),
                "weights": In(load_layout(depth=hardware.weight_rows, rows=hardware.tile_rows)),
                "control": In(
                    control_layout(
                        depth=hardware.accumulator_depth,
                        params=hardware.param_rows,
                        lanes=self.n_width,
                    )
                ),
                "chunk": Out(8 * self.n_width),
                "score": Out(16),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        weights = self._weights(m)
        sums = [0] * self.cols
        west = Cat(self.valid, self.set)
        for row in range(self.rows):
            west = self._row(m, platform, row, west, weights[row], sums)
        self._epilogues(m, platform, sums)
        return m

    def _weights(self, m):
        """For each row of sub-arrays: control and word of the row of weights to be loaded.

        A memory each, read later and later, so that weights arrive in step with the items.
        """
        m.submodules.weights = memory = LoadedRam(
            hardware=self.hardware,
            target=abi.target_id(abi.Target.WEIGHTS, self.group),
            width=8 * self.rows * self.n_width,
            depth=self.hardware.weight_rows,
            parts=self.rows,
        )
        m.d.comb += memory.bus.eq(self.load)
        shape = self.weights.shape()
        loads = []
        for row, read in enumerate(memory.read):
            load = data.View(shape, delayed(m, self.weights.as_value(), row * self.row_delay))
            control = Signal(shape, name=f"load_{row}")
            m.d.comb += [read.en.eq(load.en), read.addr.eq(load.address)]
            m.d.sync += control.eq(load)
            loads.append((control, read.data))
        return loads

    def _row(self, m, platform, row, arriving, weights, sums):
        """A row of sub-arrays. Takes and returns {valid, set} as they come to row 0 of this one."""
        tile_rows, tile_cols = self.hardware.tile_rows, self.hardware.tile_cols
        steps = [arriving]
        for step in range(tile_rows + 1):
            following = Signal(2, name=f"flow_{row}_{step}")
            m.d.sync += following.eq(steps[-1])
            steps.append(following)
        inputs = [self.slice.word_select(row * tile_rows + r, 8) for r in range(tile_rows)]
        west = {
            "a": Cat(delayed(m, a, row * self.row_delay + r) for r, a in enumerate(inputs)),
            "a_valid": Cat(step[0] for step in steps[:tile_rows]),
            "a_set": Cat(step[1] for step in steps[:tile_rows]),
        }
        control, word = weights
        for col in range(self.cols):
            tile = SubArray(rows=tile_rows, cols=tile_cols, sum_bits=sum_bits(self.k_width))
            m.submodules[f"tile_{row}_{col}"] = share(tile, platform)
            m.d.comb += [
                *(getattr(tile, name).eq(value) for name, value in west.items()),
                tile.n.eq(sums[col]),
                tile.w_en.eq(control.en),
                tile.w_set.eq(control.set),
                tile.w_row.eq(control.row),
                tile.w.eq(word.word_select(col, 8 * tile_cols)),
            ]
            west = {"a": tile.e, "a_valid": tile.e_valid, "a_set": tile.e_set}
            sums[col] = tile.s
        return steps[self.row_delay]

    def _epilogues(self, m, platform, sums):
        """Accumulate and requantise, each column a cycle after the one west of it."""
        hardware = self.hardware
        tile_cols = hardware.tile_cols
        m.submodules.params = port = LoadPort(
            hardware=hardware,
            target=abi.target_id(abi.Target.PARAMS, self.group),
            width=abi.PARAM.bits * self.n_width,
            depth=hardware.param_rows,
        )
        m.d.comb += port.bus.eq(self.load)

        control = self.control
        results = []
        for col in range(self.cols):
            unit = Epilogue(
                cols=tile_cols,
                depth=hardware.accumulator_depth,
                params=hardware.param_rows,
                lanes=self.n_width,
                sum_bits=sum_bits(self.k_width),
                macro_bits=hardware.sram_macro_bits,
            )
            m.submodules[f"epilogue_{col}"] = share(unit, platform)
            m.d.comb += [
                unit.c.eq(control),
                unit.sums.eq(sums[col]),
                unit.load_en.eq(port.en),
                unit.load_addr.eq(port.addr),
                unit.load_data.eq(port.data.word_select(col, abi.PARAM.bits * tile_cols)),
            ]
            control = unit.c_east
            # Columns to the west have their results earlier: they wait for the last.
            result = Cat(unit.score, unit.saturated, unit.data)
            results.append(delayed(m, result, self.cols - 1 - col))
        m.d.comb += [
            Cat(self.score, self.saturated).eq(reduce(or_, (r[:17] for r in results))),
            self.chunk.eq(Cat(r[17:] for r in results)),
        ]
