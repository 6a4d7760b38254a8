"""The compiled cache model against an obvious one, lookup by lookup; MIN against all choices."""

from bisect import insort
from collections import Counter, OrderedDict
from functools import cache as memoise

import numpy as np
import pytest

from sw_model.embedding_memory import Cache, Replacement, Trace, least_fetches, simulate


def obvious(trace, cache, warm):
    """Counters of a cache, each set a list of [line, used], in the order of insertion or of use."""
    sets = [[] for _ in range(cache.sets)]
    slots = [[] for _ in range(cache.sets)]  # CLOCK: the same entries in the order of ways
    hands = [None] * cache.sets
    landing, queue, out = OrderedDict(), [], Counter()
    missed = []

    def choose(s):
        entries, pinned = sets[s], [x for x, _ in queue]
        if all(e[0] in pinned for e in entries):
            return None
        if cache.replacement in (Replacement.FIFO, Replacement.LRU):
            return next(e for e in entries if e[0] not in pinned)
        ring = slots[s] if cache.replacement == Replacement.CLOCK else entries
        at = hands[s] or 0
        while True:
            entry = ring[at % len(ring)]
            if not entry[1] and entry[0] not in pinned:
                # the victim leaves its place to the next: for CLOCK the new line takes it
                hands[s] = at % len(ring) + (cache.replacement == Replacement.CLOCK)
                return entry
            entry[1] = False
            at += 1

    def insert(x, s):
        entry = [x, False]
        if len(sets[s]) == cache.ways:
            victim = choose(s)
            if victim is None:
                return False
            way = slots[s].index(victim)
            sets[s].remove(victim)
            slots[s][way] = entry
            out["evictions"] += 1
        else:
            slots[s].append(entry)
        sets[s].append(entry)
        return True

    def leave():
        x, _ = queue.pop(0)
        if x not in landing or any(x == y for y, _ in queue):
            return
        uses = landing.pop(x)
        if not ((uses > 1 or not cache.bypass) and insert(x, x % cache.sets)):
            out["bypassed"] += 1

    for number, x in enumerate(trace):
        if number == warm:
            out.clear()
        s = x % cache.sets
        found = [e for e in sets[s] if e[0] == x]
        missed.append(not found and x not in landing)
        if found:
            found[0][1] = True
            if cache.replacement == Replacement.LRU:
                sets[s].remove(found[0])
                sets[s].append(found[0])
        else:
            landing[x] = landing.get(x, 0) + 1
            out["landing"] = max(out["landing"], len(landing))
        queue.append((x, number))
        if len(queue) > cache.lookahead:
            leave()
    while queue:
        leave()
    return out, missed


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("lookahead", [0, 1, 7, 40])
@pytest.mark.parametrize("replacement", Replacement)
def test_counts_as_the_obvious_model_does(rng, replacement, lookahead, bypass):
    for _ in range(6):
        cache = Cache(
            sets=int(rng.choice([1, 2, 4])),
            ways=int(rng.integers(1, 6)),
            replacement=replacement,
            lookahead=lookahead,
            bypass=bypass,
        )
        lines = np.minimum(rng.zipf(1.3, 400), 60) * 3 + 5
        warm = int(rng.choice([0, 150]))
        wanted, missed = obvious(lines.tolist(), cache, warm)
        counted = simulate(Trace(lines), cache, warm=warm)
        assert counted.missed.tolist() == missed
        assert counted.fetched == sum(missed[warm:]) == counted.lookups - counted.hits
        assert (counted.evictions, counted.bypassed) == (wanted["evictions"], wanted["bypassed"])
        assert counted.prefetched == (counted.fetched if lookahead else 0)
        assert counted.useless == 0
        if warm == 0:
            assert counted.landing == wanted["landing"]


def fewest(trace, room, warm):
    """Fewest fetches over all choices of what to keep: dynamic programming over contents."""

    @memoise
    def after(i, kept):
        if i == len(trace):
            return 0
        x = trace[i]
        cost = x not in kept and i >= warm
        choices = {kept} if len(kept) <= room else set()
        grown = kept | {x}
        choices |= {grown} if len(grown) <= room else {grown - {y} for y in grown}
        return cost + min(after(i + 1, c) for c in choices)

    return after(0, frozenset())


def test_no_choice_fetches_less_than_the_least(rng):
    for _ in range(40):
        lines = rng.integers(0, 6, 14)
        room, warm = int(rng.integers(1, 4)), int(rng.choice([0, 5]))
        least = least_fetches(Trace(lines), room, warm=warm)
        if warm == 0:
            assert least == fewest(tuple(lines.tolist()), room, warm)
            parts = [least_fetches(Trace(lines), room, warm=i, tail=13 - i) for i in range(14)]
            assert sum(parts) == least
            assert set(parts) <= {0, 1}
        else:  # MIN takes the warm-up into account, and so may pay there
            assert least >= fewest(tuple(lines.tolist()), room, warm)


def test_least_on_long_traces_is_below_every_policy(rng):
    """Long enough for all levels of its bit map; the same rule with a sorted list."""
    lines = np.minimum(rng.zipf(1.2, 300_000), 50_000)
    trace = Trace(lines)
    following, uses = {}, {}
    for i in range(len(lines) - 1, -1, -1):
        following[i] = uses.get(lines[i])
        uses[lines[i]] = i
    wanted, kept = 0, []
    for i in range(len(lines)):
        if kept and kept[0] == i:
            kept.pop(0)
        else:
            wanted += 1
        if following[i] is not None:
            insort(kept, following[i])
            if len(kept) > 256:
                kept.pop()
    least = least_fetches(trace, 256)
    assert least == wanted
    for replacement in Replacement:
        assert simulate(trace, Cache(16, 16, replacement)).fetched > least


def test_hand_computed():
    """SIEVE keeps what was used where LRU is washed out by a scan; CLOCK moves it behind."""
    lines = np.array([1, 2, 1, 3, 4, 5, 1])
    fetched = {r: simulate(Trace(lines), Cache(1, 2, r)).fetched for r in Replacement}
    assert fetched == {
        Replacement.FIFO: 6,
        Replacement.LRU: 6,
        Replacement.CLOCK: 6,
        Replacement.SIEVE: 5,
    }
