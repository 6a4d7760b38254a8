"""Macros go where the accesses are, and lines of tables into them."""

import itertools

import numpy as np

from rpaccel.placement import (
    assign_macros,
    macro_heat,
    share_evenly,
    share_hottest,
    share_macros,
)


def test_even_shares():
    assert share_evenly(10, [100, 100], [1, 1]) == [5, 5]
    assert share_evenly(10, [2, 100], [1, 1]) == [2, 8]
    assert share_evenly(300, [2, 100], [1, 1]) == [2, 100]
    assert share_evenly(10, [99, 100], [3, 1]) == [3, 7]
    assert share_evenly(1, [9, 9, 9], [1, 1, 1]) == [0, 0, 1]
    assert share_evenly(2, [9, 9], [3, 3]) == [0, 0]


def test_hottest_shares():
    heat = [np.array([9.0, 5, 1]), np.array([8.0, 6, 6])]
    assert share_hottest(3, heat, [1, 1]) == [1, 2]
    assert share_hottest(5, heat, [1, 1]) == [2, 3]
    assert share_hottest(100, heat, [1, 1]) == [3, 3]
    assert share_hottest(4, heat, [3, 1]) == [0, 3]
    # a hot line behind a cold one counts no more than that
    assert share_hottest(2, [np.array([1.0, 99]), np.array([3.0, 2])], [1, 1]) == [0, 2]


def test_no_other_assignment_has_more_hits_where_heat_falls(rng):
    for _ in range(20):
        heat = [np.sort(rng.integers(0, 50, rng.integers(1, 8)))[::-1] for _ in range(3)]
        macros = int(rng.integers(1, 6))
        given = assign_macros(heat, macros)

        def hits(shares, heat=heat):
            return sum(h[:s].sum() for h, s in zip(heat, shares, strict=True))

        choices = itertools.product(range(macros + 1), repeat=3)
        assert sum(given) <= macros
        assert hits(given) == max(hits(c) for c in choices if sum(c) <= macros)


def test_cold_lines_do_not_hide_hot_ones():
    heat = [np.array([1, 0, 0, 90]), np.array([9, 9])]
    assert assign_macros(heat, 4).tolist() == [4, 0]
    assert assign_macros(heat, 0).tolist() == [0, 0]
    assert assign_macros([np.zeros(4, int), np.ones(2, int)], 9).tolist() == [0, 2]


def test_heat_of_macros_is_that_of_the_lines_they_would_hold(rng):
    for _ in range(20):
        units = [int(n) for n in rng.integers(1, 3, 3)]
        heat = [np.sort(rng.random(rng.integers(1, 9)))[::-1] for _ in units]
        found = macro_heat(heat, units, 2)  # whole units: no unit is in two macros but the last
        lines = sum(len(h) * u for h, u in zip(heat, units, strict=True))
        assert np.isclose(found.sum(), sum(h.sum() for h in heat))
        assert len(found) >= lines // 2 - 1
        if units == [1, 1, 1]:
            for macros in range(1, len(found) + 1):
                got = share_hottest(2 * macros, heat, units)
                held = sum(h[:n].sum() for h, n in zip(heat, got, strict=True))
                assert np.isclose(found[:macros].sum(), held)
    assert macro_heat([], [], 4).tolist() == []


def test_macros_of_lanes():
    # Two lanes gain by them, the third has no rows; none is left over while rows are.
    heat = [np.array([9.0, 1]), np.array([5.0, 4, 3]), np.zeros(0)]
    assert share_macros(3, [2, 3, 0], heat) == [1, 2, 0]
    assert share_macros(9, [2, 3, 0], heat) == [2, 3, 0]
    cold = [np.zeros(2), np.array([1.0]), np.zeros(0)]
    assert share_macros(4, [2, 5, 0], cold) == [1, 3, 0]
    assert share_macros(4, [2, 5, 0], None) == [2, 2, 0]
