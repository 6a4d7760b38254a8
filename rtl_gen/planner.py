"""The planner: cuts a query into sub-batches and fills the queues of every stage."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.counters import PLANNER_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.divider import divider_client_signature
from rtl_gen.queue import Queue
from rtl_gen.signatures import plan_layout, slot_bits, token_layout
from rtl_gen.states import attribute, step_layout

__all__ = ["Planner", "job_layout", "queue_depth"]


def queue_depth(hardware: HardwareConfig) -> int:
    """Entries of a stage's queues: eight sub-batches of each query in flight.

    A release plan stays in its queue until its sub-batch has been scored by the last stage, and no
    more is planned meanwhile, so this bounds the sub-batches in flight.
    """
    return 8 * hardware.query_slots


def job_layout(hardware: HardwareConfig) -> data.StructLayout:
    """A validated query to be planned; ``keep`` is counted by stage of the machine."""
    return data.StructLayout(
        {
            "slot": slot_bits(hardware),
            "first_stage": abi.STAGE_BITS,
            "last_stage": abi.STAGE_BITS,
            "items": abi.ITEM_BITS,
            "sub_batch": 16,
            "global_release": hardware.stages,
            "keep": data.ArrayLayout(abi.ITEM_BITS, hardware.stages),
        }
    )


class Planner(wiring.Component):
    """Issue the tokens and release plans of queries, in the order of :mod:`sw_model.planner`.

    The token of a stage is queued before its plan. A sub-batch takes 3 cycles, and 20 more for each
    stage that releases its share, if the queues have room. A stage that releases once ends a phase:
    the stages behind it get their tokens after all of its own.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    job : In(stream.Signature(job_layout(hardware)))
        Queries that passed validation.
    token : Out(stream.Signature(token_layout(hardware))).array(stages)
    plan : Out(stream.Signature(plan_layout(hardware))).array(stages)
        Queues of ``queue_depth`` entries a stage.
    divider : Out(divider_client_signature())
    busy : Out(1)
        A query is being planned. What is in the queues does not count.
    counters : Out(StructLayout)
        Increments of ``counters.PLANNER_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(hardware))),
                "token": Out(stream.Signature(token_layout(hardware))).array(hardware.stages),
                "plan": Out(stream.Signature(plan_layout(hardware))).array(hardware.stages),
                "divider": Out(divider_client_signature()),
                "busy": Out(1),
                "counters": Out(step_layout(PLANNER_COUNTERS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        stages = self.hardware.stages
        depth = queue_depth(self.hardware)
        tokens = [Queue(token_layout(self.hardware), depth=depth) for _ in range(stages)]
        plans = [Queue(plan_layout(self.hardware), depth=depth) for _ in range(stages)]
        for s in range(stages):
            m.submodules[f"token{s}"] = tokens[s]
            m.submodules[f"plan{s}"] = plans[s]
            connect(m, tokens[s].o, flipped(self.token[s]))
            connect(m, plans[s].o, flipped(self.plan[s]))

        job = Signal(job_layout(self.hardware))
        stage = Signal(abi.STAGE_BITS)
        base = Signal(abi.ITEM_BITS)  # first item of the sub-batch
        sub_batch_end = Signal(abi.ITEM_BITS)
        final = Signal()  # the sub-batch is the query's last one
        reached = Signal(abi.ITEM_BITS)  # items of this stage up to the end of this token
        total = Signal(abi.ITEM_BITS)  # items of this stage in all
        taken = Signal(abi.ITEM_BITS)  # items of this token
        released = Signal(abi.ITEM_BITS)  # items of the next stage up to the end of this release
        # Items of each stage up to the end of the token before, with a spare for the stage after
        # the last one.
        done = Array(Signal(abi.ITEM_BITS, name=f"done{s}") for s in range(stages + 1))
        keep = Array(job.keep[s] for s in range(stages))
        begin = Signal(abi.STAGE_BITS)  # first stage of the phase
        sub_batches = Signal(abi.ITEM_BITS)  # of the phase, so far
        over = stage == job.last_stage
        inner = ~(over | job.global_release.bit_select(stage, 1))

        token = Signal(token_layout(self.hardware))
        plan = Signal(plan_layout(self.hardware))
        count = Signal(abi.ITEM_BITS)
        m.d.comb += [
            count.eq(Mux(inner, released - done[stage + 1], Mux(final, keep[stage], 0))),
        ]
        for s in range(stages):
            m.d.comb += [tokens[s].i.payload.eq(token), plans[s].i.payload.eq(plan)]
        m.d.comb += [
            token.slot.eq(job.slot),
            token.first.eq(base == 0),
            token.last.eq(final),
            token.items.eq(reached - done[stage]),
            token.listed.eq(stage != job.first_stage),
            token.base.eq(Mux(token.listed, 0, base)),
            plan.slot.eq(job.slot),
            plan.emit.eq(inner | final),
            plan.final.eq(over),
            plan.count.eq(count),
            plan.candidates.eq(Mux(inner, taken, total)),
            self.divider.request.p.keep.eq(keep[stage]),
            self.divider.request.p.part.eq(Mux(inner, reached, 1)),
            self.divider.request.p.whole.eq(Mux(inner, total, sub_batches)),
        ]
        token_ready = Array(q.i.ready for q in tokens)[stage]
        plan_ready = Array(q.i.ready for q in plans)[stage]

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += [job.eq(self.job.payload), base.eq(0), sub_batches.eq(0)]
                m.d.sync += begin.eq(self.job.p.first_stage)
                m.d.sync += [d.eq(0) for d in done]
                with m.If(self.job.valid):
                    m.next = "SUB-BATCH"
            with m.State("SUB-BATCH"):
                whole = base + job.sub_batch >= job.items
                end = Mux(whole, job.items, base + job.sub_batch)
                m.d.sync += [
                    final.eq(whole),
                    sub_batches.eq(sub_batches + 1),
                    sub_batch_end.eq(end),
                    reached.eq(end),
                    total.eq(job.items),
                    stage.eq(begin),
                ]
                m.next = "TOKEN"
            with m.State("TOKEN"):
                for s in range(stages):
                    m.d.comb += tokens[s].i.valid.eq(stage == s)
                with m.If(token_ready):
                    m.d.sync += [done[stage].eq(reached), taken.eq(token.items)]
                    m.next = "PLAN"
                    with m.If(inner):
                        m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.comb += self.divider.request.valid.eq(1)
                with m.If(self.divider.request.ready):
                    m.next = "SHARE"
            with m.State("SHARE"):
                m.d.sync += released.eq(self.divider.quotient)
                with m.If(self.divider.done):
                    m.next = "PLAN"
            with m.State("PLAN"):
                for s in range(stages):
                    m.d.comb += plans[s].i.valid.eq(stage == s)
                with m.If(plan_ready):
                    with m.If(inner):
                        m.d.sync += [
                            stage.eq(stage + 1),
                            reached.eq(released),
                            total.eq(keep[stage]),
                        ]
                        m.next = "TOKEN"
                    with m.Elif(final):
                        m.next = "PHASE"
                        with m.If(over):
                            m.next = "IDLE"
                    with m.Else():
                        m.d.sync += base.eq(sub_batch_end)
                        m.next = "SUB-BATCH"
            with m.State("PHASE"):
                m.d.comb += self.divider.request.valid.eq(1)
                with m.If(self.divider.request.ready):
                    m.next = "CUT"
            with m.State("CUT"):
                m.d.sync += [
                    job.items.eq(keep[stage]),
                    job.sub_batch.eq(self.divider.quotient),
                ]
                with m.If(self.divider.done):
                    m.d.sync += [begin.eq(stage + 1), base.eq(0), sub_batches.eq(0)]
                    m.next = "SUB-BATCH"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        causes = {
            "starved": ~self.busy & ~self.job.valid,
            "stall_divider": self.divider.request.valid & ~self.divider.request.ready,
            "stall_tokens": fsm.ongoing("TOKEN") & ~token_ready,
            "stall_plans": fsm.ongoing("PLAN") & ~plan_ready,
        }
        attribute(m, self.counters, PLANNER_COUNTERS, causes, "busy")
        return m
