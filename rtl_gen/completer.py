"""The completer: writes results and completions to host memory and rings the interrupt."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.counters import COMPLETER_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.admission import reject_layout
from rtl_gen.arbiter import RoundRobin
from rtl_gen.fetcher import ring_address
from rtl_gen.signatures import host_client_signature, ranked_layout, struct
from rtl_gen.states import attribute, step_layout

__all__ = ["Completer", "slot_layout"]


def slot_layout() -> data.StructLayout:
    """What is known of a query in flight."""
    return data.StructLayout(
        {
            "query_id": 32,
            "results": 64,
            "count": abi.ITEM_BITS,
            "start": 32,
            "status": 4,
            "bad_indices": 32,
            "saturations": 32,
        }
    )


class Completer(wiring.Component):
    """Complete one query after the other, in the order in which they finish.

    Takes final rankings (one result a cycle, if the host port keeps up) and rejections; sources
    take turns. The completion is written after the results' responses are in, the interrupt raised
    after the completion's; a full completion ring holds up everything behind it.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    ranked : In(stream.Signature(ranked_layout(hardware))).array(stages)
        Final rankings; exactly the query's ``count`` items each, best first.
    reject : In(stream.Signature(reject_layout()))
    slots : In(ArrayLayout(slot_layout(), query_slots))
    release : Out(query_slots)
        A slot is given back in this cycle.
    write_request, write_data, write_done : streams of ``host_client_signature``
    cq_base, cq_log2, cq_head, cq_tail : In, In, In, Out
        The completion ring.
    now : In(32)
        Clock cycles.
    completion : Out(1)
        High for one cycle when a completion is in host memory.
    ok : Out(1)
        High together with ``completion`` if its status is OK.
    write_error : Out(1)
        High for one cycle when results or a completion could not be written.
    busy : Out(1)
    counters : Out(StructLayout)
        Increments of ``counters.COMPLETER_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        self.bus_bytes = hardware.host_bus_bytes
        client = host_client_signature(hardware).members
        ranked = stream.Signature(ranked_layout(hardware))
        super().__init__(
            {
                "ranked": In(ranked).array(hardware.stages),
                "reject": In(stream.Signature(reject_layout())),
                "slots": In(data.ArrayLayout(slot_layout(), hardware.query_slots)),
                "release": Out(hardware.query_slots),
                "write_request": client["write_request"],
                "write_data": client["write_data"],
                "write_done": client["write_done"],
                "cq_base": In(64),
                "cq_log2": In(4),
                "cq_head": In(16),
                "cq_tail": Out(16),
                "now": In(32),
                "completion": Out(1),
                "ok": Out(1),
                "write_error": Out(1),
                "busy": Out(1),
                "counters": Out(step_layout(COMPLETER_COUNTERS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.turn = turn = RoundRobin(count=self.hardware.stages + 1)
        source = Signal(range(max(2, self.hardware.stages)))
        ranked = stream.Signature(ranked_layout(self.hardware)).create()
        query = Signal(slot_layout())
        completions = Signal(32)
        beat = Signal(range(max(2, abi.BLOCK_BYTES // self.bus_bytes)))
        last_beat = beat == abi.BLOCK_BYTES // self.bus_bytes - 1

        waiting = Cat(*(r.valid for r in self.ranked), self.reject.valid)
        for s, r in enumerate(self.ranked):
            with m.If(source == s):
                m.d.comb += [
                    ranked.valid.eq(r.valid),
                    ranked.payload.eq(r.payload),
                    r.ready.eq(ranked.ready),
                ]
        slot = Array(self.slots[n] for n in range(self.hardware.query_slots))[ranked.p.slot]
        m.d.comb += self.cq_tail.eq(completions)

        def release(number):
            m.d.comb += self.release.eq(1 << number)

        def take_slot():
            # With the last candidate ranked, nothing can happen to the query any more.
            release(ranked.p.slot)
            m.d.sync += query.eq(slot)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += turn.request.eq(waiting)
                m.d.sync += beat.eq(0)
                for s in range(self.hardware.stages):
                    with m.If(turn.grant[s]):
                        m.d.sync += source.eq(s)
                        m.next = "RANKING"
                with m.If(turn.grant[-1]):
                    m.d.comb += self.reject.ready.eq(1)
                    m.d.sync += [
                        query.eq(0),
                        query.query_id.eq(self.reject.p.query_id),
                        query.start.eq(self.reject.p.start),
                        query.status.eq(self.reject.p.status),
                    ]
                    m.next = "SPACE"
            with m.State("RANKING"):
                m.next = "DRAIN"
                with m.If(slot.status == abi.Status.OK):
                    m.d.comb += [
                        self.write_request.valid.eq(1),
                        self.write_request.p.address.eq(slot.results),
                        self.write_request.p.blocks.eq(
                            (slot.count * abi.RESULT.bytes + (abi.BLOCK_BYTES - 1))
                            >> ceil_log2(abi.BLOCK_BYTES)
                        ),
                    ]
                    m.next = "RANKING"
                    with m.If(self.write_request.ready):
                        m.next = "RESULTS"
            with m.State("DRAIN"):
                m.d.comb += ranked.ready.eq(1)
                with m.If(ranked.valid & ranked.p.last):
                    take_slot()
                    m.next = "SPACE"
            with m.State("RESULTS"):
                self._elaborate_results(m, ranked, beat, last_beat, take_slot)
            with m.State("RESULTS-DONE"):
                m.d.comb += self.write_done.ready.eq(1)
                with m.If(self.write_done.valid):
                    m.next = "SPACE"
                    with m.If(self.write_done.p.error):
                        m.d.comb += self.write_error.eq(1)
                        m.d.sync += query.status.eq(abi.Status.HOST_ERROR)
            self._elaborate_completion(m, query, completions, beat, last_beat)
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        self._states(m, fsm, ranked, waiting)
        return m

    def _states(self, m, fsm, ranked, waiting):
        """Count what is done."""
        ports = (self.write_request, self.write_data, self.write_done, ranked)
        moves = Cat(port.valid & port.ready for port in ports).any()
        refused = (self.write_request, self.write_data)
        causes = {
            "starved": ~self.busy & ~waiting.any(),
            "stall_ring": fsm.ongoing("SPACE")
            & ((self.cq_tail - self.cq_head)[:16] >= 1 << self.cq_log2),
            "stall_host": ~moves
            & (Cat(port.valid for port in refused).any() | self.write_done.ready),
            "stall_filter": ~moves & ranked.ready,
        }
        attribute(m, self.counters, COMPLETER_COUNTERS, causes, "busy")

    def _elaborate_results(self, m, ranked, beat, last_beat, take_slot):
        """Pack results into beats, and zeros up to the end of the block."""
        lanes = self.bus_bytes // abi.RESULT.bytes
        word = Signal(data.ArrayLayout(abi.RESULT.bits, lanes))
        lane = Signal(range(lanes))
        full, ended = Signal(), Signal()
        result = Signal(struct(abi.RESULT))
        m.d.comb += [
            result.position.eq(ranked.p.position),
            result.score.eq(ranked.p.score),
            self.write_data.valid.eq(full),
            self.write_data.payload.eq(word),
        ]
        with m.If(full & self.write_data.ready):
            m.d.sync += [beat.eq(Mux(last_beat, 0, beat + 1)), full.eq(0), word.eq(0)]
            with m.If(ended):
                m.d.sync += full.eq(1)
                with m.If(last_beat):
                    m.d.sync += [full.eq(0), ended.eq(0)]
                    m.next = "RESULTS-DONE"
        with m.If(~ended & (~full | self.write_data.ready)):
            m.d.comb += ranked.ready.eq(1)
            with m.If(ranked.valid):
                m.d.sync += [
                    word[lane].eq(result),
                    lane.eq(lane + 1),
                    full.eq((lane == lanes - 1) | ranked.p.last),
                    ended.eq(ranked.p.last),
                ]
                with m.If(ranked.p.last):
                    take_slot()
                    m.d.sync += lane.eq(0)

    def _elaborate_completion(self, m, query, completions, beat, last_beat):
        """States that write the ring entry of ``query``."""
        entry = Signal(struct(abi.COMPLETION))
        with m.State("SPACE"):
            # The ring's counters are modulo 2**16, and so must be their difference.
            with m.If((self.cq_tail - self.cq_head)[:16] < 1 << self.cq_log2):
                m.next = "COMPLETION-REQUEST"
        with m.State("COMPLETION-REQUEST"):
            m.d.comb += [
                self.write_request.valid.eq(1),
                self.write_request.p.address.eq(
                    ring_address(self.cq_base, self.cq_tail, self.cq_log2)
                ),
                self.write_request.p.blocks.eq(1),
            ]
            m.d.sync += [
                entry.sequence.eq(completions + 1),
                entry.query_id.eq(query.query_id),
                entry.status.eq(query.status),
                entry.count.eq(Mux(query.status == abi.Status.OK, query.count, 0)),
                entry.cycles.eq(self.now - query.start),
                entry.bad_indices.eq(query.bad_indices),
                entry.saturations.eq(query.saturations),
            ]
            with m.If(self.write_request.ready):
                m.next = "COMPLETION"
        with m.State("COMPLETION"):
            m.d.comb += [
                self.write_data.valid.eq(1),
                self.write_data.payload.eq(entry.as_value().word_select(beat, 8 * self.bus_bytes)),
            ]
            with m.If(self.write_data.ready):
                m.d.sync += beat.eq(beat + 1)
                with m.If(last_beat):
                    m.next = "COMPLETION-DONE"
        with m.State("COMPLETION-DONE"):
            m.d.comb += self.write_done.ready.eq(1)
            with m.If(self.write_done.valid):
                m.d.comb += [
                    self.write_error.eq(self.write_done.p.error),
                    self.completion.eq(1),
                    self.ok.eq(query.status == abi.Status.OK),
                ]
                m.d.sync += completions.eq(completions + 1)
                m.next = "IDLE"
