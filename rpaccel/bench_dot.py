"""RecPipe's funnel with dot interaction on the reconfigurable array, in cycles.

As :mod:`rpaccel.bench_array`, by the cycle models of :mod:`sw_model.token_order_cycles` and
:mod:`sw_model.dot_cycles`: a token's inputs are there as soon as it has a token buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rpaccel.geometry import GroupGeometry, Shape
from sw_model.token_order_cycles import TokenOrderCycles

__all__ = ["UNITS", "dot_flow"]

_FREE = 2  # cycles from the freeing of a buffer to the start of the next token in it
_BUFFERS = 2

#: Units of the two stages: 27 vectors and as few multipliers as keep up with the array.
UNITS = (
    {"stage": 0, "vectors": 27, "dimension": 4, "items": 4096, "macs": 540},
    {"stage": 1, "vectors": 27, "dimension": 32, "items": 512, "macs": 432},
)


def dot_flow(
    geometry: GroupGeometry,
    programs: Mapping[int, tuple[Sequence[Mapping[str, int]], Shape]],
    items: Sequence[int],
    queries: int,
) -> list[int]:
    """Cycle in which each query is over; they follow each other, each in one sub-batch.

    Parameters
    ----------
    geometry : GroupGeometry
    programs : mapping of int to (sequence of mappings, Shape)
        ``image_layout.PASS`` values and shape of each stage, all with a dot interaction.
    items : sequence of int
        Of each stage.
    queries : int
    """
    model = TokenOrderCycles(geometry, programs, list(programs))
    ends: dict[int, list[int]] = {stage: [] for stage in programs}
    for stage in programs:
        for _ in range(min(_BUFFERS, queries)):
            model.offer(stage, items[stage], 0)
    while (token := model.step()) is not None:
        if token.cycles is None:
            continue
        done = ends[token.stage]
        done.append(token.cycles.end)
        if len(done) + _BUFFERS <= queries:
            model.offer(token.stage, items[token.stage], token.cycles.freed + _FREE)
    return [max(each) for each in zip(*ends.values(), strict=True)]
