"""From a configuration to a bitstream: Amaranth, Yosys, nextpnr, ecppack."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpaccel.config import Config
from rpaccel.errors import BuildError, ConfigError, ToolError

if TYPE_CHECKING:
    from rpaccel.image import Image

__all__ = [
    "RESOURCES",
    "build_board",
    "check_image",
    "check_memory",
    "check_routing",
    "check_timing",
    "overfull",
    "timing",
    "tools",
]

SYNTHESIS = "-nowidelut -nodffe"
"""Options of Yosys: no multiplexers made of neighbours, no clock enables.

In a tile of an ECP5 selects of such multiplexers, clock enables, reset and flip-flops without a LUT
before them share eight wires and few others.
"""

BLOCK_MEMORIES = "t:$mem_v2 r:RD_CLK_ENABLE>0 %i r:WIDTH>15 %i"
"""Memories that are block RAM even if small: those with a registered read, of 16 bits or more.

Yosys would make the small ones of distributed RAM, much logic with many wires at one place, while
half of the block RAMs are free.
"""

NEXTPNR = "--report report.json --timing-allow-fail --placer static --router router2"
"""Options of nextpnr. A clock that is not reached is judged here, with the report.

The default placer, heap, leaves half as much wire again (docs/board.md).
"""

ROUTING = "Info: Routing.."
"""What nextpnr says when all is placed."""

TOOLS = {"YOSYS": "yosys", "NEXTPNR_ECP5": "nextpnr-ecp5", "ECPPACK": "ecppack"}
"""Environment variables that name tools, as Amaranth's script has them, and the tools' names."""

BLOCK_RAMS = {"12F": 56, "25F": 56, "45F": 108, "85F": 208}
BLOCK_RAM_BYTES = 2048
"""Block RAMs of an ECP5, by the end of its name (nextpnr's counts), and bytes in one."""

RESOURCES = {
    "TRELLIS_COMB": "logic cells",
    "TRELLIS_FF": "flip-flops",
    "TRELLIS_RAMW": "distributed RAM",
    "DP16KD": "block RAMs",
    "MULT18X18D": "multipliers",
}
ADVICE = {
    "TRELLIS_COMB": "stages, lanes, lookahead and max_fields of [[hardware.gather]], topk_depth",
    "TRELLIS_FF": "stages, tile_rows, tile_cols, lanes of [[hardware.gather]]",
    "TRELLIS_RAMW": "lookahead, outstanding and cache_lines of [[hardware.gather]], topk_depth",
    "DP16KD": "board.memory_bytes, board.host_bytes, static_macros and macro_lines, cache_lines of "
    "[[hardware.gather]], activation_rows, weight_rows, feature_bytes, query_slots",
    "MULT18X18D": "tile_rows, tile_cols, rows and cols of hardware.groups",
}
BLOCK_RESOURCES = ("TRELLIS_FF", "DP16KD", "MULT18X18D")
_BLOCK = re.compile(r"machine\.(?:machine\.)?(\w+)")
"""Where a cell is: in a unit of the machine, or in one of those around it."""
PATIENCE = 50
"""Rounds without fewer wires used twice, after which the router is stopped (18 did pass)."""
_ROUND = re.compile(r"iter=\d+ wires=\d+ overused=(\d+)")
_UNPLACED = re.compile(r"ERROR: .*(?:legal placement|failed to place)")
_USED = re.compile(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", re.MULTILINE)


def tools() -> dict[str, str]:
    """Find the tools: named by the environment, of YoWASP, or on the path.

    Returns
    -------
    dict of str
        Environment for Amaranth's build script.

    Raises
    ------
    ToolError
        One is missing.
    """
    found = {}
    beside = str(Path(sys.executable).parent)
    for variable, name in TOOLS.items():
        given = os.environ.get(variable)
        places: list[tuple[str, str | None]] = [(given, None)] if given else []
        places += [(f"yowasp-{name}", beside), (f"yowasp-{name}", None), (name, None)]
        for command, folder in places:
            path = shutil.which(command, path=folder)
            if path is not None:
                found[variable] = path
                break
            if command == given:
                raise ToolError(f"{variable} = {given}: there is no such tool")
        else:
            raise ToolError(f"{name} is not installed: pip install -e '.[board]'")
    return found


def check_image(config: Config, image: Image) -> None:
    """Refuse a configuration whose image is larger than the board's device memory.

    Raises
    ------
    ConfigError
    """
    end = image.address + len(image.data)
    if end > config.board.memory_bytes:
        raise ConfigError(
            f"board.memory_bytes = {config.board.memory_bytes}, but the image takes {end} bytes, "
            f"{end - config.board.memory_bytes} more; tables with fewer rows or smaller dimensions "
            f"take less"
        )


def check_memory(config: Config, board: str, device: str) -> None:
    """Refuse memories that alone are more than the chip's block RAM.

    Parameters
    ----------
    config : Config
    board, device : str
        Names of the board and of its chip.

    Raises
    ------
    ConfigError
    """
    ours = config.board
    size = ours.host_bytes + (ours.memory_bytes if ours.memory == "chip" else 0)
    room = BLOCK_RAMS[device[-3:]] * BLOCK_RAM_BYTES
    if size > room:
        raise ConfigError(
            f"the machine does not fit {board}: board.host_bytes = {ours.host_bytes} and "
            f"board.memory_bytes = {ours.memory_bytes} on chip are {size - room} bytes more than "
            f'its {room} of block RAM; reduce them, or use memory = "sdram" where the board has one'
        )


def build_board(config: Config, image: Image, board: str, folder: Path) -> dict[str, Any]:
    """Build a machine's bitstream for a board.

    Parameters
    ----------
    config : Config
    image : Image
        Only its size is of interest: the driver loads it.
    board : str
        Name of a board, see :func:`rtl_gen.board.boards`.
    folder : Path
        Where the tools work; ``rpaccel.bit`` is the bitstream, ``build.log`` and others tell why.

    Returns
    -------
    dict
        The report: ``bitstream``, ``utilisation``, ``blocks`` (see :func:`blocks`), ``timing``,
        image and memory.

    Raises
    ------
    ConfigError
        The board is unknown, or the machine does not fit it.
    ToolError
        A tool is missing.
    BuildError
        A tool failed, or the router gets no further.
    """
    from rtl_gen.board import TOP, BoardTop, open_board
    from sim.process import clean_environment, run_logged
    from sim.progress import status

    platform = open_board(board)
    if config.hardware.memory.channels != 1:
        raise ConfigError(
            f"hardware.memory.channels = {config.hardware.memory.channels}: a board has 1"
        )
    check_memory(config, board, platform.device)
    check_image(config, image)
    environment = tools()
    log, placed = folder / "build.log", folder / f"{TOP}.tim"
    for old in (log, placed, folder / "report.json", folder / f"{TOP}.bit"):
        old.unlink(missing_ok=True)
    with status(f"building for {board}") as say:
        say("generating")
        platform.prepare(BoardTop(config), TOP, **_overrides(TOP)).extract(folder)

        def tick() -> None:
            said = placed.read_text(errors="replace") if placed.exists() else None
            say("synthesising" if said is None else "routing" if ROUTING in said else "placing")
            check_routing(said or "")

        try:
            run_logged(
                ["sh", f"build_{TOP}.sh"],
                clean_environment(os.environ) | environment,
                folder,
                log,
                tick=tick,
            )
        except BuildError:
            over = overfull(placed.read_text(errors="replace") if placed.exists() else "")
            if over:
                raise ConfigError(f"the machine does not fit {board}: " + "; ".join(over)) from None
            raise
    report = {
        "board": board,
        "bitstream": str(folder / f"{TOP}.bit"),
        "image_bytes": len(image.data),
        "memory_bytes": config.board.memory_bytes,
        **_measured(json.loads((folder / "report.json").read_text())),
        "blocks": blocks(json.loads((folder / f"{TOP}.json").read_text())["modules"][TOP]["cells"]),
    }
    (folder / "build.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _overrides(top: str) -> dict[str, str]:
    """What Amaranth's build script is told: options of the tools, and which memories are blocks."""
    return {
        "synth_opts": f"{SYNTHESIS} -run begin:map_ram",
        "script_after_synth": f'setattr -set ram_style "block" {BLOCK_MEMORIES}\n'
        f"synth_ecp5 {SYNTHESIS} -top {top} -run map_ram:",
        "nextpnr_opts": NEXTPNR,
    }


def overfull(log: str) -> list[str]:
    """What nextpnr's log says is used more than there is: how much, and what to reduce.

    Nearly full is too full where no place was found for all cells: then it is what is used most.
    """
    counts = {name: (int(used), int(available)) for name, used, available in _USED.findall(log)}
    over = [
        f"{_amount(name, used, available)}, {used - available} too many{_advice(name)}"
        for name, (used, available) in counts.items()
        if used > available
    ]
    if not over and _UNPLACED.search(log):
        name = max(RESOURCES, key=lambda name: counts[name][0] / counts[name][1])
        over = [f"no place for all cells with {_amount(name, *counts[name])}{_advice(name)}"]
    return over


def check_routing(log: str) -> None:
    """Give up on a router that gets no further; it would go on for ever.

    Raises
    ------
    BuildError
        Nextpnr's log has had :data:`PATIENCE` rounds without fewer wires used twice.
    """
    rounds = [int(used) for used in _ROUND.findall(log)]
    if not rounds:
        return
    least = min(rounds)
    best = rounds.index(least) + 1
    if least and len(rounds) - best >= PATIENCE:
        raise BuildError(
            f"the router gets no further: {least} wires used twice in round {best}, and no fewer "
            f"in the {len(rounds) - best} rounds behind it. A smaller machine leaves it more room: "
            f"reduce {ADVICE['TRELLIS_COMB']}"
        )


def _amount(name: str, used: int, available: int) -> str:
    return f"{used} {RESOURCES.get(name, name)} ({name}) of {available}"


def _advice(name: str) -> str:
    return f" (reduce {ADVICE[name]})" if name in ADVICE else ""


def blocks(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """What each block of the machine takes, before packing.

    Synthesis makes one module of all. Its cells bear the names of the units that they were in, or
    whose signals they make; which units there were it tells by cells of their own.

    Parameters
    ----------
    cells : mapping
        Cells of Yosys's netlist by name, with their ``type``.

    Returns
    -------
    dict of dict
        By block, those with most logic first: ``luts`` (LUT4; carries count 2, distributed RAMs 6),
        ``TRELLIS_FF``, ``DP16KD``, ``MULT18X18D``.
    """
    from sim.ecp5 import luts

    units = {name for name, cell in cells.items() if cell["type"] == "$scopeinfo"}
    counts: dict[str, Counter[str]] = {}
    for name, cell in cells.items():
        block = _BLOCK.match(name)
        unit = block[1] if block and block[0] in units else "others"
        counts.setdefault(unit, Counter())[cell["type"]] += 1
    found = {
        block: {"luts": luts(types)} | {name: types[name] for name in BLOCK_RESOURCES}
        for block, types in counts.items()
    }
    used = {block: entry for block, entry in found.items() if any(entry.values())}
    return dict(sorted(used.items(), key=lambda item: -item[1]["luts"]))


def timing(report: Mapping[str, Any]) -> dict[str, Any]:
    """Clock of a nextpnr report, and the path that limits it.

    Returns
    -------
    dict
        ``fmax_mhz``, ``clock_mhz`` (wanted), ``path``: ``start``, ``end`` (cells), ``ns``,
        ``levels`` of logic, ``routing`` (share of the time).
    """
    clock, speed = max(report["fmax"].items(), key=lambda item: item[1]["constraint"])
    found: dict[str, Any] = {"fmax_mhz": speed["achieved"], "clock_mhz": speed["constraint"]}
    for path in report.get("critical_paths", ()):
        if clock not in path["from"] or clock not in path["to"]:
            continue
        steps = path["path"]
        total = sum(step["delay"] for step in steps)
        routing = sum(step["delay"] for step in steps if step["type"] == "routing")
        found["path"] = {
            "start": _unit(steps[0]["from"]["cell"]),
            "end": _unit(steps[-1]["to"]["cell"]),
            "ns": total,
            "levels": sum(step["type"] == "logic" for step in steps),
            "routing": routing / total,
        }
    return found


def check_timing(report: Mapping[str, Any]) -> None:
    """Refuse what would not work at the board's clock.

    Raises
    ------
    BuildError
    """
    clock = report["timing"]
    if clock["fmax_mhz"] < clock["clock_mhz"]:
        path = clock.get("path")
        raise BuildError(
            f"the machine reaches {clock['fmax_mhz']:.1f} MHz on {report['board']}, not the "
            f"{clock['clock_mhz']:.1f} MHz of board.clock_hz"
            + (f", for the path from {path['start']} to {path['end']}" if path else "")
            + "; reduce board.clock_hz"
        )


def _unit(cell: str) -> str:
    """Where a cell is in the machine; what the tools added to its name is left out."""
    return re.split(r"\$|_(?:TRELLIS|LUT4|CCU2C|PFUMX|DP16KD|MULT|L6MUX)", cell)[0].rstrip("._")


def _measured(report: Mapping[str, Any]) -> dict[str, Any]:
    used = {
        name: {"used": entry["used"], "available": entry["available"]}
        for name, entry in report["utilization"].items()
        if name in RESOURCES
    }
    return {"utilisation": used, "timing": timing(report)}
