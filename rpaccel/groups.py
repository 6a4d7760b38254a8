"""Groups of the machine, and which of them can be on at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated

from pydantic import Field, model_validator

from rpaccel.section import Natural, Positive, Section

__all__ = ["GroupConfig", "check_settings"]


class GroupConfig(Section):
    """A group: ``rows x cols`` sub-arrays that work on one token at a time, of the listed stages.

    ``shapes`` are the ways to use them at run time, ``[rows, cols]`` of sub-arrays that are fused
    into one array each; as many of these as there is room for share a token's items. By default
    all are fused. ``at``, in a machine with settings, is the place of its first sub-array in the
    array, ``[row, col]``: groups whose rectangles have sub-arrays in common share these.
    ``weight_rows`` are words of its weight memory, by default as many as ``hardware`` says.
    """

    rows: Annotated[int, Field(ge=1, le=64)] = 1
    cols: Annotated[int, Field(ge=1, le=64)] = 1
    shapes: Annotated[
        list[Annotated[list[Positive], Field(min_length=2, max_length=2)]] | None,
        Field(min_length=1, max_length=16),
    ] = None
    at: Annotated[list[Natural], Field(min_length=2, max_length=2)] | None = None
    weight_rows: Annotated[int, Field(ge=16, le=2**20)] | None = None
    stages: Annotated[list[Natural], Field(min_length=1)]

    @model_validator(mode="after")
    def _divide(self) -> GroupConfig:
        for rows, cols in self.fusions:
            if self.rows % rows or self.cols % cols:
                raise ValueError(
                    f"a shape must divide the group's {self.rows} x {self.cols} sub-arrays, "
                    f"not be {rows} x {cols}"
                )
        if len(set(self.fusions)) != len(self.fusions):
            raise ValueError(f"shapes must be distinct, not {self.shapes}")
        return self

    @property
    def fusions(self) -> list[tuple[int, int]]:
        """Rows and columns of sub-arrays that each shape fuses."""
        return [(rows, cols) for rows, cols in self.shapes or [[self.rows, self.cols]]]

    @property
    def places(self) -> frozenset[tuple[int, int]]:
        """Places of its sub-arrays in the array of a machine with settings."""
        row, col = self.at or (0, 0)
        return frozenset((row + r, col + c) for r in range(self.rows) for c in range(self.cols))


def check_settings(
    groups: Sequence[GroupConfig], settings: Sequence[Sequence[int]], stages: int
) -> None:
    """See to it that groups that are on together have no sub-array in common and serve all stages.

    Raises
    ------
    ValueError
        They do not, or a setting or a group makes no sense.
    """
    for number, group in enumerate(groups):
        if (group.at is None) == bool(settings):
            raise ValueError(
                f"groups.{number} must have a place `at` in a machine with settings, and none "
                f"in one without, not {group.at}"
            )
    for number, chosen in enumerate(settings):
        if len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(len(groups))):
            raise ValueError(
                f"settings.{number} must name groups 0..{len(groups) - 1}, each at most "
                f"once, not {chosen}"
            )
        for first, second in combinations(sorted(chosen), 2):
            if groups[first].places & groups[second].places:
                raise ValueError(
                    f"settings.{number} must not name groups that share sub-arrays, as "
                    f"{first} and {second} do"
                )
        served = {s for group in chosen for s in groups[group].stages}
        if served != set(range(stages)):
            raise ValueError(
                f"the groups of settings.{number} must serve all {stages} stages, not "
                f"only {sorted(served)}"
            )
    never = set(range(len(groups))) - {g for chosen in settings for g in chosen}
    if settings and never:
        raise ValueError(f"each group must be in some of settings, but {sorted(never)} are not")
