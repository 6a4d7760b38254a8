"""A run of lines of device memory as a stream of beats."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import HardwareConfig
from rtl_gen.ram import Ram
from rtl_gen.signatures import LINE_BITS, memory_client_signature

__all__ = ["LINES_BITS", "LineStream"]

LINES_BITS = LINE_BITS + 12  # of a number of lines as a segment may ask for, however wrong


class LineStream(wiring.Component):
    """Read a run of lines from device memory, up to ``memory.loader_lines`` ahead, in order.

    Answers may come in any order; they wait in a buffer for their turn. A line a cycle is asked
    for and a beat a cycle delivered, so that only memory limits the rate.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    go : In(1)
        A pulse: read ``lines`` lines, at least one, from ``line`` on. Not before ``done``.
    line : In(LINE_BITS + 1)
    lines : In(LINES_BITS)
    memory : Out(memory_client_signature(hardware))
    beat, data : Out
        ``data`` is the next beat.
    done, failed : Out(1)
        A pulse after the last beat; ``failed`` with it: there are no such lines, or memory
        answered with an error.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        memory = hardware.memory
        spare = memory.address_bits + ceil_log2(memory.channels) - ceil_log2(memory.line_bytes)
        self.line_bits = min(LINE_BITS, spare)
        super().__init__(
            {
                "go": In(1),
                "line": In(LINE_BITS + 1),
                "lines": In(LINES_BITS),
                "memory": Out(memory_client_signature(hardware)),
                "beat": Out(1),
                "data": Out(8 * memory.bus_bytes),
                "done": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beats, tags = self.hardware.memory.beats, self.hardware.memory.loader_lines
        request, response = self.memory.request, self.memory.response
        m.submodules.buffer = buffer = Ram(
            width=8 * self.hardware.memory.bus_bytes,
            depth=tags * beats,
            macro_bits=self.hardware.sram_macro_bits,
        )
        there = Signal(tags)  # lines that wait for delivery
        wanted, left = Signal(LINE_BITS + 1), Signal(LINE_BITS + 1)  # to ask for, to deliver
        asked, given = Signal(ceil_log2(tags)), Signal(ceil_log2(tags))  # tags
        flying = Signal(range(tags + 1))  # lines asked for and not delivered
        at = Signal(ceil_log2(beats))
        next_line = Signal(LINE_BITS + 1)
        end = Signal(LINES_BITS + 1)
        ask, deliver, whole = Signal(), Signal(), Signal()
        m.d.comb += [
            end.eq(self.line + self.lines - 1),
            ask.eq((wanted != 0) & (flying != tags) & (~request.valid | request.ready)),
            deliver.eq(there.bit_select(given, 1)),
            whole.eq(deliver & (at == beats - 1)),
            buffer.write.en.eq(self.memory.response_valid),
            buffer.write.addr.eq(response.tag * beats + response.beat),
            buffer.write.data.eq(response.data),
            buffer.read.en.eq(deliver),
            buffer.read.addr.eq(given * beats + at),
            self.data.eq(buffer.read.data),
        ]
        m.d.sync += [self.beat.eq(deliver), self.done.eq(0), flying.eq(flying + ask - whole)]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(ask):
            m.d.sync += [
                request.valid.eq(1),
                request.p.line.eq(next_line),
                request.p.tag.eq(asked),
                next_line.eq(next_line + 1),
                asked.eq(asked + 1),
                wanted.eq(wanted - 1),
            ]
        with m.If(deliver):
            m.d.sync += at.eq(at + 1)
        with m.If(whole):
            m.d.sync += [
                at.eq(0),
                there.bit_select(given, 1).eq(0),
                given.eq(given + 1),
                left.eq(left - 1),
                self.done.eq(left == 1),
            ]
        with m.If(self.memory.response_valid):
            m.d.sync += self.failed.eq(self.failed | response.error)
            with m.If(response.last):
                m.d.sync += there.bit_select(response.tag, 1).eq(1)
        with m.If(self.go):
            m.d.sync += [self.failed.eq(0), next_line.eq(self.line), left.eq(self.lines)]
            with m.If(end[self.line_bits :].any()):
                m.d.sync += [self.failed.eq(1), self.done.eq(1)]
            with m.Else():
                m.d.sync += wanted.eq(self.lines)
        return m
