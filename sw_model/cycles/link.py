"""The host port, and host memory behind its link."""

from __future__ import annotations

from rpaccel.counters import HOST_READ_COUNTERS, HOST_WRITE_COUNTERS, states_of
from sw_model.cycles.records import compiled, record, wake, wake_at

__all__ = [
    "ADMISSION",
    "FETCHER",
    "LINK",
    "WRITE_DONE",
    "WRITE_IDLE",
    "data_ready",
    "read_port",
    "write_port",
]

LINK = record(
    "latency gap_num gap_den outstanding beats "  # the link, and beats of a block
    "blocks in_flight asked answered beat read_beat read_credit read_at "
    "read_head read_tail read_sent "
    "state addresses bursts responses write_beat write_credit write_at write_ready responded "
    "write_head write_data write_tail",
    asker=4,
    left=4,
)
RING = 1023  # bursts that host memory takes, less one
FETCHER, ADMISSION = 0, 1
WRITE_IDLE, WRITE, WRITE_DONE = range(3)

_READ = {name: n for n, name in enumerate(states_of(HOST_READ_COUNTERS))}
_BUSY, _HOST, _STARVED = _READ["busy"], _READ["stall_host"], _READ["starved"]
_WRITE = {name: n for n, name in enumerate(states_of(HOST_WRITE_COUNTERS))}
_W_BUSY, _W_DEVICE = _WRITE["busy"], _WRITE["stall_device"]
_W_HOST, _W_STARVED = _WRITE["stall_host"], _WRITE["starved"]
READ_UNIT, WRITE_UNIT = 0, 1


@compiled
def _credited(credit, passed, num, den):
    """Credit for beats: at most one that was not used is kept."""
    return min(credit + den * passed, num + den - 1)


@compiled
def read_port(m, t):
    """Take a beat, ask for a block, take a request: the fetcher's first."""
    link, fetcher, admission = m.link[0], m.fetcher[0], m.admission[0]
    fetcher.beat = admission.beat = fetcher.last = admission.last = 0
    fetcher.granted = admission.granted = 0
    level = link.in_flight
    asks = link.blocks != 0 and level < link.outstanding
    m.cause[READ_UNIT] = _BUSY if link.beat else _HOST if asks or level else _STARVED
    if link.beat:
        wake(m)
        _take(link, fetcher, admission)
    ready = link.blocks == 0 or (link.blocks == 1 and asks)
    if asks:
        wake(m)
        m.due[0, link.read_tail & RING] = t + link.latency - 1
        link.read_tail += 1
        link.in_flight += 1
        link.blocks -= 1
    passed = t - link.read_at
    link.read_credit = _credited(link.read_credit, passed, link.gap_num, link.gap_den)
    link.read_at = t
    link.beat = 0
    if link.read_tail != link.read_head:
        due = m.due[0, link.read_head & RING]
        wake_at(m, max(due, t + 1))
        if due <= t and link.read_credit >= link.gap_num:
            link.beat = 1
            link.read_credit -= link.gap_num
            link.read_sent += 1
            if link.read_sent == link.beats:
                link.read_sent = 0
                link.read_head += 1
    if ready and (fetcher.asks or admission.asks):
        wake(m)
        if fetcher.asks:
            fetcher.granted = 1
            _ask(link, FETCHER, 1)
        else:
            admission.granted = 1
            _ask(link, ADMISSION, admission.blocks)


@compiled
def _ask(link, asker, blocks):
    link.blocks = blocks
    link.asker[link.asked & 3] = asker
    link.left[link.asked & 3] = blocks * link.beats
    link.asked += 1


@compiled
def _take(link, fetcher, admission):
    """Give a beat to whoever asked for it."""
    front = link.answered & 3
    link.left[front] -= 1
    last = link.left[front] == 0
    if link.asker[front] == FETCHER:
        fetcher.beat = 1
        fetcher.last = last
    else:
        admission.beat = 1
        admission.last = last
    link.answered += last
    link.read_beat += 1
    if link.read_beat == link.beats:
        link.read_beat = 0
        link.in_flight -= 1


@compiled
def data_ready(m):
    """Whether a beat that is to be written is taken."""
    link = m.link[0]
    return link.write_ready != 0 and link.bursts != 0


@compiled
def write_port(m, t):
    """Write what the completer gives."""
    link, completer = m.link[0], m.completer[0]
    writes = link.bursts != 0 and completer.gives
    goes = writes and link.write_ready
    m.cause[WRITE_UNIT] = (
        _W_BUSY
        if goes
        else _W_DEVICE
        if link.bursts != 0 and not completer.gives
        else _W_HOST
        if link.responses
        else _W_STARVED
    )
    responded = link.responded and link.responses != 0
    passed = t - link.write_at - 1
    if passed > 0:
        credit = _credited(link.write_credit, passed, link.gap_num, link.gap_den)
        link.write_credit = credit
    link.write_at = t
    if link.addresses:
        wake(m)
        link.write_tail += 1
        link.addresses -= 1
    if goes:
        wake(m)
        link.write_credit -= link.gap_num
        link.write_beat += 1
        if link.write_beat == link.beats:
            link.write_beat = 0
            m.due[1, link.write_data & RING] = t + link.latency - 1
            link.write_data += 1
            link.bursts -= 1
    _respond(m, t, link)
    link.write_credit = _credited(link.write_credit, 1, link.gap_num, link.gap_den)
    ready = link.write_data != link.write_tail and link.write_credit >= link.gap_num
    if ready != (link.write_ready != 0) or link.write_data != link.write_tail:
        wake(m)
    link.write_ready = ready
    if responded:
        wake(m)
        link.responses -= 1
        if link.responses == 0:
            link.state = WRITE_DONE
    if link.state == WRITE_DONE and completer.takes_done:
        link.state = WRITE_IDLE
        wake(m)
    if link.state == WRITE_IDLE and completer.asks:
        link.state = WRITE
        link.addresses = link.bursts = link.responses = completer.asks
        wake(m)


@compiled
def _respond(m, t, link):
    link.responded = 0
    if link.write_head != link.write_data:
        due = m.due[1, link.write_head & RING]
        wake_at(m, max(due, t + 1))
        if due <= t:
            link.responded = 1
            link.write_head += 1
