"""Verdicts: each target by itself, on both sides of its limit."""

import pytest

from rpaccel.array_targets import ANY, FUSED, SHARED, STATIC, targets


def array(side, model, cycles, bound=16_384):
    row = {"array": side, "model": model, "items": 4096}
    return row | {"cycles": cycles, "bound": bound}


@pytest.mark.parametrize(
    ("part", "rows", "expected"),
    [
        ("fixed", [array(128, "RM-small", 16_900)], [True]),
        ("fixed", [array(128, "RM-small", 16_901)], [False]),
        ("fixed", [array(128, "RM-med", 29_500), array(128, "RM-large", 99_501)], [True, False]),
        ("fixed", [array(64, "RM-small", 103, 100), array(64, "RM-med", 206, 200)], [True]),
        ("fixed", [array(64, "RM-small", 103, 100), array(64, "RM-med", 207, 200)], [False]),
        ("fixed", [array(8, "RM-med", 104, 100), array(16, "RM-med", 100, 100)], [False, True]),
        ("funnel", [{"setting": FUSED, "utilisation": 0.85}], [True]),
        ("funnel", [{"setting": FUSED, "utilisation": 0.849}], [False]),
        ("funnel", [{"setting": SHARED, "utilisation": 0.80}], [True]),
        ("funnel", [{"setting": SHARED, "utilisation": 0.799}], [False]),
        ("groups", [{"setting": ANY, "utilisation": 0.80}], [True]),
        ("groups", [{"setting": ANY, "utilisation": 0.799}], [False]),
        ("groups", [{"setting": "(8,2), any stage", "utilisation": 0.1}], []),
        ("funnel", [{"setting": STATIC, "utilisation": 0.76}], [True]),
        ("funnel", [{"setting": STATIC, "utilisation": 0.759}], [False]),
        ("dot", {"over_concat": 1.25}, [True]),
        ("dot", {"over_concat": 1.251}, [False]),
        ("alone", {"items": 512, "cycles": 9600}, [True]),
        ("alone", {"items": 512, "cycles": 9601}, [False]),
    ],
)
def test_limits(part, rows, expected):
    found = targets({part: rows}, "RTL")
    assert [row["met"] for row in found] == expected
    assert all(row["by"] == "RTL" for row in found)
