"""Provisioning at run time: the groups of each stage follow the rate at which queries come."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rpaccel.driver import Device
from rpaccel.errors import ConfigError
from rpaccel.handle import Handle
from sw_model.query import Query

__all__ = ["Policy", "Provisioner", "Rate", "Setting", "choices"]

Setting = Mapping[int, Collection[int]]
"""Groups that get the tokens of each stage, as of :meth:`rpaccel.driver.Device.dispatch`."""


@dataclass(frozen=True)
class Policy:
    """A setting by the rate at which queries come.

    The rate is that of an exponential window over gaps. A setting is left when the rate is beyond
    its bound by ``slack``, so that noise does not change it.

    Attributes
    ----------
    bounds : tuple of float, queries in a unit of time
        Rising; setting n is for rates from bound n - 1 to bound n.
    settings : tuple of Setting
        One more than bounds.
    window : float
        Queries.
    slack : float
        Share of a bound.

    Raises
    ------
    ConfigError
        Bounds do not rise or do not fit the settings.
    """

    bounds: tuple[float, ...]
    settings: tuple[Setting, ...]
    window: float = 64.0
    slack: float = 0.05

    def __post_init__(self) -> None:
        if len(self.settings) != len(self.bounds) + 1 or list(self.bounds) != sorted(self.bounds):
            raise ConfigError(
                f"a policy of {len(self.settings)} settings needs {len(self.settings) - 1} rising "
                f"bounds, not {self.bounds}"
            )


class Rate:
    """The rate that a policy sees, and its choice.

    Attributes
    ----------
    choice : int
        Number of the setting.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.choice = 0
        self._last: float | None = None
        self._gap = 0.0
        self._seen = 0

    def arrived(self, now: float) -> int:
        """Take note of a query; the choice from it on."""
        policy = self.policy
        if self._last is not None:
            self._seen += 1
            self._gap += max(1 / policy.window, 1 / self._seen) * (now - self._last - self._gap)
        self._last = now
        if self._seen < policy.window or not self._gap:
            return self.choice  # too few to tell
        rate = 1 / self._gap
        bounds = policy.bounds
        while self.choice < len(bounds) and rate > bounds[self.choice] * (1 + policy.slack):
            self.choice += 1
        while self.choice and rate < bounds[self.choice - 1] * (1 - policy.slack):
            self.choice -= 1
        return self.choice


class Provisioner:
    """A device whose groups follow a policy.

    Queries in flight are not disturbed: see :meth:`rpaccel.driver.Device.dispatch`.

    Parameters
    ----------
    device : Device
        Open.
    policy : Policy
        Times are those given to :meth:`submit`.

    Attributes
    ----------
    changes : int
        How often groups were changed.
    """

    def __init__(self, device: Device, policy: Policy) -> None:
        self.device = device
        self.changes = 0
        self._rate = Rate(policy)
        device.dispatch(policy.settings[0])

    def submit(self, query: Query, now: float, **how: Any) -> Handle:
        """Submit a query that came at a time; see :meth:`rpaccel.driver.Device.submit`."""
        before = self._rate.choice
        choice = self._rate.arrived(now)
        if choice != before:
            self.device.dispatch(self._rate.policy.settings[choice])
            self.changes += 1
        return self.device.submit(query, **how)


def choices(policy: Policy, arrivals: Sequence[float]) -> list[int]:
    """The setting with which each query finds the machine."""
    rate = Rate(policy)
    return [rate.arrived(each) for each in arrivals]
