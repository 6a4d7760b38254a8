"""What the machine finds in a compiled image: steps, fields, entries and programs."""

from __future__ import annotations

from functools import cached_property

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    IMAGE_HEADER,
    IMAGE_SEGMENT,
    LANE,
    PARAM,
    PASS,
    STAGE,
    STEP,
    Target,
    image_block_bytes,
    lane_words,
    target_id,
)

__all__ = ["Programs"]

Words = list[dict[str, int]]
_GROUP_WORDS = {
    Target.ENTRIES: ENTRY.bytes,
    Target.PROGRAM: PASS.bytes,
    Target.WEIGHTS: 0,  # as wide as the group
    Target.PARAMS: 0,
}


class Programs:
    """Words of an image that decide about cycles.

    Parameters
    ----------
    hardware : HardwareConfig
    image : bytes
        From its header on (:attr:`rpaccel.image.Image.data`).
    """

    def __init__(self, hardware: HardwareConfig, image: bytes) -> None:
        self.hardware = hardware
        self._image = image
        block = image_block_bytes(hardware.memory.line_bytes)
        count = IMAGE_HEADER.unpack(image[: abi.BLOCK_BYTES])["segments"]
        self._segments = [
            IMAGE_SEGMENT.unpack(image[block * n :][: abi.BLOCK_BYTES]) for n in range(1, count + 1)
        ]

    @cached_property
    def loaded_lines(self) -> list[int]:
        """Lines that the loader reads, in its order."""
        line_bytes = self.hardware.memory.line_bytes
        block = image_block_bytes(line_bytes) // line_bytes
        begins = sorted(segment["line"] for segment in self._segments)
        end = self._end()
        lines = list(range(block))
        for number, segment in enumerate(self._segments, 1):
            lines += range(block * number, block * (number + 1))
            behind = [line for line in [*begins, end] if line > segment["line"]]
            lines += range(segment["line"], behind[0])
        return lines

    def _end(self) -> int:
        """First line behind the data of all segments; the last are a group's."""
        memory, hardware = self.hardware.memory, self.hardware
        last = max(self._segments, key=lambda segment: segment["line"])
        target = last["upper"] << 8 | last["target"]
        group = next(
            g
            for g in range(len(hardware.groups))
            if target in [target_id(kind, g) for kind in _GROUP_WORDS]
        )
        kind = next(k for k in _GROUP_WORDS if target_id(k, group) == target)
        size = _GROUP_WORDS[kind]
        if kind == Target.WEIGHTS:
            size = hardware.geometry(group).weight_tiles * hardware.tile_cols
        elif kind == Target.PARAMS:
            size = hardware.tile_cols * PARAM.bytes
        beats = last["words"] * -(-size // memory.bus_bytes)
        return last["line"] + -(-beats // memory.beats)

    def _words(self, kind: Target, index: int, size: int) -> dict[int, bytes]:
        """Words of a target that are in the image, by address."""
        memory = self.hardware.memory
        stride = -(-size // memory.bus_bytes) * memory.bus_bytes
        found = {}
        for segment in self._segments:
            if segment["upper"] << 8 | segment["target"] == target_id(kind, index):
                at = segment["line"] * memory.line_bytes
                for number in range(segment["words"]):
                    word = self._image[at + number * stride : at + number * stride + size]
                    found[segment["address"] + number] = word
        return found

    @cached_property
    def stages(self) -> Words:
        """STAGE words; those of stages that are not in the image have no steps."""
        words = self._words(Target.STAGES, 0, STAGE.bytes)
        return [STAGE.unpack(words[n]) for n in range(self.hardware.stages)]

    def steps(self, stage: int) -> list[tuple[dict[str, int], Words]]:
        """STEP words of a stage, each with the LANE structures behind it, the dense lane's last."""
        lanes = self.hardware.gather[stage].lanes + 1
        head, each = STEP.bytes, LANE.bytes
        words = self._words(Target.STEPS, stage, head + each * lanes)
        return [
            (
                STEP.unpack(words[n][:head]),
                [LANE.unpack(words[n][head + each * lane :][:each]) for lane in range(lanes)],
            )
            for n in range(self.stages[stage]["steps"])
        ]

    def fields(self, stage: int) -> list[Words]:
        """FIELD words of each lane of a stage, the dense lane's last."""
        gather = self.hardware.gather[stage]
        apart = lane_words(gather.max_fields)
        words = self._words(Target.FIELDS, stage, FIELD.bytes)
        lanes: list[Words] = [[] for _ in range(gather.lanes + 1)]
        for address in sorted(words):
            lanes[address // apart].append(FIELD.unpack(words[address]))
        return lanes

    def entry(self, stage: int, group: int) -> dict[str, int]:
        """ENTRY word of a stage in a group that serves it."""
        place = self.hardware.groups[group].stages.index(stage)
        return ENTRY.unpack(self._words(Target.ENTRIES, group, ENTRY.bytes)[place])

    def program(self, stage: int, group: int) -> Words:
        """PASS words of a stage in a group, from its first to its last."""
        words = self._words(Target.PROGRAM, group, PASS.bytes)
        found: Words = []
        while not found or not found[-1]["last"]:
            found.append(PASS.unpack(words[self.entry(stage, group)["program"] + len(found)]))
        return found
