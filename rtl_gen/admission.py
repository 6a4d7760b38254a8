"""Admission: validates a descriptor, gives the query a slot and copies its features there."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.counters import ADMISSION_COUNTERS
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import STAGE
from rpaccel.section import MAX_ITEMS
from rtl_gen.divider import divider_client_signature
from rtl_gen.fetcher import fetched_layout
from rtl_gen.planner import job_layout
from rtl_gen.signatures import (
    arriving_layout,
    feature_write_signature,
    host_client_signature,
    slot_bits,
    slot_event_layout,
    struct,
)
from rtl_gen.states import attribute, step_layout

__all__ = ["Admission", "open_layout", "reject_layout", "stage_table_layout"]


def stage_table_layout(hardware: HardwareConfig) -> data.ArrayLayout:
    """The STAGE words of the loaded image."""
    return data.ArrayLayout(struct(STAGE), hardware.stages)


def open_layout(hardware: HardwareConfig) -> data.StructLayout:
    """What is kept of a query while it is in flight."""
    return data.StructLayout(
        {
            "slot": slot_bits(hardware),
            "query_id": 32,
            "results": 64,
            "count": abi.ITEM_BITS,
            "start": 32,
        }
    )


def reject_layout() -> data.StructLayout:
    """A query that gets no tokens."""
    return data.StructLayout({"query_id": 32, "start": 32, "status": 4})


class Admission(wiring.Component):
    """Turn descriptors into planned queries or rejections, in order.

    A good descriptor takes 3 cycles, 2 for each stage, a division for each stage but the first, and
    the copy of its features at the speed of the host port. It waits while no slot is free. A query
    is planned before its features are there; ``arriving`` tells their readers how far they are.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    i : In(stream.Signature(fetched_layout()))
    stages, image_loaded, image_id : In
        The loaded image; stable while ``busy``.
    read_request, read_data : streams of ``host_client_signature``
    feature_write : Out(feature_write_signature(hardware))
    divider : Out(divider_client_signature())
    free : In(query_slots)
        Slots that may be given away.
    opened, open : Out(1), Out(open_layout(hardware))
        A slot is given to a query in this cycle.
    job : Out(stream.Signature(job_layout(hardware)))
        Queries that have a slot.
    arriving : Out(arriving_layout(hardware))
        The slot to which features are being copied, if any.
    unreadable : Out(slot_event_layout(hardware))
        Features of a query could not be read; before any reader can see them.
    reject : Out(stream.Signature(reject_layout()))
    busy : Out(1)
    counters : Out(StructLayout)
        Increments of ``counters.ADMISSION_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        client = host_client_signature(hardware).members
        super().__init__(
            {
                "i": In(stream.Signature(fetched_layout())),
                "stages": In(stage_table_layout(hardware)),
                "image_loaded": In(1),
                "image_id": In(32),
                "read_request": client["read_request"],
                "read_data": client["read_data"],
                "feature_write": Out(feature_write_signature(hardware)),
                "divider": Out(divider_client_signature()),
                "free": In(hardware.query_slots),
                "opened": Out(1),
                "open": Out(open_layout(hardware)),
                "job": Out(stream.Signature(job_layout(hardware))),
                "arriving": Out(arriving_layout(hardware)),
                "unreadable": Out(slot_event_layout(hardware)),
                "reject": Out(stream.Signature(reject_layout())),
                "busy": Out(1),
                "counters": Out(step_layout(ADMISSION_COUNTERS)),
            }
        )

    def _bad_descriptor(self, d):
        return (
            (d.version != abi.VERSION_MAJOR)
            | d.reserved0.any()
            | d.reserved.any()
            | (d.features % abi.BLOCK_BYTES).any()
            | (d.results % abi.BLOCK_BYTES).any()
            | (d.first_stage > d.last_stage)
            | (d.last_stage >= self.hardware.stages)
            | self._with_bins(d.last_stage)
        )

    def _with_bins(self, stage):
        """Whether a stage's filter is not exact."""
        kinds = [Const(not self.hardware.final(s), 1) for s in range(self.hardware.stages)]
        return Array(kinds)[stage[: abi.STAGE_BITS]]

    def _bad_image(self, d):
        bad = ~self.image_loaded | (d.image_id != self.image_id)
        for s in range(self.hardware.stages):
            missing = (d.first_stage <= s) & (self.stages[s].steps == 0)
            bad = bad | (missing & (s <= d.last_stage) if s else missing)
        return bad

    def elaborate(self, platform):
        m = Module()
        stages = range(self.hardware.stages)
        d = Signal(struct(abi.DESCRIPTOR))
        stage = Signal(abi.STAGE_BITS)
        keeps = [d.keep0, d.keep1, d.keep2, d.keep3][: len(stages)]
        keep = Array(keeps)[stage]
        is_last = stage == d.last_stage
        record = self.stages[d.first_stage[: abi.STAGE_BITS]]
        item_bytes = Signal(range(2 ** (16 + abi.ITEM_BITS)))
        blocks = Signal.like(self.read_request.p.blocks)
        available = Signal(16)  # items the stage gets
        bound = Signal(16)  # largest sub-batch of the stage
        word = Signal.like(self.feature_write.word)
        start = Signal(32)
        slot = Signal(slot_bits(self.hardware))
        arriving = Signal()
        status = Signal(abi.Status)
        copied = self.read_data.p

        m.d.comb += [
            self.reject.p.query_id.eq(d.query_id),
            self.reject.p.start.eq(start),
            self.reject.p.status.eq(status),
            self.open.query_id.eq(d.query_id),
            self.open.start.eq(start),
            self.open.results.eq(d.results),
            self.open.count.eq(Array(keeps)[d.last_stage[: abi.STAGE_BITS]]),
            self.divider.request.p.keep.eq(keep),
            self.divider.request.p.part.eq(bound),
            self.divider.request.p.whole.eq(available),
            self.read_request.p.address.eq(d.features),
            self.read_request.p.blocks.eq(blocks),
            self.feature_write.slot.eq(slot),
            self.feature_write.word.eq(word),
            self.feature_write.data.eq(copied.data),
            self.arriving.valid.eq(arriving),
            self.arriving.slot.eq(slot),
            self.arriving.words.eq(word),
            self.unreadable.slot.eq(slot),
            self.job.p.slot.eq(slot),
            self.job.p.first_stage.eq(d.first_stage),
            self.job.p.last_stage.eq(d.last_stage),
            self.job.p.items.eq(d.items),
            self.job.p.sub_batch.eq(d.sub_batch),
            self.job.p.global_release.eq(d.global_release),
        ]
        m.d.comb += [self.job.p.keep[s].eq(keeps[s]) for s in stages]
        for number in reversed(range(self.hardware.query_slots)):
            with m.If(self.free[number]):
                m.d.comb += self.open.slot.eq(number)

        def refuse(reason):
            m.d.sync += status.eq(reason)
            m.next = "REJECT"

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    d.eq(self.i.p.descriptor),
                    start.eq(self.i.p.start),
                    word.eq(0),
                ]
                with m.If(self.i.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += item_bytes.eq(d.items[: abi.ITEM_BITS] * record.item_bytes)
                with m.If(self._bad_descriptor(d)):
                    refuse(abi.Status.BAD_DESCRIPTOR)
                with m.Elif(self._bad_image(d)):
                    refuse(abi.Status.BAD_IMAGE)
                with m.Elif((d.items == 0) | (d.items > MAX_ITEMS)):
                    refuse(abi.Status.BAD_ITEMS)
                with m.Else():
                    m.next = "CHECK-FEATURES"
            with m.State("CHECK-FEATURES"):
                size = item_bytes + record.query_bytes
                m.d.sync += [
                    blocks.eq((size + (abi.BLOCK_BYTES - 1)) >> ceil_log2(abi.BLOCK_BYTES)),
                    stage.eq(d.first_stage),
                    available.eq(d.items),
                ]
                m.next = "CHECK-KEEP"
                with m.If(size > self.hardware.feature_bytes):
                    refuse(abi.Status.BAD_ITEMS)
            with m.State("CHECK-KEEP"):
                depth = Array(self.hardware.topk_depth)[stage]
                m.d.sync += [stage.eq(stage + 1), available.eq(keep)]
                everything = Array(
                    Const(self.hardware.filter_of(s) == "none", 1)
                    for s in range(self.hardware.stages)
                )[stage]
                with m.If(
                    (keep == 0)
                    | (keep > available)
                    | (keep > depth)
                    | (everything & (keep != available))
                ):
                    refuse(abi.Status.BAD_KEEP)
                with m.Elif(is_last):
                    m.d.sync += [
                        stage.eq(d.first_stage),
                        available.eq(d.items),
                        bound.eq(Mux(d.sub_batch < d.items, d.sub_batch, d.items)),
                    ]
                    m.next = "CHECK-SUB-BATCH"
            with m.State("CHECK-SUB-BATCH"):
                # A bound is zero only if the first one is, that is without a sub-batch size.
                with m.If((bound == 0) | (bound > self.stages[stage].max_items)):
                    refuse(abi.Status.BAD_SUB_BATCH)
                with m.Elif(is_last):
                    m.next = "SLOT"
                with m.Else():
                    m.d.comb += self.divider.request.valid.eq(1)
                    with m.If(self.divider.request.ready):
                        m.next = "SHARE"
            with m.State("SHARE"):
                with m.If(self.divider.done):
                    m.d.sync += [
                        bound.eq(self.divider.quotient),
                        available.eq(keep),
                        stage.eq(stage + 1),
                    ]
                    m.next = "CHECK-SUB-BATCH"
            with m.State("SLOT"):
                m.d.sync += slot.eq(self.open.slot)
                with m.If(self.free.any()):
                    m.d.comb += self.opened.eq(1)
                    m.d.sync += arriving.eq(blocks != 0)
                    m.next = "PLAN"
            with m.State("PLAN"):
                m.d.comb += self.job.valid.eq(1)
                with m.If(self.job.ready):
                    m.next = "REQUEST"
                    with m.If(~arriving):
                        m.next = "IDLE"
            with m.State("REQUEST"):
                m.d.comb += self.read_request.valid.eq(1)
                with m.If(self.read_request.ready):
                    m.next = "COPY"
            with m.State("COPY"):
                m.d.comb += [
                    self.read_data.ready.eq(1),
                    self.feature_write.valid.eq(self.read_data.valid),
                    self.unreadable.valid.eq(self.read_data.valid & copied.error),
                ]
                with m.If(self.read_data.valid):
                    m.d.sync += word.eq(word + 1)
                    with m.If(copied.last):
                        m.d.sync += arriving.eq(0)
                        m.next = "IDLE"
            with m.State("REJECT"):
                m.d.comb += self.reject.valid.eq(1)
                with m.If(self.reject.ready):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        causes = {
            "starved": ~self.busy & ~self.i.valid,
            "stall_divider": self.divider.request.valid & ~self.divider.request.ready,
            "stall_slot": fsm.ongoing("SLOT") & ~self.free.any(),
            "stall_host": (self.read_request.valid & ~self.read_request.ready)
            | (self.read_data.ready & ~self.read_data.valid),
            "stall_completer": self.reject.valid & ~self.reject.ready,
        }
        attribute(m, self.counters, ADMISSION_COUNTERS, causes, "busy")
        return m
