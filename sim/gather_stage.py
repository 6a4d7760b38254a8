"""Stages for a gather unit: what is in its memories, and what it must make of an item."""

import numpy as np

from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import FieldScope
from rpaccel.steps import Bag, Dense, steps
from sw_model.gather import pool
from sw_model.quantised import QuantisedTable

TABLE, DENSE = 1, 0
QUERY, ITEM = FieldScope.QUERY, FieldScope.ITEM


def machine(
    *,
    bus=8,
    line=16,
    host=16,
    tile_cols=8,
    cols=1,
    feature_bytes=8192,
    read=None,
    write=0,
    **gather,
):
    """A machine with one stage."""
    shape = {"cache_lines": 8, "cache_ways": 2, "max_fields": 8, **gather}
    return HardwareConfig.model_validate(
        {
            "tile_rows": 4,
            "tile_cols": tile_cols,
            "groups": [{"cols": cols, "stages": [0]}],
            "gather": [shape],
            "topk_depth": [4],
            "static_macros": 2,
            "macro_lines": 256,
            "memory": {"bus_bytes": bus, "line_bytes": line, "address_bits": 24},
            "host_bus_bytes": host,
            "feature_bytes": feature_bytes,
            "read_bytes": read,
            "gather_bytes": write,
            "sram_macro_bits": 1 << 24,  # the simulator has no macros
        }
    )


def integer(rng, low, high):
    """A Python integer in low..high."""
    return int(rng.integers(low, high + 1))


class Stage:
    """FIELD words, tables in static region and memory, and the features of some queries.

    Parameters
    ----------
    rng : numpy.random.Generator
    hardware : HardwareConfig
    fields : list of dict
        ``kind``, ``scope``, ``count``; for tables ``rows``, ``hot_rows``, ``lookups``,
        ``index_bytes``, ``shift`` too. The rest of the FIELD words is made here, ``output`` unless
        it is given, and tables are dealt to lanes, unless ``lane`` says which.
    items : int
        Items in each slot's query.
    empty, bad : float
        Shares of empty slots in bags, and of indices beyond their table.
    gaps : bool
        Outputs in any order with gaps between them, or one behind the other.
    """

    def __init__(self, rng, hardware, fields, *, items, empty=0.2, bad=0.0, gaps=True):
        self.rng, self.hardware, self.items = rng, hardware, items
        self.line_bytes = hardware.memory.line_bytes
        self.fields = [dict(f) for f in fields]
        self.tables = {}
        self.lines = {}
        self.lanes: list[list[int]] = [
            [] for _ in range(hardware.gather[0].lanes)
        ]  # numbers of their fields
        tables = [n for n, f in enumerate(self.fields) if f["kind"] == TABLE]
        for place, number in enumerate(rng.permutation(tables).tolist()):
            self.lanes[self.fields[number].get("lane", place % len(self.lanes))].append(number)
        self.static = [b"" for _ in self.lanes]
        self.next_line = integer(rng, 1, 1000)
        self.record_bytes = {QUERY: 0, ITEM: 0}
        for number in rng.permutation(len(self.fields)).tolist():
            self._place(number)
        output = 0
        order = rng.permutation(len(self.fields)) if gaps else np.arange(len(self.fields))
        for number in order.tolist():
            output += integer(rng, 0, 5) if gaps else 0
            self.fields[number]["output"] = output
            output += self.fields[number]["count"]
        for field, given in zip(self.fields, fields, strict=True):
            field["output"] = given.get("output", field["output"])
        for static in self.static:
            assert len(static) <= hardware.static_lines * self.line_bytes
        self.slots = [self._query(empty, bad) for _ in range(hardware.query_slots)]

    def _place(self, number):
        field = self.fields[number]
        scope = field["scope"]
        field["offset"] = self.record_bytes[scope]
        if field["kind"] == DENSE:
            self.record_bytes[scope] += field["count"]
            return
        self.record_bytes[scope] += field["lookups"] * field["index_bytes"]
        count, rows = field["count"], field["rows"]
        content = self.rng.integers(-128, 128, size=(rows, count)).astype(np.int8)
        self.tables[number] = QuantisedTable(f"t{number}", content, field["shift"])
        if count <= self.line_bytes:
            stride = 1 << (count - 1).bit_length()
            field["log2_rows"] = (self.line_bytes // stride).bit_length() - 1
            field["lines"] = 1
        else:
            field["log2_rows"] = 0
            field["lines"] = -(-count // self.line_bytes)
            stride = field["lines"] * self.line_bytes
        padded = self.rng.integers(0, 256, size=(rows, stride)).astype(np.uint8)
        padded[:, :count] = content.view(np.uint8)
        raw = padded.tobytes() + bytes(-rows * stride % self.line_bytes)
        field["line"] = self.next_line
        for i in range(0, len(raw), self.line_bytes):
            self.lines[self.next_line] = raw[i : i + self.line_bytes]
            self.next_line += 1
        hot = -(-field["hot_rows"] * stride // self.line_bytes) * self.line_bytes
        (lane,) = [n for n, numbers in enumerate(self.lanes) if number in numbers]
        field["static_line"] = len(self.static[lane]) // self.line_bytes
        self.static[lane] += raw[:hot]

    def _bag(self, field, empty, bad):
        size = 8 * field["index_bytes"]
        bag = self.rng.zipf(1.4, size=field["lookups"]) - 1
        bag = np.where(bag < field["rows"], bag, self.rng.integers(field["rows"], size=bag.shape))
        if field["rows"] < 2**size - 1:
            beyond = self.rng.integers(field["rows"], 2**size - 1, size=bag.shape)
            beyond[self.rng.random(bag.shape) < 0.5] = field["rows"]
            bag = np.where(self.rng.random(bag.shape) < bad, beyond, bag)
        return np.where(self.rng.random(bag.shape) < empty, 2**size - 1, bag)

    def _query(self, empty, bad):
        """Feature bytes of a slot, and what is in them: (bytes, values of item -> field)."""
        records = {
            key: bytearray(self.record_bytes[ITEM if key >= 0 else QUERY])
            for key in range(-1, self.items)
        }
        values: list[dict[int, np.ndarray]] = [{} for _ in range(self.items)]
        for number, field in enumerate(self.fields):
            keys = [-1] if field["scope"] == QUERY else range(self.items)
            for key in keys:
                if field["kind"] == DENSE:
                    value = self.rng.integers(-128, 128, size=field["count"]).astype(np.int8)
                    raw = value.tobytes()
                else:
                    value = self._bag(field, empty, bad)
                    raw = b"".join(int(i).to_bytes(field["index_bytes"], "little") for i in value)
                records[key][field["offset"] : field["offset"] + len(raw)] = raw
                for item in range(self.items) if key < 0 else [key]:
                    values[item][number] = value
        return b"".join(bytes(records[k]) for k in range(-1, self.items)), values

    def expected(self, slot, position):
        """Bytes of an item by their place in the input space."""
        placed = {}
        for number, field in enumerate(self.fields):
            value = self.slots[slot][1][position][number]
            if field["kind"] == TABLE:
                empty = 2 ** (8 * field["index_bytes"]) - 1
                value = pool(self.tables[number], value, empty_index=empty)
            for i, byte in enumerate(value.astype(np.int8).view(np.uint8).tolist()):
                placed[field["output"] + i] = byte
        return placed

    def plan(self):
        """FIELD words of each lane, the dense one the last, and the steps."""
        words = [[self.fields[n] for n in numbers] for numbers in self.lanes]
        bags = [
            [
                Bag(place, f["scope"], f["offset"], f["lookups"], f["index_bytes"])
                for place, f in enumerate(fields)
            ]
            for fields in words
        ]
        dense: list[Dense] = []
        places: list[dict[str, int]] = []
        size = self.hardware.piece_bytes
        for f in self.fields:
            if f["kind"] == DENSE:
                for done in range(0, f["count"], size):
                    count = min(size, f["count"] - done)
                    dense.append(Dense(len(places), f["scope"], f["offset"] + done, count))
                    places.append({"output": f["output"] + done})
        made = steps([*bags, dense], read_bytes=self.hardware.feature_read, piece_bytes=size)
        return [*words, places], made

    def entry(self):
        """The STAGE word."""
        return {
            "steps": len(self.plan()[1]),
            "lanes": sum(map(bool, self.lanes)),
            "query_bytes": self.record_bytes[QUERY],
            "item_bytes": self.record_bytes[ITEM],
        }
