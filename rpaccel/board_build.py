"""From a configuration to a bitstream: Amaranth, Yosys, nextpnr, ecppack."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpaccel.config import Config
from rpaccel.errors import BuildError, ConfigError, ToolError

if TYPE_CHECKING:
    from rpaccel.image import Image

__all__ = ["build_board", "check_image", "check_timing", "overfull", "text", "timing", "tools"]

TOOLS = {"YOSYS": "yosys", "NEXTPNR_ECP5": "nextpnr-ecp5", "ECPPACK": "ecppack"}
"""Environment variables that name tools, as Amaranth's script has them, and the tools' names."""

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
            raise ToolError(f"{name} is not installed: pip install 'rpaccel[board]'")
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
        The report: ``bitstream``, ``utilisation``, ``timing``, image and memory.

    Raises
    ------
    ConfigError
        The board is unknown, or the machine does not fit it.
    ToolError
        A tool is missing.
    BuildError
        A tool failed.
    """
    from rtl_gen.board import TOP, BoardTop, open_board
    from sim.process import clean_environment, run_logged
    from sim.progress import status

    platform = open_board(board)
    if config.hardware.memory.channels != 1:
        raise ConfigError(
            f"hardware.memory.channels = {config.hardware.memory.channels}: a board has 1"
        )
    check_image(config, image)
    environment = tools()
    log, placed = folder / "build.log", folder / f"{TOP}.tim"
    for old in (log, placed, folder / "report.json", folder / f"{TOP}.bit"):
        old.unlink(missing_ok=True)
    with status(f"building for {board}") as say:
        say("generating")
        options = "--report report.json --timing-allow-fail"
        platform.prepare(BoardTop(config), TOP, nextpnr_opts=options).extract(folder)

        def tick() -> None:
            say("placing and routing" if placed.exists() else "synthesising")

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
    }
    (folder / "build.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def overfull(log: str) -> list[str]:
    """What nextpnr's log says is used more than there is: how much, and what to reduce."""
    over = []
    for name, used, available in _USED.findall(log):
        if int(used) > int(available):
            over.append(
                f"{used} {RESOURCES.get(name, name)} ({name}) of {available}, "
                f"{int(used) - int(available)} too many"
                + (f" (reduce {ADVICE[name]})" if name in ADVICE else "")
            )
    return list(dict.fromkeys(over))


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
        raise BuildError(
            f"the machine reaches {clock['fmax_mhz']:.1f} MHz on {report['board']}, less than "
            f"board.clock_hz; {clock['clock_mhz']:.1f} MHz are wanted"
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
    return "\n".join(lines)
