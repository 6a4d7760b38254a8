"""Cycle model of a dot interaction unit: when it reads each item, and when it is done with it.

Its constants are those of the structure in docs/architecture.md: nothing is fitted. Cycles are
counted from any common origin. Exact while the unit writes whenever it can; an item that is read
while the unit waits for a write of the array may be a cycle late.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rpaccel.geometry import DotShape

__all__ = ["DotCycles"]

_LATENCY = 5  # from an item's last operands to its results


@dataclass
class DotCycles:
    """A unit between tokens.

    Parameters
    ----------
    shape : DotShape
    writes : int
        Writes to the activation memory that an item takes.
    """

    shape: DotShape
    writes: int
    _read: int = -1  # cycle in which the last item was read,
    _loaded: int = -(1 << 20)  # put into the ring,
    _complete: int = -(1 << 20)  # was complete, and written
    _written: int = -1

    def run(self, there: NDArray[np.int64], taken: Collection[int] = ()) -> int:
        """Work on the next token.

        Parameters
        ----------
        there : int, shape (items,)
            Cycle from which on each item may be read.
        taken : collection of int
            Cycles in which the array writes the token's buffer.

        Returns
        -------
        int
            Cycle of the token's last write.
        """
        for earliest in there.tolist():
            # What is read is shown a cycle later, until the ring takes it.
            self._read = max(self._read + 1, self._loaded, earliest)
            self._loaded = max(self._read + 1, self._loaded + self.shape.cycles)
            # A ring that waits for its writes holds up all that follows.
            self._complete = max(
                self._loaded + self.shape.cycles + _LATENCY,
                self._complete + self.shape.cycles,
                self._written,
            )
            now = self._complete
            for _ in range(self.writes):
                now += 1
                while now in taken:
                    now += 1
            self._written = now
        return self._written
