"""The completer: results and completions into host memory."""

from __future__ import annotations

from rpaccel.counters import COMPLETER_COUNTERS, states_of
from sw_model.cycles.link import WRITE_DONE, WRITE_IDLE, data_ready
from sw_model.cycles.records import compiled, record, wake

__all__ = ["COMPLETER", "complete", "open_completer"]

COMPLETER = record(
    "state source turn lane lanes beat beats blocks full ended query done_query "
    "accepts offered got got_last asks gives takes_done"
)
(IDLE, RANKING, RESULTS, RESULTS_DONE, SPACE, REQUEST, COMPLETION, COMPLETION_DONE) = range(8)
UNIT = 5

_STATES = {name: n for n, name in enumerate(states_of(COMPLETER_COUNTERS))}
_BUSY, _HOST, _FILTER = (_STATES[n] for n in ("busy", "stall_host", "stall_filter"))
_STARVED = _STATES["starved"]


@compiled
def open_completer(m):
    """Say what the completer takes in this cycle."""
    c = m.completer[0]
    c.offered = c.got = c.asks = c.gives = c.takes_done = 0
    c.accepts = -1
    if c.state == RESULTS:
        c.gives = c.full
        if not c.ended and (not c.full or data_ready(m)):
            c.accepts = c.source


@compiled
def complete(m, t):
    """The completer's cycle, when filters have offered what they have."""
    c, link = m.completer[0], m.link[0]
    state, cause = c.state, _BUSY
    idle, done = link.state == WRITE_IDLE, link.state == WRITE_DONE
    if state == IDLE:
        c.beat = 0
        if c.offered:
            _turn(m, c)
        else:
            cause = _STARVED
    elif state == RANKING:
        c.asks = c.blocks
        if idle:
            c.state = RESULTS
        else:
            cause = _HOST
    elif state == RESULTS:
        cause = _results(m, c, t)
    elif state in (RESULTS_DONE, COMPLETION_DONE):
        c.takes_done = done
        if not done:
            cause = _HOST
        elif state == RESULTS_DONE:
            c.state = SPACE
        else:
            m.query[c.done_query].completed = t
            c.state = IDLE
    elif state == SPACE:
        c.state = REQUEST
    elif state == REQUEST:
        c.asks = 1
        m.query[c.done_query].requested = t
        if idle:
            c.beat = 0
            c.state = COMPLETION
        else:
            cause = _HOST
    else:
        c.gives = 1
        if not data_ready(m):
            cause = _HOST
        else:
            wake(m)
            c.beat += 1
            if c.beat == c.beats:
                c.state = COMPLETION_DONE
    if c.state != state:
        wake(m)
    m.cause[UNIT] = cause


@compiled
def _turn(m, c):
    """Choose a filter with a final ranking, in turn."""
    best = -1
    for n in range(len(m.filter)):
        if c.offered >> n & 1 and (best < 0 or (n > c.turn and best <= c.turn)):
            best = n
    c.turn = c.source = best
    f = m.filter[best]
    c.done_query = f.shown_query if f.unfiltered else m.release[best, f.head % 32].query
    c.blocks = m.query[c.done_query].result_blocks
    c.lane = c.full = c.ended = 0
    c.state = RANKING


@compiled
def _results(m, c, t):
    """Pack results into beats, and zeros up to the end of the block."""
    goes = c.full and data_ready(m)
    if goes:
        wake(m)
        last_beat = c.beat == c.beats - 1
        c.beat = 0 if last_beat else c.beat + 1
        c.full = 0
        if c.ended:
            c.full = 1
            if last_beat:
                c.full = c.ended = 0
                c.state = RESULTS_DONE
    if c.got:
        wake(m)
        c.full = c.lane == c.lanes - 1 or c.got_last
        c.lane = 0 if c.full else c.lane + 1
        c.ended = c.got_last
        if c.got_last:
            m.admission[0].released |= 1 << m.query[c.done_query].slot
            m.query[c.done_query].ranked = t
    if goes or c.got:
        return _BUSY
    return _HOST if c.gives else _FILTER
