"""Access times against hand computation: what looking ahead hides, and what bandwidth does not."""

import numpy as np

from sw_model.fetch_timing import Memory, access_times

DRAM = Memory()


def stage(items, *, ahead, batch=None, lookups=1, missed=True, memory=DRAM):
    """Items that each read ``lookups`` lines of their own."""
    n = items * lookups
    known = np.arange(items) // (batch or items) * (batch or items)
    return access_times(
        np.arange(n),
        np.full(n, missed),
        np.repeat(np.arange(items), lookups),
        known,
        ahead=ahead,
        memory=memory,
    )


def test_without_looking_ahead_each_miss_takes_all_of_memory_s_latency():
    assert stage(50, ahead=0).cycles == 50 * 100
    assert stage(50, ahead=0, missed=False).cycles == 50


def test_far_ahead_only_the_start_waits():
    # The first waits for 100 cycles; meanwhile the others are asked for, an item a cycle.
    found = stage(1000, ahead=128)
    assert found.cycles == 100 + 999
    assert found.missed_cycles == found.cycles


def test_too_near_hides_a_part():
    # 20 items in each 100 cycles: the first of each window waits for the rest of its latency.
    near, nearer = stage(1000, ahead=50).cycles, stage(1000, ahead=10).cycles
    assert 1099 < near < nearer < 100_000


def test_batches_that_become_known_late_start_anew():
    # A batch is known when the one before was read: its first item waits again.
    assert stage(100, ahead=128, batch=25).cycles == 4 * (100 + 24)


def test_bandwidth_is_what_limits_then():
    # 16 lines an item, 4 a cycle: they come in 4 cycles, and the reader waits 3 of them.
    found = stage(2000, ahead=128, lookups=16)
    assert 1.7 < found.cycles / 32_000 < 1.9  # (1 + 1 + 2 + 3) / 4, and the start
    assert stage(2000, ahead=128, lookups=16, memory=Memory(100, 16)).cycles < 1.1 * 32_000


def test_a_line_that_is_on_its_way_is_waited_for():
    lines, missed = np.array([0, 0]), np.array([True, False])
    found = access_times(lines, missed, np.array([0, 1]), np.zeros(2, int), ahead=0)
    assert (found.cycles, found.missed_cycles) == (101, 100)
    found = access_times(lines, missed, np.array([0, 0]), np.zeros(1, int), ahead=0)
    assert (found.cycles, found.missed_cycles) == (200, 100)
    found = access_times(lines, missed, np.array([0, 1]), np.zeros(2, int), ahead=0, first=1)
    assert (found.cycles, found.missed_cycles) == (1, 0)


def test_no_lookups_at_all():
    empty = np.zeros(0, int)
    found = access_times(empty, empty.astype(bool), empty, np.zeros(3, int), ahead=4)
    assert found.cycles == 0
