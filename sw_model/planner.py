"""The plan of a query: its sub-batches, and what each stage releases from each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Step", "largest_sub_batches", "plan", "share"]


@dataclass(frozen=True)
class Step:
    """One sub-batch in one stage: a token and the release at its end.

    Attributes
    ----------
    sub_batch : int
        Number of the sub-batch, from 0.
    stage : int
        Number of the stage in the query's funnel, from 0 (its first stage).
    base : int
        Position of the first item; 0 in later stages, whose positions come from the stage before.
    items : int
        Items of the token; zero where the stage before released none.
    last : bool
        The query's last token of this stage.
    emit : bool
        The top-k unit hands out its best ``count`` items at the end of this token.
    count : int
        Items released to the next stage or, from the last one, ranked; zero without ``emit``.
    candidates : int
        Items among which the release chooses: of the token or, in the last stage, of the query.
    """

    sub_batch: int
    stage: int
    base: int
    items: int
    last: bool
    emit: bool
    count: int
    candidates: int


def share(keep: int, part: int, whole: int) -> int:
    """``ceil(keep * part / whole)``: how many of ``keep`` the first ``part`` of ``whole`` get."""
    return -(-keep * part // whole)


def plan(items: int, sub_batch: int, keep: Sequence[int]) -> list[Step]:
    """Cut a query into sub-batches and plan every stage's releases (docs/numerics.md).

    Parameters
    ----------
    items : int
        Items of the query, positive.
    sub_batch : int
        Items in a sub-batch of the first stage, positive; the last one may be smaller.
    keep : sequence of int
        Items each stage of the funnel keeps, first to last, not growing, positive.

    Returns
    -------
    list of Step
        In the order in which the device issues them: by sub-batch, then by stage.
    """
    steps = []
    totals = [items, *keep[:-1]]
    done = [0] * len(keep)
    for number, base in enumerate(range(0, items, sub_batch)):
        reached = min(base + sub_batch, items)
        last = reached == items
        for stage, (kept, total) in enumerate(zip(keep, totals, strict=True)):
            taken, done[stage] = reached - done[stage], reached
            inner = stage + 1 < len(keep)
            if inner:
                reached = share(kept, reached, total)
            steps.append(
                Step(
                    sub_batch=number,
                    stage=stage,
                    base=0 if stage else base,
                    items=taken,
                    last=last,
                    emit=inner or last,
                    count=reached - done[stage + 1] if inner else kept * last,
                    candidates=taken if inner else total,
                )
            )
    return steps


def largest_sub_batches(items: int, sub_batch: int, keep: Sequence[int]) -> list[int]:
    """Bound of the items of a token of each stage; the device refuses a query by it.

    For the first stage the bound is met, for later ones no release exceeds it, because
    ceil(a + b) - ceil(a) <= ceil(b). Parameters are those of :func:`plan`.
    """
    bounds = [min(sub_batch, items)]
    for kept, total in zip(keep[:-1], [items, *keep], strict=False):
        bounds.append(share(kept, bounds[-1], total))
    return bounds
