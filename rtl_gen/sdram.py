"""Controller of a single-data-rate SDRAM, in the place of a :class:`rtl_gen.block_memory`."""

from __future__ import annotations

from math import ceil

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.board import SDRAM_BYTES, SDRAM_HZ
from rtl_gen.block_memory import AXI_OKAY, AXI_SLVERR, byte_port_signature
from rtl_gen.queue import Queue
from rtl_gen.signatures import axi_read_signature

__all__ = ["Sdram", "sdram_pins"]

ROW_BITS = 13
BANK_BITS = 2
DATA_BYTES = 2
CAS_LATENCY = 2
MODE = CAS_LATENCY << 4  # bursts of one word, sequential
TEN = 10  # address bit that makes a precharge one of all banks
POWER_UP_NS = 200_000
REFRESH_NS = 64_000_000 // 8192
FIRST_REFRESHES = 8
#: Times of a JEDEC PC100 part or better, in nanoseconds.
#: tRC is kept with tRAS and tRP.
TIMES = {"rcd": 20, "rp": 20, "ras": 50, "rfc": 80, "wr": 20}
MODE_CYCLES = 2


class Command(enum.Enum, shape=3):
    """{RAS, CAS, WE}, active high here."""

    NOP = 0b000
    WRITE = 0b011
    READ = 0b010
    ACTIVATE = 0b100
    PRECHARGE = 0b101
    REFRESH = 0b110
    MODE = 0b111


def sdram_pins() -> wiring.Signature:
    """The SDRAM's pins, seen from the controller; chip select and clock enable are always on."""
    return wiring.Signature(
        {
            "command": Out(Command),
            "bank": Out(BANK_BITS),
            "address": Out(ROW_BITS),
            "mask": Out(DATA_BYTES),
            "data": Out(8 * DATA_BYTES),
            "drive": Out(1),
            "read": In(8 * DATA_BYTES),
        }
    )


class Sdram(wiring.Component):
    """An SDRAM of 16-bit words for one AXI4 master that reads, and one port for bytes.

    The SDRAM's clock is the inverse of this one: what is put on the pins is there half a cycle
    before it is taken, and what is read half a cycle before it is taken here. A burst opens its
    row, reads a word a cycle and closes it; bursts are aligned to their size, at most a row's, and
    ``fifo`` beats. A burst of B beats of W words takes B W + 6 cycles; a refresh, or a byte, comes
    before the next burst. Nothing is answered before the SDRAM is initialised, 200 us after reset.

    Parameters
    ----------
    size : int, one of SDRAM_BYTES
        Bytes: four banks of 8,192 rows.
    clock_hz : int
        At most SDRAM_HZ.
    data_bytes, address_bits, id_bits : int
        Of the AXI port.
    fifo : int
        Beats that are kept for the master.

    Members
    -------
    read : In(axi_read_signature(...))
        What begins behind the end of the memory is answered with SLVERR.
    bytes : In(byte_port_signature())
    pins : Out(sdram_pins())

    Raises
    ------
    ValueError
        For another size, or too fast a clock.
    """

    def __init__(
        self,
        *,
        size: int,
        clock_hz: int,
        data_bytes: int,
        address_bits: int,
        id_bits: int,
        fifo: int = 16,
    ):
        if size not in SDRAM_BYTES:
            raise ValueError(f"Size must be one of {SDRAM_BYTES}, not {size}")
        if clock_hz > SDRAM_HZ:
            raise ValueError(f"Clock must be at most {SDRAM_HZ} Hz, not {clock_hz}")
        self.column_bits = ceil_log2(size) - ROW_BITS - BANK_BITS - 1
        self.size = size
        self.data_bytes = data_bytes
        self.fifo = fifo
        self.cycles = {name: ceil(ns * clock_hz / 1e9) for name, ns in TIMES.items()}
        self.power_up = ceil(POWER_UP_NS * clock_hz / 1e9)
        self.refresh = int(REFRESH_NS * clock_hz / 1e9)
        shape = {"data_bytes": data_bytes, "address_bits": address_bits, "id_bits": id_bits}
        super().__init__(
            {
                "read": In(axi_read_signature(**shape)),
                "bytes": In(byte_port_signature()),
                "pins": Out(sdram_pins()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._wait = Signal(range(self.power_up + 1), init=self.power_up)
        self._open = Signal(range(self.cycles["ras"] + 1))  # cycles since the row was opened
        self._due = Signal(4)  # refreshes that are due
        self._running = Signal()  # the SDRAM is initialised
        self._word = Signal(ceil_log2(self.size) - 1)  # address of the next word
        self._left = Signal(range(self.fifo * self.data_bytes // DATA_BYTES + 1))
        self._byte, self._write = Signal(), Signal()  # the access is a byte's; and writes it
        # Set where a command is given; the registers of the pins follow.
        self._command = Signal(Command)
        self._address = Signal(ROW_BITS)
        self._issued = Signal()
        self._drive = Signal()
        m.d.sync += [
            self.pins.command.eq(self._command),
            self.pins.address.eq(self._address),
            self.pins.bank.eq(self._word[self.column_bits :][:BANK_BITS]),
            self.pins.drive.eq(self._drive),
            self.pins.data.eq(self.bytes.data.replicate(DATA_BYTES)),
        ]
        lane = 1 << self.bytes.address[0]
        m.d.sync += self.pins.mask.eq(Mux(self._drive, ~lane, 0))
        with m.If(self._wait != 0):
            m.d.sync += self._wait.eq(self._wait - 1)
        with m.If(self._open != self.cycles["ras"]):
            m.d.sync += self._open.eq(self._open + 1)
        done = self._refreshes(m)
        room = self._answers(m)
        with m.FSM():
            self._initialise(m)
            self._idle(m, room, done)
            self._access(m)
        return m

    def _refreshes(self, m):
        """Count the refreshes that are due; returns a signal that takes one off."""
        count = Signal(range(self.refresh))
        tick, done = Signal(), Signal()
        m.d.comb += tick.eq((count == self.refresh - 1) & self._running)
        m.d.sync += [count.eq(Mux(tick, 0, count + 1)), self._due.eq(self._due + tick - done)]
        return done

    def _answers(self, m):
        """From words on the pins to beats of the master, and to the byte; whether there is room."""
        bus = self.read
        beat = data.StructLayout(
            {"data": 8 * self.data_bytes, "id": len(bus.arid), "last": 1, "error": 1}
        )
        m.submodules.beats = beats = Queue(beat, depth=self.fifo)
        words = self.data_bytes // DATA_BYTES
        # A command given in a cycle is on the pins in the next one; its data come in the one after
        # that, and are in a register in the third.
        self._coming, last = Signal(CAS_LATENCY + 1), Signal(CAS_LATENCY + 1)
        m.d.sync += [
            self._coming.eq(Cat(self._issued, self._coming)),
            last.eq(Cat(self._left == 1, last)),
        ]
        taken = self._coming[-1]
        read = Signal(8 * DATA_BYTES)
        m.d.sync += read.eq(self.pins.read)
        gathered = Signal(8 * self.data_bytes)
        number = Signal(range(max(2, words)))
        self._id, self._error = Signal.like(bus.arid), Signal()
        whole = Signal(8 * self.data_bytes)
        m.d.comb += whole.eq(Cat(gathered, read)[8 * DATA_BYTES :])
        with m.If(taken):
            m.d.sync += [gathered.eq(whole), number.eq(number + 1)]
            with m.If(number == words - 1):
                m.d.sync += number.eq(0)
        with m.If(self._byte):
            m.d.sync += number.eq(0)
        m.d.comb += [
            beats.i.valid.eq(taken & ~self._byte & (number == words - 1)),
            beats.i.p.data.eq(whole),
            beats.i.p.id.eq(self._id),
            beats.i.p.last.eq(last[-1]),
            beats.i.p.error.eq(self._error),
            bus.rvalid.eq(beats.o.valid),
            bus.rdata.eq(beats.o.p.data),
            bus.rid.eq(beats.o.p.id),
            bus.rlast.eq(beats.o.p.last),
            bus.rresp.eq(Mux(beats.o.p.error, AXI_SLVERR, AXI_OKAY)),
            beats.o.ready.eq(bus.rready),
            self.bytes.r_data.eq(read.word_select(self.bytes.address[0], 8)),
        ]
        return beats.level + bus.arlen < self.fifo

    def _give(self, m, command, address=0):
        m.d.comb += [self._command.eq(command), self._address.eq(address)]

    def _initialise(self, m):
        count = Signal(range(FIRST_REFRESHES + 1))
        free = self._wait == 0
        with m.State("POWER-UP"):
            with m.If(free):
                self._give(m, Command.PRECHARGE, 1 << TEN)
                m.d.sync += self._wait.eq(self.cycles["rp"] - 1)
                m.next = "FIRST-REFRESHES"
        with m.State("FIRST-REFRESHES"):
            with m.If(free):
                self._give(m, Command.REFRESH)
                m.d.sync += [self._wait.eq(self.cycles["rfc"] - 1), count.eq(count + 1)]
                with m.If(count == FIRST_REFRESHES - 1):
                    m.next = "MODE"
        with m.State("MODE"):
            with m.If(free):
                self._give(m, Command.MODE, MODE)
                m.d.sync += [self._wait.eq(MODE_CYCLES - 1), self._running.eq(1)]
                m.next = "IDLE"

    def _idle(self, m, room, done):
        """All rows are closed: refresh, open a byte's row, or a burst's."""
        bus, byte = self.read, self.bytes
        with m.State("IDLE"):
            with m.If(self._wait != 0):
                pass
            with m.Elif(self._due != 0):
                self._give(m, Command.REFRESH)
                m.d.comb += done.eq(1)
                m.d.sync += self._wait.eq(self.cycles["rfc"] - 1)
            with m.Elif(self._coming.any()):
                pass  # words of the access before, which are for whom it says
            with m.Elif(byte.valid):
                m.d.sync += [self._word.eq(byte.address >> 1), self._left.eq(1)]
                m.d.sync += [self._byte.eq(1), self._write.eq(byte.write)]
                m.next = "OPEN"
            with m.Elif(bus.arvalid & room):
                m.d.comb += bus.arready.eq(1)
                m.d.sync += [
                    self._word.eq(bus.araddr >> 1),
                    self._left.eq((bus.arlen + 1) << ceil_log2(self.data_bytes // DATA_BYTES)),
                    self._byte.eq(0),
                    self._write.eq(0),
                    self._id.eq(bus.arid),
                    self._error.eq(bus.araddr >= self.size),
                ]
                m.next = "OPEN"

    def _access(self, m):
        row = self._word[self.column_bits + BANK_BITS :]
        column = self._word[: self.column_bits]
        free = self._wait == 0
        written = Signal()
        with m.State("OPEN"):
            self._give(m, Command.ACTIVATE, row)
            m.d.sync += [self._wait.eq(self.cycles["rcd"] - 1), self._open.eq(1)]
            m.next = "ACCESS"
        with m.State("ACCESS"):
            with m.If(free):
                m.d.sync += self._left.eq(self._left - 1)
                with m.If(self._write):
                    self._give(m, Command.WRITE, column)
                    m.d.comb += self._drive.eq(1)
                    m.d.sync += self._wait.eq(self.cycles["wr"] - 1)
                    m.next = "CLOSE"
                with m.Else():
                    self._give(m, Command.READ, column)
                    m.d.comb += self._issued.eq(1)
                    m.d.sync += self._word[: self.column_bits].eq(column + 1)
                    with m.If(self._left == 1):
                        m.next = "CLOSE"
        with m.State("CLOSE"):
            # Words that are under way still come: the last one was asked for a cycle ago.
            with m.If(free & (self._open >= self.cycles["ras"])):
                self._give(m, Command.PRECHARGE)
                m.d.sync += self._wait.eq(self.cycles["rp"] - 1)
                # A byte that was read was answered before; what is asked for by now is another.
                m.d.comb += written.eq(self._write)
                m.next = "IDLE"
        m.d.comb += self.bytes.ready.eq(written | (self._byte & self._coming[-2]))
