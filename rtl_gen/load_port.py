"""The receiving end of the load bus: fills one on-chip memory with words of an image segment."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import HardwareConfig
from rtl_gen.signatures import load_bus_layout

__all__ = ["LoadPort"]


class LoadPort(wiring.Component):
    """Gather the beats of the load bus that are meant for one memory into words of that memory.

    A word comes as ``ceil(width / beat)`` beats, the lowest first; bits behind ``width`` in the
    last beat are padding. It is written one cycle after its last beat, at an address that
    ``first`` sets and every word increments. Words beyond ``depth`` are dropped.

    Parameters
    ----------
    hardware : HardwareConfig
    target : int
        Identity of the memory on the bus, see :func:`rpaccel.image_layout.target_id`.
    width : int, positive
        Bits in a word of the memory.
    depth : int, positive
        Words of the memory.

    Members
    -------
    bus : In(load_bus_layout(hardware))
    en : Out(1)
        Write ``data`` at ``addr`` in this cycle; wire it to a :class:`rtl_gen.ram.Ram`.
    addr : Out(ceil_log2(depth))
    data : Out(width)

    Raises
    ------
    TypeError
        If ``width`` or ``depth`` is not a positive integer.
    """

    def __init__(self, *, hardware: HardwareConfig, target: int, width: int, depth: int):
        for name, value in ("Width", width), ("Depth", depth):
            if not isinstance(value, int) or value <= 0:
                raise TypeError(f"{name} must be a positive integer, not {value!r}")
        self.hardware = hardware
        self.target = target
        self.width = width
        self.depth = depth
        self.beat = 8 * hardware.memory.bus_bytes
        self.beats = -(-width // self.beat)
        super().__init__(
            {
                "bus": In(load_bus_layout(hardware)),
                "en": Out(1),
                "addr": Out(ceil_log2(depth)),
                "data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()

        word = Signal(self.beat * self.beats)
        count = Signal(range(max(2, self.beats)))
        address = Signal(32)  # of the word being gathered
        mine = self.bus.valid & (self.bus.target == self.target)
        complete = count == self.beats - 1

        m.d.sync += self.en.eq(mine & ~self.bus.first & complete & (address < self.depth))
        m.d.comb += self.data.eq(word)
        with m.If(mine):
            with m.If(self.bus.first):
                m.d.sync += [address.eq(self.bus.address), count.eq(0)]
            with m.Else():
                # Shifting in from the top puts beat i at place i once the word is complete.
                m.d.sync += [
                    word.eq(Cat(word, self.bus.data)[self.beat :]),
                    self.addr.eq(address),
                    count.eq(count + 1),
                ]
                with m.If(complete):
                    m.d.sync += [address.eq(address + 1), count.eq(0)]
        return m
