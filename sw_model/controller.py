"""Which status the device gives a descriptor before it runs the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rpaccel.section import MAX_ITEMS
from sw_model.planner import largest_sub_batches

__all__ = ["validate"]


def validate(
    descriptor: Mapping[str, int],
    *,
    hardware: HardwareConfig,
    image_id: int,
    stages: Sequence[Mapping[str, int]],
) -> abi.Status:
    """Validate a descriptor in the order of the status codes.

    Parameters
    ----------
    descriptor : mapping
        As ``abi.DESCRIPTOR.unpack`` gives it.
    hardware : HardwareConfig
    image_id : int
        Identity of the loaded image, 0 without one.
    stages : sequence of mappings
        STAGE words of the image, one a stage of the machine, as
        ``image_layout.STAGE.unpack`` gives them.

    Returns
    -------
    Status
        OK, or the first status from BAD_DESCRIPTOR to BAD_SUB_BATCH that applies.
    """
    first, last = descriptor["first_stage"], descriptor["last_stage"]
    if (
        descriptor["version"] != abi.VERSION_MAJOR
        or descriptor["reserved0"]
        or descriptor["reserved"]
        or descriptor["features"] % abi.BLOCK_BYTES
        or descriptor["results"] % abi.BLOCK_BYTES
        or not first <= last < hardware.stages
        or not hardware.final(last)
    ):
        return abi.Status.BAD_DESCRIPTOR
    used = range(first, last + 1)
    if not image_id or descriptor["image_id"] != image_id:
        return abi.Status.BAD_IMAGE
    if any(stages[s]["steps"] == 0 for s in used):
        return abi.Status.BAD_IMAGE

    items = descriptor["items"]
    stage = stages[first]
    record = stage["query_bytes"] + items * stage["item_bytes"]
    if not 1 <= items <= MAX_ITEMS or record > hardware.feature_bytes:
        return abi.Status.BAD_ITEMS

    keep = [descriptor[f"keep{s}"] for s in used]
    for s, kept, available in zip(used, keep, [items, *keep], strict=False):
        if not 1 <= kept <= min(available, hardware.topk_depth[s]):
            return abi.Status.BAD_KEEP
        if hardware.filter_of(s) == "none" and kept != available:
            return abi.Status.BAD_KEEP

    if not descriptor["sub_batch"]:
        return abi.Status.BAD_SUB_BATCH
    bounds = largest_sub_batches(items, descriptor["sub_batch"], keep)
    if any(bound > stages[s]["max_items"] for s, bound in zip(used, bounds, strict=True)):
        return abi.Status.BAD_SUB_BATCH
    return abi.Status.OK
