"""Access times in the whole machine: by the cycle model, and RTL equal to it."""

import pytest

from rpaccel import bench_access
from rpaccel.bench_access import CASES, Case, Machine, bench, static_only
from rpaccel.bench_pipeline import preset
from rpaccel.config import load, parse
from rpaccel.errors import DeviceError
from tests.workloads import workload


def small():
    """Two stages on three tables, cut short."""
    tables = [{"name": f"C{n}", "rows": r, "generated": True} for n, r in enumerate((50, 300, 200))]
    config = workload(tables=tables, dense=(0, 3))
    values = config.model_dump()
    values["simulation"] |= {"memory_latency": 50, "host_latency": 30}
    return parse(values)


@pytest.fixture(scope="module")
def machines():
    """The scaled machine, and the one with all of its memory static."""
    config = load(preset("scaled"))
    return Machine(config), Machine(static_only(config))


def test_lookahead_hides_what_static_rows_only_wait_for(machines):
    ours, only = (machine.measure(Case(), rtl=False) for machine in machines)
    # A miss costs the memory's latency where nothing is known before it is wanted.
    assert (only.amat - 1) / (1 - only.hits) == pytest.approx(50, abs=5)
    assert ours.amat < 0.6 * only.amat
    assert only.hidden_back < 0.1 < 0.8 < ours.hidden_back < 1
    assert ours.item_wait < 0.6 * only.item_wait
    hardware = machines[1].config.hardware
    assert hardware.static_macros == 64 + 2 * 8 * 64 // 128


def test_latency_falls_as_the_hit_rate_rises(machines):
    for machine in machines:
        rows = [
            machine.measure(case, rtl=False)
            for case in CASES
            if not (case.spilled or case.one_stage or case.banked)
        ]
        hits, amat = [row.hits for row in rows], [row.amat for row in rows]
        assert hits == sorted(hits, reverse=True)
        assert len(set(hits)) == len(hits) == 4
        assert amat == sorted(set(amat))
        latency = [row.latency for row in rows]
        assert latency == sorted(latency)
        assert latency[0] < latency[-1]


def test_an_ssd_costs_one_stage_more_than_two(machines):
    """RecPipe's figure 13: what only survivors read may lie further away."""
    machine, _ = machines
    two, one = (
        [machine.measure(Case(spilled=s, one_stage=o), rtl=False) for s in (0, 0.25, 1)]
        for o in (False, True)
    )
    for rows in two, one:
        assert rows[0].from_ssd == 0 < rows[1].from_ssd < rows[2].from_ssd
        cycles = [row.cycles_per_query for row in rows]
        assert cycles == sorted(set(cycles))
    slower = [rows[-1].cycles_per_query - rows[0].cycles_per_query for rows in (two, one)]
    assert slower[1] > 2 * slower[0]


@pytest.mark.slow
def test_rtl_takes_as_many_cycles(monkeypatch):
    machine = Machine(small())
    found = [
        machine.measure(case, rtl=True)
        for case in (
            Case(),
            Case(uniform=1.0),
            Case(spilled=0.5),
            Case(spilled=0.5, one_stage=True),
        )
    ]
    assert all(row.rtl for row in found)
    assert found[0].amat < found[1].amat < found[3].amat
    assert found[2].from_ssd > 0
    # What is compared is compared: one cycle more in the model is told.
    run = bench_access.Predictor.run

    def late(self, work):
        done = run(self, work)
        done.queries["requested"][1] += 1
        return done

    monkeypatch.setattr(bench_access.Predictor, "run", late)
    with pytest.raises(DeviceError, match="the cycle model says"):
        machine.measure(Case(), rtl=True)


def test_bench_has_every_case_of_both_machines(monkeypatch):
    made = []

    class Fake:
        def __init__(self, config):
            self.config = config

        def measure(self, case, *, rtl):
            made.append((self.config.hardware.gather[0].lookahead, case, rtl))
            return bench_access.Access(0.9, 1.5, 0.9, 0.1, 0.0, 100.0, 90.0, rtl)

    monkeypatch.setattr(bench_access, "Machine", Fake)
    said = []
    rows = bench(said.append)
    assert [row["machine"] for row in rows] == ["table3"] * 13 + ["scaled"] * 13
    assert [row["static_only"] for row in rows] == ([True] + [False] * 12) * 2
    assert [row["rtl"] for row in rows] == [False] * 13 + [True] * 13
    assert [case for _, case, _ in made] == [CASES[0], *CASES] * 2
    assert [ahead for ahead, _, _ in made[:2]] == [2, 256]
    assert said
