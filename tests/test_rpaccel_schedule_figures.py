"""RecPipe's figures 7, 8, 12 and 13 from the scheduler's platforms."""

from __future__ import annotations

from pathlib import Path

from rpaccel.config import load
from rpaccel.schedule.backends import ProfileBackend
from rpaccel.schedule.figure13 import figure13
from rpaccel.schedule.figure13 import text as figure13_text
from rpaccel.schedule.figures import CARD, CPU, GPU, figure7, figure8, figure12, text
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import Qualities
from rpaccel.schedule.search import Runs

CONFIG = Path(__file__).parents[1] / "examples/recpipe.toml"


def test_recpipes_findings_come_out() -> None:
    runs = Runs(100_000, 0)
    cores, *cards = (ProfileBackend(Profile.load(name)) for name in (CPU, GPU, CARD))
    qualities = Qualities.load("recpipe-criteo")
    seven = {(r["stages"], r["qps"]): r["p99"] for r in figure7(cores, qualities, runs)}
    # two stages on CPUs cut the tail about 4x at 500 QPS; three lose to queueing (section 5)
    assert seven[1, 500] > 4 * seven[2, 500]
    assert seven[3, 500] > 1.2 * seven[2, 500]
    assert seven[1, 700] is None
    eight = figure8(cores, cards, qualities, runs)
    best = {r["platforms"]: r["quality"] for r in eight["quality"]}
    # within 25 ms at a low load the GPU ranks 4096 items and the CPU cannot (87)
    assert best["t4"] > 92.25
    assert 85 < best["CPU"] < 88
    tails = {(r["platforms"], r["qps"]): r["p99"] for r in eight["tails"]}
    assert tails["t4", 70] < tails["t4 and CPU", 70] < tails["CPU", 70]
    assert tails["t4", 200] is None
    # a newer GPU ranks all items with the largest model faster than the CPU ranks the survivors
    assert tails["h100", 500] < tails["h100 and CPU", 500] < tails["CPU", 500]
    assert tails["CPU", 500] is not None
    twelve = figure12(load(CONFIG), runs, ())
    top = {(r["machine"], r["qps"]): r for r in twelve["top"]}
    for (machine, _), row in top.items():
        assert row["p99"] < row["published"], machine
    assert top["RPAccel, 2 stages", 400]["p99"] < top["baseline", 400]["p99"]
    rows = figure13()
    shown = text(
        {"figure7": figure7(cores, qualities, runs), "figure8": eight, "figure12": twelve}
        | {"figure13": rows}
    )
    for figure in "Figure 7", "Figure 8", "Figure 12", "Figure 13":
        assert figure in shown


def test_two_stages_grow_less_than_one() -> None:
    rows = figure13()
    p99 = {(r["machine"], r["scale"]): r["p99"] for r in rows}
    growth = {m: p99[m, 32] / p99[m, 1] for m in ("one stage", "two stages")}
    assert growth["one stage"] > 2 * growth["two stages"] > 2
    for machine in growth:
        each = [p99[machine, scale] for scale in (1, 2, 4, 8, 16, 32)]
        assert each == sorted(each)
    assert "x32  12,288" in figure13_text(rows)
