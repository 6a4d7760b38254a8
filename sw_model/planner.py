"""The plan of a query: its sub-batches, and what each stage releases from each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Step", "largest_sub_batches", "plan", "share"]


@dataclass(frozen=True)
class Step:
    """One sub-batch in one stage: a token and the release at its end.

    A stage that releases once in a query begins a new phase: the stages behind it cut what it
    releases into sub-batches of their own.

    Attributes
    ----------
    sub_batch : int
        Number of the sub-batch in its phase, from 0.
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
        Items among which the release chooses: of the token or, in a stage that releases once, of
        all its tokens.
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


def plan(
    items: int, sub_batch: int, keep: Sequence[int], global_release: Collection[int] = ()
) -> list[Step]:
    """Cut a query into sub-batches and plan every stage's releases (docs/numerics.md).

    Parameters
    ----------
    items : int
        Items of the query, positive.
    sub_batch : int
        Items in a sub-batch of the first stage, positive; the last one may be smaller.
    keep : sequence of int
        Items each stage of the funnel keeps, first to last, not growing, positive.
    global_release : collection of int
        Stages of the funnel, from 0, that release once in a query; the last one always does.

    Returns
    -------
    list of Step
        In the order in which the device issues them: by phase, by sub-batch, then by stage.
    """
    steps = []
    begin, total = 0, items
    while begin < len(keep):
        end = next((s for s in range(begin, len(keep)) if s in global_release), len(keep) - 1)
        totals = [total, *keep[begin:end]]
        done = dict.fromkeys(range(begin, end + 1), 0)
        bases = range(0, total, sub_batch)
        for number, base in enumerate(bases):
            reached = min(base + sub_batch, total)
            last = reached == total
            for stage, of in enumerate(totals, begin):
                kept, inner = keep[stage], stage < end
                taken, done[stage] = reached - done[stage], reached
                if inner:
                    reached = share(kept, reached, of)
                steps.append(
                    Step(
                        sub_batch=number,
                        stage=stage,
                        base=0 if stage else base,
                        items=taken,
                        last=last,
                        emit=inner or last,
                        count=reached - done[stage + 1] if inner else kept * last,
                        candidates=taken if inner else of,
                    )
                )
        begin, total, sub_batch = end + 1, keep[end], share(keep[end], 1, len(bases))
    return steps


def largest_sub_batches(items: int, sub_batch: int, keep: Sequence[int]) -> list[int]:
    """Bound of the items of a token of each stage; the device refuses a query by it.

    For the first stage the bound is met, for later ones no release exceeds it, because
    ceil(a + b) - ceil(a) <= ceil(b). Behind a stage that releases once no sub-batch is larger
    either. Parameters are those of :func:`plan`.
    """
    bounds = [min(sub_batch, items)]
    for kept, total in zip(keep[:-1], [items, *keep], strict=False):
        bounds.append(share(kept, bounds[-1], total))
    return bounds
