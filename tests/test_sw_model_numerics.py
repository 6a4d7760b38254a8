"""The machine's arithmetic against exact fractions and plain Python."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpaccel.errors import ConfigError
from sw_model.numerics import (
    accumulate,
    ctr,
    ctr_table,
    layer,
    multiplier,
    output_range,
    requantise,
    rshift_round,
)
from sw_model.quantised import QuantisedLayer


@given(st.integers(-(2**49), 2**49), st.integers(0, 47))
def test_rounding_is_half_up(value, shift):
    assert rshift_round(value, shift) == floor(Fraction(value, 2**shift) + Fraction(1, 2))


@given(st.floats(0, 65535, allow_nan=False))
def test_multiplier_is_normalised(value):
    mantissa, shift = multiplier(value)

    def rounded(s):
        return floor(Fraction(value) * 2**s + Fraction(1, 2))

    assert mantissa == rounded(shift)
    assert 0 <= mantissa <= 65535
    assert shift == 47 or rounded(shift + 1) > 65535


@pytest.mark.parametrize("value", [65535.5, 65536.0, 1e30, -1e-9, float("nan"), float("inf")])
def test_multiplier_out_of_range(value):
    with pytest.raises(ConfigError, match="requantisation multiplier must be"):
        multiplier(value)


def random_layer(rng, k, n, *, relu=True, logit=False, extreme=False):
    weights = rng.integers(-127, 128, (n, k))
    if extreme:
        weights = rng.choice([-127, 127], (n, k))
    return QuantisedLayer(
        weights.astype(np.int8),
        rng.integers(-(2**20), 2**20, n).astype(np.int32),
        rng.integers(0, 65536, n).astype(np.int32),
        rng.integers(0, 48, n).astype(np.int32),
        relu,
        logit,
    )


def layer_by_hand(x, q):
    low, high = (-32768, 32767) if q.logit else (0 if q.relu else -128, 127)
    rows = []
    for item in x.tolist():
        row = []
        for n, channel in enumerate(q.weights.tolist()):
            acc = sum(a * w for a, w in zip(item, channel, strict=True)) + int(q.bias[n])
            shift = int(q.shift[n])
            value = floor(Fraction(acc * int(q.mantissa[n]), 2**shift) + Fraction(1, 2))
            row.append(min(max(value, low), high))
        rows.append(row)
    return rows


@pytest.mark.parametrize("k, n", [(1, 1), (7, 3), (40, 9), (1100, 2)])
@pytest.mark.parametrize("relu, logit", [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("extreme", [False, True])
def test_layer(rng, k, n, relu, logit, extreme):
    q = random_layer(rng, k, n, relu=relu, logit=logit, extreme=extreme)
    x = rng.choice([-128, 127], (6, k)) if extreme else rng.integers(-128, 128, (6, k))
    got = layer(x.astype(np.int8), q)
    assert got.dtype == (np.int16 if logit else np.int8)
    assert got.tolist() == layer_by_hand(x, q)


def test_largest_sums_are_exact():
    for k in (1023, 1024, 40_000):
        x = np.full((1, k), -128, np.int8)
        weights = np.full((1, k), 127, np.int8)
        assert accumulate(x, weights)[0, 0] == -128 * 127 * k


def test_epilogue_extremes():
    low, high = -(2**31), 2**31 - 1
    got = requantise(
        np.array([low, high]), np.array([0, 0]), np.array([65535] * 2), np.array([47, 0]), low, high
    )
    assert got.tolist() == [floor(Fraction(low * 65535, 2**47) + Fraction(1, 2)), high]


def test_output_ranges(rng):
    assert output_range(random_layer(rng, 1, 1)) == (0, 127)
    assert output_range(random_layer(rng, 1, 1, relu=False)) == (-128, 127)
    assert output_range(random_layer(rng, 1, 1, relu=False, logit=True)) == (-32768, 32767)


def test_ctr_is_monotone_and_the_sigmoid():
    table = ctr_table()
    assert table.shape == (1024,)
    assert (np.diff(table.astype(int)) >= 0).all()
    logits = np.arange(-32768, 32768)
    real = 1 / (1 + np.exp(-logits / 2048))
    assert np.abs(ctr(logits) / 65535 - real).max() < 0.005
    assert ctr(0) == table[512]
    assert ctr(-1) == table[511]
