"""The page docs/abi.md, printed from the contract: ``python -m rpaccel.abi_doc``."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from enum import IntEnum

from rpaccel import abi
from rpaccel.counters import (
    ADMISSION_COUNTERS,
    COMPLETER_COUNTERS,
    COUNTER_BASE,
    DEVICE_COUNTERS,
    DISPATCHER_COUNTERS,
    FETCHER_COUNTERS,
    GATHER_COUNTERS,
    GROUP_COUNTERS,
    HOST_READ_COUNTERS,
    HOST_WRITE_COUNTERS,
    MEMORY_COUNTERS,
    PLANNER_COUNTERS,
    TOPK_COUNTERS,
)
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    IMAGE_HEADER,
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
from rpaccel.layout import Layout
from rpaccel.registers import (
    CAPABILITIES,
    CAPABILITY_BASE,
    REGISTERS,
    Control,
    DeviceErrorBit,
    DeviceStatus,
    Interrupt,
    Setting,
)

__all__ = ["abi_markdown"]

LAYOUTS = (
    ("Rings and results", (abi.DESCRIPTOR, abi.COMPLETION, abi.RESULT)),
    ("Memory image", (IMAGE_HEADER, IMAGE_SEGMENT)),
    (
        "On-chip memories",
        (STAGE, ENTRY, STEP, LANE, FIELD, PASS, PARAM, PAIR),
    ),
)
ENUMERATIONS: dict[str, tuple[type[IntEnum], ...]] = {
    "Registers": (
        Control,
        DeviceStatus,
        DeviceErrorBit,
        Interrupt,
        Setting,
    ),
    "Rings and results": (abi.Status,),
    "Memory image": (Target,),
    "On-chip memories": (FieldScope, Destination),
}
PROSE = {
    "Rings and results": """
        Entry n of a ring of `2**log2` entries is the block at `base + 64 * (n % 2**log2)`. Heads
        and tails count entries without end, modulo 65,536. The host writes descriptors, then
        SQ_TAIL; the device reads each once. A query's records lie one behind the other without
        padding: the query record, then the item records. The device writes results, best first,
        filled up with zeros to whole blocks, then the completion, then raises the interrupt. While
        CQ_TAIL is a ring ahead of CQ_HEAD it waits. Completions come in the order in which queries
        finish.
        """,
    "Memory image": """
        The header, then the segments, each at the start of a block of `max(64, line_bytes)` bytes,
        then the data, aligned to memory lines. A target is its kind << 5 plus a stage or group
        index, of which bit 5 is bit 8 of the target.
        """,
    "On-chip memories": """
        Words of the STAGES, ENTRIES, STEPS, FIELDS, PROGRAM and PARAMS targets, and a word's PAIR
        structures; the others are in architecture.md.
        """,
    "Performance counters": f"""
        48 bits each, 8 bytes apart from {COUNTER_BASE:#05x} on, low word first. Reading the low
        word of `device.cycles`, the first of all, copies all counters, and all reads give the
        copies: so what is read after it is of one moment. First the device's, then those of the
        units in the order of the tables, for each stage all of its units. A stage that one group
        serves has no dispatcher. Counters in cycles, but the device's, are the *states* of their
        unit: in each cycle exactly one of them advances, so that they add up to `device.cycles`. A
        state is `busy`, `starved` (nothing to do) or a cause of stalling; architecture.md says
        which of several counts. The golden device has no time: its states stay zero.
        """,
}
COUNTERS = {
    "`device`": DEVICE_COUNTERS,
    "`host_read`": HOST_READ_COUNTERS,
    "`host_write`": HOST_WRITE_COUNTERS,
    "`fetcher`": FETCHER_COUNTERS,
    "`admission`": ADMISSION_COUNTERS,
    "`planner`": PLANNER_COUNTERS,
    "`completer`": COMPLETER_COUNTERS,
    "`memory0` ..., a channel": MEMORY_COUNTERS,
    "`gather0` ..., a stage": GATHER_COUNTERS,
    "`topk0` ..., a stage": TOPK_COUNTERS,
    "`dispatcher0` ..., a stage": DISPATCHER_COUNTERS,
    "`group0` ..., a group": GROUP_COUNTERS,
}


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return ["| " + " | ".join(line) + " |" for line in cells] + [""]


def _plain(text: str) -> str:
    """One line of a docstring's text, with Markdown's code marks."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`")


def _member_docs(enumeration: type[IntEnum]) -> dict[str, str]:
    """The string under each member of an enumeration, as one line."""
    # The types of ast say less than is known here: a class, and assignments to plain names.
    body = ast.parse(inspect.getsource(enumeration)).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for member, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(member, ast.Assign):
            name = member.targets[0].id  # type: ignore[attr-defined]
            value = getattr(getattr(after, "value", None), "value", "")
            docs[name] = _plain(value) if isinstance(after, ast.Expr) else ""
    return docs


def _enumeration(enumeration: type[IntEnum]) -> list[str]:
    docs = _member_docs(enumeration)
    summary = _plain((enumeration.__doc__ or "").split("\n\n")[0])
    rows = [(int(member), f"`{member.name}`", docs[member.name]) for member in enumeration]
    heads = ("value", enumeration.__name__, "meaning")
    return [f"### {enumeration.__name__}", "", summary, "", *_table(heads, rows)]


def _layout(layout: Layout) -> list[str]:
    rows = []
    for field in layout:
        low = layout.offset(field.name)
        bits = f"{low + field.bits - 1}:{low}" if field.bits > 1 else str(low)
        kind = f"{'s' if field.signed else 'u'}{field.bits}"
        rows.append((bits, f"`{field.name}`", kind, field.doc))
    if layout.reserved_bits:
        rows.append((f"{layout.bits - 1}:{layout.bits - layout.reserved_bits}", "", "", "zero"))
    title = f"### {layout.name.upper()} ({layout.bytes} bytes)"
    return [title, "", *_table(("bits", "field", "type", "meaning"), rows)]


def _registers() -> list[str]:
    registers = [(f"{r.address:#05x}", f"`{r.name}`", r.access, r.doc) for r in REGISTERS.values()]
    capabilities = [
        (f"{CAPABILITY_BASE + 4 * number:#05x}", f"`{name}`")
        for number, name in enumerate(CAPABILITIES)
    ]
    return [
        "## Registers",
        "",
        "AXI4-Lite, 32 bits each, byte addresses. Unknown addresses read zero, writes to them are",
        "ignored. `w1c`: writing ones clears these bits.",
        "",
        *_table(("address", "register", "access", "meaning"), registers),
        "Capabilities, read-only:",
        "",
        *_table(("address", "capability"), capabilities),
    ]


def _counters() -> list[str]:
    lines = [
        "## Performance counters",
        "",
        textwrap.fill(_plain(PROSE["Performance counters"]), 100),
        "",
    ]
    for unit, counters in COUNTERS.items():
        rows = [(f"`{name}`", kind, doc) for name, (kind, doc) in counters.items()]
        lines += _table((unit, "counts", "meaning"), rows)
    return lines


def abi_markdown() -> str:
    """Write the whole page: registers, rings, image, layouts, status codes, counters."""
    lines = [
        "# The ABI",
        "",
        "Printed from `abi`, `registers`, `image_layout` and `counters` in `rpaccel/` by",
        "`python -m rpaccel.abi_doc > docs/abi.md`; do not edit.",
        f"Version {abi.VERSION_MAJOR}.{abi.VERSION_MINOR}. Everything is little-endian; the first "
        "field of a layout is in its lowest bits.",
        "",
        *_registers(),
    ]
    for enumeration in ENUMERATIONS["Registers"]:
        lines += _enumeration(enumeration)
    for title, layouts in LAYOUTS:
        lines += [f"## {title}", "", textwrap.fill(_plain(PROSE[title]), 100), ""]
        for layout in layouts:
            lines += _layout(layout)
        for enumeration in ENUMERATIONS[title]:
            lines += _enumeration(enumeration)
    lines += _counters()
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(abi_markdown())
