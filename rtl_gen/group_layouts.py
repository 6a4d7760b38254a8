"""What travels between the units of a group: tokens, passes, and rows of weights."""

from amaranth.lib import data
from amaranth.utils import ceil_log2

from rpaccel import abi
from rpaccel.geometry import GroupGeometry
from rpaccel.image_layout import FOLLOW_BITS

__all__ = ["entry_layout", "load_layout", "pass_layout", "resumed_layout", "token_layout"]


def entry_layout(geometry: GroupGeometry) -> data.StructLayout:
    """What a group must know of a stage, of its image_layout.ENTRY."""
    return data.StructLayout(
        {
            "program": 16,
            "form": ceil_log2(len(geometry.shapes)),
            "words": ceil_log2(geometry.hardware.activation_rows + 1),
            "cycles": 16,
            **({"dimension": 8, "bottom": 1} if geometry.dots else {}),
        }
    )


def token_layout(geometry: GroupGeometry, *, slot: int) -> data.StructLayout:
    """A token in a group.

    Served stage, token buffer, query slot (``slot`` bits), items, ``rows`` of items in each part,
    and ``rest``, the parts that have an item in the last row.
    """
    stages = len(geometry.hardware.groups[geometry.group].stages)
    return data.StructLayout(
        {
            "stage": ceil_log2(stages),
            "buffer": 1,
            "slot": slot,
            "query_last": 1,
            "items": abi.ITEM_BITS,
            "rows": abi.ITEM_BITS,
            "rest": range(geometry.max_parts + 1),
        }
    )


def resumed_layout(token) -> data.StructLayout:
    """A token, and where in the program memory it goes on."""
    return data.StructLayout({"token": token, "counter": 16})


def pass_layout(geometry: GroupGeometry, *, slot: int) -> data.StructLayout:
    """A pass ready to run: a PASS of a token with what it needs of its stage.

    ``macs`` and ``macs_last`` are useful multiply-accumulates of a row of items, and of the last.
    """
    macs = max(s.k_width * s.n_width * s.parts for s in geometry.shapes)
    entry = entry_layout(geometry)
    address = ceil_log2(geometry.hardware.activation_rows)
    return data.StructLayout(
        {
            "token": token_layout(geometry, slot=slot),
            "form": entry["form"].shape,
            "words": entry["words"].shape,
            "weights": 20,
            "tile": ceil_log2(geometry.weight_tiles),
            "source": address,
            "slice": max(ceil_log2(s.slices) for s in geometry.shapes),
            "target": address,
            "chunk": max(ceil_log2(s.chunks) for s in geometry.shapes),
            "macs": range(macs + 1),
            "macs_last": range(macs + 1),
            "first": 1,
            "final": 1,
            "multiply": 1,
            "score": 1,
            "relu": 1,
            "column": 16,
            "columns": 16,
            "params": 14,
            "wait_input": 1,
            "wait_write": FOLLOW_BITS,
            "last": 1,
            **({"vector": 8, "pause": 1} if geometry.dots else {}),
        }
    )


def load_layout(geometry: GroupGeometry) -> data.StructLayout:
    """A row of weights to be read from the weight memory and put into a set of a tile's row."""
    return data.StructLayout(
        {
            "en": 1,
            "address": ceil_log2(geometry.weight_rows),
            "tile": ceil_log2(geometry.weight_tiles),
            "row": ceil_log2(geometry.hardware.tile_rows),
            "set": 1,
        }
    )
