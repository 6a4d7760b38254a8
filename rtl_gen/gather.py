"""The embedding gather unit of a stage."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.counters import GATHER_COUNTERS
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import FIELD, STAGE, Target, target_id
from rtl_gen.arbiter import RoundRobin
from rtl_gen.emit import share
from rtl_gen.gather_lane import EVENTS, DenseLane, GatherLane
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.gather_pack import Packer
from rtl_gen.gather_walk import Walker, step_bits
from rtl_gen.load_port import LoadPort
from rtl_gen.signatures import (
    fail_layout,
    feature_port,
    group_input_signature,
    load_bus_layout,
    memory_client_signature,
    slot_event_layout,
    struct,
    token_layout,
)
from rtl_gen.states import attribute, step_layout
from rtl_gen.static_region import static_port

__all__ = ["GatherUnit"]

TOKENS_BITS = 16
"""Width of the number of tokens inside, each of which has an entry in some queue."""


class GatherUnit(wiring.Component):
    """Gather the input bytes of each token's items: dense inputs, and pooled rows of tables.

    A walker (tokens to reads of the feature buffer) gives each lane its pieces of the features;
    lanes (indices to pooled rows) work side by side, each at its own pace; a packer brings together
    what they make of an item. docs/architecture.md says what each decides.

    Cycles: the most of its parts' for an item. The walker: one a step. A lane: a lookup that hits,
    in the static region or in the cache, 1 where its row fits into ``bus_bytes``, else 1 for each
    word; a lookup that misses the same as long as the queue hides memory's latency (a miss a cycle
    can be requested); an empty slot 1. The packer: one for each write. A token takes 2 more.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int

    Members
    -------
    token : In(stream of token_layout)
    position : In(stream of POSITION_BITS)
        Positions of the items of listed tokens, in order.
    empty : In(1)
        The stage before has released no items; each starts a token without items.
    feature : Out(feature_port(hardware))
    memory : Out(memory_client_signature(hardware)).array(lanes)
    static : Out(static_port(hardware)).array(lanes)
    load : In(load_bus_layout(hardware))
        Fills steps and FIELD words; only while not ``busy``.
    stage_entry : In(struct(image_layout.STAGE))
        Stable while ``busy``.
    group : Out(group_input_signature(hardware, groups_of(stage)[0]))
    fail : Out(stream of fail_layout)
        BAD_INDEX and MEMORY_ERROR of queries, any number of times.
    bad_index : Out(slot_event_layout(hardware))
        An index beyond its table.
    flush : In(1)
        A pulse: forget all cached lines as soon as no token is inside; no token is taken before.
    busy : Out(1)
        Tokens are inside, or a flush is in progress (also after reset).
    counters : Out(structure of GATHER_COUNTERS)
        Increments.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        if not isinstance(stage, int) or not 0 <= stage < hardware.stages:
            raise ValueError(f"Stage must be one of 0..{hardware.stages - 1}, not {stage!r}")
        self.hardware = hardware
        self.stage = stage
        self.shape = GatherShape(hardware, stage)
        bits = (self.shape.lanes + 1).bit_length()
        super().__init__(
            {
                "token": In(stream.Signature(token_layout(hardware))),
                "position": In(stream.Signature(abi.POSITION_BITS)),
                "empty": In(1),
                "feature": Out(feature_port(hardware)),
                "memory": Out(memory_client_signature(hardware)).array(self.shape.lanes),
                "static": Out(static_port(hardware)).array(self.shape.lanes),
                "load": In(load_bus_layout(hardware)),
                "stage_entry": In(struct(STAGE)),
                "group": Out(group_input_signature(hardware, hardware.groups_of(stage)[0])),
                "fail": Out(stream.Signature(fail_layout(hardware))),
                "bad_index": Out(slot_event_layout(hardware)),
                "flush": In(1),
                "busy": Out(1),
                "counters": Out(step_layout(GATHER_COUNTERS, bits=bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        m.submodules.walker = walker = Walker(shape)
        lanes = [GatherLane(shape) for _ in range(shape.lanes)]
        m.submodules.dense = dense = DenseLane(shape)
        m.submodules.packer = packer = Packer(shape)

        connect(m, flipped(self.token), walker.token)
        connect(m, flipped(self.position), walker.position)
        m.d.comb += walker.empty.eq(self.empty)
        connect(m, walker.request, flipped(self.feature.request))
        connect(m, flipped(self.feature.response), walker.response)
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = share(lane, platform)
            connect(m, walker.lane[number], lane.step)
            connect(m, lane.memory, flipped(self.memory[number]))
            connect(m, lane.static, flipped(self.static[number]))
            connect(m, lane.o, packer.i[number])
        connect(m, walker.dense, dense.step)
        connect(m, dense.o, packer.dense)
        connect(m, packer.group, flipped(self.group))
        m.d.comb += [
            walker.stage_entry.eq(self.stage_entry),
            packer.lanes.eq(self.stage_entry.lanes),
        ]
        self._fill(m, walker, lanes, dense)
        self._fail(m, lanes, packer)
        self._flush(m, walker, lanes, packer)
        counters = self.counters
        for name in EVENTS:
            m.d.comb += counters[name].eq(sum(lane.events[name] for lane in lanes))
        m.d.comb += counters.items.eq(self.group.item_valid)
        self._states(m, walker, lanes, packer)
        return m

    def _states(self, m, walker, lanes, packer):
        """Count what the unit does, seen from where bytes leave it: the way back to the cause."""
        start, write = self.group.start, self.group.write
        waiting, reads = (Cat(getattr(x, n) for x in lanes) for n in ("waiting", "reads"))
        works = (packer.missing & reads).any()
        causes = {
            "busy": (start.valid & start.ready) | (write.valid & write.ready),
            "stall_start": start.valid,
            "stall_write": write.valid,
            "stall_fail": packer.failed,
            "stall_flush": self.busy & ~self.inside,
            "starved": ~self.inside,
            "stall_memory": packer.missing & waiting,
            "stall_features": ~works & walker.waits_features,
            "stall_positions": ~works & walker.waits_position,
        }
        attribute(m, self.counters, GATHER_COUNTERS, causes, "stall_lanes")

    def _fill(self, m, walker, lanes, dense):
        """Let the image fill the memories: a lane's words begin at a power of two."""
        shape, stage = self.shape, self.stage
        bits = {"width": FIELD.bits, "depth": (len(lanes) + 1) << shape.field_bits}
        steps = {"width": step_bits(len(lanes)), "depth": shape.gather.max_steps}
        for kind, size, low, ports in (
            (Target.STEPS, steps, 0, [walker.fill]),
            (Target.FIELDS, bits, shape.field_bits, [*(x.fields for x in lanes), dense.fields]),
        ):
            filler = LoadPort(hardware=self.hardware, target=target_id(kind, stage), **size)
            m.submodules[f"fill_{kind.name.lower()}"] = filler
            m.d.comb += filler.bus.eq(self.load)
            for number, port in enumerate(ports):
                mine = filler.addr[low:] == number if len(ports) > 1 else 1
                m.d.comb += [
                    port.en.eq(filler.en & mine),
                    port.addr.eq(filler.addr),
                    port.data.eq(filler.data),
                ]

    def _fail(self, m, lanes, packer):
        """Merge the lanes' failures, and count bad indices as they pass."""
        m.submodules.turn = turn = RoundRobin(count=len(lanes))
        free = ~self.fail.valid | self.fail.ready
        m.d.comb += [
            turn.request.eq(Cat(lane.fail.valid & free for lane in lanes)),
            packer.failing.eq(Cat(lane.failing for lane in lanes).any() | self.fail.valid),
            self.bad_index.valid.eq(
                self.fail.valid & self.fail.ready & (self.fail.p.status == abi.Status.BAD_INDEX)
            ),
            self.bad_index.slot.eq(self.fail.p.slot),
        ]
        with m.If(free):
            m.d.sync += self.fail.valid.eq(turn.grant.any())
        for number, lane in enumerate(lanes):
            m.d.comb += lane.fail.ready.eq(turn.grant[number])
            with m.If(turn.grant[number]):
                m.d.sync += self.fail.payload.eq(lane.fail.payload)

    def _flush(self, m, walker, lanes, packer):
        """Count the tokens inside; flush between tokens."""
        tokens = Signal(TOKENS_BITS)
        wanted, flush, sweeping = Signal(), Signal(), Signal()
        self.inside = tokens != 0
        m.d.sync += tokens.eq(tokens + (self.token.valid & self.token.ready) - packer.token_done)
        m.d.comb += [
            sweeping.eq(Cat(lane.sweeping for lane in lanes).any()),
            walker.hold.eq(self.flush | wanted | sweeping),
            flush.eq(wanted & (tokens == 0)),
            self.busy.eq((tokens != 0) | wanted | sweeping),
        ]
        m.d.comb += [lane.flush.eq(flush) for lane in lanes]
        with m.If(flush):
            m.d.sync += wanted.eq(0)
        with m.If(self.flush):
            m.d.sync += wanted.eq(1)
