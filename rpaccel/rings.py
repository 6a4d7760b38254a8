"""Host memory: submission ring, completion ring, and buffers for features and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.link import Link
from sw_model.query import Ranking

__all__ = ["Rings"]

_LOW16 = 0xFFFF


class Rings:
    """The rings of a device that is not enabled yet, set up in host memory.

    A query occupies a buffer, by number, from its submission to its completion; there are at most
    as many buffers as ring entries, so neither ring can overflow.

    Parameters
    ----------
    link : Link
    config : Config

    Attributes
    ----------
    free : list of int
        Buffers not in use.

    Raises
    ------
    ConfigError
        Host memory is too small.
    """

    def __init__(self, link: Link, config: Config) -> None:
        self.link = link
        self.memory = link.transport
        self.entries = config.host.ring_entries
        self.feature_bytes = config.hardware.feature_bytes
        largest = max(config.hardware.topk_depth) * abi.RESULT.bytes
        self.result_bytes = -(-largest // abi.BLOCK_BYTES) * abi.BLOCK_BYTES
        self._sq = 0
        self._cq = self.entries * abi.DESCRIPTOR.bytes
        self._buffers = self._cq + self.entries * abi.COMPLETION.bytes
        each = self.feature_bytes + self.result_bytes
        room = (self.memory.host_bytes - self._buffers) // each
        if room < 1:
            raise ConfigError(
                f"host memory has {self.memory.host_bytes} bytes, but rings and one query take "
                f"{self._buffers + each}"
            )
        self.free = list(range(min(self.entries, room)))
        self._set_up()

    def _set_up(self) -> None:
        link = self.link
        for ring, base in (("SQ", self._sq), ("CQ", self._cq)):
            link.write_address(f"{ring}_BASE", base)
            link.write(f"{ring}_LOG2", self.entries.bit_length() - 1)
        # A device that was used before goes on counting; nothing of that time is taken over.
        self._tail = link.read("SQ_HEAD")
        link.write("SQ_TAIL", self._tail)
        self._head = link.read("CQ_TAIL")
        link.write("CQ_HEAD", self._head)
        for number in range(self._head, self._head + self.entries):
            # No entry may look like the completion that is expected in it.
            stale = abi.COMPLETION.pack(sequence=number & _LOW16)
            self.memory.host_write(self._completion(number), stale)

    def _completion(self, number: int) -> int:
        return self._cq + number % self.entries * abi.COMPLETION.bytes

    def features(self, buffer: int) -> int:
        """Address of a buffer's features."""
        return self._buffers + buffer * (self.feature_bytes + self.result_bytes)

    def results(self, buffer: int) -> int:
        """Address of a buffer's results."""
        return self.features(buffer) + self.feature_bytes

    def submit(self, descriptor: Mapping[str, int], features: bytes) -> int:
        """Submit a descriptor with features in a free buffer.

        Addresses of features and results are filled in where not given.

        Returns
        -------
        buffer : int
            Taken off ``free``, which must not be empty.
        """
        buffer = self.free[0]
        addresses = {"features": self.features(buffer), "results": self.results(buffer)}
        entry = abi.DESCRIPTOR.pack(**(addresses | dict(descriptor)))
        self.free.pop(0)
        self.memory.host_write(self.features(buffer), features)
        at = self._sq + self._tail % self.entries * abi.DESCRIPTOR.bytes
        self.memory.host_write(at, entry)
        self._tail = self._tail + 1 & _LOW16
        self.link.write("SQ_TAIL", self._tail)
        return buffer

    def completions(self) -> Iterator[dict[str, int]]:
        """Take the new entries of the completion ring."""
        before = self._head
        while True:
            at = self._completion(self._head)
            entry = abi.COMPLETION.unpack(self.memory.host_read(at, abi.COMPLETION.bytes))
            if entry["sequence"] & _LOW16 != self._head + 1 & _LOW16:
                break
            self._head = self._head + 1 & _LOW16
            yield entry
        if self._head != before:
            self.link.write("CQ_HEAD", self._head)

    def ranking(self, buffer: int, count: int) -> Ranking:
        """Read a ranking of a buffer's results."""
        count = min(count, self.result_bytes // abi.RESULT.bytes)
        raw = self.memory.host_read(self.results(buffer), count * abi.RESULT.bytes)
        pairs = np.frombuffer(raw, np.dtype([("position", "<u2"), ("score", "<i2")]))
        return Ranking(pairs["position"].astype(np.int64), pairs["score"].astype(np.int64))
