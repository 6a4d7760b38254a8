"""Reads a memory image as docs/architecture.md and docs/abi.md say, and computes with it.

Written without the compiler: it knows words, lines and banks, not layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rpaccel import abi
from rpaccel.hardware import HardwareConfig
from rpaccel.image import GeneratedTable
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    IMAGE_HEADER,
    IMAGE_MAGIC,
    IMAGE_SEGMENT,
    LANE,
    PAIR,
    PARAM,
    PASS,
    STAGE,
    STEP,
    Destination,
    FieldScope,
    Target,
)
from sw_model.generated_rows import GeneratedRows

__all__ = ["LoadedImage", "StageRun"]

NOT_WRITTEN, GATHER, THERE, BY_PASS = 0, 1, 2, 3  # and more: BY_PASS + n for the n-th that writes


def _rounded(words: int) -> int:
    """The next power of two."""
    power = 1
    while power < words:
        power *= 2
    return power


class LoadedImage:
    """On-chip memories after loading; segments are checked against the memories' sizes."""

    def __init__(
        self,
        hardware: HardwareConfig,
        memory: bytes,
        address: int = 0,
        generated: Sequence[GeneratedTable] = (),
    ) -> None:
        self.hardware = hardware
        self.memory = memory
        self.generated = generated
        self.owners: dict[int, tuple[int, int]] = {}  # the lane that reads each static macro
        self.line_bytes = hardware.memory.line_bytes
        block = max(64, self.line_bytes)
        image = memory[address:]
        self.header = IMAGE_HEADER.unpack(image[:64])
        assert self.header["magic"] == IMAGE_MAGIC
        assert self.header["version"] == abi.VERSION
        assert self.header["digest"] == hardware.digest()
        assert self.header["reserved"] == 0
        self.targets: dict[int, list[bytes]] = {}
        for number in range(self.header["segments"]):
            segment = IMAGE_SEGMENT.unpack(image[(1 + number) * block :][:64])
            assert segment["reserved0"] == segment["reserved"] == 0
            width, depth = self._shape(segment["target"])
            stride = -(-width // hardware.memory.bus_bytes) * hardware.memory.bus_bytes
            assert segment["address"] + segment["words"] <= depth
            target = self.targets.setdefault(segment["target"], [bytes(width)] * depth)
            at = segment["line"] * self.line_bytes
            for word in range(segment["words"]):
                data = image[at + word * stride :][:stride]
                assert len(data) == stride
                assert not any(data[width:])
                target[segment["address"] + word] = data[:width]

    def _shape(self, target: int) -> tuple[int, int]:
        """Bytes of a word and number of words of an on-chip memory."""
        hw = self.hardware
        kind, index = Target(target >> 5), target & 31
        if kind == Target.STAGES:
            if index:
                shape = hw.dot_shape(index - 1)
                return 3 * shape.ring * shape.turns, shape.steps
            return 16, hw.stages
        if kind == Target.FIELDS:
            return 32, (hw.gather[index].lanes + 1) * _rounded(hw.gather[index].max_fields)
        if kind == Target.STEPS:
            return 4 * (hw.gather[index].lanes + 2), hw.gather[index].max_steps
        if kind == Target.STATIC:
            assert index == 0
            return hw.memory.bus_bytes, hw.static_lines * hw.memory.beats
        assert index < len(hw.groups)
        if kind == Target.ENTRIES:
            return 8, len(hw.groups[index].stages)
        if kind == Target.PROGRAM:
            return 32, hw.program_depth
        if kind == Target.WEIGHTS:
            geometry = hw.geometry(index)
            return geometry.weight_tiles * hw.tile_cols, geometry.weight_rows
        return 8 * hw.tile_cols, hw.param_rows

    def words(self, kind: Target, index: int) -> list[bytes]:
        """Content of an on-chip memory."""
        return self.targets[kind << 5 | index]

    def stage(self, number: int) -> dict[str, int]:
        """A stage's STAGE word."""
        return STAGE.unpack(self.words(Target.STAGES, 0)[number])

    def steps(self, number: int) -> list[tuple[dict[str, int], list[dict[str, int]]]]:
        """A stage's STEP words up to the last, each with the LANE structures behind it."""
        found = []
        for word in self.words(Target.STEPS, number)[: self.stage(number)["steps"]]:
            lanes = [LANE.unpack(word[at : at + 4]) for at in range(4, len(word), 4)]
            found.append((STEP.unpack(word[:4]), lanes))
            assert found[-1][0]["last"] == (len(found) == self.stage(number)["steps"])
        return found

    def field(self, number: int, lane: int, place: int) -> dict[str, int]:
        """A FIELD word of a lane."""
        gather = self.hardware.gather[number]
        assert place < gather.max_fields
        at = lane * _rounded(gather.max_fields) + place
        return FIELD.unpack(self.words(Target.FIELDS, number)[at])

    def entry(self, stage: int, group: int) -> dict[str, int]:
        """A stage's ENTRY word of a group."""
        place = self.hardware.groups[group].stages.index(stage)
        return ENTRY.unpack(self.words(Target.ENTRIES, group)[place])

    def program(self, stage: int, group: int) -> list[dict[str, int]]:
        """A stage's PASS words in a group, up to the last."""
        program = []
        first = self.entry(stage, group)["program"]
        for word in self.words(Target.PROGRAM, group)[first:]:
            program.append(PASS.unpack(word))
            if program[-1]["last"]:
                return program
        raise AssertionError("the program has no end")

    def row(self, stage: int, lane: int, field: dict[str, int], index: int) -> np.ndarray:
        """Bytes of a table's row, from the static region if it is hot."""
        lines = field["lines"]
        if field["log2_rows"]:
            assert lines == 1
            line = index >> field["log2_rows"]
            stride = self.line_bytes >> field["log2_rows"]
            at = (index & (1 << field["log2_rows"]) - 1) * stride
        else:
            line, at = index * lines, 0
        if index < field["hot_rows"]:
            beats = self.hardware.memory.beats
            first = (field["static_line"] + line) * beats
            region = self.words(Target.STATIC, 0)[first : first + lines * beats]
            assert len(region) == lines * beats
            for part in range(lines):
                macro = (field["static_line"] + line + part) // self.hardware.macro_lines
                assert self.owners.setdefault(macro, (stage, lane)) == (stage, lane)
            data = b"".join(region)
        else:
            data = b"".join(self._line(field["line"] + line + part) for part in range(lines))
        return np.frombuffer(data[at : at + field["count"]], np.int8).astype(np.int64)

    def _line(self, line: int) -> bytes:
        """A line of device memory, also of tables that are generated there."""
        for table in self.generated:
            number = line - table.line
            if 0 <= number < table.lines:
                first, part = divmod(number << table.log2_rows, table.lines_per_row)
                rows = GeneratedRows(table.key, (table.rows, table.dimension))
                stride = self.line_bytes * table.lines_per_row >> table.log2_rows
                made = rows[first : first + (1 << table.log2_rows)]
                data = b"".join(row.tobytes().ljust(stride, b"\0") for row in made)
                return data[part * self.line_bytes :][: self.line_bytes]
        return self.memory[line * self.line_bytes :][: self.line_bytes]


class StageRun:
    """One token in one stage: activation memories full of garbage, then passes."""

    def __init__(
        self,
        image: LoadedImage,
        stage: int,
        group: int,
        items: int,
        rng: np.random.Generator,
    ):
        hw = image.hardware
        self.image, self.stage, self.items = image, stage, items
        self.group = group
        entry = image.entry(stage, group)
        self.words = entry["words"]
        self.shape = hw.geometry(self.group).shapes[entry["form"]]
        self.k, self.n = self.shape.k_width, self.shape.n_width
        shape = self.shape.parts, hw.activation_rows, self.shape.word_bytes
        self.memory = rng.integers(-128, 128, shape).astype(np.int8)
        self.writer = np.zeros(shape, np.int16)
        self.writing = 0  # passes that wrote
        self.dot = hw.dot_shape(stage) if entry["dimension"] else None
        self.entry = entry
        if self.dot is not None:
            assert items <= hw.dot_unit(stage).items
            size = self.dot.vectors * self.dot.dimension
            self.vectors = rng.integers(-128, 128, (items, size)).astype(np.int8)
        self.scores = np.full(items, 1 << 20)
        self.useful = 0
        assert items <= image.stage(stage)["max_items"]

    def place(self, byte: int, item: int) -> tuple[int, int, int]:
        """Part, address and byte in the word of a feature byte of an item."""
        word, byte = divmod(byte, self.shape.word_bytes)
        assert word < self.words
        row, part = divmod(item, self.shape.parts)
        assert row < self.image.hardware.accumulator_depth
        address = row * self.words + word
        assert address < self.image.hardware.activation_rows
        return part, address, byte

    def write(self, byte: int, item: int, value: int, writer: int) -> None:
        """Write one activation byte."""
        self.memory[self.place(byte, item)] = value
        self.writer[self.place(byte, item)] = writer

    def gather(self, query_record: bytes, item_records: list[bytes]) -> None:
        """Fill the inputs of all items from feature records."""
        hw = self.image.hardware
        lanes = hw.gather[self.stage].lanes
        used = self.image.stage(self.stage)["lanes"]
        for item, record in enumerate(item_records):
            ended = [False] * (lanes + 1)
            sums: list[np.ndarray | None] = [None] * (lanes + 1)
            for step, words in self.image.steps(self.stage):
                source = query_record if step["scope"] == FieldScope.QUERY else record
                for lane, word in enumerate(words):
                    if not word["used"]:
                        continue
                    assert not ended[lane]
                    ended[lane] = bool(word["item_last"])
                    field = self.image.field(self.stage, lane, word["field"])
                    data = source[step["address"] + word["byte"] :]
                    size = 1 if lane == lanes else field["index_bytes"]
                    size *= word["count"]
                    assert len(data) >= size <= hw.piece_bytes
                    assert word["byte"] + size <= hw.feature_read
                    if lane == lanes:
                        values = np.frombuffer(data[:size], np.int8).tolist()
                        self.take(field, item, values)
                        continue
                    assert (sums[lane] is None) == word["first"]
                    sums[lane] = self.bag(lane, field, data, word["count"], sums[lane])
                    if word["last"]:
                        self.take(field, item, self.pooled(field, sums[lane]))
                        sums[lane] = None
            assert ended == [lane < used or lane == lanes for lane in range(lanes + 1)]
            assert sums == [None] * (lanes + 1)

    def take(self, field: dict[str, int], item: int, values: list[int]) -> None:
        """Write what a field makes of an item."""
        if self.dot is not None and field["output"] >= self.dot.base:
            first = field["output"] - self.dot.base
            assert len(values) == self.entry["dimension"]
            self.vectors[item, first : first + len(values)] = values
            return
        for i, value in enumerate(values):
            place = self.place(field["output"] + i, item)
            assert self.writer[place] == NOT_WRITTEN, "two fields overlap"
            self.write(field["output"] + i, item, value, GATHER)

    def bag(
        self,
        lane: int,
        field: dict[str, int],
        data: bytes,
        count: int,
        total: np.ndarray | None,
    ) -> np.ndarray:
        """Add the rows of some indices."""
        size = field["index_bytes"]
        total = np.zeros(field["count"], np.int64) if total is None else total
        for slot in range(count):
            index = int.from_bytes(data[slot * size :][:size], "little")
            if index != (1 << 8 * size) - 1:
                assert index < field["rows"]
                total = total + self.image.row(self.stage, lane, field, index)
        return total

    def pooled(self, field: dict[str, int], total: np.ndarray) -> list[int]:
        """Requantise a sum of rows."""
        shift = field["shift"]
        if shift:
            total = (total + (1 << shift - 1)) >> shift
        return np.clip(total, -128, 127).tolist()

    def run(self) -> np.ndarray:
        """Run the program; checks of wait bits included. Returns scores, shape (items,)."""
        acc = np.zeros((self.items, self.n), np.int64)
        if self.dot is not None and not self.entry["bottom"]:
            self.interact()
        for command in self.image.program(self.stage, self.group):
            weights = self.tile(command["weights"], command["tile"])
            x, writers = self.slice(command["source"] * self.shape.slices + command["slice"])
            used = weights.any(axis=1)
            product = command["multiply"] or not command["rows"]
            assert product or used.sum() <= command["rows"] <= self.k
            assert (writers[:, used] != NOT_WRITTEN).all(), "a pass reads what nobody wrote"
            assert command["wait_input"] or not (writers[:, used] == GATHER).any()
            back, followed = command["wait_write"], BY_PASS
            if back:  # rows follow those of this pass, and so of all before it
                followed += self.writing + 1 - back
                assert followed > BY_PASS
                self.writer[(self.writer > BY_PASS) & (self.writer <= followed)] = THERE
            assert (writers[:, used] <= followed).all(), "a pass reads before it is written"
            here = x.astype(np.int64) @ weights
            if command["multiply"]:
                assert not command["first"]
                assert max(np.abs(acc).max(), np.abs(here).max()) <= 128
                acc = acc * here
            else:
                acc = (0 if command["first"] else acc) + here
            assert np.abs(acc).max() < 1 << 31
            self.useful += command["rows"] * command["cols"]
            if command["final"]:
                self.epilogue(command, acc)
            if command["pause"]:
                assert self.entry["bottom"]
                self.interact()
        assert (self.scores < 1 << 20).all(), "no score was made"
        return self.scores

    def interact(self) -> None:
        """Multiply all places of the ring by those a rotation on; passes find all in its place."""
        dot, d = self.dot, self.entry["dimension"]
        assert dot is not None
        words = self.image.words(Target.STAGES, 1 + self.stage)
        pairs = b"".join(words)
        ring = np.zeros((self.items, dot.ring, d), np.int64)
        ring[:, : dot.vectors] = self.vectors.reshape(self.items, dot.vectors, -1)[:, :, :d]
        for number in range(dot.results):
            i, turn = number % dot.ring, number // dot.ring + 1
            products = (ring[:, i] * ring[:, (i + turn) % dot.ring]).sum(axis=1)
            pair = PAIR.unpack(pairs[3 * number :][:3])
            for item, product in enumerate(products.tolist()):
                value = product * pair["mantissa"]
                if pair["shift"]:
                    value = (value + (1 << pair["shift"] - 1)) >> pair["shift"]
                self.write(number, item, min(max(value, -128), 127), THERE)
        self.writer[self.writer > BY_PASS] = THERE

    def tile(self, first: int, number: int) -> np.ndarray:
        """Weights of a tile, (k_width, n_width): of several in the words, the one of a number."""
        hw = self.image.hardware
        size = self.shape.rows * self.n
        words = self.image.words(Target.WEIGHTS, self.group)[first : first + hw.tile_rows]
        tile = np.zeros((self.k, self.n), np.int64)
        for r, word in enumerate(words):
            for row in range(self.shape.rows):
                part = word[number * size + row * self.n :][: self.n]
                assert len(part) == self.n
                tile[row * hw.tile_rows + r] = np.frombuffer(part, np.int8)
        return tile

    def slice(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The K slice of all items, and who wrote it."""
        span = range(number * self.k, (number + 1) * self.k)
        places = [[self.place(byte, item) for byte in span] for item in range(self.items)]
        return (
            np.array([[self.memory[p] for p in row] for row in places]),
            np.array([[self.writer[p] for p in row] for row in places]),
        )

    def epilogue(self, command: dict[str, int], acc: np.ndarray) -> None:
        """Requantise and write columns."""
        words = self.image.words(Target.PARAMS, self.group)[command["params"] :]
        word = b"".join(words[: self.shape.cols])
        score = command["destination"] == Destination.SCORE
        assert 1 <= command["columns"] == command["cols"]
        assert command["column"] + command["columns"] <= self.n
        if score:
            assert (command["column"], command["columns"], command["last"]) == (0, 1, 1)
        self.writing += not score
        for column in range(command["column"], command["column"] + command["columns"]):
            p = PARAM.unpack(word[8 * column : 8 * column + 8])
            for item in range(self.items):
                v = (int(acc[item, column]) + p["bias"]) * p["mantissa"]
                if p["shift"]:
                    v = (v + (1 << p["shift"] - 1)) >> p["shift"]
                if score:
                    self.scores[item] = min(max(v, -32768), 32767)
                else:
                    low = 0 if command["relu"] else -128
                    value = min(max(v, low), 127)
                    at = command["target"] * self.shape.word_bytes + command["chunk"] * self.n
                    self.write(at + column, item, value, BY_PASS + self.writing)
                    if command["vector"]:
                        assert column < self.entry["dimension"] - (command["vector"] - 1) * self.n
                        last = (self.dot.vectors - 1) * self.dot.dimension
                        k = (command["vector"] - 1) * self.n + column
                        self.vectors[item, last + k] = value
