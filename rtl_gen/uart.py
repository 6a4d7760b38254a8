"""An asynchronous serial line: 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]

DATA_BITS = 8


def _check(divisor):
    if not isinstance(divisor, int) or divisor < 4:
        raise TypeError(f"Divisor must be an integer of at least 4, not {divisor!r}")


class UartReceiver(wiring.Component):
    """Receive bytes. Each bit is sampled in its middle, after two flip-flops.

    A byte whose stop bit is missing is reported as an error; the line is then looked at again
    when it has been idle. A start bit that is over before its middle is ignored.

    Parameters
    ----------
    divisor : int, at least 4
        Clock cycles in a bit.

    Members
    -------
    rx : In(1)
        The pin; idle high.
    valid : Out(1)
        ``data`` is a byte, in this cycle only: there is no back-pressure.
    data : Out(8)
    error : Out(1)
        A stop bit was missing, in this cycle.
    """

    def __init__(self, *, divisor: int):
        _check(divisor)
        self.divisor = divisor
        super().__init__(
            {"rx": In(1, init=1), "valid": Out(1), "data": Out(DATA_BITS), "error": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        wait = Signal(range(self.divisor), init=self.divisor - 1)
        bit = Signal(range(DATA_BITS))
        m.d.sync += wait.eq(wait - 1)
        sample = wait == 0
        with m.If(sample):
            m.d.sync += wait.eq(self.divisor - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += wait.eq(self.divisor // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(sample):
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(sample):
                    m.d.sync += [self.data.eq(Cat(self.data[1:], line)), bit.eq(bit + 1)]
                    with m.If(bit == DATA_BITS - 1):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(sample):
                    m.d.comb += [self.valid.eq(line), self.error.eq(~line)]
                    m.next = "BREAK"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("BREAK"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Send bytes, one behind the other without a pause while there are any.

    Parameters
    ----------
    divisor : int, at least 4
        Clock cycles in a bit.

    Members
    -------
    tx : Out(1)
        The pin; idle high.
    i : In(stream.Signature(8))
    """

    def __init__(self, *, divisor: int):
        _check(divisor)
        self.divisor = divisor
        super().__init__({"tx": Out(1, init=1), "i": In(stream.Signature(DATA_BITS))})

    def elaborate(self, platform):
        m = Module()
        wait = Signal(range(self.divisor))
        bits = Signal(range(DATA_BITS + 2))  # still to be sent behind the one on the pin
        shift = Signal(DATA_BITS + 1)
        m.d.comb += self.i.ready.eq((wait == 0) & (bits == 0))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(bits != 0):
            m.d.sync += [
                self.tx.eq(shift[0]),
                shift.eq(shift >> 1),
                bits.eq(bits - 1),
                wait.eq(self.divisor - 1),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += [
                self.tx.eq(0),
                shift.eq(Cat(self.i.payload, Const(1))),
                bits.eq(DATA_BITS + 1),
                wait.eq(self.divisor - 1),
            ]
        return m
