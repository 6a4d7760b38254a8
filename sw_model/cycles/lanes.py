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
    "held pooled out "  # reader and pooler, a word each
    "parts part start next "  # in front of the packer: a word in parts
    "waiting reads came waited "  # when the reader came to a line that is not there; all waits
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
    if p.stirred:
        wake(m)
    wake_at(m, max(p.wakes, t + 1))


@compiled
def lane(m, n, t):
    """A lane's cycle, from its output back to its input. Registers hold segments, or zero."""
    here = m.lane[n]
    moved = False
    out, pooled, held = here.out, here.pooled, here.held
    if out and not here.parts:
        _place(m, here, out)
        out = 0
        moved = True
    if pooled and not (pooled & OUT and out):  # only what completes a bag, and starts, go on
        if pooled & OUT:
            out = pooled
        pooled = 0
        moved = True
    if held and not pooled:
        pooled = held
        held = 0
        moved = True
    wakes = FAR
    taken = behind = here.taken
    waiting = reads = 0
    if here.shown and not held:
        kind = m.segment[here.segment + taken]
        if kind & WAITS:
            wakes = m.arrived[n, here.filled % here.lookahead] + ARRIVAL
            waiting = wakes > t
            if waiting and not here.waiting:
                here.came = t
            elif here.waiting and not waiting:
                here.waited += t - here.came
        if not waiting:
            wakes = FAR
            moved = True
            reads = 1
            held = kind
            here.word += 1
            if here.word == kind >> WORDS:
                here.word = 0
                behind += 1
                here.filled += kind & WAITS != 0
    here.out, here.pooled, here.held = out, pooled, held
    here.waiting, here.reads, here.taken = waiting, reads, behind
    here.wakes = wakes
    written = here.written
    _resolve(m, n, here, taken, t)
    shown = behind != written
    if moved or shown != (here.shown != 0) or behind != taken:
        here.awake = 1
    here.shown = shown


@compiled
def _resolve(m, n, here, taken, t):
    """From pieces to segments in the queue; ``taken`` had left it before this cycle."""
    valid, segments, lookups = here.valid, here.segments, here.lookups
    moved = False
    if valid and _probe(m, n, here, taken, t):
        valid = 0
        here.written += 1
        moved = True
    if segments and not valid:
        valid = 1
        segments -= 1
        moved = True
    if lookups:
        makes = m.makes[here.makes + here.look]
        if not makes or not segments:
            segments += makes
            here.look += 1
            lookups -= 1
            moved = True
    if here.queued and not lookups:
        lookups = here.queue[here.front & 1]
        here.front += 1
        here.queued -= 1
        here.popped = t
        moved = True
    here.valid, here.segments, here.lookups = valid, segments, lookups
    here.awake = moved


@compiled
def _place(m, here, kind):
    """Put a word in front of the packer, in parts that lie in one chunk each."""
    m.packer[here.stage].awake = 1
    here.start = kind & START
    here.parts = 1
    if not here.start:
        word = m.word[here.words + here.next]
        here.parts = word.parts
        here.part = word.part
        here.next += 1
        if here.words + here.next == here.words_end:
            here.next = 0


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
