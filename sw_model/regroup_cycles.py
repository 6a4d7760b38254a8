"""Cycle model of the settings of an array: from when to when each group may start tokens.

Walks the rules of docs/architecture.md ("Settings").
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import inf

from rpaccel.hardware import HardwareConfig

__all__ = ["RegroupCycles"]


class RegroupCycles:
    """Groups of a machine between changes of its setting; all are on where it has none.

    Parameters
    ----------
    hardware : HardwareConfig
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        self.hardware = hardware
        groups = range(len(hardware.groups))
        first = hardware.settings[0] if hardware.settings else list(groups)
        #: Of each group, when it is on and has its sub-arrays: from (inclusive), to (exclusive).
        self._open: list[list[list[float]]] = [[[-inf, inf]] if g in first else [] for g in groups]
        #: From when on it does not have them any more.
        self._gone: list[float] = [inf if g in first else -inf for g in groups]

    def copy(self) -> RegroupCycles:
        """Another model in the same state."""
        made = RegroupCycles(self.hardware)
        made._open, made._gone = deepcopy(self._open), list(self._gone)
        return made

    def change(self, setting: int, cycle: int, freed: Callable[[int], int]) -> None:
        """Change the setting.

        Parameters
        ----------
        setting : int
        cycle : int
            From which on the array sees it; later than that of the change before.
        freed : callable
            Gives for a group the cycle in which the last of its tokens, all of which were started
            before ``cycle``, frees its buffer.
        """
        chosen = self.hardware.settings[setting]
        for group, spans in enumerate(self._open):
            if group not in chosen and spans and spans[-1][1] == inf:
                if spans[-1][0] > cycle:  # it was still waiting
                    spans.pop()
                    self._gone[group] = -inf
                else:
                    spans[-1][1] = cycle
                    # Idle a cycle after its last buffer is freed, without sub-arrays another later.
                    self._gone[group] = max(cycle, freed(group) + 1) + 1
        for group in chosen:
            spans = self._open[group]
            if spans and spans[-1][1] == inf:
                continue
            begins: float = cycle
            if self._gone[group] <= cycle:
                others = [self._gone[other] for other in self.hardware.overlapping(group)]
                begins = max([cycle, *others]) + 1
            spans.append([begins, inf])
            self._gone[group] = inf

    def is_open(self, group: int, cycle: int) -> bool:
        """Whether a group may start a token in a cycle."""
        return any(begin <= cycle < end for begin, end in self._open[group])
