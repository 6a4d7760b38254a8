"""The groups: walkers of programs, weights, rows of items into the array, and scores out of it."""

from __future__ import annotations

from rpaccel.counters import GROUP_COUNTERS, states_of
from sw_model.cycles.dot import OTHER, dot, offered, pause, settle, take_offer
from sw_model.cycles.records import FAR, compiled, record, wake, wake_at

__all__ = ["COMMAND", "GROUP", "INPUT", "ROW", "TOKENS", "group", "refill_scores", "reserved"]

RING = 7  # passes that were sent and not issued, less one: two wait, three are loaded
TOKENS = 16  # at least twice the stages that a group serves
GROUP = record(
    "unit tile_rows first inputs dots dot_count load change "
    "tokens queued taken over "  # started, taken by the walker, and their buffers freed
    "walking token_now input_now buffer_now command sends running "  # walker of programs
    "passes waited shape loads active begun "  # passes that wait for their weights
    "loaded issuing row single outstanding written "  # passes whose turn it is
    "issued left grown token_last layer_last",
    token=TOKENS,
    token_input=TOKENS,
    token_buffer=TOKENS,
    pass_command=8,
    pass_token=8,
    pass_input=8,
    pass_buffer=8,
    pass_rows=8,
    pass_items=8,
    freed=2,
    latency=16,
    late=16,
    parts=16,
)
INPUT = record(
    "number group place stage parts cost dot started_tokens begun current items part "
    "due_head due_tail "
    "program passes form rows depth added gone stored there popped count",
    free=2,
    arrived=2,
    start_token=2,
    start_buffer=2,
    due=4,
    due_buffer=4,
)
COMMAND = record("wait_input wait_write final score last vector pause cycles passes")
ROW = record("at writes score ends last vector input buffer count")

_STATES = {name: n for n, name in enumerate(states_of(GROUP_COUNTERS))}
_BUSY, _GAP, _INPUT = (_STATES[n] for n in ("busy", "stall_gap", "stall_input"))
_WRITE, _SCORES, _SHAPE = (_STATES[n] for n in ("stall_write", "stall_scores", "stall_shape"))
_WEIGHTS, _PROGRAM = _STATES["stall_weights"], _STATES["stall_program"]
_STARVED = _STATES["starved"]
WALK = 4  # cycles of the walker a pass


@compiled
def group(m, n, t):
    """A group's cycle."""
    g = m.group[n]
    m.cause[g.unit] = _STARVED
    if g.tokens != g.over or g.single or g.waited:
        _sequence(m, n, g, t)
    for k in range(g.first, g.first + g.inputs):
        _count(m, m.input[k], t)
    if g.change:
        m.dispatcher[0].stale = 1
        wake(m)
    g.load += g.change
    g.change = 0


@compiled
def _sequence(m, n, g, t):
    """From tokens to rows of items, and from these to their end."""
    level = g.passes
    cause = _issue(m, n, g, t)
    same = not level or m.input[g.pass_input[g.begun & RING]].form == g.shape
    loads = level and same and _load(m, g, t)
    if level and not same and not g.active:
        g.shape = m.input[g.pass_input[g.begun & RING]].form
        wake(m)
    if cause < 0:
        if level and not same:
            cause = _SHAPE
        elif level and (not loads or g.waited):
            cause = _WEIGHTS
        elif level or g.walking or _waits(m, g, t)[0] >= 0:
            cause = _PROGRAM
        else:
            cause = _STARVED
    m.cause[g.unit] = cause
    waited = level and not loads
    if waited != (g.waited != 0):
        wake(m)
    g.waited = waited
    _walk(m, g, t, level)
    for k in range(g.dots, g.dots + g.dot_count):
        d = m.dot[k]
        dot(m, k, t, reserved(m, m.input[d.input], d.buffer[d.written & 1], t))
        settle(m, k, t)
    _finish(m, n, g, t)


@compiled
def reserved(m, here, buffer, t):
    """Whether the array writes a token buffer in the next cycle."""
    g = m.group[here.group]
    size = len(m.row[0])
    for k in range(g.left, min(g.left + 2, g.issued)):
        row = m.row[here.group, k % size]
        if row.at == t + 1:
            return row.writes and row.input == here.number and row.buffer == buffer
    return False


@compiled
def _waits(m, g, t):
    """What the walker could take: a run of a unit, or another token; -1 for nothing."""
    other = g.queued != g.taken and m.token[g.token[g.taken % TOKENS]].started < t
    return offered(m, g.dots, g.dot_count, other, t)


@compiled
def _issue(m, n, g, t):
    """Send a row of items into the array; the state, or -1 where no pass has its turn."""
    single, g.single = g.single, 0
    if single:
        wake(m)
    if not g.loaded:
        return -1
    if single:
        return _GAP
    k = g.issuing & RING
    command = m.command[g.pass_command[k]]
    here = m.input[g.pass_input[k]]
    if command.wait_input and g.row >= here.arrived[g.pass_buffer[k]]:
        return _INPUT
    follows = command.wait_write
    if follows and g.outstanding >= follows:
        if g.outstanding > follows or g.row >= g.written:
            return _WRITE
    scores = command.final and command.score
    if scores and here.rows >= here.depth:
        return _SCORES
    wake(m)
    ends = g.row == g.pass_rows[k] - 1
    row = m.row[n, g.issued % len(m.row[0])]
    g.issued += 1
    row.at = t + g.latency[here.form]
    row.writes = command.final and not command.score
    row.score = scores
    row.ends = ends
    row.last = ends and command.last
    row.vector = command.vector and command.pause
    row.input = here.number
    row.buffer = g.pass_buffer[k]
    row.count = min(here.parts, g.pass_items[k] - g.row * here.parts)
    if scores:
        here.added = 1
    g.single = ends and g.row == 0
    g.row += 1
    if ends:
        _layer(m, g, k, t, command)
        g.row = 0
        if row.writes:
            g.grown = 1
        g.freed[k & 1] = t + g.late[here.form] + 1
        g.issuing += 1
        g.loaded -= 1
    return _BUSY


@compiled
def _layer(m, g, k, t, command):
    """Count the cycles of a pass: from the last row of the one before of its token to its own."""
    token = g.pass_token[k]
    if token != g.token_last:
        g.token_last = token
        g.layer_last = t - g.pass_rows[k]
    command.cycles += t - g.layer_last
    command.passes += 1
    g.layer_last = t


@compiled
def _load(m, g, t):
    """Begin to load the weights of a pass; whether that could be."""
    k = g.begun & RING
    earliest = max(g.loads, g.freed[k & 1])
    if earliest > t:
        wake_at(m, earliest)
        return False
    wake(m)
    g.freed[k & 1] = FAR
    g.loads = t + g.tile_rows
    g.begun += 1
    g.loaded += 1
    g.active += 1
    g.passes -= 1
    return True


@compiled
def _walk(m, g, t, level):
    """Walk programs: send a pass, take a token, or let one without items leave."""
    if not g.walking:
        unit, kind = _waits(m, g, t)
        if unit >= 0:
            wake(m)
            g.walking = 1
            g.sends = t + WALK
            _take(m, g, unit, kind)
        return
    token, here = m.token[g.token_now], m.input[g.input_now]
    if token.items == 0:
        if g.running == 0 and here.rows < here.depth:
            wake(m)
            _push(m, here, 0, True)
            here.added = 1
            here.free[g.buffer_now] = t + 1
            m.dispatcher[0].stale = 1
            g.change -= here.cost
            g.over += 1
            g.walking = 0
    elif g.sends > t:
        wake_at(m, g.sends)
    elif level < 2:
        wake(m)
        _send(m, g, token.items, here.parts)
        g.sends = t + WALK
        command = m.command[g.command]
        g.walking = not command.last and not command.pause
        g.command += 1
        if command.pause:
            pause(m, here.dot, t, g.token_now, g.buffer_now, g.command)


@compiled
def _take(m, g, unit, kind):
    """Take a token, or go on with one."""
    if kind == OTHER:
        k = g.taken % TOKENS
        g.taken += 1
        g.token_now = g.token[k]
        g.input_now = g.token_input[k]
        g.buffer_now = g.token_buffer[k]
        g.command = m.input[g.input_now].program
    else:
        g.token_now, g.buffer_now, g.command = take_offer(m, unit, kind)
        g.input_now = m.dot[unit].input


@compiled
def _send(m, g, items, parts):
    """Send a pass."""
    k = (g.begun + g.passes) & RING
    g.pass_command[k] = g.command
    g.pass_token[k] = g.token_now
    g.pass_input[k] = g.input_now
    g.pass_buffer[k] = g.buffer_now
    g.pass_items[k] = items
    g.pass_rows[k] = -(-items // parts)
    g.passes += 1
    g.running += 1


@compiled
def _finish(m, n, g, t):
    """Follow rows that leave the array in this cycle."""
    grown, g.grown = g.grown, 0
    if g.left != g.issued:
        row = m.row[n, g.left % len(m.row[0])]
        wake_at(m, row.at - 1 if row.at - 1 > t else t + 1)
        if row.at == t:
            wake(m)
            g.left += 1
            _leave(m, g, row, t)
    g.outstanding += grown


@compiled
def _leave(m, g, row, t):
    here = m.input[row.input]
    if row.writes:
        g.written += 1
        if row.ends:
            g.written = 0
            g.outstanding -= 1
    if row.score:
        _push(m, here, row.count, row.ends)
    if row.ends:
        g.active -= 1
        g.running -= 1
    if row.vector:
        m.dot[here.dot].made[row.buffer] += 1
    if row.last:
        here.free[row.buffer] = t + 1
        m.dispatcher[0].stale = 1
        g.change -= here.cost
        g.over += 1


@compiled
def _push(m, here, count, last):
    """Queue a row of scores."""
    at = (here.popped + here.stored + here.there) % len(m.scores[0])
    m.scores[here.number, at] = 2 * count + last
    here.stored += 1
    m.filter[here.stage].rows += 1


@compiled
def refill_scores(here):
    """Show the next row of scores, if none is."""
    if not here.there and here.stored:
        here.there = 1
        here.stored -= 1
        here.count = 0
        return True
    return False


@compiled
def _count(m, here, t):
    """Count rows of items that are there, and rows of scores."""
    if here.due_head != here.due_tail:
        due = here.due[here.due_head & 3]
        wake_at(m, max(due, t + 1))
        if due <= t + 1:
            wake(m)
            here.arrived[here.due_buffer[here.due_head & 3]] += 1
            here.due_head += 1
    if here.added or here.gone:
        wake(m)
    here.rows += here.added - here.gone
    here.added = here.gone = 0
