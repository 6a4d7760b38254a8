"""Handles: what a caller holds of a submitted query."""

from __future__ import annotations

from rpaccel import abi
from rpaccel.errors import DeviceError
from sw_model.query import Ranking

__all__ = ["Handle"]


class Handle:
    """A submitted query.

    Attributes
    ----------
    query_id : int
    buffer : int
        Where in host memory its features and results are (see :class:`rpaccel.rings.Rings`).
    completion : dict of int, or None
        The completion entry (see ``abi.COMPLETION``) once there is one.
    """

    def __init__(self, query_id: int, buffer: int) -> None:
        self.query_id = query_id
        self.buffer = buffer
        self.completion: dict[str, int] | None = None
        self._ranking: Ranking | None = None

    @property
    def done(self) -> bool:
        """The query is complete, well or not."""
        return self.completion is not None

    def finish(self, completion: dict[str, int], ranking: Ranking) -> None:
        """Take a completion; the driver calls this."""
        self.completion, self._ranking = completion, ranking

    def _complete(self) -> dict[str, int]:
        if self.completion is None:
            raise DeviceError(f"query {self.query_id} is not complete: wait for it first")
        return self.completion

    @property
    def status(self) -> abi.Status:
        """Status of the completion."""
        return abi.Status(self._complete()["status"])

    @property
    def cycles(self) -> int:
        """Device cycles from the fetched descriptor to the completion."""
        return self._complete()["cycles"]

    def result(self) -> Ranking:
        """The ranking.

        Raises
        ------
        DeviceError
            The query is not complete, or was completed with another status than OK.
        """
        completion = self._complete()
        if self.status != abi.Status.OK or self._ranking is None:
            more = f", {completion['bad_indices']} bad indices" if completion["bad_indices"] else ""
            raise DeviceError(
                f"query {self.query_id} ended with status {self.status.name}{more}",
                status=self.status,
            )
        return self._ranking
