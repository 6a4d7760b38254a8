"""The one RAM of the project: an Amaranth memory when small, an SRAM macro when large."""

from pathlib import Path

from amaranth.build import Platform
from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["MACRO_BITS", "MACRO_MODEL", "MACRO_NAME", "Ram"]

#: Largest RAM, in bits, that is written out as an Amaranth memory. Amaranth writes one initial
#: value a word, so that generation time grows with the contents; a macro costs one line.
MACRO_BITS = 65536

#: Name of the Verilog module that a large RAM is an instance of.
MACRO_NAME = "rpaccel_sram"

#: Behavioural Verilog model of that module, for simulation.
MACRO_MODEL = Path(__file__).with_name("rpaccel_sram.v")


class Ram(wiring.Component):
    """RAM with one write port and one read port, both synchronous.

    A read takes one cycle: ``read.data`` changes after the edge at which ``read.en`` is high and
    holds until the next such edge. Reading the word that is being written returns its old contents.
    One read and one write a cycle. Contents start at zero. Addresses of ``depth`` or more are
    undefined. Above ``macro_bits`` bits the component is an instance of ``rpaccel_sram``, which
    Amaranth's own simulator cannot run; on an FPGA board it never is, so that the tools infer
    block RAM.

    Parameters
    ----------
    width : int, positive
        Bits in a word.
    depth : int, positive
        Words.
    granularity : int or None
        Bits in a write lane, a divisor of ``width``; ``None`` for one lane.
    macro_bits : int
        Largest size in bits that is written as an Amaranth memory.

    Members
    -------
    write : In(en, addr, data)
        ``en`` has one bit a lane. ``addr`` has ``ceil(log2(depth))`` bits.
    read : In(en, addr, data)
        ``data`` is an output.

    Raises
    ------
    TypeError
        If a parameter is not a positive integer.
    ValueError
        If ``granularity`` does not divide ``width``.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        granularity: int | None = None,
        macro_bits: int = MACRO_BITS,
    ):
        lane = width if granularity is None else granularity
        for name, value in ("Width", width), ("Depth", depth), ("Granularity", lane):
            if not isinstance(value, int) or value <= 0:
                raise TypeError(f"{name} must be a positive integer, not {value!r}")
        if width % lane:
            raise ValueError(f"Granularity must divide the width, {width}, not be {lane}")
        self.width = width
        self.depth = depth
        self.granularity = lane
        self.lanes = width // lane
        self.macro = width * depth > macro_bits
        self.addr_width = ceil_log2(depth)
        super().__init__(
            {
                "write": In(
                    wiring.Signature(
                        {"en": Out(self.lanes), "addr": Out(self.addr_width), "data": Out(width)}
                    )
                ),
                "read": In(
                    wiring.Signature(
                        {"en": Out(1), "addr": Out(self.addr_width), "data": In(width)}
                    )
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self.macro and not isinstance(platform, Platform):
            m.submodules.sram = Instance(
                MACRO_NAME,
                p_WIDTH=self.width,
                p_DEPTH=self.depth,
                p_GRANULARITY=self.granularity,
                p_ADDR_WIDTH=self.addr_width,
                i_clk=ClockSignal(),
                i_w_en=self.write.en,
                i_w_addr=self.write.addr,
                i_w_data=self.write.data,
                i_r_en=self.read.en,
                i_r_addr=self.read.addr,
                o_r_data=self.read.data,
            )
            return m

        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        granularity = None if self.lanes == 1 else self.granularity
        write = memory.write_port(granularity=granularity)
        read = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write.en),
            write.addr.eq(self.write.addr),
            write.data.eq(self.write.data),
            read.en.eq(self.read.en),
            read.addr.eq(self.read.addr),
            self.read.data.eq(read.data),
        ]
        return m
