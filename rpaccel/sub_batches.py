"""A funnel in other numbers of sub-batches, by the cycle model of its machine's array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rpaccel.array_flow import Flow, flow
from rpaccel.config import Config
from rpaccel.stage_plan import stage_plans
from sw_model.dispatch_cycles import Program
from sw_model.planner import largest_sub_batches
from sw_model.quantised import QuantisedModel

__all__ = ["Alternative", "alternative", "alternatives"]

_MOST = 32
_SETTLED, _MEASURED = 3, 8  # queries: fewer than for published figures
_CYCLES = (1 << 16) - 1  # most that the dispatcher knows of


class Alternative(NamedTuple):
    """A number of sub-batches: the items of a sub-batch in each stage, and what it takes.

    ``flow`` is None where a sub-batch of some stage is too large for its groups.
    """

    sub_batches: int
    items: list[int]
    flow: Flow | None


def alternatives(config: Config, models: Sequence[QuantisedModel]) -> list[Alternative]:
    """Run the funnel in the configuration's number of sub-batches and in powers of two.

    Each stage has the programs that the compiler would make for sub-batches of that size, on the
    groups of ``funnel.groups`` and ``funnel.setting``. Features, gather units, memory and host are
    not part of it, nor are dot interaction units.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage.
    """
    funnel = config.funnel
    powers = [1 << power for power in range(_MOST.bit_length())]
    counts = {count for count in powers if count <= min(funnel.keep)} | {funnel.sub_batches}
    return [alternative(config, models, count) for count in sorted(counts)]


def alternative(config: Config, models: Sequence[QuantisedModel], count: int) -> Alternative:
    """Run the funnel in one number of sub-batches, see :func:`alternatives`."""
    hardware, funnel = config.hardware, config.funnel
    items = largest_sub_batches(funnel.items, -(-funnel.items // count), funnel.keep)
    on = hardware.setting(funnel.setting)
    programs = {}
    for stage, model in enumerate(models):
        allowed = funnel.groups[stage] if funnel.groups else on
        for group, (_, best) in stage_plans(config, stage, model, items[stage]).items():
            if group in on and group in allowed:
                if not best.info.fits:
                    return Alternative(count, items, None)
                passes = [tile.command for layer in best.layers for tile in layer]
                programs[stage, group] = Program(passes, best.shape, min(best.info.cycles, _CYCLES))
    found = flow(
        hardware,
        programs,
        items,
        count,
        slots=hardware.query_slots,
        setting=funnel.setting,
        settled=_SETTLED,
        measured=_MEASURED,
    )
    return Alternative(count, items, found)
