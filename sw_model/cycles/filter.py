"""The filters, with the collectors that bring them their scores."""

from __future__ import annotations

from rpaccel.counters import DISPATCHER_COUNTERS, TOPK_COUNTERS, states_of
from rpaccel.section import MAX_ITEMS
from sw_model.cycles.group import refill_scores
from sw_model.cycles.packer import ORDER
from sw_model.cycles.records import compiled, record, wake, wake_at

__all__ = ["FILTER", "RELEASE", "filter_scores"]

FILTER = record(
    "unit collector unfiltered depth first planned done tokens rows "
    "held keep last key head tail sent open offers shown shown_query shown_last number "
    "scored"
)
RELEASE = record("begin count query final token")
RELEASES = 32
LEVELS = (MAX_ITEMS - 1).bit_length()  # of the sorter, a cycle each
HALF = MAX_ITEMS // 2  # longest run that comes into the last level

_STATES = {name: n for n, name in enumerate(states_of(TOPK_COUNTERS))}
_BUSY, _PLAN, _OUTPUT = (_STATES[n] for n in ("busy", "stall_plan", "stall_output"))
_SORTER, _SORT, _STARVED = (_STATES[n] for n in ("stall_sorter", "stall_sort", "starved"))
_COLLECT = {name: n for n, name in enumerate(states_of(DISPATCHER_COUNTERS))}
_C_BUSY, _C_FILTER, _C_ORDER = (_COLLECT[n] for n in ("busy", "stall_filter", "stall_order"))
_C_GROUPS, _C_STARVED = _COLLECT["stall_groups"], _COLLECT["starved"]


@compiled
def filter_scores(m, n, t):
    """A filter's cycle: what leaves it, what it takes, and where that comes from."""
    f = m.filter[n]
    source = _source(m, n, t)
    if not (f.rows or f.held or f.shown or f.head != f.tail):
        m.cause[f.unit] = _STARVED
        if m.dispatcher[n].groups > 1:
            m.cause[f.collector] = _C_GROUPS if source >= 0 else _C_STARVED
        return
    there = source >= 0 and m.input[source].there != 0
    f.offers = 0
    takes = _unfiltered(m, n, t, there) if f.unfiltered else _filtered(m, n, t)
    _collected(m, n, t, source, there, takes)
    if there and takes:
        _take(m, n, t, source)
    d = m.dispatcher[n]
    for k in range(d.groups):
        if refill_scores(m.input[d.input[k]]):
            wake(m)


@compiled
def _source(m, n, t):
    """Input of the group whose scores come next."""
    d = m.dispatcher[n]
    if d.groups == 1:
        return d.input[0]
    if d.order == d.taken or d.since[d.taken % ORDER] >= t:
        return -1
    return d.input[d.turn[d.taken % ORDER]]


@compiled
def _collected(m, n, t, source, there, takes):
    """State of a dispatcher."""
    d, f = m.dispatcher[n], m.filter[n]
    if d.groups == 1:
        return
    some = False
    for k in range(d.groups):
        some = some or m.input[d.input[k]].there != 0
    m.cause[f.collector] = (
        _C_BUSY
        if there and takes
        else _C_FILTER
        if there
        else _C_ORDER
        if some
        else _C_GROUPS
        if source >= 0
        else _C_STARVED
    )


@compiled
def _take(m, n, t, source):
    """Take a score."""
    f, here = m.filter[n], m.input[source]
    wake(m)
    row = m.scores[source, here.popped % len(m.scores[0])]
    here.count += 1
    ends = here.count >= row >> 1
    f.keep = row >> 1 != 0
    f.last = ends and row & 1
    f.held = 1
    token = m.token[f.tokens + f.scored]
    if token.first_score < 0:
        token.first_score = t
    if f.last:
        token.last_score = t
        f.scored += 1
        m.dispatcher[n].taken += m.dispatcher[n].groups > 1
        m.dispatcher[0].stale = 1
    if ends:
        f.rows -= 1
        here.there = 0
        here.popped += 1
        here.gone = 1


@compiled
def _known(m, f, t):
    """Number of the next token's release plan, -1 if it is not planned yet."""
    if f.done == f.planned:
        return -1
    step = m.order[f.first + f.done]
    return step if m.plan[step].issued < t else -1


@compiled
def _filtered(m, n, t):
    """Release what is sorted, take the score that is held; whether another is taken."""
    f = m.filter[n]
    held = f.held != 0
    level = f.tail - f.head
    left = level > 0 and _leave(m, n, t, f)
    offers = f.offers != 0 or left
    step = _known(m, f, t)
    taken = held and step >= 0
    if taken:
        plan = m.plan[step]
        ends = f.last and plan.emit
        taken = not ends or level < RELEASES
        if taken:
            f.held = 0
            f.done += f.last
            if f.keep or (plan.emit and plan.candidates == 0):
                f.key = t
            if ends:
                _sort(m, n, t, f, plan)
            wake(m)
    m.cause[f.unit] = (
        _BUSY
        if taken or (left and not held)
        else _PLAN
        if held and step < 0
        else _OUTPUT
        if offers and not left
        else _SORTER
        if held
        else _SORT
        if level
        else _STARVED
    )
    return f.held == 0


@compiled
def _sort(m, n, t, f, plan):
    """Release a list, the last key of which is in the sorter.

    Keys come into the last level one a cycle behind those of the list before, the first one when
    all other levels have seen the last key.
    """
    run = max(1, min(f.depth, plan.candidates, HALF))
    comes = max(f.key + LEVELS - 1, f.open)
    f.open = comes + run
    release = m.release[n, f.tail % RELEASES]
    release.begin = max(comes, t) + 1
    release.count = plan.count
    release.query = plan.query
    release.final = plan.final
    release.token = plan.token
    f.tail += 1


@compiled
def _leave(m, n, t, f):
    """Release an item, if it is sorted and taken; an empty release is a beat, too."""
    release = m.release[n, f.head % RELEASES]
    most = max(1, release.count)
    at = release.begin + f.sent
    if at > t:
        wake_at(m, at)
        return False
    f.offers = 1
    completer = m.completer[0]
    if release.final:
        completer.offered |= 1 << n
        if completer.accepts != n:
            return False
        completer.got = 1
        completer.got_last = f.sent == most - 1
    elif release.count:
        m.walker[n + 1].stored += 1
    else:
        m.walker[n + 1].empties += 1
    wake(m)
    token = m.token[release.token]
    if token.first_left < 0:
        token.first_left = t
    token.last_left = t
    f.sent += 1
    if f.sent == most:
        f.sent = 0
        f.head += 1
    return True


@compiled
def _unfiltered(m, n, t, there):
    """Pass on every candidate; whether a score is taken."""
    f, completer = m.filter[n], m.completer[0]
    shown = f.shown != 0
    accepted = shown and completer.accepts == n
    if shown:
        completer.offered |= 1 << n
    if accepted:
        completer.got = 1
        completer.got_last = f.shown_last
        wake(m)
    step = _known(m, f, t)
    takes = step >= 0 and (not shown or accepted)
    take = there and takes
    m.cause[f.unit] = (
        _BUSY
        if take or (accepted and not there)
        else _PLAN
        if there and step < 0
        else _OUTPUT
        if shown and not accepted
        else _STARVED
    )
    if not shown or accepted:
        f.shown = 0
    if take:
        _pass_on(m, n, t, f, m.plan[step])
    return takes


@compiled
def _pass_on(m, n, t, f, plan):
    here = m.input[_source(m, n, t)]
    row = m.scores[here.number, here.popped % len(m.scores[0])]
    nothing = plan.emit and plan.candidates == 0
    keep = row >> 1 != 0
    f.shown = keep or nothing
    f.shown_query = plan.query
    f.shown_last = nothing or f.number == plan.candidates - 1
    if keep:
        f.number = 0 if f.shown_last else f.number + 1
    if f.shown:
        token = m.token[plan.token]
        if token.first_left < 0:
            token.first_left = t + 1
        token.last_left = t + 1
    f.done += here.count + 1 >= row >> 1 and row & 1
