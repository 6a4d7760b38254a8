"""A lane of a gather unit: gathers the rows of some of its tables."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rpaccel.image_layout import FIELD
from rtl_gen.gather_fields import FieldTable, fill_port
from rtl_gen.gather_layouts import GatherShape
from rtl_gen.gather_pool import Pooler
from rtl_gen.gather_read import Reader
from rtl_gen.gather_resolve import Resolver
from rtl_gen.lookahead import LookaheadCache
from rtl_gen.queue import Queue
from rtl_gen.ram_queue import RamQueue
from rtl_gen.signatures import fail_layout, memory_client_signature
from rtl_gen.static_region import static_port

__all__ = ["DenseLane", "GatherLane"]

EVENTS = ("lookups", "static_hits", "lookahead_hits", "misses", "evictions", "bad_indices")


class GatherLane(wiring.Component):
    """Resolver (indices to row segments), look-ahead cache (segments wait in a queue while their
    lines are fetched), reader and pooler, one behind the other, each at its own pace.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    step : In(stream of GatherShape.step)
    o : Out(stream of GatherShape.pooled)
    memory : Out(memory_client_signature)
    static : Out(static_port)
    fields : In(fill_port)
        Fills FIELD words.
    fail : Out(stream of fail_layout)
        Before the bytes that are wrong.
    failing : Out(1)
        A failure is on its way to ``fail``.
    flush : In(1)
        A pulse, while no token is inside: forget all cached lines.
    sweeping : Out(1)
    waiting : Out(1)
        The segment to be read next waits for memory.
    reads : Out(1)
        A word of a row is read.
    events : Out(structure of 1 bit each)
        Increments of counters.
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        self.module_name = f"gather_lane_{shape.stage}"  # all of a stage are alike
        hardware = shape.hardware
        super().__init__(
            {
                "step": In(stream.Signature(shape.step)),
                "o": Out(stream.Signature(shape.pooled)),
                "memory": Out(memory_client_signature(hardware)),
                "static": Out(static_port(hardware)),
                "fields": In(fill_port(FIELD.bits, shape.max_fields)),
                "fail": Out(stream.Signature(fail_layout(hardware))),
                "failing": Out(1),
                "flush": In(1),
                "sweeping": Out(1),
                "waiting": Out(1),
                "reads": Out(1),
                "events": Out(data.StructLayout(dict.fromkeys(EVENTS, 1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        m.submodules.steps = steps = Queue(shape.step, depth=2)
        m.submodules.resolver = resolver = Resolver(shape)
        m.submodules.cache = cache = LookaheadCache(
            hardware=shape.hardware, gather=shape.gather, payload=shape.segment
        )
        m.submodules.reader = reader = Reader(shape)
        m.submodules.pooler = pooler = Pooler(shape)
        ports = {"resolve": resolver.FIELDS, "read": reader.FIELDS}
        m.submodules.table = table = FieldTable(shape, ports)

        connect(m, flipped(self.step), steps.i)
        connect(m, steps.o, resolver.step)
        connect(m, cache.memory, flipped(self.memory))
        connect(m, cache.o, reader.segment)
        connect(m, reader.line, cache.read)
        connect(m, reader.o, pooler.i)
        connect(m, pooler.o, flipped(self.o))
        connect(m, resolver.field, table.resolve)
        connect(m, reader.field, table.read)
        connect(m, flipped(self.fields), table.write)
        connect(m, reader.static, flipped(self.static))
        m.d.comb += [
            cache.i.valid.eq(resolver.o.valid),
            cache.i.payload.eq(resolver.o.payload),
            resolver.o.ready.eq(cache.i.ready),
            cache.flush.eq(self.flush),
            self.sweeping.eq(cache.sweeping),
            self.waiting.eq(cache.waiting & reader.ready),
            self.reads.eq(cache.o.valid & reader.ready),
            self.events.lookups.eq(resolver.lookup),
            self.events.static_hits.eq(resolver.static_hit),
            self.events.lookahead_hits.eq(cache.hit),
            self.events.misses.eq(cache.miss),
            self.events.evictions.eq(cache.eviction),
            self.events.bad_indices.eq(resolver.bad_index),
        ]
        first, second = reader.fail, resolver.fail
        m.d.comb += [
            self.fail.valid.eq(first.valid | second.valid),
            self.fail.payload.eq(Mux(first.valid, first.payload, second.payload)),
            first.ready.eq(self.fail.ready),
            second.ready.eq(self.fail.ready & ~first.valid),
            self.failing.eq(self.fail.valid),
        ]
        return m


class DenseLane(wiring.Component):
    """The lane of the dense inputs: they wait in a queue for the rows of their items.

    Parameters
    ----------
    shape : GatherShape

    Members
    -------
    step : In(stream of GatherShape.dense_step)
    o : Out(stream of GatherShape.dense)
        One for each step.
    fields : In(fill_port)
    """

    def __init__(self, shape: GatherShape):
        self.shape = shape
        super().__init__(
            {
                "step": In(stream.Signature(shape.dense_step)),
                "o": Out(stream.Signature(shape.dense)),
                "fields": In(fill_port(FIELD.bits, shape.max_fields)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self.shape
        m.submodules.table = table = FieldTable(shape, {"place": ("output",)})
        m.submodules.waiting = waiting = RamQueue(
            shape.dense, depth=shape.gather.lookahead, macro_bits=shape.macro_bits
        )
        connect(m, flipped(self.fields), table.write)
        connect(m, waiting.o, flipped(self.o))
        valid, step = Signal(), Signal(shape.dense_step)
        take = ~valid | waiting.i.ready
        m.d.comb += [
            self.step.ready.eq(take),
            table.place.en.eq(take),
            table.place.index.eq(self.step.p.field),
            waiting.i.valid.eq(valid),
            waiting.i.p.offset.eq(table.place.data.output),
        ]
        for name, _ in shape.dense:
            if name != "offset":
                m.d.comb += waiting.i.p[name].eq(step[name])
        with m.If(take):
            m.d.sync += [valid.eq(self.step.valid), step.eq(self.step.p)]
        return m
