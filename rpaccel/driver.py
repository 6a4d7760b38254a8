"""The host driver: opens a device over any transport, submits queries, collects rankings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

import numpy as np

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.errors import ConfigError, DeviceError, QueryError
from rpaccel.features import pack
from rpaccel.image import Image
from rpaccel.transport import MemoryLoader, Transport
from sw_model.planner import largest_sub_batches
from sw_model.query import Query, Ranking

__all__ = ["Device", "Handle"]

WAIT_CYCLES = 100_000
"""Longest single wait: a time-out is noticed at least this often."""
POLL_CYCLES = 64
_LOW16 = 0xFFFF


class Handle:
    """A submitted query.

    Attributes
    ----------
    query_id : int
    completion : dict of int, or None
        The completion entry (see ``abi.COMPLETION``) once there is one.
    """

    def __init__(self, query_id: int, slot: int) -> None:
        self.query_id = query_id
        self.slot = slot
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


class Device:
    """A device with an image loaded, for use as a context manager.

    The device takes its transport over: closing it closes the transport.

    Parameters
    ----------
    transport : Transport
        Its device memory holds the image already, or it can load it
        (:class:`rpaccel.transport.MemoryLoader`).
    config : Config
    image : Image
    """

    def __init__(self, transport: Transport, config: Config, image: Image) -> None:
        self.transport = transport
        self.config = config
        self.image = image
        self._open = self._closed = False
        self._pending: dict[int, Handle] = {}
        self._free: list[int] = []
        self._next_id = 0
        self._sq_tail = self._cq_head = 0

    # --- opening and closing ------------------------------------------------------------------

    def __enter__(self) -> Device:
        try:
            return self.open()
        except BaseException:
            self._closed = True
            self.transport.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> Device:
        """Check the device's identity, load the image, set the rings up, enable it.

        Raises
        ------
        ConfigError
            The image or the device is for another machine, or host memory is too small.
        DeviceError
            There is no such device, its ABI is another version, or the image could not be loaded.
        """
        if self._closed or self._open:
            raise DeviceError("a device is opened once")
        digest = self.config.hardware.digest()
        if self.image.digest != digest:
            raise ConfigError(
                f"the image is for machine {self.image.digest:#018x}, "
                f"the configuration describes {digest:#018x}"
            )
        self._identify(digest)
        self._write("CONTROL", 0)
        self._until(lambda: self._status(abi.DeviceStatus.IDLE), "the device to be idle")
        if isinstance(self.transport, MemoryLoader):
            self.transport.load_memory(self.image.address, self.image.data)
        self._write("IRQ_STATUS", self._read("IRQ_STATUS"))
        self._write("ERROR", self._read("ERROR"))
        self._write("IRQ_ENABLE", sum(1 << bit for bit in abi.Interrupt))
        self._load_image()
        self._set_up_rings()
        self._write("CONTROL", 1 << abi.Control.ENABLE)
        self._open = True
        return self

    def _identify(self, digest: int) -> None:
        identity, version = self._read("ID"), self._read("VERSION")
        if identity != abi.DEVICE_ID:
            raise DeviceError(
                f"ID reads {identity:#010x}, not {abi.DEVICE_ID:#010x}: no RPAccel is there"
            )
        if version >> 16 != abi.VERSION_MAJOR:
            raise DeviceError(
                f"the device has ABI version {version >> 16}.{version & _LOW16}, "
                f"this driver {abi.VERSION_MAJOR}.{abi.VERSION_MINOR}"
            )
        found = self._read("DIGEST_HI") << 32 | self._read("DIGEST_LO")
        if found != digest:
            raise ConfigError(
                f"the device is machine {found:#018x}, the configuration describes {digest:#018x}"
            )

    def _load_image(self) -> None:
        self._write("IMAGE_ADDRESS_LO", self.image.address & 0xFFFFFFFF)
        self._write("IMAGE_ADDRESS_HI", self.image.address >> 32)
        self._write("CONTROL", 1 << abi.Control.LOAD)

        def loaded() -> bool:
            self._check_errors()
            return self._status(abi.DeviceStatus.IMAGE_LOADED)

        self._until(loaded, "the image to be loaded")
        found = self._read("IMAGE_ID")
        if found != self.image.image_id:
            raise DeviceError(
                f"device memory holds image {found:#010x}, not {self.image.image_id:#010x}"
            )

    def _set_up_rings(self) -> None:
        """Lay host memory out: submission ring, completion ring, feature and result buffers."""
        hardware, entries = self.config.hardware, self.config.host.ring_entries
        self._entries = entries
        self._cq = entries * abi.DESCRIPTOR.bytes
        self._buffers = self._cq + entries * abi.COMPLETION.bytes
        self._result_bytes = -(-max(hardware.topk_depth) * abi.RESULT.bytes // 64) * 64
        self._slot_bytes = hardware.feature_bytes + self._result_bytes
        slots = min(entries, (self.transport.host_bytes - self._buffers) // self._slot_bytes)
        if slots < 1:
            raise ConfigError(
                f"host memory has {self.transport.host_bytes} bytes, but rings and one query take "
                f"{self._buffers + self._slot_bytes}"
            )
        self._free = list(range(slots))
        for ring, base in (("SQ", 0), ("CQ", self._cq)):
            self._write(f"{ring}_BASE_LO", base & 0xFFFFFFFF)
            self._write(f"{ring}_BASE_HI", base >> 32)
            self._write(f"{ring}_LOG2", entries.bit_length() - 1)
        # A device that was used before goes on counting; nothing of that time is taken over.
        self._sq_tail = self._read("SQ_HEAD")
        self._write("SQ_TAIL", self._sq_tail)
        self._cq_head = self._read("CQ_TAIL")
        self._write("CQ_HEAD", self._cq_head)
        for ahead in range(entries):
            # No entry may look like the completion that is expected in it.
            number = self._cq_head + ahead
            stale = abi.COMPLETION.pack(sequence=number & _LOW16)
            self.transport.host_write(self._cq + number % entries * abi.COMPLETION.bytes, stale)

    def close(self) -> None:
        """Stop the device from fetching and let go of it; harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._open:
                self._open = False
                self._write("CONTROL", 0)
        finally:
            self.transport.close()

    # --- registers ----------------------------------------------------------------------------

    def _read(self, name: str) -> int:
        return self.transport.read32(abi.REGISTERS[name].address)

    def _write(self, name: str, value: int) -> None:
        self.transport.write32(abi.REGISTERS[name].address, value)

    def _status(self, bit: abi.DeviceStatus) -> bool:
        return bool(self._read("STATUS") >> bit & 1)

    def _check_errors(self) -> None:
        errors = self._read("ERROR")
        if errors:
            self._write("ERROR", errors)
            names = [bit.name for bit in abi.DeviceErrorBit if errors >> bit & 1]
            raise DeviceError(f"the device reports {', '.join(names)}")

    def _counter(self, counter: abi.Counter) -> int:
        low = self.transport.read32(counter.address)  # latches the high word
        return self.transport.read32(counter.address + 4) << 32 | low

    def counters(self) -> dict[str, int]:
        """Read all performance counters, by name (see :func:`rpaccel.abi.counters`)."""
        self._need_open()
        places = abi.counters(self.config.hardware)
        return {name: self._counter(place) for name, place in places.items()}

    def capabilities(self) -> dict[str, int]:
        """Read the capability words, by name."""
        self._need_open()
        return {
            name: self.transport.read32(abi.CAPABILITY_BASE + 4 * number)
            for number, name in enumerate(abi.CAPABILITIES)
        }

    def _need_open(self) -> None:
        if not self._open:
            raise DeviceError("the device is not open")

    # --- waiting ------------------------------------------------------------------------------

    def _until(
        self, condition: Callable[[], bool], what: str, timeout_cycles: int | None = None
    ) -> None:
        """Let the device run until a condition holds.

        Raises
        ------
        DeviceError
            It does not within the time-out, or the device reports an error.
        """
        limit = self.config.host.timeout_cycles if timeout_cycles is None else timeout_cycles
        clock = abi.counters(self.config.hardware)["device.cycles"]
        waited = 0
        start: int | None = None
        while not condition():
            now = self._counter(clock)
            start = now if start is None else start
            elapsed = max(waited, now - start)  # a clock that stands still must not hang us
            if elapsed >= limit:
                raise DeviceError(f"time-out: waited {elapsed} cycles for {what}")
            step = min(WAIT_CYCLES, limit - elapsed)
            waited += 1 if self._progress(step) else step

    def _progress(self, cycles: int) -> bool:
        """Let the device run until its interrupt, take completions; whether it was up."""
        if not self.transport.wait(cycles):
            return False
        # Cleared before looking: what comes after the look raises it again.
        status = self._read("IRQ_STATUS")
        self._write("IRQ_STATUS", status)
        self._reap()
        if status >> abi.Interrupt.ERROR & 1:
            self._check_errors()
        return True

    def _reap(self) -> None:
        """Take new completions from the ring."""
        if not self._open:
            return
        head = self._cq_head
        while True:
            at = self._cq + head % self._entries * abi.COMPLETION.bytes
            entry = abi.COMPLETION.unpack(self.transport.host_read(at, abi.COMPLETION.bytes))
            if entry["sequence"] & _LOW16 != head + 1 & _LOW16:
                break
            head = head + 1 & _LOW16
            self._finish(entry)
        if head != self._cq_head:
            self._cq_head = head
            self._write("CQ_HEAD", head)

    def _finish(self, entry: dict[str, int]) -> None:
        handle = self._pending.pop(entry["query_id"], None)
        if handle is None:
            raise DeviceError(f"a completion names query {entry['query_id']}, which is not running")
        count = min(entry["count"], self._result_bytes // abi.RESULT.bytes)
        raw = self.transport.host_read(self._results(handle.slot), count * abi.RESULT.bytes)
        pairs = np.frombuffer(raw, np.dtype([("position", "<u2"), ("score", "<i2")]))
        ranking = Ranking(pairs["position"].astype(np.int64), pairs["score"].astype(np.int64))
        handle.finish(entry, ranking)
        self._free.append(handle.slot)

    # --- queries ------------------------------------------------------------------------------

    def _features(self, slot: int) -> int:
        return self._buffers + slot * self._slot_bytes

    def _results(self, slot: int) -> int:
        return self._features(slot) + self.config.hardware.feature_bytes

    def submit(
        self,
        query: Query,
        *,
        keep: Sequence[int] | None = None,
        first_stage: int = 0,
        last_stage: int | None = None,
        sub_batch: int | None = None,
        timeout_cycles: int | None = None,
    ) -> Handle:
        """Submit a query; waits while there is no room for it.

        Parameters
        ----------
        query : Query
        keep : sequence of int, optional
            Items kept by each stage run. By default the funnel's, or all where there are fewer.
        first_stage, last_stage : int
            Stages to run, by default all of the image.
        sub_batch : int, optional
            Items in a sub-batch of the first stage, by default as many as the funnel's number of
            sub-batches needs.
        timeout_cycles : int, optional
            Longest wait for room, by default the configuration's time-out.

        Raises
        ------
        QueryError
            The query or an argument is not acceptable. Nothing was sent.
        DeviceError
            The device is not open, gets no room within the time-out, or reports an error.
        """
        self._need_open()
        data = pack(self.config.features, query)
        last_stage = len(self.image.stages) - 1 if last_stage is None else last_stage
        self._check_stages(first_stage, last_stage)
        if keep is None:
            kept = query.items
            keep = [
                kept := min(kept, n) for n in self.config.funnel.keep[first_stage : last_stage + 1]
            ]
        if sub_batch is None:
            sub_batch = -(-query.items // self.config.funnel.sub_batches)
        self._check(query.items, len(data), keep, first_stage, last_stage, sub_batch)
        fields = {
            "first_stage": first_stage,
            "last_stage": last_stage,
            "items": query.items,
            "sub_batch": sub_batch,
        }
        fields |= {f"keep{first_stage + i}": int(n) for i, n in enumerate(keep)}
        return self.submit_raw(fields, data, timeout_cycles=timeout_cycles)

    def _check_stages(self, first: int, last: int) -> None:
        if not 0 <= first <= last < len(self.image.stages):
            raise QueryError(
                f"stages {first}..{last} are not a part of the image's 0..{len(self.image.stages) - 1}"
            )

    def _check(
        self, items: int, size: int, keep: Sequence[int], first: int, last: int, sub_batch: int
    ) -> None:
        """Refuse what the device would refuse, with a reason."""
        hardware = self.config.hardware
        if size > hardware.feature_bytes:
            raise QueryError(
                f"the features of {items} items take {size} bytes, "
                f"but hardware.feature_bytes = {hardware.feature_bytes}"
            )
        if len(keep) != last + 1 - first:
            raise QueryError(f"keep must give a number for each of stages {first}..{last}: {keep}")
        available = items
        for stage, kept in enumerate(keep, first):
            most = min(available, hardware.topk_depth[stage])
            if not 1 <= kept <= most:
                why = "the items it gets" if most == available else "its topk_depth"
                raise QueryError(f"stage {stage} keeps {kept}: it may keep 1..{most} ({why})")
            available = kept
        if not 1 <= sub_batch <= _LOW16:
            raise QueryError(f"sub_batch must be 1..{_LOW16}, not {sub_batch}")
        bounds = largest_sub_batches(items, sub_batch, keep)
        for stage, bound in enumerate(bounds, first):
            most = self.image.stages[stage].max_items
            if bound > most:
                raise QueryError(
                    f"sub_batch = {sub_batch} brings up to {bound} items at a time to stage {stage}, "
                    f"which takes {most} (limited by hardware.{self.image.stages[stage].limit})"
                )

    def submit_raw(
        self,
        descriptor: Mapping[str, int],
        features: bytes,
        *,
        timeout_cycles: int | None = None,
    ) -> Handle:
        """Submit a descriptor as it is, for tests of the device's own checks.

        Parameters
        ----------
        descriptor : mapping
            Fields of ``abi.DESCRIPTOR``. Version, addresses and image are filled in where not
            given; the query's number always is.
        features : bytes
            At most ``feature_bytes``.
        timeout_cycles : int, optional

        Raises
        ------
        DeviceError
            See :meth:`submit`.
        """
        self._need_open()
        if len(features) > self.config.hardware.feature_bytes:
            raise QueryError(
                f"{len(features)} bytes of features do not fit the driver's buffers of "
                f"{self.config.hardware.feature_bytes}"
            )
        if not self._free:
            self._until(lambda: bool(self._free), "a query to complete", timeout_cycles)
        slot = self._free[0]
        query_id = self._next_id
        values = {
            "version": abi.VERSION_MAJOR,
            "features": self._features(slot),
            "results": self._results(slot),
            "image_id": self.image.image_id,
            **descriptor,
            "query_id": query_id,
        }
        entry = abi.DESCRIPTOR.pack(**values)
        self._free.pop(0)
        self._next_id = query_id + 1 & 0xFFFFFFFF
        self.transport.host_write(self._features(slot), features)
        self.transport.host_write(self._sq_tail % self._entries * abi.DESCRIPTOR.bytes, entry)
        self._sq_tail = self._sq_tail + 1 & _LOW16
        handle = Handle(query_id, slot)
        self._pending[query_id] = handle
        self._write("SQ_TAIL", self._sq_tail)
        return handle

    def poll(self, handle: Handle) -> bool:
        """Tell whether a query is complete, letting the device run for a moment if it is not."""
        self._need_open()
        if not handle.done:
            self._progress(POLL_CYCLES)
        return handle.done

    def wait(self, handle: Handle, timeout_cycles: int | None = None) -> Handle:
        """Wait until a query is complete.

        Parameters
        ----------
        handle : Handle
        timeout_cycles : int, optional
            By default the configuration's.

        Returns
        -------
        Handle
            The same.

        Raises
        ------
        DeviceError
            It is not within the time-out (it goes on and can be waited for again), or the device
            reports an error.
        """
        self._need_open()
        self._until(lambda: handle.done, f"query {handle.query_id}", timeout_cycles)
        return handle

    def run(
        self,
        queries: Iterable[Query],
        *,
        outstanding: int = 2,
        keep: Sequence[int] | None = None,
        first_stage: int = 0,
        last_stage: int | None = None,
        sub_batch: int | None = None,
    ) -> list[Handle]:
        """Run queries, keeping several outstanding; see :meth:`submit` for the arguments.

        Returns
        -------
        list of Handle
            Complete, in the order of the queries.
        """
        self._need_open()
        if outstanding < 1:
            raise QueryError(f"outstanding must be positive, not {outstanding}")
        handles = []
        for query in queries:
            self._until(lambda: len(self._pending) < outstanding, "a query to complete")
            handles.append(
                self.submit(
                    query,
                    keep=keep,
                    first_stage=first_stage,
                    last_stage=last_stage,
                    sub_batch=sub_batch,
                )
            )
        for handle in handles:
            self.wait(handle)
        return handles
