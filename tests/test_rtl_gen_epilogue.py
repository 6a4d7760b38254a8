"""The epilogue against the golden requantisation, over its whole range."""

import numpy as np
import pytest

from rpaccel.image_layout import PARAM
from rtl_gen.epilogue import EPILOGUE_LATENCY, Epilogue
from sim.pysim import simulate
from sw_model.numerics import requantise

COLS, DEPTH, PARAMS = 3, 8, 4


def parameters(rng):
    """Biases, mantissas and shifts with their limits."""
    bias = rng.integers(-(2**31), 2**31, size=(PARAMS, COLS)) >> rng.integers(
        0, 31, size=(PARAMS, COLS)
    )
    mantissa = np.where(rng.random((PARAMS, COLS)) < 0.2, 65535, rng.integers(2**16, size=1))
    shift = rng.choice([0, 1, 15, 30, 46, 47], size=(PARAMS, COLS))
    return bias, mantissa, shift


def passes(rng, bias):
    """Passes as (items, first, final, multiply, params, relu, sums, totals).

    Totals, with the bias, stay in int32.
    """
    made = []
    for _ in range(40):
        params = int(rng.integers(PARAMS))
        items = int(rng.integers(2, DEPTH + 1))
        parts = int(rng.integers(1, 4))
        low, high = -(2**31) - np.minimum(bias[params], 0), 2**31 - 1 - np.maximum(bias[params], 0)
        totals = rng.integers(low, high + 1, size=(items, COLS))
        totals >>= rng.integers(0, 32, size=(items, COLS))
        sums = np.diff(
            np.concatenate(
                [
                    np.zeros((1, items, COLS), np.int64),
                    *[
                        rng.integers(-(2**29), 2**29, size=(1, items, COLS))
                        for _ in range(parts - 1)
                    ],
                    totals[None],
                ]
            ),
            axis=0,
        )
        relu = bool(rng.integers(2))
        for part in range(parts):
            last = part == parts - 1
            made.append((items, part == 0, last, False, params, relu, sums[part], totals))
        factors = rng.integers(-128, 128, size=(2, items, COLS))
        factors[rng.random(factors.shape) < 0.2] = -128
        product = factors.prod(axis=0)
        if rng.random() < 0.5 and np.abs(product + bias[params]).max() < 2**31:
            made.append((items, True, False, False, params, relu, factors[0], product))
            made.append((items, False, True, True, params, relu, factors[1], product))
    return made


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_matches_golden(rng, stall):
    dut = Epilogue(cols=COLS, depth=DEPTH, sum_bits=32)
    bias, mantissa, shift = parameters(rng)
    work = passes(rng, bias)
    expected, got, due = [], [], []

    async def driver(ctx):
        words = [
            sum(
                PARAM.pack_int({"bias": b, "mantissa": m, "shift": s}) << 64 * i
                for i, (b, m, s) in enumerate(zip(bias[word], mantissa[word], shift[word]))
            )
            for word in range(PARAMS)
        ]
        asked, word = [None, None], 0
        sums = 0
        cycle = 0
        beats = [(p, i) for p in work for i in range(p[0])]
        while beats or cycle < due[-1] + 2:
            # The sums come a cycle after the control.
            ctx.set(dut.sums, sums)
            control = {"valid": 0, "item": int(rng.integers(DEPTH)), "start": 1, "final": 1}
            if beats and rng.random() >= stall:
                (_, first, final, multiply, params, relu, parts, totals), item = beats.pop(0)
                control = {
                    "valid": 1,
                    "start": item == 0,
                    "first": first,
                    "final": final,
                    "multiply": multiply,
                    "relu": relu,
                    "item": item,
                }
                if final and item == 0:
                    word = words[params]
                sums = sum((int(v) & 0xFFFFFFFF) << 32 * i for i, v in enumerate(parts[item]))
                if final:
                    wide = requantise(
                        totals[item], bias[params], mantissa[params], shift[params], -(2**62), 2**62
                    )
                    logit = np.clip(wide, -32768, 32767)
                    expected.append(
                        (
                            np.clip(wide, 0 if relu else -128, 127).tolist(),
                            int(logit[0]),
                            int(logit[0] != wide[0]),
                        )
                    )
                    due.append(cycle + 1 + EPILOGUE_LATENCY)
            ctx.set(dut.control, control)
            # Parameters come two cycles after the control, and stay.
            ctx.set(dut.param, asked.pop(0) or 0)
            asked.append(word)
            await ctx.tick()
            cycle += 1
            if cycle in due:
                data, score = ctx.get(dut.data), ctx.get(dut.score)
                got.append(
                    (
                        [(data >> 8 * i & 255) - 2 * (data >> 8 * i & 128) for i in range(COLS)],
                        score - 2 * (score & 0x8000),
                        ctx.get(dut.saturated),
                    )
                )

    simulate(dut, driver)
    assert len(expected) == sum(p[0] for p in work if p[2])
    assert got == expected
