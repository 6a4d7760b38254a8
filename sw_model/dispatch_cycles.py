"""Cycle model of groups that share stages: which group gets a token, and when.

Walks the rules of docs/architecture.md ("Dispatcher"), on the cycle models of the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from numpy.typing import ArrayLike

from rpaccel.geometry import Shape
from rpaccel.hardware import HardwareConfig
from sw_model.group_cycles import GroupCycles, TokenCycles
from sw_model.regroup_cycles import RegroupCycles

__all__ = ["DispatchCycles", "Program", "Started"]

_FREE = 2  # cycles from the freeing of a buffer to the start of the next token in it
_CHOICE = 2  # cycles from a start until choices know of it


class Program(NamedTuple):
    """A stage in a group: ``image_layout.PASS`` values, shape, cycles predicted of a sub-batch."""

    passes: Sequence[Mapping[str, int]]
    shape: Shape
    cycles: int


class Started(NamedTuple):
    """A token: its group, the cycle in which it was started, and what became of it."""

    group: int
    cycle: int
    token: TokenCycles


@dataclass
class _Group:
    """A group: its model, and of each token its stage, start, buffer's freeing and cost."""

    model: GroupCycles
    tokens: list[tuple[int, int, int, int]] = field(default_factory=list)

    def known(self, cycle: int) -> list[int]:
        """Predicted cycles of each token that a choice made in ``cycle`` knows of."""
        return [
            cost
            for _, start, freed, cost in self.tokens
            if start + _CHOICE <= cycle < freed + _CHOICE
        ]

    def freed(self, before: int) -> int:
        """Cycle in which the last buffer is freed of the tokens started before a cycle."""
        return max((freed for _, start, freed, _ in self.tokens if start < before), default=-1)

    def ready(self, stage: int) -> int:
        """First cycle in which a token of a stage may start: it has two buffers."""
        freed = [token[2] for token in self.tokens if token[0] == stage]
        return freed[-2] + _FREE if len(freed) > 1 else 0


@dataclass
class DispatchCycles:
    """The groups of a machine, between tokens. Tokens have items.

    Parameters
    ----------
    hardware : HardwareConfig
    programs : mapping of (stage, group) to Program
        A pair that is missing is a group that gets no tokens of that stage.
    changes : sequence of (int, int)
        Cycle and number of each setting that follows the first, in order.
    """

    hardware: HardwareConfig
    programs: Mapping[tuple[int, int], Program]
    changes: Sequence[tuple[int, int]] = ()
    _groups: list[_Group] = field(init=False)
    _regroup: RegroupCycles = field(init=False)
    _changed: int = 0  # changes that are in the past
    _last: dict[int, Started] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.hardware.groups)
        self._groups = [_Group(GroupCycles(self.hardware.geometry(n))) for n in range(count)]
        self._regroup = RegroupCycles(self.hardware)

    def choose(self, stage: int, offered: int) -> tuple[int, int]:
        """Group and cycle in which a stage's next token would start.

        Parameters
        ----------
        stage : int
        offered : int
            Cycle from which on the gather unit has the token.
        """
        groups = self._serving(stage)
        if len(self.hardware.groups_of(stage)) == 1:
            (group,) = groups
            return group, max(offered, self._groups[group].ready(stage) - 1)
        ready = {group: self._groups[group].ready(stage) for group in groups}
        regroup, changed = self._regroup, self._changed
        if changed < len(self.changes):
            regroup = regroup.copy()
        cycle = max(offered, min(ready.values())) - 1
        while True:
            cycle += 1
            changed = self._change(regroup, changed, cycle)
            # A group begins a token a cycle, that of its first stage first.
            free = [
                g
                for g in groups
                if ready[g] <= cycle
                and regroup.is_open(g, cycle - 1)
                and not self._begins(g, stage, cycle - 1)
            ]
            if free:
                best = min(free, key=lambda g: self.done(stage, g, cycle))
                if regroup.is_open(best, cycle) and not self._begins(best, stage, cycle):
                    return best, cycle

    def _freed(self, before: int, group: int) -> int:
        return self._groups[group].freed(before)

    def _change(self, regroup: RegroupCycles, changed: int, cycle: int) -> int:
        """Let a model see all changes up to a cycle; returns how many it has seen."""
        while changed < len(self.changes) and self.changes[changed][0] <= cycle:
            at, setting = self.changes[changed]
            regroup.change(setting, at, partial(self._freed, at))
            changed += 1
        return changed

    def done(self, stage: int, group: int, cycle: int) -> int:
        """What is least for the chosen group: when it would be done, as far as is known."""
        return sum(self._groups[group].known(cycle)) + self.programs[stage, group].cycles

    def waiting(self, group: int, cycle: int) -> int:
        """Tokens that a group has, as far as is known in a cycle."""
        return len(self._groups[group].known(cycle))

    def _begins(self, group: int, stage: int, cycle: int) -> bool:
        """Whether a token of a stage that comes first begins in a cycle."""
        order = self.hardware.groups[group].stages
        first = order[: order.index(stage)]
        return any(t[1] == cycle and t[0] in first for t in self._groups[group].tokens)

    def run(
        self,
        stage: int,
        items: int,
        offered: int,
        arrived: Callable[[int], ArrayLike] | None = None,
    ) -> Started:
        """Run a stage's next token. Tokens of all stages are given in the order of their start.

        Parameters
        ----------
        stage, items, offered : int
        arrived : callable, optional
            Gives for the cycle of the start those in which each item was finished by the gather
            unit; all there by default.
        """
        group, cycle = self.choose(stage, offered)
        self._changed = self._change(self._regroup, self._changed, cycle)
        program, here = self.programs[stage, group], self._groups[group]
        last = self._last.get(stage)
        token = here.model.run(
            program.passes,
            program.shape,
            items,
            stage=self.hardware.groups[group].stages.index(stage),
            started=cycle,
            arrived=None if arrived is None else arrived(cycle),
            turn=-1 if last is None or last.group == group else last.token.end,
        )
        here.tokens.append((stage, cycle, token.freed, program.cycles))
        del here.tokens[: -4 * self.hardware.stages]
        self._last[stage] = Started(group, cycle, token)
        return self._last[stage]

    def _serving(self, stage: int) -> Collection[int]:
        return [g for g in self.hardware.groups_of(stage) if (stage, g) in self.programs]
