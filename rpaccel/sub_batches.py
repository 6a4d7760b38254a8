"""A funnel in other numbers of sub-batches, by the cycle model of its machine's array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rpaccel.array_flow import Flow, flow
from rpaccel.config import Config
from rpaccel.image_layout import MOST_CYCLES
from rpaccel.stage_place import GroupMemories
from rpaccel.stage_plan import stage_plans
from sw_model.dispatch_cycles import Program
from sw_model.planner import largest_sub_batches, plan
from sw_model.quantised import QuantisedModel

__all__ = ["Alternative", "alternative", "alternatives"]

_MOST = 32
_MEASURED = 8  # queries: fewer than for published figures


class Alternative(NamedTuple):
    """A number of sub-batches: most items of one in each stage, and what the funnel takes.

    ``flow`` is None where the sub-batches of some stage are too large for a group that serves it,
    or the programs for them for its memories.
    """

    sub_batches: int
    items: list[int]
    flow: Flow | None


def alternatives(config: Config, models: Sequence[QuantisedModel]) -> list[Alternative]:
    """Run the funnel in the configuration's number of sub-batches and in powers of two.

    Each stage has the programs that the compiler makes for sub-batches of that size, on the groups
    of ``funnel.groups`` and ``funnel.setting``. Features, gather units, memory, the queues for
    tokens and the host are not part of it.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage.

    Returns
    -------
    list of Alternative
        Up to 32 sub-batches, and no more than a stage's survivors. None for a funnel with
        ``global_release`` or dot interaction, which the model of the groups does not know.
    """
    funnel = config.funnel
    if funnel.global_release or any(model.dot is not None for model in models):
        return []
    most = min(_MOST, funnel.items, *funnel.keep[:-1])
    counts = {1 << power for power in range(most.bit_length())} | {funnel.sub_batches}
    return [alternative(config, models, count) for count in sorted(counts)]


def alternative(config: Config, models: Sequence[QuantisedModel], count: int) -> Alternative:
    """Run the funnel in one number of sub-batches, see :func:`alternatives`."""
    hardware, funnel = config.hardware, config.funnel
    size = -(-funnel.items // count)
    largest = largest_sub_batches(funnel.items, size, funnel.keep)
    on = hardware.setting(funnel.setting)
    memories = [GroupMemories(hardware, group) for group in range(len(hardware.groups))]
    programs = {}
    for stage, model in enumerate(models):
        allowed = funnel.groups[stage] if funnel.groups else on
        for group, (_, best) in stage_plans(config, stage, model, largest[stage]).items():
            if not best.info.fits:
                return Alternative(count, largest, None)
            tiles = [tile for layer in best.layers for tile in layer]
            memories[group].add(tiles)
            if group in on and group in allowed:
                passes = [tile.command for tile in tiles]
                cycles = min(best.info.cycles, MOST_CYCLES)
                programs[stage, group] = Program(passes, best.shape, cycles)
    if any(use.used > use.available for memory in memories for use in memory.uses()):
        return Alternative(count, largest, None)
    items: list[list[int]] = [[] for _ in models]
    for step in plan(funnel.items, size, funnel.keep):
        items[step.stage].append(step.items)
    found = flow(
        hardware,
        programs,
        items,
        slots=hardware.query_slots,
        setting=funnel.setting,
        measured=_MEASURED,
    )
    return Alternative(count, largest, found)
