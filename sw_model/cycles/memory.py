"""The memory ports, and device memory behind them."""

from __future__ import annotations

from rpaccel.counters import MEMORY_COUNTERS, states_of
from sw_model.cycles.records import compiled, record, wake, wake_at

__all__ = ["BANK", "BURST", "CHANNEL", "memory"]

CHANNEL = record(
    "unit latency gap_num gap_den reorder random banks row_bytes t_rcd t_rp t_cas t_rc "
    "ssd_first ssd_latency ssd_num ssd_den ssd_free by_due "
    "asks ready lane miss pending turn owed "  # address channel
    "head tail busy left credit at beat beat_lane beat_miss beat_last "  # memory
    "granted queued first lanes channels line_bytes beats",
    queue_lane=2,
    queue_miss=2,
    queue_last=2,
)
BURST = record("waiting lane miss due")
BANK = record("open row free again")
DEPTH, WINDOW = 256, 16
RETURN = 2  # cycles from a beat's grant until its line counts as arrived
TAG = 3  # and until its tag is free

_STATES = {name: n for n, name in enumerate(states_of(MEMORY_COUNTERS))}
_BUSY, _CLIENTS, _MEMORY = (_STATES[n] for n in ("busy", "stall_clients", "stall_memory"))
_STARVED = _STATES["starved"]


@compiled
def memory(m, t):
    """A cycle of all channels: beats to lanes, memory, addresses."""
    count = len(m.channel)
    for n in range(count):
        c = m.channel[n]
        c.granted = 0
        if c.queued:
            lane = m.lane[c.queue_lane[c.first & 1]]
            best = -1  # of the channels with a beat for this lane, the next in turn
            for k in range(count):
                o = m.channel[k]
                if o.queued and o.queue_lane[o.first & 1] == c.queue_lane[c.first & 1]:
                    if best < 0 or (k > lane.turn and best <= lane.turn):
                        best = k
            c.granted = best == n
    for n in range(count):
        _channel(m, n, t)


@compiled
def _channel(m, n, t):
    c = m.channel[n]
    # Only with something to do does anything change.
    if not (c.asks or c.pending or c.owed or c.beat or c.queued):
        m.cause[c.unit] = _STARVED
        return
    if not (c.asks or c.pending or c.beat or c.queued or c.busy or c.by_due):
        due = m.burst[n, c.head % DEPTH].due
        if due > t:  # something is owed, and nothing else can happen
            m.cause[c.unit] = _MEMORY
            wake_at(m, due)
            return
    level = c.queued
    taken = c.beat and level < 2
    m.cause[c.unit] = (
        _BUSY if taken else _CLIENTS if c.beat else _MEMORY if c.asks or c.owed else _STARVED
    )
    if c.granted:
        wake(m)
        _deliver(m, n, c, t)
    if taken:
        wake(m)
        at = (c.first + c.queued) & 1
        c.queue_lane[at] = c.beat_lane
        c.queue_miss[at] = c.beat_miss
        c.queue_last[at] = c.beat_last
        c.queued += 1
        c.owed -= c.beat_last
    accepts = c.asks and c.ready
    if accepts:
        wake(m)
        _accept(m, n, c, t)
    c.credit = min(c.credit + c.gap_den * (t - c.at), c.gap_num + c.gap_den - 1)
    c.at = t
    if not c.beat or taken:
        c.beat = 0
        if not c.busy:
            if c.by_due:
                _choose_by_due(m, n, c, t)
            else:
                _choose(m, n, c, t)
        if c.busy:
            wake(m)
            if c.credit >= c.gap_num:
                _send(c)
    c.ready = c.tail - c.head < DEPTH
    if accepts:
        c.asks = 0
        c.owed += 1
    if c.pending and not c.asks:
        wake(m)
        _take(m, n, c)


@compiled
def _deliver(m, n, c, t):
    """Give a lane its beat; the last one of a line completes it."""
    at = c.first & 1
    number = c.queue_lane[at]
    lane = m.lane[number]
    lane.turn = n
    if c.queue_last[at]:
        m.arrived[number, c.queue_miss[at] % lane.lookahead] = t + RETURN
        m.freed[number, lane.returned % lane.outstanding] = t + TAG
        lane.returned += 1
        lane.awake = m.packer[lane.stage].stirred = 1
    c.first += 1
    c.queued -= 1


@compiled
def _take(m, n, c):
    """Take a request of a lane, in turn."""
    best = c.turn
    for _ in range(c.lanes):
        best = best + 1 if best + 1 < c.lanes else 0
        if m.lane[best].asks == n + 1:
            break
    lane = m.lane[best]
    lane.asks = 0
    lane.awake = m.packer[lane.stage].stirred = 1
    c.turn = best
    c.pending -= 1
    c.asks = 1
    c.lane = best
    c.miss = lane.asked


@compiled
def _accept(m, n, c, t):
    """Take an address."""
    burst = m.burst[n, c.tail % DEPTH]
    burst.waiting = 1
    burst.lane = c.lane
    burst.miss = c.miss
    line = m.missed[m.lane[c.lane].missing + c.miss, 0]
    burst.due = _due(m, n, c, t, line // c.channels * c.line_bytes) + c.latency - 1
    c.tail += 1


@compiled
def _due(m, n, c, t, address):
    """When the data at an address are there, latency apart."""
    if address >= c.ssd_first:
        c.ssd_free = max(c.ssd_free, t * c.ssd_den) + c.line_bytes * c.ssd_num
        return -(-c.ssd_free // c.ssd_den) + c.ssd_latency
    if not c.banks:
        return t
    row = address // c.row_bytes
    bank = m.bank[n, row % c.banks]
    row //= c.banks
    command = max(bank.free, t)
    if not bank.open or bank.row != row:
        if bank.open:
            command += c.t_rp
        command = max(command, bank.again)
        bank.again = command + c.t_rc
        command += c.t_rcd
        bank.open = 1
        bank.row = row
    bank.free = command + c.beats
    return command + c.t_cas


@compiled
def _begin(m, n, c, at):
    burst = m.burst[n, at % DEPTH]
    burst.waiting = 0
    c.busy = 1
    c.left = c.beats
    c.beat_lane = burst.lane
    c.beat_miss = burst.miss


@compiled
def _choose_by_due(m, n, c, t):
    """Begin the burst that is due first, the oldest of several; those before it close up."""
    best = -1
    for k in range(c.head, c.tail):
        due = m.burst[n, k % DEPTH].due
        if best < 0 or due < m.burst[n, best % DEPTH].due:
            best = k
    if best < 0:
        return
    due = m.burst[n, best % DEPTH].due
    if due > t:
        wake_at(m, due)
        return
    _begin(m, n, c, best)
    for k in range(best, c.head, -1):
        here, before = m.burst[n, k % DEPTH], m.burst[n, (k - 1) % DEPTH]
        here.lane = before.lane
        here.miss = before.miss
        here.due = before.due
        here.waiting = 1
    c.head += 1


@compiled
def _choose(m, n, c, t):
    """Begin the oldest burst, or, if they may be reordered, a random one of those that are due."""
    if c.head == c.tail:
        return
    due = m.burst[n, c.head % DEPTH].due
    if due > t:
        wake_at(m, due)
        return
    chosen = c.head
    if c.reorder:
        c.random = _random(c.random)
        other = c.head + c.random % 65536 % WINDOW
        if other < c.tail:
            burst = m.burst[n, other % DEPTH]
            if burst.waiting and burst.due <= t:
                chosen = other
    _begin(m, n, c, chosen)
    while c.head != c.tail and not m.burst[n, c.head % DEPTH].waiting:
        c.head += 1


@compiled
def _random(value):
    """Next value of the xorshift32 that memory decides by."""
    value ^= value << 13 & 0xFFFFFFFF
    value ^= value >> 17
    return value ^ (value << 5 & 0xFFFFFFFF)


@compiled
def _send(c):
    c.credit -= c.gap_num
    c.left -= 1
    c.beat = 1
    c.beat_last = c.left == 0
    c.busy = c.left != 0
