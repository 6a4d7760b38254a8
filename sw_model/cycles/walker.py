"""The walkers of gather units, and the feature buffer that they read."""

from __future__ import annotations

from sw_model.cycles.records import compiled, record, wake

__all__ = ["STEP", "TOKEN", "WALKER", "read_features", "refill_positions", "walk"]

WALKER = record(
    "planned taken have started index token found found_start found_item found_token "
    "event event_start event_item event_token reads read_head step answers coming "
    "valid at given stored there empties wants grant waits_features waits_position "
    "steps steps_end lanes lane query_bytes item_bytes read_bytes bus_bytes tokens",
    queue=8,
)
TOKEN = record(
    "query items listed first planned taken started group gathered "
    "first_row last_row first_score last_score first_left last_left"
)
STEP = record("address item last")
READS = 8  # reads of the feature buffer in flight
ANSWERS = 4  # answers in flight or waiting at a port
QUEUE = 2  # pieces that wait for a lane
START = -1  # in place of a step


@compiled
def _asks(m, w):
    """Whether a walker asks for features, and whether these are there."""
    w.wants = 0
    if not w.event or w.event_start or w.reads == READS:
        return False
    w.wants = 1
    if w.answers + w.coming >= ANSWERS:
        return False
    admission = m.admission[0]
    query = m.token[w.event_token].query
    if admission.shows and admission.query == query:
        step = m.step[w.steps + w.step]
        address = step.address
        if step.item:
            address += w.query_bytes + m.position[w.event_item] * w.item_bytes
        return address + w.read_bytes <= admission.shown * w.bus_bytes
    return True


@compiled
def read_features(m, ports):
    """Serve one of the walkers that ask, taking turns; ``ports[0]`` was served last."""
    stages = len(m.walker)
    chosen = -1
    for n in range(stages):
        w = m.walker[n]
        w.grant = 0
        if _asks(m, w):
            before = chosen < 0
            later = n > ports[0]
            if before or (later and chosen <= ports[0]):
                chosen = n
    if chosen >= 0:
        m.walker[chosen].grant = 1
        ports[0] = chosen
        wake(m)


@compiled
def walk(m, n, t):
    """A walker's cycle, from the pieces that it gives back to the tokens that it takes."""
    w = m.walker[n]
    if not (w.have or w.found or w.event or w.reads or w.valid or w.coming):
        w.waits_features = w.waits_position = 0
        if w.taken < w.planned and m.token[w.tokens + w.taken].planned < t:
            _take(m, w)
        return
    held_up, level = _give(m, w, t, m.dense[n])
    w.waits_features = w.wants and not w.grant and not held_up
    ready = _known(m, w)
    w.waits_position = w.have and not ready and not held_up
    done = _read(m, w, level)
    w.answers += w.coming
    if w.coming or w.grant:
        wake(m)
    w.coming = w.grant
    move = not w.event or done
    if move:
        if w.event or w.found:
            wake(m)
        w.event = w.found
        w.event_start = w.found_start
        w.event_item = w.found_item
        w.event_token = w.found_token
    had = w.have
    if move or not w.found:
        _find(m, w, ready)
    if not had and w.taken < w.planned and m.token[w.tokens + w.taken].planned < t:
        _take(m, w)


@compiled
def _take(m, w):
    """Take a token."""
    wake(m)
    w.have = 1
    w.started = w.index = 0
    w.token = w.tokens + w.taken
    w.taken += 1


@compiled
def _known(m, w):
    """Whether the next item is known; of none, that the stage before has released them."""
    token = m.token[w.token]
    if token.items == 0:
        return w.empties != 0
    return not token.listed or w.there != 0


@compiled
def _find(m, w, ready):
    """Go on to the next start or item of the token."""
    token = m.token[w.token]
    if w.found or (w.have and ready):
        wake(m)
    w.found = w.have and ready
    w.found_start = not w.started
    w.found_token = w.token
    w.found_item = token.first + w.index
    if not w.found:
        return
    if not w.started:
        w.started = 1
        w.have = token.items != 0
        w.empties -= token.items == 0
    else:
        if token.listed:
            w.there = 0
        w.index += 1
        w.have = w.index != token.items


@compiled
def _read(m, w, level):
    """Put what is read into the queue; whether the event is over."""
    if w.event and w.event_start:
        if level == READS:
            return False
        w.queue[(w.read_head + w.reads) & (READS - 1)] = START
        w.reads += 1
        wake(m)
        return True
    if not w.grant:
        return False
    w.queue[(w.read_head + w.reads) & (READS - 1)] = w.step
    w.reads += 1
    last = m.step[w.steps + w.step].last
    w.step = 0 if last else w.step + 1
    return last != 0


@compiled
def _give(m, w, t, dense):
    """Give lanes their pieces; whether one holds up the walker, and reads there were."""
    every = w.valid
    if w.valid:
        for number in range(w.lanes):
            if w.given >> number & 1:
                continue
            lookups = 1 if w.at == START else m.piece[w.steps + w.at, number]
            if not lookups:
                continue
            lane = m.lane[w.lane + number]
            if lane.queued + (lane.popped == t) == QUEUE:
                every = 0
                continue
            lane.queue[(lane.front + lane.queued) & 1] = lookups
            lane.queued += 1
            lane.awake = m.packer[lane.stage].stirred = 1
            w.given |= 1 << number
            wake(m)
        if not w.given >> w.lanes & 1 and (
            w.at == START or m.piece[w.steps + w.at, len(m.piece[0]) - 1]
        ):
            if dense.takes:
                dense.valid = dense.awake = 1
                w.given |= 1 << w.lanes
                wake(m)
            else:
                every = 0
    held_up = w.valid != 0 and not every
    level = w.reads
    if not held_up:
        w.given = 0
        w.valid = 0
        if w.reads:
            step = w.queue[w.read_head & (READS - 1)]
            if step == START or w.answers:
                w.valid = 1
                w.at = step
                w.answers -= step != START
                w.read_head += 1
                w.reads -= 1
                wake(m)
    return held_up, level


@compiled
def refill_positions(w):
    """A position that waits is shown, if none is."""
    if not w.there and w.stored:
        w.there = 1
        w.stored -= 1
        return True
    return False
