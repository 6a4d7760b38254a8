"""Steps of a gather unit: how the fields of an item are cut into reads of the feature buffer.

Part of the contract: what a STEP and its LANE structures mean is in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rpaccel.image_layout import LANE, STEP

__all__ = ["Bag", "Dense", "step_word", "steps"]


@dataclass(frozen=True)
class Bag:
    """A table's bag in a record: which FIELD word, where, how many indices of how many bytes."""

    field: int
    scope: int
    offset: int
    lookups: int
    index_bytes: int

    def pieces(self, piece_bytes: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(scope, offset, bytes, field, count) of each piece of whole indices."""
        most = piece_bytes // self.index_bytes
        for done in range(0, self.lookups, most):
            count = min(most, self.lookups - done)
            size = count * self.index_bytes
            yield self.scope, self.offset + done * self.index_bytes, size, self.field, count


@dataclass(frozen=True)
class Dense:
    """Dense inputs in a record, at most ``piece_bytes`` of them."""

    field: int
    scope: int
    offset: int
    count: int

    def pieces(self, piece_bytes: int) -> Iterator[tuple[int, int, int, int, int]]:
        """The one piece, as in :meth:`Bag.pieces`."""
        yield self.scope, self.offset, self.count, self.field, self.count


def steps(
    lanes: Sequence[Sequence[Bag | Dense]], *, read_bytes: int, piece_bytes: int
) -> list[tuple[dict[str, int], list[dict[str, int]]]]:
    """Cut the fields of each lane into pieces and gather them into as few reads as they fit.

    Each step begins with a piece and takes along the next one of every other lane that lies in what
    is read; of all that might begin it the one with which most come along, of several that of the
    lane with most pieces left, so that lanes work side by side.

    Parameters
    ----------
    lanes : sequence of sequence of Bag or Dense
        Fields of each lane in the order of their FIELD words; the last lane is the dense one,
        which takes at least one piece of each item.
    read_bytes, piece_bytes : int
        See :class:`rpaccel.hardware.HardwareConfig`.

    Returns
    -------
    list of (dict, list of dict)
        Values of :data:`rpaccel.image_layout.STEP`, and of its ``LANE`` for each
        lane.
    """
    queues = []
    for fields in lanes:
        queue = []
        for each in fields:
            cut = list(each.pieces(piece_bytes))
            for number, piece in enumerate(cut):
                flags = {"first": number == 0, "last": number == len(cut) - 1}
                queue.append((piece, flags))
        queues.append(queue)
    if not queues[-1]:  # it brings an item's position: a piece of no bytes, with the first read
        scope, offset = next(queue[0][0][:2] for queue in queues if queue)
        queues[-1] = [((scope, offset, 0, 0, 0), {"first": True, "last": True})]
    made = []
    while any(queues):
        heads = [queue[0][0] for queue in sorted(queues, key=len, reverse=True) if queue]

        def along(head: tuple[int, int, int, int, int]) -> list[int]:
            low = head[1]
            return [
                lane
                for lane, queue in enumerate(queues)
                if queue
                and queue[0][0][0] == head[0]
                and low <= queue[0][0][1]
                and queue[0][0][1] + queue[0][0][2] <= low + read_bytes
            ]

        head = max(heads, key=lambda each: len(along(each)))
        words: list[dict[str, int]] = [{} for _ in lanes]
        for lane in along(head):
            (_, offset, _, field, count), flags = queues[lane].pop(0)
            words[lane] = {
                "used": 1,
                "first": int(flags["first"]),
                "last": int(flags["last"]),
                "item_last": int(not queues[lane]),
                "field": field,
                "count": count,
                "byte": offset - head[1],
            }
        made.append(({"address": head[1], "scope": head[0], "last": int(not any(queues))}, words))
    return made


def step_word(step: dict[str, int], lanes: Sequence[dict[str, int]]) -> bytes:
    """A word of the step memory."""
    return STEP.pack(**step) + b"".join(LANE.pack(**lane) for lane in lanes)
