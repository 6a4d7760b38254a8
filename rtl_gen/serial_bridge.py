"""The serial bridge: requests that come over a line become accesses of registers and memories."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from rpaccel.registers import REGISTER_SPACE_BITS
from rpaccel.serial_protocol import (
    CRC_BYTES,
    HELLO,
    MAX_DATA,
    PROTOCOL_VERSION,
    REPLY,
    REQUEST,
    Operation,
    ReplyStatus,
)
from rtl_gen.block_memory import byte_port_signature
from rtl_gen.ram import Ram
from rtl_gen.serial_frame import FrameReceiver, FrameSender
from rtl_gen.signatures import axi_lite_signature, struct
from rtl_gen.uart import UartReceiver, UartTransmitter

__all__ = ["SerialBridge"]

REGISTER_BYTES = 4
REGISTERS, HOST, MEMORY = (
    operation >> 4
    for operation in (Operation.READ_REGISTER, Operation.READ_HOST, Operation.READ_MEMORY)
)


class SerialBridge(wiring.Component):
    """Serve the serial protocol (docs/serial.md): one request at a time, each done at most once.

    A request is kept until its CRC is known to be right; what does not arrive whole has no effect
    and gets no reply. Bytes that come while a request is served are dropped.

    Parameters
    ----------
    divisor : int, at least 4
        Clock cycles in a bit.
    host_bytes, memory_bytes : int
        Sizes of the memories.
    clock_hz : int
        What the host is told of the clock.

    Members
    -------
    rx, tx : In(1, init=1), Out(1, init=1)
        The serial line.
    irq : In(1)
        The machine's interrupt.
    registers : Out(axi_lite_signature())
        It must answer every access.
    host, memory : Out(byte_port_signature())
    """

    def __init__(self, *, divisor: int, host_bytes: int, memory_bytes: int, clock_hz: int):
        self.divisor = divisor
        self.hello = {
            "version": PROTOCOL_VERSION,
            "host_bytes": host_bytes,
            "memory_bytes": memory_bytes,
            "clock_hz": clock_hz,
        }
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "irq": In(1),
                "registers": Out(axi_lite_signature()),
                "host": Out(byte_port_signature()),
                "memory": Out(byte_port_signature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.submodules.sender = self._sender = FrameSender()
        most = REQUEST.bytes + MAX_DATA + CRC_BYTES
        m.submodules.frames = self._frames = frames = FrameReceiver(max_bytes=most)
        m.submodules.buffer = self._buffer = Ram(width=8, depth=most)
        connect(m, self._sender.o, transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            frames.valid.eq(receiver.valid),
            frames.data.eq(receiver.data),
            frames.error.eq(receiver.error),
        ]
        self._request = Signal(struct(REQUEST))
        self._status = Signal(ReplyStatus)
        self._count = Signal(16)  # data bytes of the reply, or bytes written so far
        self._word = Signal(max(HELLO.bits, 8 * REGISTER_BYTES))  # the reply's data, where short
        self._receive(m)
        self._serve(m)
        return m

    def _memories(self):
        """Ports by the space in the high half of an operation."""
        return (HOST, self.host), (MEMORY, self.memory)

    def _receive(self, m):
        """The header goes to registers, everything to the buffer."""
        frames, buffer = self._frames, self._buffer
        header = self._request.as_value()
        m.d.comb += [
            buffer.write.en.eq(frames.byte_valid),
            buffer.write.addr.eq(frames.index),
            buffer.write.data.eq(frames.byte),
        ]
        with m.If(frames.byte_valid & (frames.index < REQUEST.bytes)):
            m.d.sync += header.eq(Cat(header[8:], frames.byte))

    def _judge(self, m, length):
        """What is wrong with a request, and which accesses it is."""
        request = self._request
        space, write = request.operation[4:], request.operation[0]
        data = length - REQUEST.bytes - CRC_BYTES
        status = Signal(ReplyStatus)
        registers = 1 << REGISTER_SPACE_BITS
        sizes = {REGISTERS: registers}
        sizes |= {HOST: self.hello["host_bytes"], MEMORY: self.hello["memory_bytes"]}
        end = Signal(33)
        size = Signal(33)
        m.d.comb += end.eq(request.address + request.count)
        with m.Switch(space):
            for number, value in sizes.items():
                with m.Case(number):
                    m.d.comb += size.eq(value)
        known = Signal()
        with m.Switch(request.operation):
            with m.Case(*(o for o in Operation if o >> 4)):
                m.d.comb += known.eq(1)
        fits = (data == Mux(write, request.count, 0)) & (request.count <= MAX_DATA)
        one = (request.count == REGISTER_BYTES) & (request.address[:2] == 0)
        whole = (space != REGISTERS) | one
        with m.If(~known | ~fits | ~whole):
            m.d.comb += status.eq(ReplyStatus.BAD_REQUEST)
        with m.Elif(end > size):
            m.d.comb += status.eq(ReplyStatus.BAD_ADDRESS)
        return status

    def _serve(self, m):
        request, frames = self._request, self._frames
        number, before, last = Signal(32), Signal(32), Signal(8)  # no session: number 0
        length = Signal.like(frames.index)
        judged = self._judge(m, length)
        m.d.comb += frames.hold.eq(1)
        with m.FSM(name="serve"):
            with m.State("RECEIVE"):
                m.d.comb += frames.hold.eq(0)
                m.d.sync += [length.eq(frames.index), self._count.eq(0)]
                with m.If(frames.frame & (frames.index >= REQUEST.bytes + CRC_BYTES)):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.next = "REPLY"
                fresh = request.sequence == (last + 1)[:8]
                with m.If(request.operation == Operation.HELLO):
                    # The same HELLO again is a repetition, not a new session.
                    old = Mux(number == request.address, before, number)
                    with m.If(number != request.address):
                        m.d.sync += [last.eq(request.sequence), before.eq(number)]
                    m.d.sync += number.eq(request.address)
                    facts = Cat(Const(self.hello[f.name], f.bits) for f in list(HELLO)[2:])
                    m.d.sync += [
                        self._status.eq(ReplyStatus.OK),
                        self._count.eq(HELLO.bytes),
                        self._word.eq(Cat(request.address, old, facts)),
                    ]
                with m.Elif(number == 0):
                    m.d.sync += self._status.eq(ReplyStatus.NO_SESSION)
                with m.Elif(~fresh & (request.sequence != last)):
                    m.d.sync += self._status.eq(ReplyStatus.BAD_SEQUENCE)
                with m.Elif(request.operation == Operation.POLL):
                    m.d.sync += [last.eq(request.sequence), self._status.eq(ReplyStatus.OK)]
                with m.Else():
                    m.d.sync += [last.eq(request.sequence), self._status.eq(judged)]
                    with m.If(judged == ReplyStatus.OK):
                        self._dispatch(m, fresh)
            self._register_states(m)
            self._write_states(m)
            self._reply_states(m)

    def _dispatch(self, m, fresh):
        """Leave for the accesses of a request. Reads are done again, writes are not."""
        request = self._request
        write = request.operation[0]
        with m.If(~write):
            m.d.sync += self._count.eq(request.count)
        with m.If(request.operation[4:] == REGISTERS):
            with m.If(~write):
                m.next = "READ-REGISTER"
            with m.Elif(fresh):
                m.next = "FETCH"
        with m.Elif(write & fresh):
            m.next = "FETCH"

    def _register_states(self, m):
        bus, request = self.registers, self._request
        address_sent, data_sent = Signal(), Signal()
        m.d.comb += [
            bus.araddr.eq(request.address),
            bus.awaddr.eq(request.address),
            bus.wdata.eq(self._word[-32:]),
            bus.wstrb.eq(0b1111),
        ]
        with m.State("READ-REGISTER"):
            m.d.comb += [bus.arvalid.eq(~address_sent), bus.rready.eq(1)]
            with m.If(bus.arready & bus.arvalid):
                m.d.sync += address_sent.eq(1)
            with m.If(bus.rvalid):
                m.d.sync += [self._word.eq(bus.rdata), address_sent.eq(0)]
                m.next = "REPLY"
        with m.State("WRITE-REGISTER"):
            m.d.comb += [bus.awvalid.eq(~address_sent), bus.wvalid.eq(~data_sent)]
            m.d.comb += bus.bready.eq(1)
            with m.If(bus.awready & bus.awvalid):
                m.d.sync += address_sent.eq(1)
            with m.If(bus.wready & bus.wvalid):
                m.d.sync += data_sent.eq(1)
            with m.If(bus.bvalid):
                m.d.sync += [address_sent.eq(0), data_sent.eq(0), self._count.eq(0)]
                m.next = "REPLY"

    def _write_states(self, m):
        """Data from the buffer, byte by byte, to a memory or to the word for a register."""
        request, buffer = self._request, self._buffer
        register = request.operation[4:] == REGISTERS
        with m.State("FETCH"):
            m.d.comb += [
                buffer.read.addr.eq(REQUEST.bytes + self._count),
                buffer.read.en.eq(1),
            ]
            m.next = "STORE"
            with m.If(self._count == request.count):
                m.d.sync += self._count.eq(0)
                m.next = "REPLY"
                with m.If(register):
                    m.next = "WRITE-REGISTER"
        with m.State("STORE"):
            taken = Signal()
            m.d.comb += taken.eq(register)
            for space, port in self._memories():
                with m.If(request.operation[4:] == space):
                    m.d.comb += [port.valid.eq(1), port.write.eq(1), taken.eq(port.ready)]
            with m.If(taken):
                m.d.sync += self._word.eq(Cat(self._word[8:], buffer.read.data))
                m.d.sync += self._count.eq(self._count + 1)
                m.next = "FETCH"
        for _, port in self._memories():
            m.d.comb += port.data.eq(buffer.read.data)

    def _reply_states(self, m):
        """Header, then data: bytes of the word, or of a memory."""
        request, out = self._request, self._sender.i
        done = Signal(16)  # data bytes sent
        header = Signal(struct(REPLY))
        m.d.comb += [
            header.status.eq(self._status),
            header.irq.eq(self.irq),
            header.reply.eq(1),
            header.sequence.eq(request.sequence),
        ]
        flags = Signal(8)  # the interrupt may change while the byte is being sent
        with m.State("REPLY"):
            m.d.sync += [flags.eq(header.as_value()[:8]), done.eq(0)]
            m.next = "FLAGS"
        with m.State("FLAGS"):
            m.d.comb += [out.valid.eq(1), out.p.data.eq(flags)]
            with m.If(out.ready):
                m.next = "SEQUENCE"
        with m.State("SEQUENCE"):
            m.d.comb += [out.valid.eq(1), out.p.data.eq(request.sequence)]
            m.d.comb += out.p.last.eq(self._count == 0)
            with m.If(out.ready):
                m.next = "LOOK"
                with m.If(out.p.last):
                    m.next = "RECEIVE"
        with m.State("LOOK"):
            taken = Signal()
            m.d.comb += taken.eq(1)  # nothing to wait for: the word
            for space, port in self._memories():
                with m.If(request.operation[4:] == space):
                    m.d.comb += [port.valid.eq(1), taken.eq(port.ready)]
            with m.If(taken):
                m.next = "KEEP"
        byte = Signal(8)
        with m.State("KEEP"):  # a memory's answer lasts one cycle
            m.d.sync += [byte.eq(self._word[:8]), self._word.eq(self._word >> 8)]
            for space, port in self._memories():
                with m.If(request.operation[4:] == space):
                    m.d.sync += byte.eq(port.r_data)
            m.next = "DATA"
        with m.State("DATA"):
            m.d.comb += [
                out.valid.eq(1),
                out.p.data.eq(byte),
                out.p.last.eq(done + 1 == self._count),
            ]
            with m.If(out.ready):
                m.d.sync += done.eq(done + 1)
                m.next = "LOOK"
                with m.If(out.p.last):
                    m.next = "RECEIVE"
        at = Mux(request.operation[0], self._count, done)
        for _, port in self._memories():
            m.d.comb += port.address.eq(request.address + at)
