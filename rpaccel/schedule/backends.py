"""Backends: platforms on which stages of a funnel can be placed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from rpaccel.load import Stage
from rpaccel.schedule.profiles import Kind, Profile

__all__ = ["Backend", "ProfileBackend", "Served"]

MOST_SHARES = 16
"""Parts in which a platform's units are handed out to the stages placed on it."""


class Served(NamedTuple):
    """A stage on a platform.

    Attributes
    ----------
    seconds : float
        For which a query holds one of the servers.
    servers : int
    delay : float, seconds
        More until the query is done, while the server already takes the next one.
    """

    seconds: float
    servers: int
    delay: float = 0.0

    @property
    def demand(self) -> float:
        """Seconds between queries when they follow each other: 1 / the highest QPS."""
        return self.seconds / self.servers


class Backend(ABC):
    """A platform: units (cores, sub-arrays) of which each stage placed on it gets some.

    Attributes
    ----------
    name : str
    units : int
    kind : {"measured", "simulated", "modelled", "derived"}
        How its times are known.
    machine, source : str
    notes : tuple of str
        What a reader of its figures must know.
    sub_batches : int
        In which a query passes stages that follow each other on this platform.
    int8 : bool
        Models are quantised on it.
    """

    name: str
    units: int
    kind: Kind
    machine: str
    source: str
    notes: tuple[str, ...] = ()
    sub_batches: int = 1
    int8: bool = False

    @abstractmethod
    def serve(self, model: str, items: int, units: int) -> Served | None:
        """Give the service of a stage; None if the platform has no time for it.

        Parameters
        ----------
        model : str
        items : int
            That a query has the model rank.
        units : int
            That the stage gets, 1 to :attr:`units`.
        """

    def enter(self, items: int) -> tuple[Stage, ...]:
        """Stages that a query of so many items passes on its way to the platform."""
        return ()

    def leave(self, items: int, *, last: bool) -> tuple[Stage, ...]:
        """Stages that so many results pass on their way back, or on to another platform."""
        return ()

    def shares(self, stages: int) -> list[tuple[int, ...]]:
        """Ways to provision so many stages: units of each, all units in use.

        All compositions of up to :data:`MOST_SHARES` equal parts; units that do not divide go to
        the parts one by one, the first ones first.
        """
        parts = min(self.units, MOST_SHARES)
        # parts 0 .. n - 1 have ends[n] units together
        ends = [-(-self.units * part // parts) for part in range(parts + 1)]
        cuts = [(0, *inner, parts) for inner in combinations(range(1, parts), stages - 1)]
        return [tuple(ends[b] - ends[a] for a, b in pairwise(c)) for c in cuts]

    def identity(self) -> dict[str, object]:
        """Plain values that say what this is and how its figures are known."""
        return {
            "name": self.name,
            "kind": self.kind,
            "machine": self.machine,
            "source": self.source,
            "units": self.units,
            "notes": list(self.notes),
        }


class ProfileBackend(Backend):
    """Units that each serve a query alone, with times from a profile.

    Between two numbers of items time is interpolated linearly; beyond them nothing is known.

    Parameters
    ----------
    profile : Profile
    """

    def __init__(self, profile: Profile) -> None:
        self.name = profile.name
        self.units = profile.units
        self.kind = profile.kind
        self.machine = profile.machine
        self.source = profile.source
        self.notes = tuple(profile.notes)
        self._handover = profile.handover
        self._points: dict[str, list[tuple[int, float]]] = {}
        for point in sorted(profile.points, key=lambda p: p.items):
            self._points.setdefault(point.model, []).append((point.items, point.seconds))

    def serve(self, model: str, items: int, units: int) -> Served | None:
        """Interpolate; see :meth:`Backend.serve`."""
        points = self._points.get(model)
        if points is None or not points[0][0] <= items <= points[-1][0]:
            return None
        seconds = np.interp(items, [n for n, _ in points], [s for _, s in points])
        return Served(float(seconds), units)

    def leave(self, items: int, *, last: bool) -> tuple[Stage, ...]:
        """The hand-over to another platform."""
        if last or not self._handover:
            return ()
        return (Stage(self._handover, None, f"{self.name}: hand-over"),)
