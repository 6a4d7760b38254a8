"""A machine with everything that it needs, so that two pins of a serial line are its only ports."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel.config import Config
from rtl_gen.block_memory import BlockMemory
from rtl_gen.host import ADDRESS_BITS, ID_BITS
from rtl_gen.sdram import Sdram, sdram_pins
from rtl_gen.serial_bridge import SerialBridge
from rtl_gen.top import HOST, MEMORY, REGISTERS, RPAccel

__all__ = ["SerialMachine"]


class SerialMachine(wiring.Component):
    """The machine of a configuration, its memories, and a serial bridge.

    Host memory is on chip; so is device memory, unless ``board.memory`` is an SDRAM.

    Parameters
    ----------
    config : Config
        Sizes and speeds are those of its section ``board``.
    divisor : int, optional
        Clock cycles in a bit; by default those of ``board``.

    Members
    -------
    rx, tx : In(1, init=1), Out(1, init=1)
        The serial line.
    sdram : Out(sdram_pins())
        If there is one.
    """

    def __init__(self, config: Config, *, divisor: int | None = None):
        self.config = config
        self.divisor = config.board.divisor if divisor is None else divisor
        ports = {"rx": In(1, init=1), "tx": Out(1, init=1)}
        if config.board.memory == "sdram":
            ports["sdram"] = Out(sdram_pins())
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        hardware, board = self.config.hardware, self.config.board
        m.submodules.machine = machine = RPAccel(hardware)
        m.submodules.bridge = bridge = SerialBridge(
            divisor=self.divisor,
            host_bytes=board.host_bytes,
            memory_bytes=board.memory_bytes,
            clock_hz=board.clock_hz,
        )
        m.submodules.host_memory = host = BlockMemory(
            size=board.host_bytes,
            data_bytes=hardware.host_bus_bytes,
            address_bits=ADDRESS_BITS,
            id_bits=ID_BITS,
            writable=True,
        )
        shape = {
            "size": board.memory_bytes,
            "data_bytes": hardware.memory.bus_bytes,
            "address_bits": hardware.memory.address_bits,
            "id_bits": len(machine.m_axi_mem0_arid),
        }
        if board.memory == "sdram":
            memory = Sdram(clock_hz=board.clock_hz, fifo=2 * hardware.memory.beats, **shape)
            connect(m, memory.pins, flipped(self.sdram))
        else:
            memory = BlockMemory(writable=False, **shape)
        m.submodules.device_memory = memory
        connect(m, bridge.host, host.bytes)
        connect(m, bridge.memory, memory.bytes)
        for prefix, bus in (
            (REGISTERS, bridge.registers),
            (HOST, host.read),
            (HOST, host.write),
            (MEMORY.format(0), memory.read),
        ):
            _wire(m, machine, prefix, bus)
        m.d.comb += [
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            bridge.irq.eq(machine.irq),
        ]
        return m


def _wire(m, machine, prefix, bus):
    """Wire a bus, the other end's, to the machine's ports that bear its names."""
    for name, member in bus.signature.members.items():
        port, other = getattr(machine, f"{prefix}_{name}"), getattr(bus, name)
        m.d.comb += other.eq(port) if member.flow == In else port.eq(other)
