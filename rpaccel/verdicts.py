"""Figures beside what they must reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Verdict", "verdict_lines"]


@dataclass(frozen=True)
class Verdict:
    """A figure beside its target.

    Attributes
    ----------
    measure, target, found : str
    by : str
        What says so: RTL, the cycle model, or the functional model.
    met : bool
    """

    measure: str
    target: str
    found: str
    by: str
    met: bool


def verdict_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lay verdicts, each as a mapping of its fields, out as a Markdown table."""
    return [
        "| measure | target | found | by | |",
        "|---|---|---|---|---|",
        *(
            f"| {row['measure']} | {row['target']} | {row['found']} | {row['by']} "
            f"| {'met' if row['met'] else '**not met**'} |"
            for row in rows
        ),
        "",
    ]
