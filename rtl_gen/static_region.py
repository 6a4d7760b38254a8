"""The static region: SRAM macros that the image gives to the lanes of all gather units."""

from pathlib import Path

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import Target, target_id
from rtl_gen.load_port import LoadPort
from rtl_gen.signatures import load_bus_layout

__all__ = ["STATIC_MODEL", "STATIC_NAME", "StaticRegion", "static_port"]

#: Name of the Verilog module that a large static region is an instance of.
STATIC_NAME = "rpaccel_static"

#: Behavioural Verilog model of that module, for simulation.
STATIC_MODEL = Path(__file__).with_name("rpaccel_static.v")


def static_port(hardware: HardwareConfig) -> wiring.Signature:
    """A read port of the static region, seen from a lane.

    ``data`` follows one cycle after ``en`` and holds until the next ``en``.
    """
    words = hardware.static_lines * hardware.memory.beats
    return wiring.Signature(
        {"en": Out(1), "addr": Out(ceil_log2(words)), "data": In(8 * hardware.memory.bus_bytes)}
    )


class StaticRegion(wiring.Component):
    """Hot rows: ``static_macros`` SRAMs, written by the image, read by a port a lane.

    Macros lie one behind the other. Each is read by one lane only, whichever the image chooses by
    where it puts a lane's rows (``FIELD.static_line``), so all ports read in every cycle. Above
    ``sram_macro_bits`` the macros and the crossbar to them are an instance of ``rpaccel_static``,
    which Amaranth's own simulator cannot run.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    load : In(load_bus_layout(hardware))
    lane : In(static_port(hardware)).array
        Lanes of the gather units, stage by stage.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        self.lanes = sum(gather.lanes for gather in hardware.gather)
        super().__init__(
            {
                "load": In(load_bus_layout(hardware)),
                "lane": In(static_port(hardware)).array(self.lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hardware = self.hardware
        width = 8 * hardware.memory.bus_bytes
        macro_words = hardware.macro_lines * hardware.memory.beats
        words = hardware.static_macros * macro_words
        m.submodules.fill = fill = LoadPort(
            hardware=hardware,
            target=target_id(Target.STATIC, 0),
            width=width,
            depth=words,
        )
        m.d.comb += fill.bus.eq(self.load)
        if width * words > hardware.sram_macro_bits:
            answers = Signal(self.lanes * width)
            m.submodules.macros = Instance(
                STATIC_NAME,
                p_WIDTH=width,
                p_MACROS=hardware.static_macros,
                p_MACRO_WORDS=macro_words,
                p_LANES=self.lanes,
                p_ADDR_WIDTH=ceil_log2(words),
                i_clk=ClockSignal(),
                i_w_en=fill.en,
                i_w_addr=fill.addr,
                i_w_data=fill.data,
                i_r_en=Cat(lane.en for lane in self.lane),
                i_r_addr=Cat(lane.addr for lane in self.lane),
                o_r_data=answers,
            )
            for number, lane in enumerate(self.lane):
                m.d.comb += lane.data.eq(answers.word_select(number, width))
            return m
        m.submodules.memory = memory = Memory(shape=width, depth=words, init=[])
        write = memory.write_port()
        m.d.comb += [write.en.eq(fill.en), write.addr.eq(fill.addr), write.data.eq(fill.data)]
        for lane in self.lane:
            read = memory.read_port()
            m.d.comb += [
                read.en.eq(lane.en),
                read.addr.eq(lane.addr),
                lane.data.eq(read.data),
            ]
        return m
