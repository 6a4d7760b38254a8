"""Look-ahead cache: fetches the lines of queued row segments, keeps them until they are read."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.hardware import GatherConfig, HardwareConfig
from rtl_gen.line_fetch import LineFetcher
from rtl_gen.lookahead_set import LookaheadSet, set_layout
from rtl_gen.ram import Ram
from rtl_gen.signatures import memory_client_signature

__all__ = ["LookaheadCache", "line_port"]


def line_port(hardware: HardwareConfig) -> wiring.Signature:
    """A read port for one line, seen from the reader.

    ``data`` and ``poison`` follow one cycle after ``en`` and hold until the next ``en``.
    """
    return wiring.Signature(
        {
            "en": Out(1),
            "beat": Out(ceil_log2(hardware.memory.beats)),
            "data": In(8 * hardware.memory.bus_bytes),
            "poison": In(1),
        }
    )


class LookaheadCache(wiring.Component):
    """A queue of row segments that fetches the memory lines they need while they wait in it.

    Segments leave in the order they enter. One with ``probe`` looks its line up when it enters:
    a hit if the line is cached or in flight, otherwise it replaces a line of its set, by SIEVE, and
    requests the line. Decisions depend on the order of segments only, never on timing.
    A segment that missed leaves when its line is there; while a segment is at the output, its line
    can be read at ``read``. Lines of queued segments are not replaced: a probe waits instead, as it
    does for a free memory tag and for room in the queue.

    One segment a cycle enters, hit or miss, and one a cycle leaves. Entering to output: 4 cycles,
    for a miss the latency of the memory and 5 cycles.

    A word that memory answers with an error is stored as poison. When the segment that missed such
    a line leaves, the line's tag is invalidated (which holds probes up for some cycles); segments
    that hit it in between still read the same words.

    A set is one word of the tag RAM: the *hand*, and its lines in the order of insertion, with the
    way (where the line's data are), tag, valid bit, visited bit, and the sequence number of the
    last segment that used it. A line is *recent* if that is one of the last ``lookahead`` segments,
    and *pinned* while that segment is queued: only a recent line can be. Numbers wrap, so a line
    unused for long may look recent, which is part of the rule.

    Parameters
    ----------
    hardware : HardwareConfig
    gather : GatherConfig
        ``cache_lines``, ``cache_ways``, ``lookahead`` and ``outstanding`` are used.
    payload : shape-castable
        What a segment carries besides its line.

    Members
    -------
    i : In(stream of {probe, line, payload})
        ``line`` is meaningful with ``probe``.
    o : Out(stream of payload)
    waiting : Out(1)
        The next segment waits for memory.
    read : In(line_port(hardware))
        Reads a beat of the line of the segment at ``o``, at the latest in the cycle it leaves.
    memory : Out(memory_client_signature(hardware))
    flush : In(1)
        A pulse, given while no segment is inside: forgets all lines.
    sweeping : Out(1)
        A flush is in progress (also after reset); segments given meanwhile wait. It takes
        max(sets, ``lookahead``) cycles.
    hit, miss, eviction : Out(1)
        Pulses to count: what a probe decided. An eviction replaces a valid line.
    """

    def __init__(self, *, hardware: HardwareConfig, gather: GatherConfig, payload):
        self.hardware = hardware
        self.gather = gather
        self.ways = gather.cache_ways
        self.sets = gather.cache_lines // gather.cache_ways
        self.set_bits = ceil_log2(self.sets)
        self.way_bits = ceil_log2(self.ways)
        self.queue_bits = ceil_log2(gather.lookahead)
        memory = hardware.memory
        self.beat_bits = ceil_log2(memory.beats)
        self.line_bits = min(
            32, memory.address_bits + ceil_log2(memory.channels) - ceil_log2(memory.line_bytes)
        )
        shape = {"ways": self.ways, "lookahead": gather.lookahead}
        self.set_shape = {**shape, "tag_bits": max(0, self.line_bits - self.set_bits)}
        self.set_layout = set_layout(**self.set_shape)
        self.sequence_bits = self.set_layout["kept"].shape.elem_shape["last_use"].width
        self.i_layout = data.StructLayout({"probe": 1, "line": 32, "payload": payload})
        self.entry_layout = data.StructLayout(
            {"miss": 1, "set": self.set_bits, "way": self.way_bits, "payload": payload}
        )
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "o": Out(stream.Signature(payload)),
                "waiting": Out(1),
                "read": In(line_port(hardware)),
                "memory": Out(memory_client_signature(hardware)),
                "flush": In(1),
                "sweeping": Out(1),
                "hit": Out(1),
                "miss": Out(1),
                "eviction": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._signals()
        self._rams(m)
        self._probe(m)
        self._queue(m)
        self._fetch(m)
        self._control(m)
        return m

    def _signals(self):
        """Declare the signals that the parts below share."""
        # The probe stage: a segment whose set word is at the output of the tag RAM.
        self.d_valid = Signal()
        self.d = Signal(self.i_layout)
        self.fire = Signal()  # the segment in the probe stage moves into the queue
        self.running = Signal()  # neither sweeping nor invalidating
        self.decided = Signal(self.set_layout)  # the set word after this probe
        self.hit_here = Signal()
        self.way = Signal(self.way_bits)
        # Queue pointers are sequence numbers of segments.
        self.written = Signal(self.sequence_bits)
        self.taken = Signal(self.sequence_bits)
        self.taken_next = Signal(self.sequence_bits)
        self.head = Signal(self.entry_layout)
        self.head_valid = Signal()
        self.pop = Signal()
        # Misses are numbered too; one bit more than the queue's tells one round from the next.
        self.missed = Signal(self.queue_bits + 1)
        self.filled = Signal(self.queue_bits + 1)
        self.filled_next = Signal(self.queue_bits + 1)
        self.arrived = Signal()
        self.line_error = Signal()
        self.sweep_index = Signal(max(self.set_bits, self.queue_bits, 1))
        self.sweep = Signal()
        self.bad = Signal()  # a line to be invalidated
        self.bad_set = Signal(self.set_bits)
        self.bad_way = Signal(self.way_bits)

    def _rams(self, m):
        macro_bits = self.hardware.sram_macro_bits
        bus_bits = 8 * self.hardware.memory.bus_bytes
        depth = self.gather.lookahead

        def ram(width, depth):
            return Ram(width=width, depth=depth, macro_bits=macro_bits)

        m.submodules.tags = self.tags = ram(self.set_layout.size, self.sets)
        m.submodules.entries = self.entries = ram(self.entry_layout.size, depth)
        m.submodules.lines = self.lines = ram(
            bus_bits + 1, self.gather.cache_lines * self.hardware.memory.beats
        )
        # For each miss of a round: the round's parity once its line is there, and its error flag.
        m.submodules.arrivals = self.arrivals = ram(2, depth)

    def _probe(self, m):
        """Accept segments, read their set, decide, write the set back; forward to the next."""
        self.victim_pinned = Signal()
        self.may_fetch = Signal()

        word = Signal(self.set_layout)
        forward = Signal()
        forwarded = Signal(self.set_layout)
        m.d.comb += word.eq(Mux(forward, forwarded, self.tags.read.data))

        m.submodules.set = probed = LookaheadSet(**self.set_shape)
        chosen = probed.chosen
        m.d.comb += [
            probed.word.eq(word),
            probed.tag.eq(self.d.line[self.set_bits : self.line_bits]),
            probed.number.eq(self.written),
            self.hit_here.eq(probed.hit),
            self.way.eq(chosen.way),
            self.decided.eq(probed.decided),
        ]
        queued = (self.written - self.taken)[: self.sequence_bits]
        age = (chosen.last_use - self.taken)[: self.sequence_bits]
        m.d.comb += self.victim_pinned.eq(chosen.used & (age < queued))
        may = ~self.d.probe | self.hit_here | (~self.victim_pinned & self.may_fetch)
        room = queued != self.gather.lookahead
        m.d.comb += [
            self.fire.eq(self.d_valid & self.running & room & may),
            self.hit.eq(self.fire & self.d.probe & self.hit_here),
            self.miss.eq(self.fire & self.d.probe & ~self.hit_here),
            self.eviction.eq(self.miss & chosen.valid),
        ]

        m.d.comb += self.i.ready.eq(self.running & (~self.d_valid | self.fire))
        with m.If(self.i.ready):
            m.d.sync += [self.d_valid.eq(self.i.valid), self.d.eq(self.i.payload)]
            # The RAM gives the word's old contents if this probe writes it in this very cycle.
            same = self.i.p.line[: self.set_bits] == self.d.line[: self.set_bits]
            m.d.sync += [
                forward.eq(self.fire & self.d.probe & same),
                forwarded.eq(self.decided),
            ]
        self.forward = forward

    def _queue(self, m):
        """Keep decided segments until they are taken; the first one is at the RAM's output."""
        low = slice(0, self.queue_bits)
        entry = Signal(self.entry_layout)
        m.d.comb += [
            entry.miss.eq(self.miss),
            entry.set.eq(self.d.line[: self.set_bits]),
            entry.way.eq(self.way),
            entry.payload.eq(self.d.payload),
            self.entries.write.en.eq(self.fire),
            self.entries.write.addr.eq(self.written[low]),
            self.entries.write.data.eq(entry),
            self.entries.read.en.eq(1),
            self.entries.read.addr.eq(self.taken_next[low]),
            self.head.eq(self.entries.read.data),
            self.taken_next.eq(self.taken + self.pop),
            self.filled_next.eq(self.filled + (self.pop & self.head.miss)),
            self.arrivals.read.en.eq(1),
            self.arrivals.read.addr.eq(self.filled_next[low]),
            # A slot still holds the parity of the round before until the line has arrived.
            self.arrived.eq(self.arrivals.read.data[0] != self.filled[-1]),
            self.line_error.eq(self.arrivals.read.data[1]),
            self.waiting.eq(self.head_valid & self.head.miss & ~self.arrived),
            self.o.valid.eq(
                self.head_valid & (~self.head.miss | (self.arrived & ~(self.line_error & self.bad)))
            ),
            self.o.payload.eq(self.head.payload),
            self.pop.eq(self.o.valid & self.o.ready),
            self.lines.read.en.eq(self.read.en),
            self.lines.read.addr.eq(Cat(self.read.beat, self.head.set, self.head.way)),
            Cat(self.read.data, self.read.poison).eq(self.lines.read.data),
        ]
        m.d.sync += [
            self.taken.eq(self.taken_next),
            self.filled.eq(self.filled_next),
            # A segment written in this cycle is not yet at the output in the next.
            self.head_valid.eq(self.taken_next != self.written),
        ]
        with m.If(self.fire):
            m.d.sync += self.written.eq(self.written + 1)
        with m.If(self.miss):
            m.d.sync += self.missed.eq(self.missed + 1)
        with m.If(self.sweep):
            m.d.sync += [self.missed.eq(0), self.filled.eq(0)]

    def _fetch(self, m):
        """Fetch the lines of misses and write what comes."""
        m.submodules.fetcher = fetcher = LineFetcher(
            hardware=self.hardware,
            gather=self.gather,
            place_bits=self.set_bits + self.way_bits,
            number_bits=self.queue_bits + 1,
        )
        wiring.connect(m, fetcher.memory, wiring.flipped(self.memory))
        write, arrived = fetcher.write, fetcher.arrived
        m.d.comb += [
            self.may_fetch.eq(fetcher.i.ready),
            fetcher.i.valid.eq(self.miss),
            fetcher.i.p.line.eq(self.d.line),
            fetcher.i.p.place.eq(Cat(self.d.line[: self.set_bits], self.way)),
            fetcher.i.p.number.eq(self.missed),
            self.lines.write.en.eq(write.en),
            self.lines.write.addr.eq(Cat(write.beat, write.place)),
            self.lines.write.data.eq(Cat(write.data, write.poison)),
            self.arrivals.write.en.eq(arrived.valid | self.sweep),
            self.arrivals.write.addr.eq(
                Mux(self.sweep, self.sweep_index, arrived.number)[: self.queue_bits]
            ),
            self.arrivals.write.data.eq(
                Mux(self.sweep, 0, Cat(~arrived.number[-1], arrived.error))
            ),
        ]

    def _control(self, m):
        """Sweep the tags, and invalidate the tags of lines that came with an error."""
        flush = Signal()
        empty = Signal(self.set_layout)
        m.d.comb += [kept.way.eq(way) for way, kept in enumerate(empty.kept)]
        spoilt = Signal(self.set_layout)
        m.d.comb += spoilt.eq(self.tags.read.data)
        for kept in spoilt.kept:
            with m.If(kept.way == self.bad_way):
                m.d.comb += kept.valid.eq(0)

        m.d.comb += [
            self.sweeping.eq(flush | self.sweep),
            self.tags.read.en.eq(self.i.ready),
            self.tags.read.addr.eq(self.i.p.line[: self.set_bits]),
            self.tags.write.en.eq(self.fire & self.d.probe),
            self.tags.write.addr.eq(self.d.line[: self.set_bits]),
            self.tags.write.data.eq(self.decided),
        ]
        with m.If(self.flush):
            m.d.sync += flush.eq(1)
        with m.If(self.pop & self.head.miss & self.line_error):
            m.d.sync += [
                self.bad.eq(1),
                self.bad_set.eq(self.head.set),
                self.bad_way.eq(self.head.way),
            ]
        with m.FSM():
            with m.State("SWEEP"):
                m.d.comb += [
                    self.sweep.eq(1),
                    self.tags.write.en.eq(self.sweep_index < self.sets),
                    self.tags.write.addr.eq(self.sweep_index),
                    self.tags.write.data.eq(empty),
                ]
                m.d.sync += [self.sweep_index.eq(self.sweep_index + 1), flush.eq(0)]
                with m.If(self.sweep_index == max(self.sets, self.gather.lookahead) - 1):
                    m.d.sync += self.sweep_index.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.bad):
                    m.d.comb += [
                        self.tags.read.en.eq(1),
                        self.tags.read.addr.eq(self.bad_set),
                    ]
                    m.next = "INVALIDATE"
                with m.Elif(flush):
                    m.next = "SWEEP"
                with m.Else():
                    m.d.comb += self.running.eq(1)
            with m.State("INVALIDATE"):
                m.d.comb += [
                    self.tags.write.en.eq(1),
                    self.tags.write.addr.eq(self.bad_set),
                    self.tags.write.data.eq(spoilt),
                ]
                m.d.sync += self.bad.eq(0)
                m.next = "RELOAD"
            with m.State("RELOAD"):
                # The segment in the probe stage gets its set word anew, from the RAM.
                m.d.comb += [
                    self.tags.read.en.eq(1),
                    self.tags.read.addr.eq(self.d.line[: self.set_bits]),
                ]
                m.d.sync += self.forward.eq(0)
                m.next = "RUN"
