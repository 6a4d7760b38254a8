"""The golden device: registers, rings and statuses of the machine, arithmetic of the golden model.

It is functional: results, statuses and event counts are the machine's, time is not. It computes
with quantised models and indices; of a memory image it reads the header, the segments' targets
and the stage table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.image_layout import (
    GROUP_BITS,
    IMAGE_HEADER,
    IMAGE_MAGIC,
    IMAGE_SEGMENT,
    STAGE,
    Target,
    image_block_bytes,
)
from rpaccel.registers import DeviceErrorBit, Interrupt
from sw_model.controller import validate
from sw_model.features import unpack
from sw_model.funnel import Trace, rank
from sw_model.quantised import QuantisedModel
from sw_model.query import Ranking
from sw_model.registers import Registers
from sw_model.topk import machine_filters

__all__ = ["GoldenTransport"]

HOST_BYTES = 1 << 24
_LOW16 = 0xFFFF


class GoldenTransport:
    """A device made of the golden model, as the driver sees any device.

    Queries are run while it is waited on, up to ``query_slots`` at a time.

    Parameters
    ----------
    config : Config
    models : sequence of QuantisedModel
        One a stage of the funnel.
    memory : bytes
        Content of device memory from address 0 on.
    host_bytes : int
    shuffle : int, optional
        Seed of a random order of completion; without it, queries complete in their order.
    """

    def __init__(
        self,
        config: Config,
        models: Sequence[QuantisedModel],
        memory: bytes = b"",
        *,
        host_bytes: int = HOST_BYTES,
        shuffle: int | None = None,
    ) -> None:
        self.config = config
        self.models = list(models)
        self.host_bytes = host_bytes
        self._host = bytearray(host_bytes)
        self._memory = bytearray(memory)
        self._shuffle = None if shuffle is None else np.random.default_rng(shuffle)
        self._registers = Registers(config.hardware)
        self._stages: list[dict[str, int]] = []
        self._running: list[dict[str, int]] = []
        self._completions = 0

    # --- transport ----------------------------------------------------------------------------

    def read32(self, address: int) -> int:
        """Read a 32-bit register; unknown addresses read zero."""
        self._registers.idle = not self._busy
        return self._registers.read(address)

    def write32(self, address: int, value: int) -> None:
        """Write a 32-bit register; writes to unknown and read-only addresses are ignored."""
        if self._registers.write(address, value):
            self._load()

    def host_read(self, address: int, size: int) -> bytes:
        """Read host memory."""
        self._inside(address, size)
        return bytes(self._host[address : address + size])

    def host_write(self, address: int, data: bytes) -> None:
        """Write host memory."""
        self._inside(address, len(data))
        self._host[address : address + len(data)] = data

    def load_memory(self, address: int, data: bytes) -> None:
        """Write device memory from a byte address on."""
        self._memory.extend(bytes(max(0, address + len(data) - len(self._memory))))
        self._memory[address : address + len(data)] = data

    def wait(self, cycles: int) -> bool:
        """Run queries until the interrupt is up; see :class:`rpaccel.transport.Transport`."""
        while not self._registers.interrupt:
            if not self._step():
                self._registers.counts["device.cycles"] += cycles
                break
        return self._registers.interrupt

    def close(self) -> None:
        """Nothing to let go of."""

    # --- device -------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return bool(self._running) or (self._registers.enabled and self._registers.submitted)

    def _reaches(self, address: int, size: int) -> bool:
        return address >= 0 and address + size <= self.host_bytes

    def _inside(self, address: int, size: int) -> None:
        if not self._reaches(address, size):
            raise ValueError(f"host memory has {self.host_bytes} bytes, not {size} at {address:#x}")

    def _load(self) -> None:
        """Load an image: check its header, take its stage table."""
        if self._busy:
            self._registers.error(DeviceErrorBit.LOAD_BUSY)
            return
        self._registers["IMAGE_ID"] = 0
        hardware = self.config.hardware
        memory = memoryview(self._memory)[self._registers.address("IMAGE_ADDRESS") :]
        header = IMAGE_HEADER.unpack(bytes(memory[: IMAGE_HEADER.bytes]))
        errors = DeviceErrorBit
        if len(memory) < IMAGE_HEADER.bytes:
            self._registers.error(errors.IMAGE_MEMORY)
        elif header["magic"] != IMAGE_MAGIC:
            self._registers.error(errors.IMAGE_MAGIC)
        elif header["version"] != abi.VERSION:
            self._registers.error(errors.IMAGE_VERSION)
        elif header["digest"] != hardware.digest():
            self._registers.error(errors.IMAGE_DIGEST)
        elif not self._load_stages(memory, header["segments"]):
            self._registers.error(errors.IMAGE_MEMORY)
        else:
            self._registers["IMAGE_ID"] = header["image_id"]
        self._registers.interrupted(Interrupt.LOADED)

    def _load_stages(self, memory: memoryview, segments: int) -> bool:
        """Take the stage table; false if a segment is out of memory or names no target."""
        hardware = self.config.hardware
        line_bytes, bus_bytes = hardware.memory.line_bytes, hardware.memory.bus_bytes
        block = image_block_bytes(line_bytes)
        stages, groups = hardware.stages, len(hardware.groups)
        # In the order of Target; each dot interaction unit has one that follows the table's.
        known = {unit.stage + 1 for unit in hardware.dot} | {0}
        targets = [max(known) + 1, stages, 1, groups, groups, groups, groups, stages]
        self._stages = [STAGE.unpack(0) for _ in range(hardware.stages)]
        for number in range(1, segments + 1):
            raw = bytes(memory[number * block :][: IMAGE_SEGMENT.bytes])
            segment = IMAGE_SEGMENT.unpack(raw)
            kind, index = divmod(segment["target"], 1 << GROUP_BITS)
            index |= segment["upper"] << GROUP_BITS & hardware.group_room - 1
            if len(raw) < IMAGE_SEGMENT.bytes or kind >= len(targets):
                return False
            table = kind == Target.STAGES
            if index >= targets[kind] or (table and index not in known):
                return False
            if segment["line"] * line_bytes > len(memory):
                return False
            if table and not index:
                stride = -(-STAGE.bytes // bus_bytes) * bus_bytes
                for i in range(segment["words"]):
                    at = segment["line"] * line_bytes + i * stride
                    self._stages[segment["address"] + i] = STAGE.unpack(
                        bytes(memory[at:][: STAGE.bytes])
                    )
        return True

    def _step(self) -> bool:
        """Fetch what there is room for and complete one query; false if there is none."""
        registers, slots = self._registers, self.config.hardware.query_slots
        while registers.enabled and registers.submitted and len(self._running) < slots:
            self._fetch()
        waiting = registers["CQ_TAIL"] - registers["CQ_HEAD"] & _LOW16
        if not self._running or waiting >= 1 << registers["CQ_LOG2"]:
            return False
        pick = 0 if self._shuffle is None else int(self._shuffle.integers(len(self._running)))
        descriptor = self._running.pop(pick)
        self._complete(descriptor, *self._run(descriptor))
        return True

    def _fetch(self) -> None:
        head = self._registers["SQ_HEAD"]
        entry = head & (1 << self._registers["SQ_LOG2"]) - 1
        address = self._registers.address("SQ_BASE") + entry * abi.DESCRIPTOR.bytes
        self._registers["SQ_HEAD"] = head + 1 & _LOW16
        if not self._reaches(address, abi.DESCRIPTOR.bytes):
            self._registers.error(DeviceErrorBit.HOST_READ)
            return
        self._registers.counts["device.host_read_bytes"] += abi.DESCRIPTOR.bytes
        data = self.host_read(address, abi.DESCRIPTOR.bytes)
        self._running.append(abi.DESCRIPTOR.unpack(data))

    def _run(self, descriptor: dict[str, int]) -> tuple[abi.Status, Ranking | None, Trace]:
        """Run a query: status, ranking if it is OK, and what it counted."""
        trace = Trace()
        status = validate(
            descriptor,
            hardware=self.config.hardware,
            image_id=self._registers["IMAGE_ID"],
            stages=self._stages,
        )
        if status != abi.Status.OK:
            return status, None, trace
        first, last = descriptor["first_stage"], descriptor["last_stage"]
        entry = self._stages[first]
        size = entry["query_bytes"] + descriptor["items"] * entry["item_bytes"]
        blocks = -(-size // abi.BLOCK_BYTES) * abi.BLOCK_BYTES
        if not self._reaches(descriptor["features"], blocks):
            return abi.Status.HOST_ERROR, None, trace
        self._registers.counts["device.host_read_bytes"] += blocks
        data = self.host_read(descriptor["features"], size)
        query = unpack(self.config.features, data, descriptor["items"])
        keep = [descriptor[f"keep{s}"] for s in range(first, last + 1)]
        ranking = rank(
            self.models,
            self.config.features,
            query,
            keep=keep,
            sub_batch=descriptor["sub_batch"],
            first_stage=first,
            last_stage=last,
            filters=machine_filters(
                self.config.hardware, [stage["threshold"] for stage in self._stages]
            ),
            global_release=[s for s in range(4) if descriptor["global_release"] >> s & 1],
            trace=trace,
        )
        self._count(trace)
        if trace.bad_indices:
            return abi.Status.BAD_INDEX, None, trace
        return abi.Status.OK, ranking, trace

    def _count(self, trace: Trace) -> None:
        """Count the events of a query."""
        counts = self._registers.counts
        for token in trace.tokens:
            for name, value in (
                ("gather{}.items", len(token.positions)),
                ("gather{}.lookups", token.lookups),
                ("gather{}.bad_indices", token.bad_indices),
                ("topk{}.candidates", len(token.positions)),
                ("topk{}.released", len(token.released)),
                ("topk{}.saturations", token.saturations),
                ("topk{}.short", int(token.below > 0)),
                ("topk{}.below", token.below),
            ):
                counts[name.format(token.stage)] += value

    def _complete(
        self, descriptor: dict[str, int], status: abi.Status, ranking: Ranking | None, trace: Trace
    ) -> None:
        """Write results and completion, raise the interrupt."""
        count = 0
        if ranking is not None:
            data = _results(ranking)
            if self._reaches(descriptor["results"], len(data)):
                self.host_write(descriptor["results"], data)
                self._registers.counts["device.host_write_bytes"] += len(data)
                count = len(ranking.positions)
            else:
                self._registers.error(DeviceErrorBit.HOST_WRITE)
                status = abi.Status.HOST_ERROR
        self._completions += 1
        completion = abi.COMPLETION.pack(
            sequence=self._completions & 0xFFFFFFFF,
            query_id=descriptor["query_id"],
            status=status,
            count=count,
            bad_indices=trace.bad_indices,
            saturations=trace.saturations,
        )
        tail = self._registers["CQ_TAIL"]
        entry = tail & (1 << self._registers["CQ_LOG2"]) - 1
        address = self._registers.address("CQ_BASE") + entry * abi.COMPLETION.bytes
        if self._reaches(address, abi.COMPLETION.bytes):
            self.host_write(address, completion)
            self._registers.counts["device.host_write_bytes"] += abi.COMPLETION.bytes
        else:
            self._registers.error(DeviceErrorBit.HOST_WRITE)
        self._registers["CQ_TAIL"] = tail + 1 & _LOW16
        self._registers.counts[
            "device.queries" if status == abi.Status.OK else "device.failed"
        ] += 1
        self._registers.interrupted(Interrupt.COMPLETION)


def _results(ranking: Ranking) -> bytes:
    """RESULT structures in whole blocks, zero padded."""
    data = b"".join(
        abi.RESULT.pack(position=p, score=s)
        for p, s in zip(ranking.positions.tolist(), ranking.scores.tolist(), strict=True)
    )
    return data + bytes(-len(data) % abi.BLOCK_BYTES)
