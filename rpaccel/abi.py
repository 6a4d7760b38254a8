"""The ABI: what host, image, gateware and golden device must agree on, defined once.

Versions, sizes, rings and status codes are here; registers, counters and the image have modules of
their own (:mod:`rpaccel.registers`, :mod:`rpaccel.counters`, :mod:`rpaccel.image_layout`).
``docs/abi.md`` is printed from all of them.
"""

from __future__ import annotations

import math
from enum import IntEnum

from rpaccel.layout import Field, Layout

__all__ = [
    "BLOCK_BYTES",
    "COMPLETION",
    "DESCRIPTOR",
    "DOT_OFFSET",
    "RESULT",
    "SEQUENCE_ROUNDS",
    "Status",
    "ctr_index",
]

VERSION_MAJOR = 1
VERSION_MINOR = 0
VERSION = VERSION_MAJOR << 16 | VERSION_MINOR

BLOCK_BYTES = 64
"""Host transfers are whole blocks of this size, aligned to it."""
ITEM_BITS = 15
"""Width of a number of items, 0..16,384."""
POSITION_BITS = 16
"""Width of an item's position in its query."""
DOT_OFFSET = 1 << 15
"""Bytes from the next multiple of ``gather_bytes`` on that a gather unit writes to are the memory
of the stage's dot interaction unit, not the activation memory."""
STAGE_BITS = 2
MAX_GROUPS = 64
SETTING_BITS = 4
LOGIT_FRACTION_BITS = 11
"""A logit of 1.0 is 2**11: int16 logits span -16..16."""
CTR_BITS = 6
"""CTR is a table of ``logit >> CTR_BITS``: 1,024 entries."""
CTR_INDEX_BITS = 16 - CTR_BITS
"""Width of the number of an entry of the CTR table."""
SEQUENCE_ROUNDS = 64
"""Segments of a lane are numbered modulo so many times its ``lookahead``, a power of two."""
THRESHOLD_BITS = CTR_INDEX_BITS + 1
"""Width of a filter's threshold: an entry of the CTR table, or one behind the last."""


def ctr_index(ctr: float) -> int:
    """First entry of the CTR table that is at least ``ctr`` (65535 is 1.0); 1,024 if none is.

    The table is that of docs/numerics.md.
    """
    entries = 1 << CTR_INDEX_BITS
    for index in range(entries):
        logit = ((index - entries // 2 << CTR_BITS) + (1 << CTR_BITS - 1)) / 2**LOGIT_FRACTION_BITS
        if math.floor(65535 / (1 + math.exp(-logit)) + 0.5) >= ctr:
            return index
    return entries


class Status(IntEnum):
    """Status of a completed query."""

    OK = 0
    BAD_DESCRIPTOR = 1
    """Reserved bits set, unknown version, unaligned address, stages out of order or range, or a
    last stage whose filter is not exact."""
    BAD_IMAGE = 2
    """No image is loaded, the descriptor names another one, or it has not all of the stages."""
    BAD_ITEMS = 3
    """Zero items, more than the machine takes, or features larger than a query slot."""
    BAD_KEEP = 4
    """A stage keeps zero items, more than it gets, or more than ``topk_depth``."""
    BAD_SUB_BATCH = 5
    """Sub-batch size zero, or a sub-batch that may be larger than a stage's ``max_items``.

    The bound is min(sub_batch, items) for the first stage and, for the next one, ceil(keep * bound
    / items) of the stage before (its keep, bound and items): no release is larger."""
    BAD_INDEX = 6
    """An index beyond its table."""
    MEMORY_ERROR = 7
    """Device memory answered a read with an error."""
    HOST_ERROR = 8
    """Host memory answered the read of the features, or a write of the results, with an error."""


DESCRIPTOR = Layout(
    "descriptor",
    512,
    Field("version", 8, "VERSION_MAJOR"),
    Field("first_stage", 4, "stage that ranks all items"),
    Field("last_stage", 4, "stage whose ranking is the result"),
    Field("global_release", 4, "bit s: stage s releases once, the best of all sub-batches"),
    Field("reserved0", 12, "zero"),
    Field("query_id", 32, "returned with the completion"),
    Field("features", 64, "host address of the query record and the item records, 64-byte aligned"),
    Field("results", 64, "host address of the results, 64-byte aligned, whole blocks are written"),
    Field("items", 16, "number of items, 1..max"),
    Field("sub_batch", 16, "items in a sub-batch of the first stage"),
    Field("keep0", 16, "items stage 0 keeps"),
    Field("keep1", 16, "items stage 1 keeps"),
    Field("keep2", 16, "items stage 2 keeps"),
    Field("keep3", 16, "items stage 3 keeps"),
    Field("image_id", 32, "identity of the image the query is for"),
)
"""A submission ring entry."""

COMPLETION = Layout(
    "completion",
    512,
    Field("sequence", 32, "number of this completion since reset, from 1: tells new from old"),
    Field("query_id", 32, "from the descriptor"),
    Field("status", 16, "see Status"),
    Field("count", 16, "results written"),
    Field("cycles", 32, "device cycles from the fetched descriptor to this completion"),
    Field("bad_indices", 32, "indices beyond their table, each lookup counted"),
    Field("saturations", 32, "logits clamped to int16, all stages"),
)
"""A completion ring entry."""

RESULT = Layout(
    "result",
    32,
    Field("position", 16, "position of the item in the query"),
    Field("score", 16, "its logit", signed=True),
)
