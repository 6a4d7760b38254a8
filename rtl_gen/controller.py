"""The controller: rings, query slots, planning and completion."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rpaccel.registers import DeviceErrorBit
from rtl_gen.admission import Admission, stage_table_layout
from rtl_gen.completer import Completer, slot_layout
from rtl_gen.divider import Divider
from rtl_gen.fetcher import Fetcher
from rtl_gen.planner import Planner, job_layout
from rtl_gen.queue import Queue
from rtl_gen.signatures import (
    arriving_layout,
    counter_layout,
    fail_layout,
    feature_write_signature,
    host_client_signature,
    plan_layout,
    ranked_layout,
    slot_event_layout,
    token_layout,
)
from rtl_gen.trace import controller_trace

__all__ = ["PARTS", "Controller"]

PARTS = ("fetcher", "admission", "planner", "completer")
"""Parts of the controller with counters of their own."""


def _sum(bits):
    """Number of ones among single bits."""
    total = 0
    for bit in bits:
        total = total + bit
    return total


class Controller(wiring.Component):
    """Run the submissions of the ring: fetch, validate, copy features, plan, complete.

    Fetching, admission, planning and completion work on different queries at the same time; up to
    ``query_slots`` queries are in flight. Queries are planned in ring order and completed in the
    order in which their final rankings come.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    enable, sq_base, sq_log2, sq_tail, cq_base, cq_log2, cq_head : In
        From the registers.
    hold : In(1)
        No new submission is fetched: an image is being loaded, or about to be.
    sq_head, cq_tail, idle : Out
        To the registers.
    error : Out(len(registers.DeviceErrorBit))
        HOST_READ and HOST_WRITE, high for one cycle.
    completion : Out(1)
        High for one cycle when a completion is in host memory.
    counters : Out(struct of active, queries, failed)
        What these counters advance by in this cycle.
    parts : Out(StructLayout)
        Increments of the counters of fetcher, admission, planner and completer.
    trace : Out(controller_trace(hardware))
    stages, image_loaded, image_id : In
        The loaded image; changes only while ``idle``.
    host : Out(host_client_signature(hardware))
    feature_write : Out(feature_write_signature(hardware))
    arriving : Out(arriving_layout(hardware))
    token, plan : Out(stream.Signature(...)).array(stages)
        Work for gather and top-k units, both in planning order.
    ranked : In(stream.Signature(ranked_layout(hardware))).array(stages)
        Final rankings of each stage's top-k unit.
    fail : In(stream.Signature(fail_layout(hardware))).array(stages)
        Causes of failure, always taken; the first one of a query counts. One must come before the
        query's final ranking starts.
    bad_index, saturated : In(slot_event_layout(hardware)).array(stages)
        Counted for the query.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        count = hardware.stages
        event = slot_event_layout(hardware)
        layout = counter_layout(hardware)
        super().__init__(
            {
                "enable": In(1),
                "hold": In(1),
                "sq_base": In(64),
                "sq_log2": In(4),
                "sq_tail": In(16),
                "sq_head": Out(16),
                "cq_base": In(64),
                "cq_log2": In(4),
                "cq_head": In(16),
                "cq_tail": Out(16),
                "idle": Out(1),
                "error": Out(len(DeviceErrorBit)),
                "completion": Out(1),
                "counters": Out(data.StructLayout({"active": 1, "queries": 1, "failed": 1})),
                "parts": Out(data.StructLayout({n: layout[n].shape for n in PARTS})),
                "trace": Out(controller_trace(hardware)),
                "stages": In(stage_table_layout(hardware)),
                "image_loaded": In(1),
                "image_id": In(32),
                "host": Out(host_client_signature(hardware)),
                "feature_write": Out(feature_write_signature(hardware)),
                "arriving": Out(arriving_layout(hardware)),
                "token": Out(stream.Signature(token_layout(hardware))).array(count),
                "plan": Out(stream.Signature(plan_layout(hardware))).array(count),
                "ranked": In(stream.Signature(ranked_layout(hardware))).array(count),
                "fail": In(stream.Signature(fail_layout(hardware))).array(count),
                "bad_index": In(event).array(count),
                "saturated": In(event).array(count),
            }
        )

    def elaborate(self, platform):
        m = Module()
        hardware = self.hardware
        m.submodules.fetcher = fetcher = Fetcher(hardware)
        m.submodules.admission = admission = Admission(hardware)
        # A query in this queue has a slot, so that it is never full.
        m.submodules.jobs = jobs = Queue(job_layout(hardware), depth=hardware.query_slots)
        m.submodules.planner = planner = Planner(hardware)
        m.submodules.divider = divider = Divider(clients=2)
        m.submodules.completer = completer = Completer(hardware)
        slots = Signal(data.ArrayLayout(slot_layout(), hardware.query_slots))
        used = Signal(hardware.query_slots)
        now = Signal(32)
        m.d.sync += now.eq(now + 1)

        connect(m, fetcher.o, admission.i)
        connect(m, admission.job, jobs.i)
        connect(m, jobs.o, planner.job)
        connect(m, admission.reject, completer.reject)
        connect(m, admission.divider, divider.client[0])
        connect(m, planner.divider, divider.client[1])
        connect(m, admission.feature_write, flipped(self.feature_write))
        for s in range(hardware.stages):
            connect(m, planner.token[s], flipped(self.token[s]))
            connect(m, planner.plan[s], flipped(self.plan[s]))
            connect(m, flipped(self.ranked[s]), completer.ranked[s])
        connect(m, completer.write_request, flipped(self.host.write_request))
        connect(m, completer.write_data, flipped(self.host.write_data))
        connect(m, flipped(self.host.write_done), completer.write_done)
        self._elaborate_reads(m, fetcher, admission)
        self._elaborate_slots(m, slots, used, admission, completer)

        in_flight = admission.busy | used.any() | planner.busy | completer.busy | fetcher.o.valid
        m.d.comb += [
            fetcher.enable.eq(self.enable),
            fetcher.hold.eq(self.hold),
            fetcher.sq_base.eq(self.sq_base),
            fetcher.sq_log2.eq(self.sq_log2),
            fetcher.sq_tail.eq(self.sq_tail),
            fetcher.now.eq(now),
            self.sq_head.eq(fetcher.sq_head),
            admission.stages.eq(self.stages),
            admission.image_loaded.eq(self.image_loaded),
            admission.image_id.eq(self.image_id),
            admission.free.eq(~used),
            self.arriving.eq(admission.arriving),
            completer.slots.eq(slots),
            completer.cq_base.eq(self.cq_base),
            completer.cq_log2.eq(self.cq_log2),
            completer.cq_head.eq(self.cq_head),
            completer.now.eq(now),
            self.cq_tail.eq(completer.cq_tail),
            self.completion.eq(completer.completion),
            self.error[DeviceErrorBit.HOST_READ].eq(fetcher.read_error),
            self.error[DeviceErrorBit.HOST_WRITE].eq(completer.write_error),
            self.idle.eq(~(in_flight | fetcher.busy)),
            self.counters.active.eq(in_flight),
            self.counters.queries.eq(completer.completion & completer.ok),
            self.counters.failed.eq(completer.completion & ~completer.ok),
        ]
        m.d.comb += [
            self.trace.opened.eq(admission.opened),
            self.trace.slot.eq(admission.open.slot),
            self.trace.query_id.eq(admission.open.query_id),
            self.trace.completing.eq(completer.busy),
            self.trace.released.eq(completer.release),
        ]
        for name, part in zip(PARTS, (fetcher, admission, planner, completer)):
            m.d.comb += self.parts[name].eq(part.counters)
        return m

    def _elaborate_reads(self, m, fetcher, admission):
        """Share the read channel: requests of both, answers to whoever asked, in order."""
        request, answer = self.host.read_request, self.host.read_data
        # Two requests at most are open: each side waits for its answer.
        m.submodules.askers = askers = Queue(1, depth=2)
        # The host port makes a request wait only behind the other side's, whose unit asks for
        # nothing more before that is answered: so a request that waits is never replaced.
        choice = Signal()
        m.d.comb += choice.eq(~fetcher.read_request.valid)
        for side, unit in enumerate((fetcher, admission)):
            asked, given = unit.read_request, unit.read_data
            with m.If(choice == side):
                m.d.comb += [
                    request.valid.eq(asked.valid),
                    request.payload.eq(asked.payload),
                    asked.ready.eq(request.ready),
                ]
            with m.If(askers.o.payload == side):
                m.d.comb += [
                    given.valid.eq(answer.valid & askers.o.valid),
                    answer.ready.eq(given.ready & askers.o.valid),
                ]
            m.d.comb += given.payload.eq(answer.payload)
        m.d.comb += [
            askers.i.valid.eq(request.valid & request.ready),
            askers.i.payload.eq(choice),
            askers.o.ready.eq(answer.valid & answer.ready & answer.p.last),
        ]

    def _elaborate_slots(self, m, slots, used, admission, completer):
        """Queries in flight: opened by admission, changed by events, closed by the completer."""
        m.d.sync += used.eq((used | admission.opened << admission.open.slot) & ~completer.release)
        for number in range(self.hardware.query_slots):
            slot = slots[number]
            bad_indices = [e.valid & (e.slot == number) for e in self.bad_index]
            saturations = [e.valid & (e.slot == number) for e in self.saturated]
            m.d.sync += [
                slot.bad_indices.eq(slot.bad_indices + _sum(bad_indices)),
                slot.saturations.eq(slot.saturations + _sum(saturations)),
            ]
            # Of two failures in one cycle, the earlier stage's is written last and counts.
            for fail in reversed(list(self.fail)):
                hit = fail.valid & (fail.p.slot == number)
                with m.If(hit & (slot.status == abi.Status.OK)):
                    m.d.sync += slot.status.eq(fail.p.status)
            unreadable = admission.unreadable
            with m.If(
                unreadable.valid & (unreadable.slot == number) & (slot.status == abi.Status.OK)
            ):
                m.d.sync += slot.status.eq(abi.Status.HOST_ERROR)
            with m.If(admission.opened & (admission.open.slot == number)):
                m.d.sync += [
                    slot.query_id.eq(admission.open.query_id),
                    slot.results.eq(admission.open.results),
                    slot.count.eq(admission.open.count),
                    slot.start.eq(admission.open.start),
                    slot.status.eq(abi.Status.OK),
                    slot.bad_indices.eq(0),
                    slot.saturations.eq(0),
                ]
        for fail in self.fail:
            m.d.comb += fail.ready.eq(1)
