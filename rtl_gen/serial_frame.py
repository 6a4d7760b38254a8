"""Frames of the serial protocol: bytes of a line to frames, and back (docs/serial.md)."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from rpaccel.serial_protocol import CRC_BYTES, DELIMITER, ESCAPE, ESCAPE_FLIP

__all__ = ["FrameReceiver", "FrameSender"]


class FrameReceiver(wiring.Component):
    """Find frames in what a line brings, take the escapes out, check the CRC.

    Bytes before the first delimiter, frames with a damaged byte or an escape before the delimiter,
    frames that are too long and frames of which a byte came while ``hold`` was high are dropped.
    So is what lies between two delimiters without being a frame. There is no time-out: the next
    frame's first delimiter ends whatever was before it.

    Parameters
    ----------
    max_bytes : int, positive
        Most bytes in a frame, the CRC included.

    Members
    -------
    valid, data, error : In
        As a :class:`rtl_gen.uart.UartReceiver` makes them.
    hold : In(1)
        Whoever takes frames is not ready for one.
    byte_valid : Out(1)
        ``byte`` is number ``index`` of the frame that is arriving, its CRC included.
    byte : Out(8)
    index : Out(range(max_bytes + 1))
    frame : Out(1)
        The frame is over, in this cycle, and its CRC is right; ``index`` is its length.
    """

    def __init__(self, *, max_bytes: int):
        if not isinstance(max_bytes, int) or max_bytes <= 0:
            raise TypeError(f"Maximum must be a positive integer, not {max_bytes!r}")
        self.max_bytes = max_bytes
        super().__init__(
            {
                "valid": In(1),
                "data": In(8),
                "error": In(1),
                "hold": In(1),
                "byte_valid": Out(1),
                "byte": Out(8),
                "index": Out(range(max_bytes + 1)),
                "frame": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        escaped = Signal()
        dropped = Signal(init=1)  # until the next delimiter
        delimiter = self.valid & (self.data == DELIMITER)
        m.d.comb += [crc.data.eq(self.byte), crc.valid.eq(self.byte_valid), crc.start.eq(delimiter)]

        with m.If(delimiter):
            m.d.comb += self.frame.eq(
                ~dropped & ~escaped & ~self.hold & (self.index > CRC_BYTES) & crc.match_detected
            )
            m.d.sync += [dropped.eq(0), escaped.eq(0), self.index.eq(0)]
        with m.Elif(self.error | (self.valid & (self.hold | (self.index == self.max_bytes)))):
            m.d.sync += dropped.eq(1)
        with m.Elif(self.valid & ~dropped):
            m.d.sync += escaped.eq((self.data == ESCAPE) & ~escaped)
            with m.If(escaped | (self.data != ESCAPE)):
                m.d.comb += self.byte_valid.eq(1)
                m.d.sync += self.index.eq(self.index + 1)
        m.d.comb += self.byte.eq(self.data)
        with m.If(escaped):
            m.d.comb += self.byte.eq(self.data ^ ESCAPE_FLIP)
        return m


class FrameSender(wiring.Component):
    """Make frames of streams of bytes: delimiters, escapes, CRC.

    Members
    -------
    i : In(stream of {data: 8, last: 1})
        Content of frames, at least one byte each.
    o : Out(stream.Signature(8))
        What goes on the line.
    """

    i: In(stream.Signature(data.StructLayout({"data": 8, "last": 1})))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        number = Signal(range(CRC_BYTES))  # of the CRC's byte
        escaped = Signal()  # the escape of this byte has been sent
        byte, whole = Signal(8), Signal()
        special = (byte == DELIMITER) | (byte == ESCAPE)
        m.d.comb += self.o.payload.eq(byte)
        with m.If(special & ~escaped):
            m.d.comb += self.o.payload.eq(ESCAPE)
        with m.If(escaped):
            m.d.comb += self.o.payload.eq(byte ^ ESCAPE_FLIP)
        # The byte itself goes out, and not an escape before it.
        m.d.comb += whole.eq(self.o.valid & self.o.ready & (escaped | ~special))
        m.d.comb += crc.data.eq(byte)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += escaped.eq(special & ~escaped)

        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.o.payload.eq(DELIMITER)]
                m.d.comb += crc.start.eq(1)
                m.d.sync += number.eq(0)
                with m.If(self.o.valid & self.o.ready):
                    m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.comb += [byte.eq(self.i.p.data), self.o.valid.eq(self.i.valid)]
                m.d.comb += [self.i.ready.eq(whole), crc.valid.eq(whole)]
                with m.If(whole & self.i.p.last):
                    m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [byte.eq(crc.crc.word_select(number, 8)), self.o.valid.eq(1)]
                with m.If(whole):
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == CRC_BYTES - 1):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(DELIMITER)]
                with m.If(self.o.ready):
                    m.next = "BEGIN"
        return m
