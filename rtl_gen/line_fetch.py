"""Fetches memory lines for the look-ahead cache: gives memory tags, places what comes back."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import GatherConfig, HardwareConfig
from rtl_gen.ram import Ram
from rtl_gen.signatures import LINE_BITS, TAG_BITS, memory_client_signature

__all__ = ["LineFetcher"]


class LineFetcher(wiring.Component):
    """Keep up to ``outstanding`` line reads in flight, answered in any order and interleaved.

    A fetch a cycle is taken while a memory tag is free. A beat is written one cycle after it came.

    Parameters
    ----------
    hardware : HardwareConfig
    gather : GatherConfig
        ``outstanding`` is used.
    place_bits : int
        Width of the place of a line in the cache.
    number_bits : int
        Width of a fetch's number.

    Members
    -------
    i : In(stream of {line, place, number})
        What to fetch and where to put it. Its ``ready`` does not depend on ``valid``.
    memory : Out(memory_client_signature(hardware))
    write : Out({en, beat, place, data, poison})
        A beat to be written.
    arrived : Out({valid, number, error})
        A fetch is complete with the beat written in this cycle; a beat of it was poisoned.
    """

    def __init__(
        self, *, hardware: HardwareConfig, gather: GatherConfig, place_bits: int, number_bits: int
    ):
        self.outstanding = gather.outstanding
        self.macro_bits = hardware.sram_macro_bits
        self.place_layout = data.StructLayout({"place": place_bits, "number": number_bits})
        fetch = data.StructLayout({"line": LINE_BITS, "place": place_bits, "number": number_bits})
        write = data.StructLayout(
            {
                "en": 1,
                "beat": ceil_log2(hardware.memory.beats),
                "place": place_bits,
                "data": 8 * hardware.memory.bus_bytes,
                "poison": 1,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(fetch)),
                "memory": Out(memory_client_signature(hardware)),
                "write": Out(write),
                "arrived": Out(data.StructLayout({"valid": 1, "number": number_bits, "error": 1})),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # For each memory tag, where its line goes.
        m.submodules.places = places = Ram(
            width=self.place_layout.size, depth=self.outstanding, macro_bits=self.macro_bits
        )
        free = Signal(self.outstanding, init=(1 << self.outstanding) - 1)

        request = self.memory.request
        tag = Signal(TAG_BITS)
        for t in reversed(range(self.outstanding)):
            with m.If(free[t]):
                m.d.comb += tag.eq(t)
        take = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(free.any() & (~request.valid | request.ready)),
            places.write.en.eq(take),
            places.write.addr.eq(tag),
            places.write.data.eq(Cat(self.i.p.place, self.i.p.number)),
        ]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(take):
            m.d.sync += [
                request.valid.eq(1),
                request.p.line.eq(self.i.p.line),
                request.p.tag.eq(tag),
                free.bit_select(tag, 1).eq(0),
            ]

        response = self.memory.response
        valid = Signal()
        beat = Signal.like(response)
        place = Signal(self.place_layout)
        errors = Signal(self.outstanding)  # of the beats so far
        error = Signal()
        m.d.sync += [valid.eq(self.memory.response_valid), beat.eq(response)]
        m.d.comb += [
            places.read.en.eq(self.memory.response_valid),
            places.read.addr.eq(response.tag),
            place.eq(places.read.data),
            error.eq(beat.error | errors.bit_select(beat.tag, 1)),
            self.write.en.eq(valid),
            self.write.beat.eq(beat.beat),
            self.write.place.eq(place.place),
            self.write.data.eq(beat.data),
            self.write.poison.eq(beat.error),
            self.arrived.valid.eq(valid & beat.last),
            self.arrived.number.eq(place.number),
            self.arrived.error.eq(error),
        ]
        with m.If(valid):
            m.d.sync += errors.bit_select(beat.tag, 1).eq(error & ~beat.last)
        with m.If(self.arrived.valid):
            m.d.sync += free.bit_select(beat.tag, 1).eq(1)
        return m
