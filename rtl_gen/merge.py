"""A sorter of streams: merges sorted runs in RAM, one key a cycle, and keeps the best of them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from rpaccel.section import MAX_ITEMS
from rtl_gen.queue import Queue
from rtl_gen.ram import MACRO_BITS, Ram

__all__ = ["NUMBER_BITS", "MergeLevel", "MergeSorter", "run_layout"]

NUMBER_BITS = ceil_log2(MAX_ITEMS)
"""Width of the number of a key in its list; the sorter has as many levels."""

PAIRS = 16
"""Pairs of runs that may wait in a level; they have as many keys on each side at least."""


def run_layout(key_bits: int, number_bits: int) -> data.StructLayout:
    """A key of a run; ``last`` ends the run, ``number`` counts the runs of a list up to all ones.

    A level that gives one run a list has no ``number``.
    """
    number = {"number": number_bits} if number_bits else {}
    return data.StructLayout({"key": key_bits, "last": 1} | number)


class MergeLevel(wiring.Component):
    """Merge the runs of a list in pairs: highest key first, the rest beyond ``limit`` is dropped.

    A run with an odd number ends a pair; the run before it may be missing, where the list begins.
    The first key of a pair leaves in the cycle after the odd run's first one came, the others
    follow at one a cycle; keys come at one a cycle meanwhile, of this list and of later ones. What
    is dropped of an odd run may still be coming.

    Parameters
    ----------
    key_bits : int
    number_bits : int
        Width of the number of an incoming run.
    longest : int
        Keys of the longest run that comes in; two of them fit on each side.
    limit : int
        Keys of the longest run that leaves.
    macro_bits : int
        Size in bits above which a RAM is a macro.

    Members
    -------
    i : In(stream.Signature(run_layout(key_bits, number_bits)))
    o : Out(stream.Signature(run_layout(key_bits, number_bits - 1)))
    limit : In(range(limit + 1))
        Keys after which the run that is leaving ends, 1..limit. Stable while one is.
    """

    def __init__(
        self,
        *,
        key_bits: int,
        number_bits: int,
        longest: int,
        limit: int,
        macro_bits: int = MACRO_BITS,
    ):
        self.key_bits = key_bits
        self.number_bits = number_bits
        self.longest = longest
        self.most = limit
        self.macro_bits = macro_bits
        super().__init__(
            {
                "i": In(stream.Signature(run_layout(key_bits, number_bits))),
                "o": Out(stream.Signature(run_layout(key_bits, number_bits - 1))),
                "limit": In(range(limit + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = max(PAIRS, 2 << ceil_log2(self.longest))
        # A pointer has one bit more than an address, to tell a full ring from an empty one.
        pointers = [Signal(range(2 * depth), name=n) for n in ("even_in", "odd_in")]
        readers = [Signal(range(2 * depth), name=n) for n in ("even_out", "odd_out")]
        steps = [Signal(name=n) for n in ("even_step", "odd_step")]
        rams = []
        for name in "even", "odd":
            ram = Ram(width=self.key_bits, depth=depth, macro_bits=self.macro_bits)
            m.submodules[name] = ram
            rams.append(ram)
        pair = {"even_end": readers[0].shape()}
        if self.number_bits > 1:
            pair["number"] = self.number_bits - 1
        # The end of a pair's even run is known as its odd run begins.
        m.submodules.pairs = pairs = Queue(data.StructLayout(pair), depth=PAIRS)
        m.submodules.ends = ends = Queue(readers[1].shape(), depth=PAIRS)
        self._elaborate_input(m, depth, pointers, readers, rams, pairs.i, ends.i)

        # A key that was written as its address was read is taken from here.
        fresh = Signal()
        newest = Signal(self.key_bits, reset_less=True)
        even, odd = (Signal(self.key_bits, name=n) for n in ("even_key", "odd_key"))
        m.d.sync += [
            newest.eq(self.i.p.key),
            fresh.eq(rams[1].write.en & (rams[1].write.addr == rams[1].read.addr)),
        ]
        m.d.comb += [even.eq(rams[0].read.data), odd.eq(Mux(fresh, newest, rams[1].read.data))]

        sent = Signal(range(self.most))
        has_even, has_odd, odd_over, take_even, take_odd, leave, over = (
            Signal(name=n)
            for n in ("has_even", "has_odd", "odd_over", "take_even", "take_odd", "leave", "over")
        )
        cut = Signal()  # the run that is leaving is over, the odd run is not
        done = Signal()
        even_left, odd_left = (Signal.like(readers[0], name=n) for n in ("even_left", "odd_left"))
        m.d.comb += [
            even_left.eq(pairs.o.p.even_end - readers[0]),
            odd_left.eq(ends.o.payload - readers[1]),
            has_even.eq(even_left != 0),
            odd_over.eq(ends.o.valid & (odd_left == 0)),
            has_odd.eq((pointers[1] != readers[1]) & ~odd_over),
            take_even.eq(has_even & (odd_over | (has_odd & (even > odd)))),
            take_odd.eq(has_odd & ~(has_even & (even > odd))),
            # What is behind the run is known once all of it is here.
            over.eq(
                (sent == self.limit - 1)
                | (ends.o.valid & Mux(take_even, odd_over & (even_left == 1), 0))
                | (ends.o.valid & Mux(take_odd, ~has_even & (odd_left == 1), 0))
            ),
            self.o.valid.eq(pairs.o.valid & (take_even | take_odd) & ~cut),
            self.o.p.key.eq(Mux(take_even, even, odd)),
            self.o.p.last.eq(over),
            leave.eq(self.o.valid & self.o.ready),
            done.eq(ends.o.valid & (cut | (leave & over))),
            pairs.o.ready.eq(done),
            ends.o.ready.eq(done),
            steps[0].eq(leave & take_even),
            steps[1].eq(leave & take_odd),
        ]
        if self.number_bits > 1:
            m.d.comb += self.o.p.number.eq(pairs.o.p.number)
        with m.If(leave):
            m.d.sync += [sent.eq(Mux(over, 0, sent + 1)), cut.eq(over & ~ends.o.valid)]
        with m.If(cut):
            m.d.sync += cut.eq(~ends.o.valid)
        after = (pairs.o.p.even_end, ends.o.payload)
        for ram, reader, step, end in zip(rams, readers, steps, after, strict=True):
            coming = Signal.like(reader)
            m.d.comb += [
                coming.eq(Mux(done, end, reader + step)),
                ram.read.addr.eq(coming),
                ram.read.en.eq(1),
            ]
            m.d.sync += reader.eq(coming)
        return m

    def _elaborate_input(self, m, depth, pointers, readers, rams, pair, end):
        """Put each key behind the others of its side; announce pairs and the ends of odd runs."""
        opened = Signal()  # an odd run is coming in
        odd = self.i.p.number[0]
        full = [(p - r)[: len(p)] == depth for p, r in zip(pointers, readers, strict=True)]
        take = Signal()
        m.d.comb += [
            self.i.ready.eq(Mux(odd, ~full[1] & pair.ready & end.ready, ~full[0])),
            take.eq(self.i.valid & self.i.ready),
            pair.valid.eq(take & odd & ~opened),
            pair.p.even_end.eq(pointers[0]),
            end.valid.eq(take & odd & self.i.p.last),
            end.payload.eq(pointers[1] + 1),
        ]
        if self.number_bits > 1:
            m.d.comb += pair.p.number.eq(self.i.p.number[1:])
        with m.If(take & odd):
            m.d.sync += opened.eq(~self.i.p.last)
        for ram, pointer, mine in zip(rams, pointers, (~odd, odd), strict=True):
            m.d.comb += [
                ram.write.en.eq(take & mine),
                ram.write.addr.eq(pointer),
                ram.write.data.eq(self.i.p.key),
            ]
            with m.If(take & mine):
                m.d.sync += pointer.eq(pointer + 1)


class MergeSorter(wiring.Component):
    """Sort lists of keys, highest first, and give the best ``depth`` of each.

    Keys come numbered in such a way that the last key of a list has the number of all ones. Then
    every level's last pair is complete as the last key comes, and there is nothing to wait for: the
    best key leaves ``NUMBER_BITS`` cycles after it, the others at one a cycle. Meanwhile the
    following lists come in, a key a cycle. They are held up only if more than about two lists a
    level wait for one that is leaving.

    Parameters
    ----------
    key_bits : int
    depth : int
        Keys that ever leave of a list.
    macro_bits : int
        Size in bits above which a RAM is a macro.

    Members
    -------
    i : In(stream.Signature(run_layout(key_bits, NUMBER_BITS)))
        Keys. Each is a run of its own (``last``).
    o : Out(stream.Signature(run_layout(key_bits, 0)))
        Lists, sorted.
    limit : In(range(depth + 1))
        Keys after which the list that is leaving ends, at least 1. Stable while one is.
    """

    def __init__(self, *, key_bits: int, depth: int, macro_bits: int = MACRO_BITS):
        self.key_bits = key_bits
        self.depth = depth
        self.macro_bits = macro_bits
        super().__init__(
            {
                "i": In(stream.Signature(run_layout(key_bits, NUMBER_BITS))),
                "o": Out(stream.Signature(run_layout(key_bits, 0))),
                "limit": In(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        keys = flipped(self.i)
        for number in range(NUMBER_BITS):
            level = MergeLevel(
                key_bits=self.key_bits,
                number_bits=NUMBER_BITS - number,
                longest=min(1 << number, self.depth),
                limit=min(2 << number, self.depth),
                macro_bits=self.macro_bits,
            )
            m.submodules[f"level{number}"] = level
            connect(m, keys, level.i)
            keys = level.o
            last = number == NUMBER_BITS - 1
            m.d.comb += level.limit.eq(self.limit if last else level.most)
        connect(m, keys, flipped(self.o))
        return m
