"""Dot interaction units of groups, and the order of the tokens that they have a part in."""

from __future__ import annotations

from sw_model.cycles.records import compiled, record, wake

__all__ = ["DOT", "dot", "dot_writes", "offered", "pause", "settle", "take_offer"]

DOT = record(
    "input cycles writes base bottom "
    "started begun written "  # tokens
    "item part row shown ring pipe left write_item "
    "waiting went inside finished done goes promised promises",  # the order of their runs
    token=2,
    buffer=2,
    made=2,
    wait_token=2,
    wait_buffer=2,
    wait_command=2,
    wait_since=2,
)
LATENCY = 5  # from an item's last operands to its results
BEFORE, AFTER, OTHER = 0, 1, 2


@compiled
def dot_writes(m, d, blocked):
    """Whether a unit writes, if the array does not."""
    return d.left != 0 and not blocked


@compiled
def dot(m, n, t, blocked):
    """A unit's cycle, from its writes back to the vectors that it reads."""
    d = m.dot[n]
    here = m.input[d.input]
    writes = dot_writes(m, d, blocked)
    ends = writes and d.left == 1
    complete = d.pipe >> LATENCY - 1 & 1
    moves = not complete or d.left == 0 or ends
    if d.left or d.pipe or d.ring or d.shown:
        wake(m)
    if writes:
        d.left -= 1
        if ends:
            d.write_item += 1
            if d.write_item == m.token[d.token[d.written & 1]].items:
                d.write_item = 0
                d.written += 1
                d.done = 1
    if moves and complete:
        d.left = d.writes
    takes = moves and d.ring <= 1
    if moves:
        d.pipe = (d.pipe << 1 | (d.ring == 1)) & (1 << LATENCY) - 1
        d.ring -= d.ring > 0
    shown = d.shown
    if takes:
        if d.shown:
            d.ring = d.cycles
        d.shown = 0
    if takes or not shown:
        _read(m, d, here, t)


@compiled
def _read(m, d, here, t):
    """Read an item whose vectors are there."""
    k = d.begun & 1
    if d.begun == d.started:
        return
    token = m.token[d.token[k]]
    buffer = d.buffer[k]
    if token.started >= t or d.row >= here.arrived[buffer]:
        return
    if d.bottom and d.row >= d.made[buffer]:
        return
    wake(m)
    d.shown = 1
    d.item += 1
    d.part += 1
    if d.part == here.parts:
        d.part = 0
        d.row += 1
    if d.item == token.items:
        d.item = d.part = d.row = 0
        d.begun += 1


@compiled
def pause(m, n, t, token, buffer, command):
    """A token makes room at its interaction."""
    d = m.dot[n]
    k = d.waiting & 1
    d.wait_token[k] = token
    d.wait_buffer[k] = buffer
    d.wait_command[k] = command
    d.wait_since[k] = t
    d.waiting += 1
    d.inside = 2  # until the next cycle


@compiled
def _complete(m, d, here, t):
    """Whether a unit's first token waits for its run before the interaction, and has all items."""
    token = m.token[here.start_token[here.begun & 1]]
    rows = -(-token.items // here.parts)
    return here.arrived[here.start_buffer[here.begun & 1]] == rows


@compiled
def _before(m, d, here, t):
    if here.begun == here.started_tokens or not d.bottom:
        return False
    token = m.token[here.start_token[here.begun & 1]]
    return token.started < t and token.items != 0


@compiled
def _may(m, d, here, t):
    """Whether a unit's first token behind its interaction can go on."""
    if not _waits(d, t):
        return False
    items = m.token[d.wait_token[d.went & 1]].items
    rows = max(1, -(-items // here.parts))
    return (items == 0 or d.finished != 0) and d.promised + rows <= here.depth


@compiled
def _waits(d, t):
    return d.went != d.waiting and d.wait_since[d.went & 1] < t


@compiled
def offered(m, first, count, other, t):
    """What runs next in a group: a unit's number and kind of run; -1 without one.

    ``first`` and ``count`` are the group's units; ``other`` says that another token waits.
    """
    none = True
    for n in range(first, first + count):
        here = m.input[m.dot[n].input]
        none = none and not _waits(m.dot[n], t)
        if _before(m, m.dot[n], here, t) and _complete(m, m.dot[n], here, t):
            return n, BEFORE
    for n in range(first, first + count):
        if _may(m, m.dot[n], m.input[m.dot[n].input], t):
            return n, AFTER
    if other:
        return 0, OTHER
    for n in range(first, first + count):
        if none and _before(m, m.dot[n], m.input[m.dot[n].input], t):
            return n, BEFORE
    return -1, OTHER


@compiled
def take_offer(m, n, kind):
    """Take a run: its token, buffer, and first command."""
    d = m.dot[n]
    here = m.input[d.input]
    if kind == BEFORE:
        k = here.begun & 1
        here.begun += 1
        d.inside = 1
        return here.start_token[k], here.start_buffer[k], here.program
    k = d.went & 1
    d.went += 1
    items = m.token[d.wait_token[k]].items
    d.promises = max(1, -(-items // here.parts))
    d.goes = items != 0
    return d.wait_token[k], d.wait_buffer[k], d.wait_command[k]


@compiled
def settle(m, n, t):
    """Bring what changed in this cycle into the order's registers."""
    d = m.dot[n]
    here = m.input[d.input]
    if here.begun != here.started_tokens and not d.inside:
        token = m.token[here.start_token[here.begun & 1]]
        if token.started < t and (not d.bottom or token.items == 0):
            k = here.begun & 1
            here.begun += 1
            pause(m, n, t, here.start_token[k], here.start_buffer[k], here.program)
            wake(m)
    if d.inside == 2:
        d.inside = 0
    if d.done or d.promises or here.gone:
        wake(m)
    d.finished += d.done - d.goes
    d.promised += d.promises - here.gone
    d.done = d.goes = d.promises = 0
