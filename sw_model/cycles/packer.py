"""The packers of gather units, and the dispatchers that share their tokens out to groups."""

from __future__ import annotations

from rpaccel import abi
from rpaccel.counters import GATHER_COUNTERS, states_of
from sw_model.cycles.group import TOKENS, reserved
from sw_model.cycles.records import compiled, record, wake

__all__ = ["DISPATCHER", "ORDER", "PACKER", "dispatch", "gather_cause", "pack"]

PACKER = record(
    "done item items token tokens awake finished starting writes wrote missing "
    "lane lanes stirred wakes unit entered left left_before"
)
ORDER = 4 * abi.MAX_GROUPS  # tokens of a stage in its groups
DISPATCHER = record(
    "groups chosen before valid current order taken target started stale",
    group=abi.MAX_GROUPS,
    input=abi.MAX_GROUPS,
    barred=abi.MAX_GROUPS,
    turn=ORDER,
    since=ORDER,
)
ARRIVAL = 3  # cycles from an item's last write until its group has counted it

_STATES = {name: n for n, name in enumerate(states_of(GATHER_COUNTERS))}
_BUSY, _START, _WRITE = (_STATES[n] for n in ("busy", "stall_start", "stall_write"))
_MEMORY, _FEATURES = _STATES["stall_memory"], _STATES["stall_features"]
_POSITIONS, _LANES, _STARVED = (_STATES[n] for n in ("stall_positions", "stall_lanes", "starved"))


@compiled
def pack(m, n, t):
    """Write bytes of an item, or offer the start of a token, which :func:`dispatch` decides on."""
    p, dense = m.packer[n], m.dense[n]
    p.wrote = 0
    if not p.awake and not p.writes and not p.finished:
        return  # nothing came; a start is still offered
    finished, p.finished = p.finished, 0
    p.awake = p.writes = p.missing = 0
    chunk = -1
    for number in range(p.lanes):
        if p.done >> number & 1:
            continue
        lane = m.lane[p.lane + number]
        if not lane.parts:
            p.missing |= 1 << number
        elif chunk < 0 and not lane.start:
            chunk = m.part[lane.part].chunk
    ready = p.missing == 0
    if not p.done >> p.lanes & 1:
        if not dense.parts:
            ready = False
        elif chunk < 0 and not dense.start and not m.part[dense.part].empty:
            chunk = m.part[dense.part].chunk
    starting = ready and not p.done >> p.lanes & 1 and dense.start != 0
    p.starting = starting and not finished
    if p.starting:
        m.dispatcher[0].stale = 1
    if finished:
        p.awake = 1
        wake(m)
    p.writes = chunk >= 0 or (ready and not starting)
    if p.writes and _writable(m, n, t, chunk):
        wake(m)
        p.wrote = p.awake = 1
        _write(m, n, t, chunk)


@compiled
def _writable(m, n, t, chunk):
    """Whether a group takes a write: the array, or its dot interaction unit, may write instead."""
    dispatcher = m.dispatcher[n]
    here = m.input[dispatcher.input[dispatcher.current]]
    if here.dot >= 0:
        d = m.dot[here.dot]
        if chunk >= d.base:
            return True
        if d.left and not reserved(m, here, d.buffer[d.written & 1], t):
            return False
    return not reserved(m, here, here.current, t)


@compiled
def _write(m, n, t, chunk):
    """Take the parts that lie in the chunk."""
    p, dense = m.packer[n], m.dense[n]
    ends = p.done
    for number in range(p.lanes):
        if p.done >> number & 1:
            continue
        lane = m.lane[p.lane + number]
        if not lane.parts or lane.start or m.part[lane.part].chunk != chunk:
            continue
        ends |= m.part[lane.part].ends << number
        lane.parts -= 1
        lane.part += 1
        lane.awake = p.stirred = 1
    if not p.done >> p.lanes & 1 and dense.parts and not dense.start:
        part = m.part[dense.part]
        if part.empty or part.chunk == chunk:
            ends |= part.ends << p.lanes
            dense.parts -= 1
            dense.part += 1
            dense.awake = 1
    p.done = ends
    if ends == (1 << p.lanes + 1) - 1:
        p.done = 0
        p.finished = 1
        p.item += 1
        m.token[p.tokens + p.token - 1].gathered = t + 1
        p.left += p.item == p.items
        dispatcher = m.dispatcher[n]
        _arrive(m, m.input[dispatcher.input[dispatcher.current]], t)


@compiled
def _arrive(m, here, t):
    """Count an item; a row of items is there when all parts have theirs."""
    here.items -= 1
    here.part += 1
    if here.part == here.parts or here.items == 0:
        here.part = 0
        here.due[here.due_tail & 3] = t + ARRIVAL
        here.due_buffer[here.due_tail & 3] = here.current
        here.due_tail += 1


@compiled
def dispatch(m, t):
    """Start tokens, and choose the groups of the next ones, if anything has changed for that."""
    if not m.dispatcher[0].stale:
        return
    m.dispatcher[0].stale = 0
    stages = len(m.dispatcher)
    for n in range(stages):
        d = m.dispatcher[n]
        d.started = 0
        d.target = -1
        if m.packer[n].starting:
            if d.groups == 1:
                d.target = d.input[0]
            elif d.valid and d.order - d.taken < 4 * d.groups:
                d.target = d.input[d.chosen]
    for n in range(stages):
        d = m.dispatcher[n]
        d.started = d.target >= 0 and _ready(m, d.target, t)
    for n in range(stages):
        _choose(m, n, t)
    for n in range(stages):
        if m.dispatcher[n].started:
            _start(m, n, t)


@compiled
def _available(m, number, t):
    """Whether the next token buffer of a group's input is free."""
    here = m.input[number]
    return here.free[1 - here.current] <= t


@compiled
def _ready(m, number, t):
    """Whether an input can start a token: a group starts one a cycle, its first stage's first."""
    if not _available(m, number, t):
        return False
    if m.input[number].dot >= 0:  # it has a queue of its own
        return True
    for n in range(len(m.dispatcher)):
        other = m.dispatcher[n].target
        if other < 0 or m.input[other].dot >= 0:
            continue
        if m.input[other].group == m.input[number].group:
            if m.input[other].place < m.input[number].place and _available(m, other, t):
                return False
    return True


@compiled
def _choose(m, n, t):
    """Choose the group that would be done first of those that can start a token."""
    d = m.dispatcher[n]
    if d.groups == 1:
        return
    best, end = -1, 0
    for k in range(d.groups):
        if not d.barred[k] and _ready(m, d.input[k], t):
            done = m.group[d.group[k]].load + m.input[d.input[k]].cost
            if best < 0 or done < end:
                best, end = k, done
    valid = best >= 0
    if valid != (d.valid != 0) or (valid and best != d.chosen):
        m.dispatcher[0].stale = 1
        wake(m)
    d.before = d.chosen
    d.valid = valid
    d.chosen = max(best, 0)


@compiled
def _start(m, n, t):
    """Start a token at its group."""
    d, p = m.dispatcher[n], m.packer[n]
    wake(m)
    m.dispatcher[0].stale = 1
    if d.groups > 1:
        d.current = d.before
        d.turn[d.order % ORDER] = d.current
        d.since[d.order % ORDER] = t
        d.order += 1
    here = m.input[d.target]
    token = m.token[p.tokens + p.token]
    p.token += 1
    p.item = p.starting = 0
    p.awake = 1
    p.items = token.items
    p.left += token.items == 0
    for number in range(p.lanes):
        m.lane[p.lane + number].parts = 0
        m.lane[p.lane + number].awake = p.stirred = 1
    m.dense[n].parts = 0
    m.dense[n].awake = 1
    token.started = t
    token.group = here.group
    here.current = 1 - here.current
    here.free[here.current] = 1 << 60
    here.items = token.items
    here.part = 0
    here.arrived[here.current] = 0
    group = m.group[here.group]
    group.change += here.cost
    group.tokens += 1
    number = p.tokens + p.token - 1
    if here.dot >= 0:
        _queue_dot(m, here, m.dot[here.dot], number, token.items)
        return
    at = group.queued % TOKENS
    group.token[at] = number
    group.token_input[at] = d.target
    group.token_buffer[at] = here.current
    group.queued += 1


@compiled
def _queue_dot(m, here, d, number, items):
    """Queue a token with a dot interaction, and with its unit, if it has items."""
    at = here.started_tokens & 1
    here.start_token[at] = number
    here.start_buffer[at] = here.current
    here.started_tokens += 1
    if items:
        at = d.started & 1
        d.token[at] = number
        d.buffer[at] = here.current
        d.made[here.current] = 0
        d.started += 1


@compiled
def gather_cause(m, n):
    """State of a gather unit, looked for backwards from where bytes leave it."""
    p, w = m.packer[n], m.walker[n]
    started = m.dispatcher[n].started
    cause = _LANES
    if started or p.wrote:
        cause = _BUSY
    elif p.starting:
        cause = _START
    elif p.writes:
        cause = _WRITE
    elif p.entered == p.left_before:
        cause = _STARVED
    else:
        cause = _missing(m, p, w)
    m.cause[p.unit] = cause
    if p.entered != w.taken or p.left_before != p.left:
        wake(m)
    p.entered = w.taken
    p.left_before = p.left


@compiled
def _missing(m, p, w):
    """Why bytes of the lanes that come next are missing."""
    waiting = works = False
    for number in range(p.lanes):
        if p.missing >> number & 1:
            lane = m.lane[p.lane + number]
            waiting = waiting or lane.waiting != 0
            works = works or lane.reads != 0
    if waiting:
        return _MEMORY
    if not works and w.waits_features:
        return _FEATURES
    if not works and w.waits_position:
        return _POSITIONS
    return _LANES
