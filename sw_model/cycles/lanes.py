"""The lanes of a gather unit: resolver, look-ahead cache, reader and pooler; and the dense lane."""

from __future__ import annotations

from sw_model.cycles.access import OUT, START, WAITS, WORDS
from sw_model.cycles.records import FAR, compiled, record, wake, wake_at

__all__ = ["DENSE", "LANE", "PART", "WORD", "dense_lane", "lanes"]

LANE = record(
    "stage awake wakes "
    "queued front popped "  # pieces that wait
    "lookups look segments valid "  # resolver: lookups left of a piece, segments of a lookup
    "written taken shown word missed filled "  # look-ahead cache: numbers of segments, of misses
    "asks asked returned released turn "  # its memory port: a channel, and one more
    "held held_kind pooled pooled_kind out out_kind "  # reader and pooler, one word each
    "parts part start next "  # in front of the packer: a word in parts
    "waiting reads "
    "makes segment missing words words_end lookahead outstanding",
    queue=2,
)
DENSE = record(
    "awake valid takes stored out parts part start next left token tokens words words_end depth"
)
WORD = record("part parts")
PART = record("chunk ends empty")
ARRIVAL = 2  # cycles from the last beat of a line in the cache until its segment can be read


@compiled
def lanes(m, n, t):
    """A cycle of a stage's lanes; nothing, if all of them wait for something else."""
    p = m.packer[n]
    if not p.stirred and p.wakes > t:
        wake_at(m, p.wakes)
        return
    p.stirred = 0
    p.wakes = FAR
    for number in range(p.lane, p.lane + p.lanes):
        here = m.lane[number]
        if here.awake or here.wakes <= t:
            lane(m, number, t)
        p.stirred |= here.awake
        p.wakes = min(p.wakes, here.wakes)
    wake_at(m, max(p.wakes, t + 1))


@compiled
def lane(m, n, t):
    """A lane's cycle, from its output back to its input."""
    here = m.lane[n]
    here.awake = 0
    here.wakes = FAR
    _out(m, here)
    popped, taken = _pop(m, n, here, t)
    written = here.written
    if here.valid and _probe(m, n, here, taken, t):
        here.awake = 1
        here.valid = 0
        here.written += 1
    if not here.valid and here.segments:
        here.awake = 1
        here.valid = 1
        here.segments -= 1
    if here.lookups:
        makes = m.makes[here.makes + here.look]
        if not makes or not here.segments:
            here.awake = 1
            here.segments += makes
            here.look += 1
            here.lookups -= 1
    if not here.lookups and here.queued:
        here.awake = 1
        here.lookups = here.queue[here.front & 1]
        here.front += 1
        here.queued -= 1
        here.popped = t
    shown = here.taken != written
    if popped or shown != (here.shown != 0):
        here.awake = 1
    here.shown = shown
    if here.awake:
        wake(m)


@compiled
def _out(m, here):
    """Move words towards the packer: only those that complete a bag, and starts, go there."""
    if not here.parts and here.out:
        here.awake = m.packer[here.stage].awake = 1
        here.out = 0
        here.start = here.out_kind & START
        here.parts = 1
        if not here.start:
            word = m.word[here.words + here.next]
            here.parts = word.parts
            here.part = word.part
            here.next += 1
            if here.words + here.next == here.words_end:
                here.next = 0
    if here.pooled and not (here.pooled_kind & OUT and here.out):
        here.awake = 1
        here.pooled = 0
        if here.pooled_kind & OUT:
            here.out = 1
            here.out_kind = here.pooled_kind
    if here.held and not here.pooled:
        here.awake = 1
        here.held = 0
        here.pooled = 1
        here.pooled_kind = here.held_kind


@compiled
def _pop(m, n, here, t):
    """Read a word of the first segment; whether it was its last, and segments taken before."""
    taken = here.taken
    here.waiting = here.reads = 0
    if not here.shown or here.held:
        return False, taken
    kind = m.segment[here.segment + taken]
    if kind & WAITS:
        there = m.arrived[n, here.filled % here.lookahead] + ARRIVAL
        if there > t:
            here.waiting = 1
            here.wakes = there
            wake_at(m, there)
            return False, taken
    here.awake = here.reads = here.held = 1
    here.held_kind = kind
    here.word += 1
    if here.word < kind >> WORDS:
        return False, taken
    here.word = 0
    here.taken += 1
    here.filled += kind & WAITS != 0
    return True, taken


@compiled
def _probe(m, n, here, taken, t):
    """Whether a segment moves into the queue; a miss asks for its line."""
    if here.written - taken == here.lookahead:
        return False
    if not m.segment[here.segment + here.written] & WAITS:
        return True
    while here.released < here.returned:
        back = m.freed[n, here.released % here.outstanding]
        if back > t:
            break
        here.released += 1
    if here.missed - here.released == here.outstanding or here.asks:
        if here.released < here.returned:
            here.wakes = min(here.wakes, m.freed[n, here.released % here.outstanding])
            wake_at(m, here.wakes)
        return False
    if m.missed[here.missing + here.missed, 1] >= taken:
        return False
    m.arrived[n, here.missed % here.lookahead] = FAR
    here.asked = here.missed
    channel = m.missed[here.missing + here.missed, 0] % len(m.channel)
    here.asks = channel + 1
    m.channel[channel].pending += 1
    here.missed += 1
    return True


@compiled
def dense_lane(m, n):
    """The dense lane's cycle."""
    here = m.dense[n]
    here.takes = not here.valid or here.stored != here.depth
    if not here.awake:
        return
    here.awake = 0
    if not here.parts and here.out:
        here.awake = m.packer[n].awake = 1
        here.out = 0
        here.parts = 1
        here.start = here.left == 0
        if here.start:
            here.token += 1
            here.left = m.token[here.tokens + here.token - 1].items
            here.left *= here.words_end - here.words
        else:
            here.left -= 1
            word = m.word[here.words + here.next]
            here.parts = word.parts
            here.part = word.part
            here.next += 1
            if here.words + here.next == here.words_end:
                here.next = 0
    full = here.stored == here.depth
    if not here.out and here.stored:
        here.awake = 1
        here.out = 1
        here.stored -= 1
    if here.valid and not full:
        here.awake = 1
        here.valid = 0
        here.stored += 1
    if here.awake:
        wake(m)
