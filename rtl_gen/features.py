"""The feature buffer: the feature records of the queries in flight."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from rpaccel.hardware import HardwareConfig
from rtl_gen.arbiter import RoundRobin
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram
from rtl_gen.signatures import arriving_layout, feature_port, feature_write_signature, slot_bits

__all__ = ["FeatureBuffer"]

RESPONSES = 4
"""Answers that may be in flight or wait at a port: enough for a read a cycle."""


class FeatureBuffer(wiring.Component):
    """Store of ``query_slots`` x ``feature_bytes`` bytes, read at any byte address.

    One word is written and one read answered a cycle, all ports together; ports take turns. An
    answer comes at the earliest two cycles after its request, in order at each port. A port whose
    answers are not taken holds up nobody else. Bytes behind the slot's end are undefined. What is
    written can be read from the next cycle on. A read of the slot that ``arriving`` names waits
    until all of its bytes are there, or the copy is complete.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    write : In(feature_write_signature(hardware))
    arriving : In(arriving_layout(hardware))
    port : In(feature_port(hardware)).array(stages)
    """

    def __init__(self, hardware: HardwareConfig):
        self.stages = hardware.stages
        self.slots = hardware.query_slots
        self.bus_bytes = hardware.host_bus_bytes
        self.read_bytes = hardware.feature_read
        self.banks = 2 * self.read_bytes // self.bus_bytes
        self.slot_words = hardware.feature_bytes // self.bus_bytes
        self.macro_bits = hardware.sram_macro_bits
        self.slot_bits = slot_bits(hardware)
        super().__init__(
            {
                "write": In(feature_write_signature(hardware)),
                "arriving": In(arriving_layout(hardware)),
                "port": In(feature_port(hardware)).array(hardware.stages),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A read at any address lies in as many words as there are banks, in turn, one each.
        count = self.banks
        bank_bits = count.bit_length() - 1
        words = self.slots * self.slot_words
        rows = -(-words // count)
        shape = {"width": 8 * self.bus_bytes, "macro_bits": self.macro_bits}
        banks = [Ram(depth=rows, **shape) for _ in range(count)]

        written = Signal(range(rows * count))
        m.d.comb += written.eq(self.write.slot * self.slot_words + self.write.word)

        m.submodules.turn = turn = RoundRobin(count=self.stages)
        address = Signal.like(self.port[0].request.p.address)
        slot = Signal(self.slot_bits)
        for s, port in enumerate(self.port):
            with m.If(turn.grant[s]):
                m.d.comb += [address.eq(port.request.p.address), slot.eq(port.request.p.slot)]

        log2 = self.bus_bytes.bit_length() - 1
        word = Signal(range(rows * count))
        row, row_after = Signal(range(max(2, rows))), Signal(range(rows + 1))
        m.d.comb += [
            word.eq(slot * self.slot_words + (address >> log2)),
            row.eq(word >> bank_bits),
            row_after.eq(row + 1),
        ]
        for number, bank in enumerate(banks):
            m.submodules[f"bank{number}"] = bank
            # The row behind the last one is nobody's, but must not be outside the RAM.
            after = Mux(row_after == rows, 0, row_after)
            behind = word[:bank_bits] > number if number + 1 < count else 0
            m.d.comb += [
                bank.write.addr.eq(written >> bank_bits),
                bank.write.data.eq(self.write.data),
                bank.write.en.eq(self.write.valid & (written[:bank_bits] == number)),
                bank.read.addr.eq(Mux(behind, after, row)),
                bank.read.en.eq(turn.grant.any()),
            ]

        granted = Signal(self.stages)
        shift = Signal(bank_bits + log2)
        every = Cat(bank.read.data for bank in banks)
        answer = Signal(8 * self.read_bytes)
        m.d.sync += [granted.eq(turn.grant), shift.eq(Cat(address[:log2], word[:bank_bits]))]
        around = Cat(every, every[: len(answer)])
        m.d.comb += answer.eq(around.bit_select(shift << 3, len(answer)))
        for s, port in enumerate(self.port):
            m.submodules[f"answers{s}"] = answers = Queue(8 * self.read_bytes, depth=RESPONSES)
            connect(m, answers.o, flipped(port.response))
            request, arriving = port.request, self.arriving
            missing = Signal(name=f"missing{s}")
            m.d.comb += [
                missing.eq(
                    arriving.valid
                    & (arriving.slot == request.p.slot)
                    & (request.p.address + self.read_bytes > arriving.words << log2)
                ),
                turn.request[s].eq(
                    request.valid & ~missing & (answers.level + granted[s] < RESPONSES)
                ),
                port.request.ready.eq(turn.grant[s]),
                answers.i.valid.eq(granted[s]),
                answers.i.payload.eq(answer),
            ]
        return m
