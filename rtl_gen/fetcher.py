"""The fetcher: reads descriptors out of the submission ring."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import FETCHER_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.signatures import host_client_signature, struct
from rtl_gen.states import attribute, step_layout

__all__ = ["Fetcher", "fetched_layout", "ring_address"]


def fetched_layout() -> data.StructLayout:
    """A descriptor and the time at which it was fetched."""
    return data.StructLayout({"descriptor": struct(abi.DESCRIPTOR), "start": 32})


def ring_address(base, index, log2):
    """Address of a ring entry: ``index`` counts entries without end, rings have ``2**log2``."""
    entry = index & ((1 << log2) - 1)
    return base + entry * abi.BLOCK_BYTES


class Fetcher(wiring.Component):
    """Fetch submissions in order, one ahead of the query being admitted.

    A submission that cannot be read is skipped.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    enable, hold : In(1)
        Fetching starts only while ``enable`` is high and ``hold`` is low.
    sq_base, sq_log2, sq_tail, sq_head : In, In, In, Out
        The submission ring.
    now : In(32)
        Clock cycles.
    read_request, read_data : streams of ``host_client_signature``
    o : Out(stream.Signature(fetched_layout()))
    busy : Out(1)
        A descriptor is being fetched or waits at ``o``.
    read_error : Out(1)
        High for one cycle for each submission that was skipped.
    counters : Out(StructLayout)
        Increments of ``counters.FETCHER_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        client = host_client_signature(hardware).members
        super().__init__(
            {
                "enable": In(1),
                "hold": In(1),
                "sq_base": In(64),
                "sq_log2": In(4),
                "sq_tail": In(16),
                "sq_head": Out(16),
                "now": In(32),
                "read_request": client["read_request"],
                "read_data": client["read_data"],
                "o": Out(stream.Signature(fetched_layout())),
                "busy": Out(1),
                "read_error": Out(1),
                "counters": Out(step_layout(FETCHER_COUNTERS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat = self.read_data.p
        descriptor = Signal(abi.DESCRIPTOR.bits)
        start = Signal(32)
        bad = Signal()  # one of the beats so far
        m.d.comb += [
            self.read_request.p.address.eq(ring_address(self.sq_base, self.sq_head, self.sq_log2)),
            self.read_request.p.blocks.eq(1),
            self.o.p.descriptor.as_value().eq(descriptor),
            self.o.p.start.eq(start),
        ]
        begin = self.enable & ~self.hold & (self.sq_head != self.sq_tail)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += bad.eq(0)
                with m.If(begin):
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.read_request.valid.eq(1)
                with m.If(self.read_request.ready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read_data.ready.eq(1)
                with m.If(self.read_data.valid):
                    m.d.sync += [
                        descriptor.eq(Cat(descriptor, beat.data)[len(beat.data) :]),
                        bad.eq(bad | beat.error),
                    ]
                    with m.If(beat.last):
                        m.d.sync += [self.sq_head.eq(self.sq_head + 1), start.eq(self.now)]
                        m.next = "HANDOVER"
                        with m.If(bad | beat.error):
                            m.d.comb += self.read_error.eq(1)
                            m.next = "IDLE"
            with m.State("HANDOVER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        causes = {
            "starved": ~self.busy & ~begin,
            "stall_host": (self.read_request.valid & ~self.read_request.ready)
            | (self.read_data.ready & ~self.read_data.valid),
            "stall_admission": self.o.valid & ~self.o.ready,
        }
        attribute(m, self.counters, FETCHER_COUNTERS, causes, "busy")
        return m
