"""The embedding gather unit of a stage."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel import abi
from rpaccel.config import HardwareConfig
from rtl_gen.gather_fields import FieldTable
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.gather_pack import Packer
from rtl_gen.gather_pool import Pooler
from rtl_gen.gather_read import Reader
from rtl_gen.gather_resolve import Resolver
from rtl_gen.gather_walk import Walker
from rtl_gen.lookahead import LookaheadCache
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

__all__ = ["GatherUnit"]

TOKENS_BITS = 16
"""Width of the number of tokens inside, each of which has an entry in some queue."""


class GatherUnit(wiring.Component):
    """Gather the input bytes of each token's items: dense inputs, and pooled rows of tables.

    The parts work one behind the other, each at its own pace: walker (tokens to reads of the
    feature buffer), resolver (indices to row segments), look-ahead cache (segments wait in a queue
    while their lines are fetched), reader, pooler, packer (bytes to the group);
    docs/architecture.md says what each decides.

    Cycles: a lookup that hits, in the static region or in the cache, 1 where its row fits into
    ``bus_bytes``, else 1 for each word; a lookup that misses the same as long as the queue hides
    memory's latency (a miss a cycle can be requested); an empty slot 1, in the walker only; a
    field that does not follow the one before in the input space, but crosses the border of a chunk,
    1 more; a token 2 more. Reads of the feature buffer: one for as many indices of a bag as fit
    into ``host_bus_bytes``.

    Parameters
    ----------
    hardware : HardwareConfig
    stage : int

    Members
    -------
    token : In(stream of token_layout)
    position : In(stream of POSITION_BITS)
        Positions of the items of listed tokens, in order.
    feature : Out(feature_port(hardware))
    memory : Out(memory_client_signature(hardware))
    load : In(load_bus_layout(hardware))
        Fills FIELD words and static region; only while not ``busy``.
    stage_entry : In(struct(abi.STAGE))
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
    counters : Out(structure of 1 bit for each of GATHER_COUNTERS)
        Increments.
    """

    def __init__(self, *, hardware: HardwareConfig, stage: int):
        if not isinstance(stage, int) or not 0 <= stage < hardware.stages:
            raise ValueError(f"Stage must be one of 0..{hardware.stages - 1}, not {stage!r}")
        self.hardware = hardware
        self.stage = stage
        self.shape = GatherShape(hardware, stage)
        self.counter_names = tuple(abi.GATHER_COUNTERS)
        super().__init__(
            {
                "token": In(stream.Signature(token_layout(hardware))),
                "position": In(stream.Signature(abi.POSITION_BITS)),
                "feature": Out(feature_port(hardware)),
                "memory": Out(memory_client_signature(hardware)),
                "load": In(load_bus_layout(hardware)),
                "stage_entry": In(struct(abi.STAGE)),
                "group": Out(group_input_signature(hardware, hardware.groups_of(stage)[0])),
                "fail": Out(stream.Signature(fail_layout(hardware))),
                "bad_index": Out(slot_event_layout(hardware)),
                "flush": In(1),
                "busy": Out(1),
                "counters": Out(data.StructLayout(dict.fromkeys(self.counter_names, 1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        m.submodules.walker = walker = Walker(shape)
        m.submodules.resolver = resolver = Resolver(shape)
        m.submodules.cache = cache = LookaheadCache(
            hardware=self.hardware, gather=shape.gather, payload=shape.segment
        )
        m.submodules.reader = reader = Reader(shape)
        m.submodules.pooler = pooler = Pooler(shape)
        m.submodules.packer = packer = Packer(shape)
        ports = {"walk": walker.FIELDS, "resolve": resolver.FIELDS, "read": reader.FIELDS}
        m.submodules.fields = fields = FieldTable(shape, ports)

        connect(m, flipped(self.token), walker.token)
        connect(m, flipped(self.position), walker.position)
        connect(m, walker.request, flipped(self.feature.request))
        connect(m, walker.step, resolver.step)
        connect(m, flipped(self.feature.response), resolver.response)
        connect(m, cache.memory, flipped(self.memory))
        connect(m, cache.o, reader.segment)
        connect(m, reader.line, cache.read)
        connect(m, reader.o, pooler.i)
        connect(m, pooler.o, packer.i)
        connect(m, packer.group, flipped(self.group))
        connect(m, walker.field, fields.walk)
        connect(m, resolver.field, fields.resolve)
        connect(m, reader.field, fields.read)
        m.d.comb += [
            cache.i.valid.eq(resolver.o.valid),
            cache.i.payload.eq(resolver.o.payload),
            resolver.o.ready.eq(cache.i.ready),
            walker.stage_entry.eq(self.stage_entry),
            fields.load.eq(self.load),
            reader.load.eq(self.load),
            self.bad_index.eq(resolver.bad_index),
        ]
        self._fail(m, reader.fail, resolver.fail)
        self._flush(m, walker, cache, packer)
        counters = self.counters
        m.d.comb += [
            counters.items.eq(self.group.item_valid),
            counters.lookups.eq(resolver.lookup),
            counters.static_hits.eq(resolver.static_hit),
            counters.lookahead_hits.eq(cache.hit),
            counters.misses.eq(cache.miss),
            counters.evictions.eq(cache.eviction),
            counters.bad_indices.eq(resolver.bad_index.valid),
            counters.stall_memory.eq(cache.waiting & reader.ready),
            counters.stall_group.eq(packer.stalled),
        ]
        return m

    def _fail(self, m, first, second):
        """Merge two streams of failures through a register."""
        with m.If(~self.fail.valid | self.fail.ready):
            m.d.comb += [first.ready.eq(1), second.ready.eq(~first.valid)]
            m.d.sync += [
                self.fail.valid.eq(first.valid | second.valid),
                self.fail.payload.eq(Mux(first.valid, first.payload, second.payload)),
            ]

    def _flush(self, m, walker, cache, packer):
        """Count the tokens inside; flush between tokens."""
        tokens = Signal(TOKENS_BITS)
        wanted = Signal()
        m.d.sync += tokens.eq(tokens + (self.token.valid & self.token.ready) - packer.token_done)
        m.d.comb += [
            walker.hold.eq(self.flush | wanted | cache.sweeping),
            cache.flush.eq(wanted & (tokens == 0)),
            self.busy.eq((tokens != 0) | wanted | cache.sweeping),
        ]
        with m.If(cache.flush):
            m.d.sync += wanted.eq(0)
        with m.If(self.flush):
            m.d.sync += wanted.eq(1)
