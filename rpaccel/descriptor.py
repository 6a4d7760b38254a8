"""The descriptor of a query, and a reason where the device would refuse it."""

from __future__ import annotations

from rpaccel.config import Config, Way
from rpaccel.errors import QueryError
from rpaccel.image import Image
from rpaccel.section import MAX_ITEMS
from sw_model.planner import largest_sub_batches

__all__ = ["descriptor_fields"]


def descriptor_fields(
    config: Config, image: Image, items: int, size: int, way: Way
) -> dict[str, int]:
    """Fields of ``abi.DESCRIPTOR`` that say how a query is to be ranked.

    Parameters
    ----------
    config : Config
    image : Image
    items : int
    size : int
        Bytes of the query's features.
    way : Way
        How the query is to be run.

    Raises
    ------
    QueryError
        An argument is not acceptable.
    """
    _check_stages(config, image, way["first_stage"], way["last_stage"])
    _check(config, image, items, size, way)
    once = {int(stage) for stage in way["global_release"]}
    if not once <= set(range(len(image.stages))):
        raise QueryError(f"global_release must name stages of the image, not {sorted(once)}")
    fields = {
        "first_stage": way["first_stage"],
        "last_stage": way["last_stage"],
        "items": items,
        "sub_batch": way["sub_batch"],
        "global_release": sum(1 << stage for stage in once),
    }
    return fields | {
        f"keep{stage}": int(kept) for stage, kept in enumerate(way["keep"], way["first_stage"])
    }


def _check_stages(config: Config, image: Image, first: int, last: int) -> None:
    if not 0 <= first <= last < len(image.stages):
        raise QueryError(
            f"stages {first}..{last} are not among the image's {len(image.stages)} stages"
        )
    if not config.hardware.final(last):
        raise QueryError(
            f"last_stage = {last} has a filter with bins; the last stage must be exact or none"
        )


def _check(config: Config, image: Image, items: int, size: int, way: Way) -> None:
    """Refuse what the device would refuse, with a reason."""
    keep, first, sub_batch = way["keep"], way["first_stage"], way["sub_batch"]
    hardware = config.hardware
    if size > hardware.feature_bytes:
        raise QueryError(
            f"the features of {items} items take {size} bytes, "
            f"but hardware.feature_bytes = {hardware.feature_bytes}"
        )
    if len(keep) != way["last_stage"] + 1 - first:
        raise QueryError(
            f"keep must give a number for each of stages {first}..{way['last_stage']}: {keep}"
        )
    available = items
    for stage, kept in enumerate(keep, first):
        most = min(available, hardware.topk_depth[stage])
        if not 1 <= kept <= most:
            why = "the items it gets" if most == available else "its topk_depth"
            raise QueryError(f"stage {stage} keeps {kept}: it may keep 1..{most} ({why})")
        if hardware.filter_of(stage) == "none" and kept != available:
            raise QueryError(
                f"stage {stage} keeps {kept}: without a filter it keeps all of its {available}"
            )
        available = kept
    if not 1 <= sub_batch <= MAX_ITEMS:
        raise QueryError(f"sub_batch must be 1..{MAX_ITEMS}, not {sub_batch}")
    bounds = largest_sub_batches(items, sub_batch, keep)
    for stage, bound in enumerate(bounds, first):
        most = image.stages[stage].max_items
        if bound > most:
            raise QueryError(
                f"sub_batch = {sub_batch} brings up to {bound} items at a time to stage "
                f"{stage}, which takes {most} (limited by hardware."
                f"{image.stages[stage].narrowest.limit})"
            )
