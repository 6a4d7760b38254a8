"""What a board's bitstream takes and how fast it is, as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpaccel.board_build import BLOCK_RESOURCES, RESOURCES

__all__ = ["draw", "text"]

COLUMNS = {"luts": "LUT4"} | {name: RESOURCES[name] for name in BLOCK_RESOURCES}


def text(report: Mapping[str, Any]) -> str:
    """A report of :func:`build_board` for people."""
    lines = [f"{report['board']}: {report['bitstream']}"]
    for name, entry in report["utilisation"].items():
        share = entry["used"] / entry["available"]
        lines.append(
            f"  {RESOURCES[name]:<16} {entry['used']:6d} of {entry['available']:6d} {share:6.1%}"
        )
    lines.append(
        f"  image            {report['image_bytes']:6d} of {report['memory_bytes']:6d} bytes"
    )
    clock = report["timing"]
    lines.append(f"  clock: {clock['fmax_mhz']:.1f} MHz possible, {clock['clock_mhz']:.1f} used")
    if "path" in clock:
        path = clock["path"]
        lines.append(
            f"  limited by {path['ns']:.1f} ns from {path['start']} to {path['end']}: "
            f"{path['levels']} levels of logic, {path['routing']:.0%} of it on wires"
        )
    return "\n".join([*lines, "", *_blocks(report["blocks"])])


def _blocks(blocks: Mapping[str, Mapping[str, int]]) -> list[str]:
    total = {name: sum(entry[name] for entry in blocks.values()) for name in COLUMNS}
    return [
        f"| block, before packing | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(
            f"| {block} | {' | '.join(f'{entry[name]:,}' for name in COLUMNS)} |"
            for block, entry in (*blocks.items(), ("together", total))
        ),
    ]


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw what is used of each resource, by block (PNG)."""
    from matplotlib.figure import Figure

    used = report["utilisation"]
    available = {"luts": used["TRELLIS_COMB"]["available"]}
    available |= {name: used[name]["available"] for name in BLOCK_RESOURCES}
    names = [f"{label}\nof {available[name]:,}" for name, label in COLUMNS.items()]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(COLUMNS)
    for number, (block, entry) in enumerate(report["blocks"].items()):
        shares = [100 * entry[name] / available[name] for name in COLUMNS]
        axes.barh(
            names,
            shares,
            left=left,
            label=block,
            color=f"C{number % 10}",
            hatch="//" * (number // 10),
            edgecolor="white",
            linewidth=0.4,
        )
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    clock = report["timing"]
    axes.set(xlabel="per cent of the chip", xlim=(0, 100))
    axes.set_title(
        f"{report['board']}: {clock['fmax_mhz']:.1f} MHz possible, {clock['clock_mhz']:.1f} used"
    )
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=120)
