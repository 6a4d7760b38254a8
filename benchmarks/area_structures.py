"""Structures that RPAccel could have: what each takes, beside the baseline, without its RTL.

    python -m benchmarks.area_structures [--json FILE]

Each is the preset ``table3`` (or ``baseline``) with other values of its configuration, so it can be
generated as it is. Area is counted as by ``rpaccel bench area``; cycles a query are those that the
compiler predicts for the array, and those of the cycle model of the whole machine with queries back
to back. One change that no configuration makes is composed: selectors of the
static region as narrow as a stage's rows, in the baseline, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.command import figures_parser, keep, run
from rpaccel.bench_area import Progress, Say, enlarged, instances
from rpaccel.bench_pipeline import TRAINING_QUERIES, criteo_like_queries, preset
from rpaccel.config import Config, load, parse
from rpaccel.hardware import HardwareConfig
from rpaccel.image import Image
from rpaccel.predict import Predictor
from rpaccel.progress import telling
from rpaccel.silicon.machine import Place
from rpaccel.silicon.runs import array_cycles, compiled
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


def totals(found: list[Place]) -> dict[str, float]:
    """Area in mm2 and megabytes of SRAM."""
    stores = [place.store for place in found if place.store is not None]
    return {
        "logic_mm2": 1e-6 * sum(place.logic.um2 for place in found),
        "sram_mm2": 1e-6 * sum(store.count * store.macro.um2 for store in stores),
        "sram_mb": sum(store.count * store.memory.bits for store in stores) / 8e6,
    }


def mm2(total: Mapping[str, float]) -> float:
    """Area of logic and SRAM."""
    return total["logic_mm2"] + total["sram_mm2"]


def measure(say: Say = lambda text: None) -> list[dict[str, Any]]:
    """Measure all structures: those of :data:`PAIRS`, each also with narrow selectors."""
    configs = {name: structure(name) for name in STRUCTURES}
    found, cycles = {}, {}
    for name, config in configs.items():
        found[name] = instances(config, Progress(name, say))
        say(f"{name}: cycles")
        image = compiled(config)
        cycles[name] = {
            "array": array_cycles(config, image),
            "machine": back_to_back(config, image),
        }
    rows = []
    for ours, theirs in PAIRS:
        for narrow in False, True:
            mine, base = (
                narrowed(found[name], configs[name].hardware) if narrow else found[name]
                for name in (ours, theirs)
            )
            rows.append(
                {
                    "structure": ours,
                    "baseline": theirs,
                    "narrow": narrow,
                    "epilogue_columns": epilogue_columns(configs[ours].hardware),
                    "cycles": cycles[ours],
                    "baseline_cycles": cycles[theirs],
                    **totals(mine),
                    "over": {
                        "baseline": mm2(totals(mine)) / mm2(totals(base)) - 1,
                        "equal": mm2(totals(mine)) / mm2(totals(enlarged(base, mine))) - 1,
                    },
                    "baseline_sram_mb": totals(base)["sram_mb"],
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the structures out as a table of Markdown."""
    head = (
        "structure",
        "selectors",
        "columns of epilogues",
        "SRAM, MB",
        "logic, mm2",
        "SRAM, mm2",
        "over",
        "area",
        "with as much memory",
        "cycles of the array",
        "of the machine",
        "queries a second",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cycles = row["cycles"]
        cells = (
            row["structure"],
            "narrow" if row["narrow"] else "wide",
            f"{row['epilogue_columns']:,}",
            f"{row['sram_mb']:.1f}",
            f"{row['logic_mm2']:.2f}",
            f"{row['sram_mm2']:.2f}",
            f"{row['baseline']} ({row['baseline_sram_mb']:.1f} MB)",
            f"{row['over']['baseline']:+.1%}",
            f"{row['over']['equal']:+.1%}",
            f"{cycles['array']:,.0f}",
            f"{cycles['machine']:,.0f}",
            f"x {row['baseline_cycles']['machine'] / cycles['machine']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    options = figures_parser(__doc__).parse_args()
    with telling("structures") as say:
        rows = measure(say)
    print(table(rows))
    keep(rows, options.json)


if __name__ == "__main__":
    run(main)
