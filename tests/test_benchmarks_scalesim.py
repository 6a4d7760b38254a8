"""SCALE-Sim's cycles beside the array's model, by what SCALE-Sim 3.0.0 gave when it ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scalesim import closed_form, layers, text

RECORDED = json.loads(
    (Path(__file__).parents[1] / "docs/results/scalesim.json").read_text(encoding="utf-8")
)
ARRAYS = sorted({row["array"] for row in RECORDED})


def test_the_closed_form_is_scale_sims() -> None:
    assert len(RECORDED) == 15 * len(ARRAYS) > 15
    for row in RECORDED:
        assert row["scalesim"] == closed_form(row["array"], row["items"], row["tiles"]), row


@pytest.mark.parametrize("array", ARRAYS)
def test_the_model_differs_by_what_is_known(array: int) -> None:
    """Load, stream and leave one after the other; then shadow loading."""
    recorded = [row for row in RECORDED if row["array"] == array]
    items = recorded[0]["items"]
    made = layers(array, items)
    assert [row | {"scalesim": 0} for row in recorded] == [row | {"scalesim": 0} for row in made]
    for row in made:
        tiles = row["our_tiles"]
        assert tiles == row["tiles"]
        # no skew between columns, A - 1; reads, epilogue and a register, 8
        assert row["alone"] == row["closed_form"] + 1 - tiles * (array - 9)
        assert row["shadow"] == (tiles - 1) * max(items, array) + items + array + 8


def test_loading_a_tile_takes_no_less_than_its_rows() -> None:
    """Fewer items than rows: the next tile's weights are waited for."""
    for row in layers(32, 8):
        assert row["shadow"] == (row["our_tiles"] - 1) * 32 + 8 + 32 + 8


def test_text() -> None:
    shown = text(RECORDED)
    assert "RM-large 5" in shown
    (line,) = (each for each in shown.splitlines() if each.split()[:3] == ["128", "RM-large", "24"])
    assert line.split()[3] == "21,449"
