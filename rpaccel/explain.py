"""What the compiler did and why, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rpaccel.image import Image, ProgramInfo, StageInfo
from rpaccel.sub_batches import Alternative

__all__ = ["explain", "explain_sub_batches"]


def explain(image: Image) -> str:
    """Tell what an image holds: tiles, passes, memories, static rows, limits, predicted cycles.

    Cycles are those of the array for one sub-batch of the funnel among others, predicted by
    :mod:`sw_model.group_cycles`, if neither gather unit nor filter hold it up.
    """
    parts = [
        f"image {image.image_id:#010x} for machine {image.digest:#018x}: "
        f"{len(image.data)} bytes from {image.address:#x} on"
    ]
    if image.generated:
        lines = sum(table.lines for table in image.generated)
        parts[0] += f", {len(image.generated)} generated tables of {lines} lines behind them"
    parts += [_stage(number, stage) for number, stage in enumerate(image.stages)]
    if image.settings:
        parts.append(_settings(image))
    parts.append(
        _table(
            ["memory", "used", "available", ""],
            [
                [m.name, str(m.used), str(m.available), f"{m.used / m.available:.1%}"]
                for m in image.memories
            ],
        )
    )
    return "\n\n".join(parts)


def explain_sub_batches(configured: int, rows: Sequence[Alternative]) -> str:
    """Lay out what the funnel takes in other numbers of sub-batches than the configuration's.

    Without rows it is said why there are none.
    """
    if not rows:
        return (
            "the funnel in other numbers of sub-batches: not predicted for global_release or dot "
            "interaction"
        )
    stages = range(len(rows[0].items))
    header = ["sub-batches", *(f"items, stage {n}" for n in stages)]
    header += ["cycles a query, back to back", "of one alone", ""]
    lines = []
    for row in rows:
        flow = row.flow
        cycles = [f"{flow.cycles:.0f}", f"{flow.latency}"] if flow else ["too large", ""]
        chosen = "configured" if row.sub_batches == configured else ""
        lines.append([str(row.sub_batches), *map(str, row.items), *cycles, chosen])
    return (
        "the funnel in other numbers of sub-batches (funnel.sub_batches), if gather units, filters "
        "and link do not hold up the array:\n" + _table(header, lines)
    )


def _stage(number: int, stage: StageInfo) -> str:
    head = f"stage {number}: model {stage.model}, sub-batches of {stage.items} items"
    # Groups that are alike have the same program, at other addresses.
    alike: dict[ProgramInfo, list[int]] = {}
    for program in stage.programs:
        alike.setdefault(replace(program, group=0), []).append(program.group)
    programs = [_program(stage, program, groups) for program, groups in alike.items()]
    tables = _table(
        ["table", "rows", "dimension", "lines", "static rows", "static lines"],
        [
            [
                table.name,
                str(table.rows),
                str(table.dimension),
                str(table.lines),
                f"{table.hot_rows} ({table.hot_rows / table.rows:.1%})",
                str(table.static_lines),
            ]
            for table in stage.tables
        ],
    )
    macros = f"  static macros of its lanes: {', '.join(map(str, stage.macros))}"
    return "\n".join([head, *programs, tables, macros])


def _settings(image: Image) -> str:
    """Which groups each setting has for each stage, and the cycles that they take."""
    rows = []
    for number, groups in enumerate(image.settings):
        for stage in image.stages:
            cycles = [p.cycles for p in stage.programs if p.group in groups]
            least, most = min(cycles), max(cycles)
            rows.append(
                [
                    str(number),
                    stage.model,
                    str(len(cycles)),
                    str(least) if least == most else f"{least}..{most}",
                    f"{1 / sum(1 / c for c in cycles):.0f}",
                ]
            )
    return "settings, and what a sub-batch takes if their groups do nothing else:\n" + _table(
        ["setting", "model", "groups", "cycles on one of them", "cycles a sub-batch on all"], rows
    )


def _program(stage: StageInfo, program: ProgramInfo, groups: list[int]) -> str:
    passes = sum(layer.passes for layer in program.layers)
    useful = sum(layer.macs for layer in program.layers)
    shape = program.options[program.shape]
    size = shape.k_width * shape.n_width
    head = (
        f"  on group{'s' * (len(groups) > 1)} {', '.join(map(str, groups))}: {shape.parts} x "
        f"{shape.k_width} inputs x {shape.n_width} outputs a pass"
    )
    if len(program.options) > 1:
        head += "\n  chosen of these:\n" + _table(
            ["sub-arrays fused", "parts", "passes", "largest sub-batch", "cycles", ""],
            [
                [
                    f"{option.rows} x {option.cols}",
                    str(option.parts),
                    str(option.passes),
                    str(option.max_items),
                    str(option.cycles),
                    "chosen" if option is shape else "" if option.fits else "too large",
                ]
                for option in program.options
            ],
        )
        head += f"\n  a shape for each layer would save {_saved(stage, program)} cycles of passes"
    layers = _table(
        ["layer", "inputs", "outputs", "K tiles", "N tiles", "passes", "utilisation"],
        [
            [
                layer.name,
                str(layer.inputs),
                str(layer.outputs),
                str(layer.k_tiles),
                str(layer.n_tiles),
                str(layer.passes),
                f"{layer.utilisation:.1%}",
            ]
            for layer in program.layers
        ]
        + [["all", "", "", "", "", str(passes), f"{useful / (passes * size):.1%}"]],
    )
    item_rows = -(-stage.items // shape.parts)
    fewer = item_rows < stage.tile_rows
    limits = (
        f"  a sub-batch has at most {program.max_items} items, because of {program.limit}; an item "
        f"takes {program.words_per_item} activation words\n"
        f"  a sub-batch of {stage.items} items takes {program.cycles} cycles: {passes} "
        f"passes x {max(item_rows, stage.tile_rows)} "
        + (f"(loading a tile takes {stage.tile_rows})" if fewer else "items in each part")
        + f" and {program.cycles - passes * max(item_rows, stage.tile_rows)} in which passes wait"
    )
    if program.dot is not None:
        dot = program.dot
        limits += (
            f"\n  dot interaction: {dot.pairs} products of {dot.vectors} vectors on "
            f"{dot.multipliers} multipliers beside the array, {dot.cycles} cycles an item, "
            f"{dot.cycles * min(stage.items, program.max_items)} a sub-batch"
        )
    if stage.items > program.max_items:
        limits += f"\n  the funnel's sub-batches of {stage.items} items are too large"
    return "\n".join([head, layers, limits])


def _saved(stage: StageInfo, program: ProgramInfo) -> int:
    """Cycles that passes would take less if each layer had the best shape that fits, at least 0.

    What it takes to change the shape, and to move what the layer before has written, is left out.
    """
    chosen = program.options[program.shape]
    options = {option for option in program.options if option.fits} | {chosen}
    cycles = [
        [count * max(-(-stage.items // option.parts), stage.tile_rows) for count in option.layers]
        for option in (chosen, *options)
    ]
    return sum(cycles[0]) - sum(map(min, zip(*cycles, strict=True)))


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
