"""RecPipe's figures 7, 8, 12 and 13 from the scheduler's platforms."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpaccel.config import load
from rpaccel.schedule.backends import ProfileBackend
from rpaccel.schedule.figure13 import figure13
from rpaccel.schedule.figure13 import text as figure13_text
from rpaccel.schedule.figures import CARD, CPU, GPU, figure7, figure8, figure12, text
from rpaccel.schedule.pictures import draw
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import Qualities
from rpaccel.schedule.search import Runs

CONFIG = Path(__file__).parents[1] / "examples/recpipe.toml"


def test_recpipes_findings_come_out(tmp_path: Path) -> None:
    runs = Runs(100_000, 0)
    cores, *cards = (ProfileBackend(Profile.load(name)) for name in (CPU, GPU, CARD))
    qualities = Qualities.load("recpipe-criteo")
    rows7 = figure7(cores, qualities, runs)
    seven = {(r["stages"], r["qps"]): r["p99"] for r in rows7}
    known = {(r["stages"], r["qps"]): r["published"] for r in rows7}
    assert [known[1, 500], known[3, 500]] == pytest.approx([0.2216, 0.0836])
    assert known[2, 300] is None
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
    said = {(r["platforms"], r["qps"]): r["published"] for r in eight["tails"]}
    found = [said[name, 100] for name in ("CPU", "t4", "t4 and CPU")]
    assert found == pytest.approx([0.0431, 0.0217, 0.0274])
    assert said["t4", 500] is said["h100", 100] is None
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
    report = {"figure7": rows7, "figure8": eight, "figure12": twelve, "figure13": figure13()}
    shown = text(report)
    for figure in "Figure 7", "Figure 8", "Figure 12", "Figure 13":
        assert figure in shown
    fourteen = [row | {"platform": "CPU"} for row in rows7]
    draw(report | {"figure14": fourteen}, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def test_two_stages_grow_less_than_one() -> None:
    rows = figure13()
    p99 = {(r["machine"], r["scale"]): r["p99"] for r in rows}
    growth = {m: p99[m, 32] / p99[m, 1] for m in ("one stage", "two stages")}
    assert growth["one stage"] > 2 * growth["two stages"] > 2
    for machine in growth:
        each = [p99[machine, scale] for scale in (1, 2, 4, 8, 16, 32)]
        assert each == sorted(each)
    assert "x32  12,288" in figure13_text(rows)
