"""The feature buffer: the feature records of the queries in flight."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from rpaccel.config import HardwareConfig
from rtl_gen.arbiter import RoundRobin
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram
from rtl_gen.signatures import feature_port, feature_write_signature, slot_bits

__all__ = ["FeatureBuffer"]

RESPONSES = 4
"""Answers that may be in flight or wait at a port: enough for a read a cycle."""


class FeatureBuffer(wiring.Component):
    """Store of ``query_slots`` x ``feature_bytes`` bytes, read at any byte address.

    One word is written and one read answered a cycle, all ports together; ports take turns. An
    answer comes at the earliest two cycles after its request, in order at each port. A port whose
    answers are not taken holds up nobody else. Bytes behind the slot's end are undefined. What is
    written can be read from the next cycle on.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    write : In(feature_write_signature(hardware))
    port : In(feature_port(hardware)).array(stages)
    """

    def __init__(self, hardware: HardwareConfig):
        self.stages = hardware.stages
        self.slots = hardware.query_slots
        self.bus_bytes = hardware.host_bus_bytes
        self.slot_words = hardware.feature_bytes // self.bus_bytes
        self.macro_bits = hardware.sram_macro_bits
        self.slot_bits = slot_bits(hardware)
        super().__init__(
            {
                "write": In(feature_write_signature(hardware)),
                "port": In(feature_port(hardware)).array(hardware.stages),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = self.slots * self.slot_words
        # An unaligned read needs a word and the next one: even words are in one bank, odd ones in
        # the other.
        shape = {"width": 8 * self.bus_bytes, "macro_bits": self.macro_bits}
        rows = max(1, (words + 1) // 2)
        m.submodules.even = even = Ram(depth=rows, **shape)
        m.submodules.odd = odd = Ram(depth=rows, **shape)

        written = Signal(range(max(2, words)))
        m.d.comb += [
            written.eq(self.write.slot * self.slot_words + self.write.word),
            even.write.addr.eq(written >> 1),
            odd.write.addr.eq(written >> 1),
            even.write.data.eq(self.write.data),
            odd.write.data.eq(self.write.data),
            even.write.en.eq(self.write.valid & ~written[0]),
            odd.write.en.eq(self.write.valid & written[0]),
        ]

        m.submodules.turn = turn = RoundRobin(count=self.stages)
        address = Signal.like(self.port[0].request.p.address)
        slot = Signal(self.slot_bits)
        for s, port in enumerate(self.port):
            with m.If(turn.grant[s]):
                m.d.comb += [address.eq(port.request.p.address), slot.eq(port.request.p.slot)]

        log2 = self.bus_bytes.bit_length() - 1
        word = Signal(range(max(2, words)))
        row_after = Signal(range(rows + 1))
        m.d.comb += [
            word.eq(slot * self.slot_words + (address >> log2)),
            row_after.eq((word >> 1) + 1),
            odd.read.addr.eq(word >> 1),
            # The word behind the last one is nobody's, but must not be outside the RAM.
            even.read.addr.eq(Mux(~word[0], word >> 1, Mux(row_after == rows, 0, row_after))),
            even.read.en.eq(turn.grant.any()),
            odd.read.en.eq(turn.grant.any()),
        ]

        granted = Signal(self.stages)
        shift = Signal(log2)
        swapped = Signal()
        both = Signal(16 * self.bus_bytes)
        m.d.sync += [
            granted.eq(turn.grant),
            shift.eq(address[:log2]),
            swapped.eq(word[0]),
        ]
        m.d.comb += both.eq(
            Mux(swapped, Cat(odd.read.data, even.read.data), Cat(even.read.data, odd.read.data))
        )
        for s, port in enumerate(self.port):
            m.submodules[f"answers{s}"] = answers = Queue(8 * self.bus_bytes, depth=RESPONSES)
            connect(m, answers.o, flipped(port.response))
            m.d.comb += [
                turn.request[s].eq(port.request.valid & (answers.level + granted[s] < RESPONSES)),
                port.request.ready.eq(turn.grant[s]),
                answers.i.valid.eq(granted[s]),
                answers.i.payload.eq(both.bit_select(shift << 3, 8 * self.bus_bytes)),
            ]
        return m
