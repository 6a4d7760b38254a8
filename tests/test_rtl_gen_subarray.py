"""Sub-arrays against matrix products: and how weights follow items."""

import pytest

from rtl_gen.subarray import LANE, SubArray, sum_bits
from sim.pysim import simulate


def pack(values, bits):
    """Integers as lanes of a vector."""
    return sum((int(v) & (1 << bits) - 1) << bits * i for i, v in enumerate(values))


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("rows, cols", [(4, 4), (3, 5), (8, 2)])
def test_matches_golden(rng, rows, cols, stall):
    """Items with changing sets of weights, each reloaded row by row just behind its last item."""
    bits = sum_bits(2 * rows)
    dut = SubArray(rows=rows, cols=cols, sum_bits=bits)
    tiles = [rng.choice([-128, 127, -1, 3], size=(rows, cols)) for _ in range(8)]
    events = {}  # cycle -> what is presented to the ports in it

    def at(cycle):
        return events.setdefault(cycle, {"rows": {}, "load": None, "north": None, "sums": None})

    finished = []  # cycle in which row 0 of a set's last item is presented
    cycle = load = 0
    for number, tile in enumerate(tiles):
        # A wave of weights, and the items behind it from the next cycle on.
        load = max(load, finished[number - 2] if number > 1 else 0)
        for row in range(rows):
            at(load + row)["load"] = (number % 2, row, tile[row])
        cycle = max(cycle, load + 1)
        load += rows
        for _ in range(int(rng.integers(1, 3 * rows))):
            while rng.random() < stall:
                cycle += 1
            x = rng.choice([-128, 127, 5], size=rows)
            north = rng.integers(-rows * 2**14, rows * 2**14, size=cols)
            for row in range(rows):
                at(cycle + row)["rows"][row] = (x[row], number % 2)
            at(cycle)["north"] = north
            at(cycle + rows + 1)["sums"] = north + x @ tile
            cycle += 1
        finished.append(cycle - 1)

    async def testbench(ctx):
        checked = 0
        before = {}
        for now in range(max(events) + 1):
            event = events.get(now, {"rows": {}, "load": None, "north": None, "sums": None})
            active = event["rows"]
            ctx.set(dut.a, pack([active.get(r, (77, 0))[0] for r in range(rows)], 8))
            ctx.set(dut.a_valid, pack([r in active for r in range(rows)], 1))
            ctx.set(dut.a_set, pack([active.get(r, (0, 1))[1] for r in range(rows)], 1))
            ctx.set(dut.w_en, event["load"] is not None)
            if event["load"] is not None:
                chosen, row, weights = event["load"]
                ctx.set(dut.w_set, chosen)
                ctx.set(dut.w_row, row)
                ctx.set(dut.w, pack(weights, 8))
            if event["north"] is not None:
                ctx.set(dut.n, pack(event["north"], LANE))
            if event["sums"] is not None:
                assert ctx.get(dut.s) == pack(
                    [int(v) & (1 << bits) - 1 for v in event["sums"]], LANE
                )
                checked += 1
            assert ctx.get(dut.e_valid) == pack([r in before for r in range(rows)], 1)
            for row, (value, chosen) in before.items():
                assert ctx.get(dut.e) >> 8 * row & 255 == int(value) & 255
                assert ctx.get(dut.e_set) >> row & 1 == chosen
            before = active
            await ctx.tick()
        assert checked == sum(e["sums"] is not None for e in events.values()) > 8

    simulate(dut, testbench)


def test_sum_bits():
    for inputs in (1, 2, 3, 8, 9, 128):
        most = inputs * 128 * 128
        assert -(2 ** (sum_bits(inputs) - 1)) <= -most < most <= 2 ** (sum_bits(inputs) - 1) - 1


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"rows": 1, "cols": 4, "sum_bits": 20}, "at least 2 rows and 1 column, not 1 and 4"),
        ({"rows": 4, "cols": 4, "sum_bits": 33}, "17 to 32 bits, not 33"),
    ],
)
def test_bad_parameters(arguments, text):
    with pytest.raises(ValueError, match=text):
        SubArray(**arguments)
