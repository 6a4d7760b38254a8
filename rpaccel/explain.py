"""What the compiler did and why, as text."""

from __future__ import annotations

from rpaccel.image import Image, StageInfo

__all__ = ["explain"]


def explain(image: Image) -> str:
    """Tell what an image holds: tiles, passes, memories, static rows, limits, predicted cycles.

    Cycles are those of the array for one sub-batch of the funnel, if it never waits: each pass
    takes as many as it has items, or as loading the next tile's weights takes if that is more.
    """
    parts = [
        f"image {image.image_id:#010x} for machine {image.digest:#018x}: "
        f"{len(image.data)} bytes from {image.address:#x} on"
    ]
    parts += [_stage(number, stage) for number, stage in enumerate(image.stages)]
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


def _stage(number: int, stage: StageInfo) -> str:
    passes = sum(layer.passes for layer in stage.layers)
    useful = sum(layer.inputs * layer.outputs for layer in stage.layers)
    size = stage.k_width * stage.n_width
    head = (
        f"stage {number}: model {stage.model} on group {stage.group}, "
        f"{stage.k_width} inputs x {stage.n_width} outputs a pass"
    )
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
            for layer in stage.layers
        ]
        + [["all", "", "", "", "", str(passes), f"{useful / (passes * size):.1%}"]],
    )
    fewer = stage.items < stage.tile_rows
    limits = (
        f"  a sub-batch has at most {stage.max_items} items, because of {stage.limit}; an item "
        f"takes {stage.rows_per_item} activation rows\n"
        f"  a sub-batch of {stage.items} items takes at least {stage.cycles} cycles: {passes} "
        f"passes x {max(stage.items, stage.tile_rows)} "
        + (f"(loading a tile takes {stage.tile_rows})" if fewer else "items")
    )
    if stage.items > stage.max_items:
        limits += f"\n  the funnel's sub-batches of {stage.items} items are too large"
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
    return "\n".join([head, layers, limits, tables])


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
