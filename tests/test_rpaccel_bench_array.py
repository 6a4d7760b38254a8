"""The array's figures at the size of the paper's Table 3 stay what was promised of them."""

import pytest

from rpaccel.array_report import draw, table
from rpaccel.bench_array import bench


@pytest.fixture(scope="module")
def report():
    return bench(["16 of 32x32, any stage"])


def test_fixed_arrays_stay_near_the_tile_bound(report):
    cycles = {(row["array"], row["model"]): row for row in report["fixed"]}
    assert [cycles[128, name]["tiles"] for name in ("RM-small", "RM-med", "RM-large")] == [4, 7, 24]
    assert all(row["bound"] == row["tiles"] * 4096 for row in report["fixed"])
    assert all(0 < row["over_bound"] <= 0.03 for row in report["fixed"])


def test_funnel_in_steady_state(report):
    fused, shared, static = report["funnel"]
    # Tile bounds: 10,896 cycles of 16x16 for RM-small and 32x32 for RM-large make 94 %.
    assert 0.85 <= fused["utilisation"] <= 0.942
    assert 0.80 <= shared["utilisation"] <= 0.8393
    assert 0.76 <= static["utilisation"] <= 0.816
    assert 263_776 * 512 / 16_384 <= report["alone"]["cycles"] <= 9_600


def test_dot_funnel(report):
    """All products hide behind the array: what is left is its own tiles, 13,856 rows of items."""
    dot = report["dot"]
    assert dot["tile_bound"] == 104 * 64 + 225 * 32
    assert sum(dot["multipliers"]) <= 1024
    assert dot["tile_bound"] <= dot["cycles"] <= 1.03 * dot["tile_bound"]
    assert dot["over_concat"] == dot["cycles"] / report["funnel"][0]["cycles"] <= 1.25


def test_work_conserving_dispatch(report):
    """Groups that take any stage's tokens lose next to nothing to the tile bound."""
    (row,) = report["groups"]
    assert 0.98 * 0.8393 <= row["utilisation"] <= 0.8393
    assert row["latency"] <= 18_000


def test_verdicts(report):
    """On all sizes of arrays, the funnels, dot and the query alone: all met, by the model."""
    rows = report["targets"]
    assert len(rows) == 3 + 4 + 3 + 1 + 1 + 1
    assert all(row["met"] and row["by"] == "cycle model" for row in rows)


def test_shown(report, tmp_path):
    text = table(report)
    assert "not met" not in text
    for row in (*report["fixed"], *report["funnel"], *report["groups"], report["dot"]):
        assert f"{row['cycles']:,.0f}" in text
    draw(report, tmp_path / "array.png")
    assert (tmp_path / "array.png").stat().st_size > 10_000
