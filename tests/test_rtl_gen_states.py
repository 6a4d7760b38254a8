"""States of units: one in each cycle, and each cause of stalling counted as itself."""

from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Module, Signal

from rpaccel.counters import GATHER_COUNTERS, GROUP_COUNTERS, states_of
from rtl_gen.states import attribute, step_layout
from rtl_gen.topk import TopK
from sim import gather_bench
from sim.gather_stage import Stage, machine
from sim.pysim import simulate
from tests import controller_bench, filter_bench, group_bench
from tests.group_models import random_model
from tests.machines import small_hardware

TABLE = {
    "busy": ("cycles", "working"),
    "done": ("items", "finished"),
    "stall_a": ("cycles", "waits for a"),
    "starved": ("cycles", "nothing to do"),
}


def only(cause, before, after, *, least=20, slack=2):
    """Of all causes of stalling, only one grew (others by at most a few of its cycles)."""
    grown = {n: after[n] - before[n] for n in before if n.startswith("stall_") and n != cause}
    assert after[cause] - before[cause] >= least
    slack += (after[cause] - before[cause]) // 25
    assert {n: g for n, g in grown.items() if g > slack} == {}


def test_first_cause_counts():
    m = Module()
    causes = {name: Signal(2, name=name) for name in ("stall_a", "busy")}
    step = Signal(step_layout(TABLE, bits=5))
    attribute(m, step, TABLE, causes, "starved")
    assert step.shape()["done"].width == 5

    async def check(ctx):
        for a in range(4):
            for busy in range(4):
                ctx.set(causes["stall_a"], a)
                ctx.set(causes["busy"], busy)
                got = tuple(ctx.get(step[name]) for name in ("stall_a", "busy", "starved"))
                assert got == (a > 0, not a and busy > 0, not a and not busy)

    m.d.sync += Signal().eq(0)
    simulate(m, check)


@pytest.mark.parametrize("names", [("busy",), ("busy", "stall_a", "done")])
def test_states_must_be_those_of_the_unit(names):
    with pytest.raises(ValueError, match=r"states must be \('busy', 'stall_a', 'starved'\), not"):
        attribute(Module(), Signal(step_layout(TABLE)), TABLE, dict.fromkeys(names, 1), "starved")


# --- gather unit ------------------------------------------------------------------------------

HOT = {"kind": 1, "scope": 1, "index_bytes": 2, "rows": 40, "shift": 0, "lookups": 1}


@cache
def gather(*, count=8, hot=40, lookups=1, listed=False, bad=0.0, latency=8, flush=None, **stalls):
    """Counters of a run of two tokens, with stalls of some ports."""
    fields = [HOT | {"count": count, "hot_rows": hot, "lookups": lookups}]
    rng = np.random.default_rng(1)
    stage = Stage(rng, machine(cols=2), fields, items=30, empty=0.0, bad=bad, gaps=False)
    tokens = [(slot, list(range(30)) if listed else None, 0, 30) for slot in (0, 1)]
    bench = gather_bench.Bench(stage, tokens, latency=latency)
    bench.stalls.update(stalls)
    bench.flush_before = flush
    bench.run()
    return bench.counters


GATHER = {
    # cause: what both runs have, and what one has besides
    "stall_start": ({}, {"start": 0.98}),
    "stall_write": ({}, {"write": 0.7}),
    "stall_fail": ({"bad": 0.3}, {"bad": 0.3, "fail": 0.8}),
    "stall_memory": ({"hot": 0, "latency": 1}, {"hot": 0, "latency": 100}),
    "stall_positions": ({"listed": True}, {"listed": True, "position": 0.9}),
    "stall_features": ({}, {"request": 0.9}),
    "stall_lanes": ({}, {"lookups": 4}),
    "stall_flush": ({}, {"flush": 1}),
}


@pytest.mark.parametrize("cause", GATHER)
def test_gather_unit(cause):
    assert set(GATHER) == {n for n in states_of(GATHER_COUNTERS) if n.startswith("stall_")}
    before, after = (gather(**options) for options in GATHER[cause])
    # After a flush the lanes are empty; an item that comes alone is read in a cycle of its own.
    slack = {"stall_flush": 16, "stall_positions": 120, "stall_features": 120}
    only(cause, before, after, slack=slack.get(cause, 2))
    assert before["busy"] == after["busy"] == 2 * 31


def test_a_gather_unit_without_tokens_starves():
    before, after = gather(), gather(token=0.998)
    assert after["starved"] > before["starved"] + 50


# --- filter -----------------------------------------------------------------------------------


@cache
def filtered(*, lists=((12, 5),) * 4, plan=0.0, output=0.0, scores=0.0):
    """Counters of a filter that releases some of each list."""
    rng = np.random.default_rng(4)
    tokens = [
        filter_bench.Token.make(rng, rng.permutation(n), rng.integers(-99, 99, size=n), count=k)
        for n, k in lists
    ]
    dut = TopK(hardware=small_hardware(1, topk_depth=[80]), stage=0)
    *_, counts, _ = filter_bench.run(
        dut, tokens, rng, scores, plan_stall=plan or 1e-9, output_stall=output
    )
    return counts


def test_filter():
    before = filtered()
    only("stall_plan", before, filtered(plan=0.98))
    only("stall_output", before, filtered(output=0.95))
    only("stall_sort", before, filtered(scores=0.9))
    assert filtered(scores=0.9)["starved"] > before["starved"] + 200
    held = filtered(lists=((80, 80), *[(1, 1)] * 40))
    assert held["stall_sorter"] > 20
    assert held["stall_output"] == held["stall_plan"] == 0


# --- groups -----------------------------------------------------------------------------------


def grouped(
    *,
    tile=(4, 4),
    size=(1, 1),
    table=8,
    top=(1,),
    items=(20,) * 3,
    uses=(0,),
    stall=0.0,
    scores=0.0,
):
    """Counters of a group with tokens of as many stages as there are ``uses`` of shapes."""
    rng = np.random.default_rng(7)
    shapes = [size, (1, 1)] if size != (1, 1) else None
    hardware = group_bench.hardware(tile, size, stages=len(uses), shapes=shapes)
    models = [random_model(rng, tables=[table], dense=0, bottom=[], top=list(top)) for _ in uses]
    bench = group_bench.Bench(hardware, models, list(uses))
    tokens = [bench.token(rng, number % len(uses), n) for number, n in enumerate(items)]
    bench.run(rng, tokens, stall=stall, score_stall=scores)
    return bench.counts


SMALL = {"tile": (2, 2)}
WIDE = {"size": (1, 2), "items": (20,) * 8}
GROUP = {
    "stall_input": ({}, {"stall": 0.6}),
    "stall_scores": ({}, {"scores": 0.95}),
    "stall_write": ({"items": (6,) * 6}, {"items": (6,) * 6, "top": (4, 1)}),
    "stall_weights": (
        {"tile": (8, 8), "table": 80, "items": (8,) * 3},
        {"tile": (8, 8), "table": 80, "items": (5,) * 3},
    ),
    "stall_program": (
        SMALL | {"table": 20, "items": (4,) * 3},
        SMALL | {"table": 20, "items": (2,) * 3},
    ),
    "stall_gap": (
        SMALL | {"table": 6, "items": (2,) * 12, "stall": 0.9},
        SMALL | {"table": 6, "items": (1,) * 12, "stall": 0.9},
    ),
    "stall_shape": (WIDE | {"uses": (0, 0)}, WIDE | {"uses": (0, 1)}),
}


@pytest.mark.parametrize("cause", GROUP)
def test_group(cause):
    assert set(GROUP) == {n for n in states_of(GROUP_COUNTERS) if n.startswith("stall_")}
    before, after = (grouped(**options) for options in GROUP[cause])
    only(cause, before, after, slack=8)


def dispatched(sizes, *, scores=0.0):
    """States of the dispatcher of a stage that two groups serve."""
    rng = np.random.default_rng(3)
    groups = [{"stages": [0]}] * 2
    hardware = group_bench.hardware((4, 4), (1, 1), groups=groups)
    model = random_model(rng, tables=[4], dense=0, bottom=[], top=[8, 1])
    bench = group_bench.Bench(hardware, [model], costs=[100])
    bench.run(rng, [bench.token(rng, 0, n) for n in sizes], score_stall=scores)
    return bench.dispatched


def test_dispatcher():
    before = dispatched([20] * 4)
    only("stall_filter", before, dispatched([20] * 4, scores=0.8))
    # The short token's scores wait for those of the long one, which another group has.
    assert before["stall_order"] == 0
    assert dispatched([60, 2] * 2)["stall_order"] > 20
    assert before["busy"] == 80
    assert before["stall_groups"] > 0


# --- controller and host port -----------------------------------------------------------------


@cache
def controlled(
    *, slots=4, stages=1, host=0.0, patience=0, refuse=(), sub_batch=12, keep=4, **stalls
):
    """States of the controller's parts and of the host port in a run of six queries."""
    rng = np.random.default_rng(2)
    bench = controller_bench.Bench(small_hardware(stages, query_slots=slots), rng)
    bench.memory.stall = host
    bench.patience = patience
    bench.stalls.update(stalls)
    funnel = {"items": 24, "first_stage": 0, "last_stage": stages - 1, "sub_batch": sub_batch}
    funnel |= {"global_release": 0} | {f"keep{stage}": keep for stage in range(stages)}
    for number in range(6):
        wrong = {"image_id": 1} if number in refuse else {}
        bench.add(**funnel | wrong)
    bench.run()
    return bench.states


REFUSED = {"refuse": (1, 2, 3, 4)}
CONTROLLER = {
    ("host_read", "stall_host"): ({}, {"host": 0.7}),
    ("host_write", "stall_host"): ({}, {"host": 0.7}),
    ("host_write", "stall_device"): ({"keep": 20}, {"keep": 20, "ranked": 0.9}),
    ("fetcher", "stall_host"): ({}, {"host": 0.7}),
    ("fetcher", "stall_admission"): ({"token": 0.9}, {"token": 0.9, "slots": 1}),
    ("admission", "stall_host"): ({}, {"host": 0.7}),
    ("admission", "stall_slot"): ({"token": 0.9}, {"token": 0.9, "slots": 1}),
    ("admission", "stall_completer"): (REFUSED, REFUSED | {"patience": 600}),
    ("planner", "stall_tokens"): ({"sub_batch": 1}, {"sub_batch": 1, "token": 0.97}),
    ("planner", "stall_plans"): ({"sub_batch": 1}, {"sub_batch": 1, "plan": 0.97}),
    ("planner", "stall_divider"): ({"stages": 2}, {"stages": 4}),
    ("completer", "stall_ring"): ({}, {"patience": 600}),
    ("completer", "stall_host"): ({}, {"host": 0.7}),
    ("completer", "stall_filter"): ({}, {"ranked": 0.9}),
}


@pytest.mark.parametrize(("unit", "cause"), CONTROLLER)
def test_controller(unit, cause):
    before, after = (controlled(**options)[unit] for options in CONTROLLER[unit, cause])
    if (unit, cause) == ("fetcher", "stall_host"):
        # What holds the fetcher up holds admission up, too, which it then waits for.
        before["stall_admission"] = after["stall_admission"] = 0
    every = {**before, **after}
    only(cause, *({name: states[name] for name in every} for states in (before, after)), slack=80)
