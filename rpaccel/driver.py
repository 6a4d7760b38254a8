"""The host driver: opens a device over any transport, submits queries, collects rankings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.counters import counters_of
from rpaccel.descriptor import descriptor_fields
from rpaccel.errors import ConfigError, DeviceError, QueryError, RPAccelError
from rpaccel.features import pack
from rpaccel.handle import Handle
from rpaccel.image import Image
from rpaccel.link import Link
from rpaccel.registers import CAPABILITIES, CAPABILITY_BASE, Control, DeviceStatus, Interrupt
from rpaccel.rings import Rings
from rpaccel.transport import MemoryLoader, Transport
from sw_model.query import Query

__all__ = ["Device"]

_STATUS = DeviceStatus
POLL_CYCLES = 64
"""How long one poll lets the device run."""


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
        self._link = Link(transport, config)
        self._rings: Rings | None = None
        self._closed = False
        self._pending: dict[int, Handle] = {}
        self._next_id = 0

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
        try:
            self.close()
        except RPAccelError:
            if error is None:  # else the first error is the one to be told
                raise

    def open(self) -> Device:
        """Check the device's identity, load the image, set the rings up, enable it.

        Raises
        ------
        ConfigError
            The image or the device is for another machine, or host memory is too small.
        DeviceError
            There is no such device, its ABI is another version, or the image could not be loaded.
        """
        if self._closed or self._rings is not None:
            raise DeviceError("a device is opened once")
        digest = self.config.hardware.digest()
        if self.image.digest != digest:
            raise ConfigError(
                f"the image is for machine {self.image.digest:#018x}, "
                f"the configuration describes {digest:#018x}"
            )
        link = self._link
        link.identify()
        link.write("CONTROL", 0)
        link.until(lambda: bool(link.read("STATUS") >> _STATUS.IDLE & 1), "the device to be idle")
        if isinstance(self.transport, MemoryLoader):
            self.transport.load_memory(self.image.address, self.image.data)
        link.write("IRQ_STATUS", link.read("IRQ_STATUS"))
        link.write("ERROR", link.read("ERROR"))
        link.write("IRQ_ENABLE", sum(1 << bit for bit in Interrupt))
        self._load_image()
        self.dispatch(dict(enumerate(self.config.funnel.groups)))
        self.regroup(self.config.funnel.setting)
        self._rings = Rings(link, self.config)
        link.on_interrupt = self._take_completions
        link.write("CONTROL", 1 << Control.ENABLE)
        return self

    def _load_image(self) -> None:
        link = self._link
        link.write_address("IMAGE_ADDRESS", self.image.address)
        link.write("CONTROL", 1 << Control.LOAD)

        def loaded() -> bool:
            link.check_errors()
            status = link.read("STATUS")
            done, busy = (status >> bit & 1 for bit in (_STATUS.IMAGE_LOADED, _STATUS.LOADING))
            return bool(done) and not busy

        link.until(loaded, "the image to be loaded")
        found = link.read("IMAGE_ID")
        if found != self.image.image_id:
            raise DeviceError(
                f"device memory holds image {found:#010x}, not {self.image.image_id:#010x}"
            )

    def dispatch(self, groups: Mapping[int, Collection[int]]) -> None:
        """Choose the groups that get the tokens of each stage, from the next token on.

        Tokens that have been started, queries in flight and other stages are not disturbed.

        Parameters
        ----------
        groups : mapping
            For a stage, groups that serve it. Stages that are missing use all theirs.

        Raises
        ------
        ConfigError
            A stage has no group, or one that does not serve it.
        """
        try:
            words = self.config.hardware.dispatch_words(groups)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        for number, word in enumerate(words):
            self._link.write(f"DISPATCH_{number}", word)

    def regroup(self, setting: int) -> None:
        """Choose one of ``hardware.settings``: the groups that get tokens, from the next token on.

        Each group begins when those that it shares sub-arrays with have no tokens any more; queries
        in flight go on meanwhile, and other groups are not disturbed. Does not wait for it.

        Parameters
        ----------
        setting : int
            0 for a machine without settings.

        Raises
        ------
        ConfigError
            There is no such setting.
        """
        try:
            self.config.hardware.setting(setting)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if self.config.hardware.settings:
            self._link.write("SETTING", setting)

    def close(self) -> None:
        """Stop the device from fetching and let go of it; harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._rings is not None:
                self._link.write("CONTROL", 0)
        finally:
            self._rings = None
            self.transport.close()

    def _opened(self) -> Rings:
        if self._rings is None:
            raise DeviceError("the device is not open")
        return self._rings

    def counters(self) -> dict[str, int]:
        """Read all performance counters, all of one moment, by name (see :func:`counters_of`)."""
        self._opened()
        places = counters_of(self.config.hardware)
        return {name: self._link.counter(place) for name, place in places.items()}

    def cycles(self) -> int:
        """Read the device's clock, ``device.cycles``."""
        self._opened()
        return self._link.counter(counters_of(self.config.hardware)["device.cycles"])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Begin no query inside: those submitted are all in the ring when it ends."""
        self._opened()
        self._link.write("CONTROL", 0)
        yield
        self._link.write("CONTROL", 1 << Control.ENABLE)

    def run_until(self, cycle: int) -> int:
        """Let the device run, and take completions, until its clock has come to a cycle or beyond.

        The clock is looked at over the bus: some ten cycles go by before the caller knows.

        Returns
        -------
        now : int
            The clock.
        """
        while (now := self.cycles()) < cycle:
            self._link.progress(min(cycle - now, POLL_CYCLES if self._pending else 1 << 16))
        return now

    def capabilities(self) -> dict[str, int]:
        """Read the capability words, by name."""
        self._opened()
        return {
            name: self.transport.read32(CAPABILITY_BASE + 4 * number)
            for number, name in enumerate(CAPABILITIES)
        }

    def _take_completions(self) -> None:
        rings = self._opened()
        for entry in rings.completions():
            handle = self._pending.pop(entry["query_id"], None)
            if handle is None:
                raise DeviceError(
                    f"a completion names query {entry['query_id']}, which is not running"
                )
            handle.finish(entry, rings.ranking(handle.buffer, entry["count"]))
            rings.free.append(handle.buffer)

    def submit(
        self,
        query: Query,
        *,
        keep: Sequence[int] | None = None,
        first_stage: int = 0,
        last_stage: int | None = None,
        sub_batch: int | None = None,
        global_release: Collection[int] | None = None,
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
        global_release : collection of int, optional
            Stages that release once in the query, by default the funnel's.
        timeout_cycles : int, optional
            Longest wait for room, by default the configuration's time-out.

        Raises
        ------
        QueryError
            The query or an argument is not acceptable. Nothing was sent.
        DeviceError
            The device is not open, gets no room within the time-out, or reports an error.
        """
        self._opened()
        data = pack(self.config.features, query)
        way = self.config.funnel.way(
            query.items,
            keep=keep,
            first_stage=first_stage,
            last_stage=last_stage,
            sub_batch=sub_batch,
            global_release=global_release,
        )
        fields = descriptor_fields(self.config, self.image, query.items, len(data), way)
        return self.submit_raw(fields, data, timeout_cycles=timeout_cycles)

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
        rings = self._opened()
        if len(features) > rings.feature_bytes:
            raise QueryError(
                f"{len(features)} bytes of features do not fit a buffer of {rings.feature_bytes}"
            )
        if not rings.free:
            self._link.until(lambda: bool(rings.free), "a query to complete", timeout_cycles)
        query_id = self._next_id
        values = {"version": abi.VERSION_MAJOR, "image_id": self.image.image_id, **descriptor}
        buffer = rings.submit({**values, "query_id": query_id}, features)
        self._next_id = query_id + 1 & 0xFFFFFFFF
        self._pending[query_id] = handle = Handle(query_id, buffer)
        return handle

    def poll(self, handle: Handle) -> bool:
        """Tell whether a query is complete, letting the device run for a moment if it is not."""
        self._opened()
        if not handle.done:
            self._link.progress(POLL_CYCLES)
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
        self._opened()
        self._link.until(lambda: handle.done, f"query {handle.query_id}", timeout_cycles)
        return handle

    def wait_any(self, handles: Sequence[Handle], timeout_cycles: int | None = None) -> Handle:
        """Wait until one of several queries is complete, and return it; see :meth:`wait`."""
        self._opened()
        self._link.until(
            lambda: any(handle.done for handle in handles), "one of several queries", timeout_cycles
        )
        return next(handle for handle in handles if handle.done)

    def run(
        self,
        queries: Sequence[Query],
        *,
        outstanding: int = 2,
        keep: Sequence[int] | None = None,
        first_stage: int = 0,
        last_stage: int | None = None,
        sub_batch: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Handle]:
        """Run queries, keeping several outstanding; see :meth:`submit` for the other arguments.

        Parameters
        ----------
        queries : sequence of Query
        outstanding : int
            Queries submitted at a time.
        progress : function, optional
            Called with the numbers of completed and of all queries when they change.

        Returns
        -------
        list of Handle
            Complete, in the order of the queries.
        """
        self._opened()
        if outstanding < 1:
            raise QueryError(f"outstanding must be positive, not {outstanding}")
        handles: list[Handle] = []
        told = 0

        def at_most(running: int) -> None:
            nonlocal told
            self._link.until(lambda: len(self._pending) <= running, "a query to complete")
            done = sum(handle.done for handle in handles)
            if progress is not None and done > told:
                progress(done, len(queries))
                told = done

        for query in queries:
            at_most(outstanding - 1)
            handles.append(
                self.submit(
                    query,
                    keep=keep,
                    first_stage=first_stage,
                    last_stage=last_stage,
                    sub_batch=sub_batch,
                )
            )
        for running in range(outstanding - 1, -1, -1):
            at_most(running)
        return handles
