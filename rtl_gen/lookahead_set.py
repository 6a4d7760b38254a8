"""A set of the look-ahead cache: what a probe of it decides, and what is replaced."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi

__all__ = ["LookaheadSet", "set_layout"]


def set_layout(*, ways: int, tag_bits: int, lookahead: int) -> data.StructLayout:
    """A word of the tag RAM: the hand, and the lines in the order of insertion, oldest first.

    ``way`` is where a line's data are. ``used``: some segment used the way, ``last_use`` being the
    number of the last that did.
    """
    kept = data.StructLayout(
        {
            "valid": 1,
            "used": 1,
            "visited": 1,
            "way": ceil_log2(ways),
            "last_use": ceil_log2(lookahead * abi.SEQUENCE_ROUNDS),
            "tag": tag_bits,
        }
    )
    return data.StructLayout({"hand": ceil_log2(ways), "kept": data.ArrayLayout(kept, ways)})


def first(places):
    """The lowest bit that is set, alone."""
    return (places & -places)[: len(places)]


class LookaheadSet(wiring.Component):
    """Look a line up in a set, or replace one by SIEVE (docs/architecture.md), combinationally.

    Parameters
    ----------
    ways : int
    tag_bits : int
    lookahead : int
        A line that one of so many last segments used is replaced only if all of the set are so.

    Members
    -------
    word : In(set_layout)
    tag : In(tag_bits)
    number : In
        Of the segment that asks.
    hit : Out(1)
    chosen : Out
        The line found, or the one to be replaced.
    decided : Out(set_layout)
        The set afterwards.
    """

    def __init__(self, *, ways: int, tag_bits: int, lookahead: int):
        self.ways = ways
        self.lookahead = lookahead
        self.layout = set_layout(ways=ways, tag_bits=tag_bits, lookahead=lookahead)
        self.kept_layout = self.layout["kept"].shape.elem_shape
        super().__init__(
            {
                "word": In(self.layout),
                "tag": In(tag_bits),
                "number": In(self.kept_layout["last_use"].shape),
                "hit": Out(1),
                "chosen": Out(self.kept_layout),
                "decided": Out(self.layout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ways, kept = self.ways, self.word.kept
        # Bit p of a mask is the line at place p in the order of insertion.
        hits, victim, passed, place = self._search(m)
        m.d.comb += self.hit.eq(hits.any())
        for p in range(ways):
            with m.If(Mux(self.hit, hits, victim)[p]):
                m.d.comb += self.chosen.eq(kept[p])

        # Behind the line that leaves all move down, and the new one is the newest.
        left = [Signal(self.kept_layout, name=f"left{p}") for p in range(ways)]
        for p, line in enumerate(left):
            m.d.comb += line.eq(kept[p])
            with m.If(passed[p]):
                m.d.comb += line.visited.eq(0)
        after = self.decided.kept
        m.d.comb += self.decided.hand.eq(place)
        for p in range(ways - 1):
            m.d.comb += after[p].eq(Mux(victim[: p + 1].any(), left[p + 1], left[p]))
        newest = after[ways - 1]
        m.d.comb += [
            newest.valid.eq(1),
            newest.used.eq(1),
            newest.visited.eq(0),
            newest.way.eq(self.chosen.way),
            newest.last_use.eq(self.number),
            newest.tag.eq(self.tag),
        ]
        with m.If(self.hit):
            m.d.comb += self.decided.eq(self.word)
            for p in range(ways):
                with m.If(hits[p]):
                    m.d.comb += [after[p].visited.eq(1), after[p].last_use.eq(self.number)]
        return m

    def _search(self, m):
        """Which line is the one looked for; which is replaced, which lose ``visited``, the hand."""
        ways, kept = self.ways, self.word.kept
        every = (1 << ways) - 1
        hits, valid, visited, recent = (Signal(ways, name=n) for n in ("h", "valid", "seen", "new"))
        candidates, fresh, pool = Signal(ways), Signal(ways), Signal(ways)
        behind, near = Signal(ways), Signal(ways)  # from the hand to the newest
        found, before, victim, passed = Signal(ways), Signal(ways), Signal(ways), Signal(ways)
        place = Signal(ceil_log2(ways))
        m.d.comb += [
            hits.eq(Cat(line.valid & (line.tag == self.tag) for line in kept)),
            valid.eq(Cat(line.valid for line in kept)),
            visited.eq(Cat(line.visited for line in kept)),
            recent.eq(Cat(self._recent(line) for line in kept)),
            candidates.eq(Mux(recent.all(), every, ~recent)),
            fresh.eq(candidates & ~visited),
            pool.eq(Mux(fresh.any(), fresh, candidates)),
            behind.eq(every << self.word.hand),
            near.eq(pool & behind),
            found.eq(first(Mux(near.any(), near, pool))),
            before.eq(found - 1),
        ]
        with m.If(~valid.all()):
            m.d.comb += victim.eq(first(~valid))
        with m.Else():
            m.d.comb += victim.eq(found)
            with m.If(~fresh.any()):
                m.d.comb += passed.eq(every)
            with m.Elif(near.any()):
                m.d.comb += passed.eq(behind & before)
            with m.Else():
                m.d.comb += passed.eq(behind | before)
        for p in range(ways):
            with m.If(victim[p]):
                m.d.comb += place.eq(p)
        return hits, victim, passed, place

    def _recent(self, line):
        """Whether one of the last ``lookahead`` segments used a line."""
        age = (self.number - line.last_use)[: len(self.number)]
        return line.used & (age < self.lookahead)
