"""An on-chip memory that an image segment fills, read in parts."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import HardwareConfig
from rtl_gen.load_port import LoadPort
from rtl_gen.ram import Ram
from rtl_gen.signatures import load_bus_layout

__all__ = ["LoadedRam"]


class LoadedRam(wiring.Component):
    """A memory of the image: written as whole words, each part of a word read at its own address.

    A read takes one cycle and its data hold until the next, as of :class:`rtl_gen.ram.Ram`.

    Parameters
    ----------
    hardware : HardwareConfig
    target : int
        Identity of the memory on the load bus, see :func:`rpaccel.image_layout.target_id`.
    width : int, positive
        Bits in a word.
    depth : int, positive
        Words.
    parts : int, a divisor of ``width``
        Parts of a word.

    Members
    -------
    bus : In(load_bus_layout(hardware))
    read : In(en, addr, data).array(parts)
        ``data`` is an output, part 0 the lowest bits of a word.
    """

    def __init__(
        self, *, hardware: HardwareConfig, target: int, width: int, depth: int, parts: int = 1
    ):
        if width % parts:
            raise ValueError(f"Parts must divide the width, {width}, not be {parts}")
        self.hardware = hardware
        self.target = target
        self.width = width
        self.depth = depth
        self.parts = parts
        port = wiring.Signature(
            {"en": Out(1), "addr": Out(ceil_log2(depth)), "data": In(width // parts)}
        )
        super().__init__({"bus": In(load_bus_layout(hardware)), "read": In(port).array(parts)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.load = load = LoadPort(
            hardware=self.hardware, target=self.target, width=self.width, depth=self.depth
        )
        m.d.comb += load.bus.eq(self.bus)
        part = self.width // self.parts
        for number, read in enumerate(self.read):
            ram = Ram(width=part, depth=self.depth, macro_bits=self.hardware.sram_macro_bits)
            m.submodules[f"part_{number}"] = ram
            m.d.comb += [
                ram.write.en.eq(load.en),
                ram.write.addr.eq(load.addr),
                ram.write.data.eq(load.data.word_select(number, part)),
                ram.read.en.eq(read.en),
                ram.read.addr.eq(read.addr),
                read.data.eq(ram.read.data),
            ]
        return m
