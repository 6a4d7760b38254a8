"""Structures that RPAccel could have: what each takes, beside the baseline, without its RTL.

    python -m benchmarks.area_structures [--json FILE]

Each is the preset ``table3`` (or ``baseline``) with other values of its configuration, so it can be
generated as it is. Area and energy are counted as by ``rpaccel bench area``; cycles a query are
those that the compiler predicts for the array, and those of the cycle model of the whole machine
with queries back to back. One change that no configuration makes is composed: selectors of the
static region as narrow as a stage's rows, in the baseline, too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpaccel.bench_area import Progress, cost, enlarged, instances, ratios
from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, preset
from rpaccel.config import Config, HardwareConfig, load, parse
from rpaccel.image import Image
from rpaccel.predict import Predictor
from rpaccel.progress import telling
from rpaccel.silicon.machine import Place
from rpaccel.silicon.runs import Observed, compiled, expect, monolithic, observe, reduced
from sw_model.random_models import random_models

QUERIES = 16
SETTLED = 8
"""Completions before cycles are counted."""


class Structure(NamedTuple):
    """A preset, sub-batches of a query, and values of the section ``hardware``."""

    preset: str
    sub_batches: int
    values: Mapping[str, Any]


def _groups(rows: int, cols: int, shapes: list[list[int]]) -> dict[str, Any]:
    return {"groups": [{"rows": rows, "cols": cols, "shapes": shapes, "stages": [0, 1]}] * 4}


STRUCTURES = {
    "baseline": Structure("baseline", 8, {}),
    "baseline, lean": Structure(
        "baseline",
        16,
        {"weight_rows": 3072, "activation_rows": 4352, "accumulator_depth": 256},
    ),
    "table3": Structure("rpaccel", 4, {}),
    "table3, lean": Structure(
        "rpaccel", 8, {"weight_rows": 2304, "activation_rows": 112, "accumulator_depth": 32}
    ),
    "32x16 at least, lean": Structure(
        "rpaccel",
        8,
        {
            **_groups(4, 4, [[2, 1], [2, 2], [4, 2]]),
            "weight_rows": 2304,
            "program_depth": 576,
            "activation_rows": 224,
            "accumulator_depth": 64,
        },
    ),
    "sub-arrays of 32x32": Structure(
        "rpaccel",
        4,
        {
            **_groups(2, 2, [[1, 1]]),
            "tile_rows": 32,
            "tile_cols": 32,
            "weight_rows": 9216,
            "activation_rows": 512,
            "accumulator_depth": 256,
        },
    ),
    "sub-arrays of 64x64": Structure(
        "rpaccel",
        4,
        {
            **_groups(1, 1, [[1, 1]]),
            "tile_rows": 64,
            "tile_cols": 64,
            "weight_rows": 5632,
            "activation_rows": 2048,
            "accumulator_depth": 1024,
        },
    ),
}
"""Machines by name. Lean ones have room for the weights that they use and for half as large
sub-batches; in all of them sub-batches fit."""
PAIRS = (
    ("table3", "baseline"),
    ("table3, lean", "baseline, lean"),
    ("32x16 at least, lean", "baseline, lean"),
    ("sub-arrays of 32x32", "baseline, lean"),
    ("sub-arrays of 64x64", "baseline, lean"),
)
"""Structures and what each is compared with."""


def structure(name: str) -> Config:
    """Configuration of a structure."""
    base, sub_batches, values = STRUCTURES[name]
    made = load(preset(base)).model_dump()
    made["funnel"]["sub_batches"] = sub_batches
    made["hardware"] |= values
    return parse(made | {"name": name})


def back_to_back(config: Config, image: Image) -> float:
    """Cycles a query of the whole machine, by its cycle model."""
    models = random_models(config, np.random.default_rng(config.data.seed))
    predictor = Predictor(config, models, image)
    queries = criteo_like_queries(config, TRAINING_QUERIES, QUERIES)
    ends = predictor.completions(queries, [0] * QUERIES)
    return (ends[-1] - ends[SETTLED - 1]) / (QUERIES - SETTLED)


def selected_bits(hardware: HardwareConfig, *, narrow: bool) -> int:
    """Bits that the selectors of the static region select from.

    A lane selects a word of all macros, a macro an address of all lanes. Narrow lanes select what
    macros have selected of their lines before: as many bytes as the longest row of a stage.
    """
    macros = hardware.static_macros
    line = 8 * hardware.memory.line_bytes
    widths = [8 * min(g.max_dimension, line // 8) if narrow else line for g in hardware.gather]
    address = math.ceil(math.log2(hardware.macro_lines))
    bits = sum(g.lanes * (w + address) for g, w in zip(hardware.gather, widths, strict=True))
    before = line
    for width in sorted(set(widths), reverse=True):
        bits += before if width < before else 0
        before = width
    return macros * bits


def narrowed(found: list[Place], hardware: HardwareConfig) -> list[Place]:
    """A machine with narrow selectors in its static region."""
    ratio = selected_bits(hardware, narrow=True) / selected_bits(hardware, narrow=False)
    return [
        replace(place, logic=place.logic * ratio)
        if place.store is not None and place.store.count > 1
        else place
        for place in found
    ]


def epilogue_columns(hardware: HardwareConfig) -> int:
    """Columns of all epilogues: of the sub-arrays that are a shape's last row."""
    columns = 0
    for number, group in enumerate(hardware.groups):
        shapes = hardware.geometry(number).shapes
        last = {row for s in shapes for row in range(s.rows - 1, group.rows, s.rows)}
        columns += len(last) * group.cols * hardware.tile_cols
    return columns


def memory_bits(found: list[Place]) -> int:
    """Bits of SRAM."""
    return sum(p.store.count * p.store.memory.bits for p in found if p.store is not None)


def measure(say=lambda text: None) -> dict[str, Any]:
    """Measure all structures: those of :data:`PAIRS`, and what narrow selectors make of each."""
    scaled = reduced(load(preset("scaled")))
    small = {"baseline": observe(monolithic(scaled), say), "rpaccel": observe(scaled, say)}
    found: dict[str, list[Place]] = {}
    full: dict[str, Observed] = {}
    cycles: dict[str, float] = {}
    for name in STRUCTURES:
        config = structure(name)
        found[name] = instances(config, Progress(name, say))
        say(f"{name}: cycles")
        image = compiled(config)
        full[name] = expect(config, image)
        cycles[name] = back_to_back(config, image)
    rows = []
    for ours, theirs in PAIRS:
        for narrow in False, True:
            mine, base = (
                narrowed(found[name], full[name].config.hardware) if narrow else found[name]
                for name in (ours, theirs)
            )
            run = cost(mine, small["rpaccel"], full[ours])
            others = {"preset": base, "equal": enlarged(base, mine)}
            beside = {
                name: ratios(run, cost(places, small["baseline"], full[theirs]))
                for name, places in others.items()
            }
            rows.append(
                {
                    "structure": ours,
                    "baseline": theirs,
                    "narrow": narrow,
                    "epilogue_columns": epilogue_columns(full[ours].config.hardware),
                    "sram_mb": memory_bits(mine) / 8e6,
                    "baseline_sram_mb": memory_bits(base) / 8e6,
                    "array_cycles": full[ours].cycles_per_query,
                    "cycles": cycles[ours],
                    "baseline_cycles": cycles[theirs],
                    "total": run["total"],
                    "blocks": run["blocks"],
                    "ratios": beside,
                }
            )
    return {"structures": rows}


def table(report: Mapping[str, Any]) -> str:
    """Lay the report out as a table of Markdown."""
    head = (
        "structure",
        "selectors",
        "columns of epilogues",
        "SRAM, MB",
        "logic, mm2",
        "SRAM, mm2",
        "beside",
        "area",
        "with as much memory",
        "cycles of the array",
        "of the machine",
        "queries a second",
        "power at the baseline's load",
        "at full load",
        "uJ a query",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in report["structures"]:
        total, preset_, equal = row["total"], row["ratios"]["preset"], row["ratios"]["equal"]
        cells = (
            row["structure"],
            "narrow" if row["narrow"] else "wide",
            f"{row['epilogue_columns']:,}",
            f"{row['sram_mb']:.1f}",
            f"{total['logic_mm2']:.2f}",
            f"{total['sram_mm2']:.2f}",
            f"{row['baseline']}, {row['baseline_sram_mb']:.1f} MB",
            f"{preset_['area']:+.1%}",
            f"{equal['area']:+.1%}",
            f"{row['array_cycles']:,.0f}",
            f"{row['cycles']:,.0f}",
            f"x {row['baseline_cycles'] / row['cycles']:.2f}",
            f"{preset_['watts_same_rate']:+.1%}",
            f"{preset_['watts']:+.1%}",
            f"{total['uj']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    options = parser.parse_args()
    with telling("structures") as say:
        report = measure(say)
    print(table(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
