"""Fetcher, admission, planner and their divider."""

from __future__ import annotations

from rpaccel import abi
from rpaccel.counters import ADMISSION_COUNTERS, FETCHER_COUNTERS, PLANNER_COUNTERS, states_of
from sw_model.cycles.records import compiled, record, wake, wake_at

__all__ = [
    "ADMISSION",
    "ADMISSION_IDLE",
    "DIVIDER",
    "FETCHER",
    "HANDOVER",
    "PLAN",
    "PLANNER",
    "QUERY",
    "admit",
    "fetch",
    "plan",
]

FETCHER = record("state next asks granted beat last taken")
ADMISSION = record(
    "state query asks granted beat last blocks checked until arriving words shows shown "
    "used released slots"
)
DIVIDER = record("free")
PLANNER = record("state job step until depth")
QUERY = record(
    "arrives first last items blocks steps steps_end count divisions "  # what is asked for
    "result_blocks fetched opened planned slot ranked requested completed"  # cycles
)
PLAN = record("stage token inner emit final last count candidates query issued")
F_IDLE, F_REQUEST, F_READ, HANDOVER = range(4)
ADMISSION_IDLE, A_CHECK, A_FEATURES, A_KEEP, A_SUB_BATCH = range(5)
A_SHARE, A_SLOT, A_PLAN, A_REQUEST, A_COPY = range(5, 10)
P_IDLE, P_SUB_BATCH, P_TOKEN, P_DIVIDE, P_SHARE, P_PLAN, P_PHASE, P_CUT = range(8)
DIVISION = abi.ITEM_BITS + 2  # cycles from a request to the quotient
FETCHER_UNIT, ADMISSION_UNIT, PLANNER_UNIT = 2, 3, 4

_FETCHER = {name: n for n, name in enumerate(states_of(FETCHER_COUNTERS))}
_F_BUSY, _F_HOST = _FETCHER["busy"], _FETCHER["stall_host"]
_F_ADMISSION, _F_STARVED = _FETCHER["stall_admission"], _FETCHER["starved"]
_ADMISSION = {name: n for n, name in enumerate(states_of(ADMISSION_COUNTERS))}
_A_BUSY, _A_HOST, _A_SLOT = (_ADMISSION[n] for n in ("busy", "stall_host", "stall_slot"))
_A_DIVIDER, _A_STARVED = _ADMISSION["stall_divider"], _ADMISSION["starved"]
_PLANNER = {name: n for n, name in enumerate(states_of(PLANNER_COUNTERS))}
_P_BUSY, _P_DIVIDER = _PLANNER["busy"], _PLANNER["stall_divider"]
_P_TOKENS, _P_PLANS, _P_STARVED = (_PLANNER[n] for n in ("stall_tokens", "stall_plans", "starved"))


@compiled
def fetch(m, t):
    """Fetch descriptors, one ahead."""
    f = m.fetcher[0]
    cause = _F_BUSY
    state = f.state
    if state == F_IDLE:
        cause = _F_STARVED
        if f.next < len(m.query):
            arrives = m.query[f.next].arrives
            if arrives <= t:
                cause = _F_BUSY
                f.state = F_REQUEST
            else:
                wake_at(m, arrives)
    elif state == F_REQUEST:
        if f.granted:
            f.state = F_READ
        else:
            cause = _F_HOST
    elif state == F_READ:
        if not f.beat:
            cause = _F_HOST
        elif f.last:
            m.query[f.next].fetched = t
            f.state = HANDOVER
    elif f.taken:
        f.next += 1
        f.state = F_IDLE
    else:
        cause = _F_ADMISSION
    f.taken = 0
    f.asks = f.state == F_REQUEST
    if f.state != state:
        wake(m)
    m.cause[FETCHER_UNIT] = cause


@compiled
def _divides(m, t):
    """Ask for a division; whether the divider takes it."""
    d = m.divider[0]
    if d.free > t:
        wake_at(m, d.free)
        return False
    d.free = t + DIVISION + 1
    return True


@compiled
def admit(m, t):
    """Validate queries, give them slots, and copy their features."""
    a = m.admission[0]
    cause = _A_BUSY
    state = a.state
    a.shows, a.shown = a.arriving, a.words  # what readers of the features see in this cycle
    a.used &= ~a.released
    a.released = 0
    query = m.query[a.query]
    if state == ADMISSION_IDLE:
        cause = _A_STARVED
        fetcher = m.fetcher[0]
        if fetcher.state == HANDOVER:
            cause = _A_BUSY
            fetcher.taken = 1
            a.query = fetcher.next
            a.state = A_CHECK
    elif state == A_CHECK:
        a.state = A_FEATURES
    elif state == A_FEATURES:
        a.checked = 0
        a.blocks = query.blocks
        a.state = A_KEEP
    elif state == A_KEEP:
        wake(m)
        a.checked += 1
        if a.checked == query.last - query.first + 1:
            a.checked = 0
            a.state = A_SUB_BATCH
    elif state == A_SUB_BATCH:
        if a.checked == query.last - query.first:
            a.state = A_SLOT
        elif _divides(m, t):
            a.until = t + DIVISION
            a.state = A_SHARE
        else:
            cause = _A_DIVIDER
    elif state == A_SHARE:
        wake_at(m, a.until)
        if a.until == t:
            a.checked += 1
            a.state = A_SUB_BATCH
    elif state == A_SLOT:
        cause = _open(m, t, a, query)
    elif state == A_PLAN:
        query.planned = t
        a.state = A_REQUEST if a.arriving else ADMISSION_IDLE
    elif state == A_REQUEST:
        if a.granted:
            a.state = A_COPY
        else:
            cause = _A_HOST
    elif a.beat:
        a.words += 1
        if a.last:
            a.arriving = 0
            a.state = ADMISSION_IDLE
    else:
        cause = _A_HOST
    a.asks = a.state == A_REQUEST
    if a.state != state:
        wake(m)
    m.cause[ADMISSION_UNIT] = cause


@compiled
def _open(m, t, a, query):
    """Give a query the first free slot."""
    for slot in range(a.slots):
        if not a.used >> slot & 1:
            a.used |= 1 << slot
            query.slot = slot
            query.opened = t
            a.words = 0
            a.arriving = query.blocks != 0
            a.state = A_PLAN
            return _A_BUSY
    return _A_SLOT


@compiled
def plan(m, t):
    """Put tokens and release plans into the queues of the stages."""
    p = m.planner[0]
    state = p.state
    cause = _P_BUSY
    step = m.plan[p.step]
    if state == P_IDLE:
        cause = _P_STARVED
        if p.job < len(m.query) and m.query[p.job].planned < t:
            cause = _P_BUSY
            p.step = m.query[p.job].steps
            p.state = P_SUB_BATCH
    elif state == P_SUB_BATCH:
        p.state = P_TOKEN
    elif state == P_TOKEN:
        if m.walker[step.stage].planned - m.walker[step.stage].taken == p.depth:
            cause = _P_TOKENS
        else:
            m.token[step.token].planned = t
            m.walker[step.stage].planned += 1
            p.state = P_DIVIDE if step.inner else P_PLAN
    elif state in (P_DIVIDE, P_PHASE):
        if _divides(m, t):
            p.until = t + DIVISION
            p.state = P_SHARE if state == P_DIVIDE else P_CUT
        else:
            cause = _P_DIVIDER
    elif state in (P_SHARE, P_CUT):
        wake_at(m, p.until)
        if p.until == t:
            p.state = P_PLAN if state == P_SHARE else P_SUB_BATCH
    elif m.filter[step.stage].planned - m.filter[step.stage].done == p.depth:
        cause = _P_PLANS
    else:
        _release(m, t, p, step)
    if p.state != state:
        wake(m)
    m.cause[PLANNER_UNIT] = cause


@compiled
def _release(m, t, p, step):
    """Queue the release plan of a step, and go on."""
    step.issued = t
    m.filter[step.stage].planned += 1
    p.step += 1
    if step.inner:
        p.state = P_TOKEN
    elif not step.last:
        p.state = P_SUB_BATCH
    elif not step.final:
        p.state = P_PHASE
    else:
        p.job += 1
        p.state = P_IDLE
