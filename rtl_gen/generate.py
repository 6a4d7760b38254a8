"""Verilog of a machine, and the description that goes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from rpaccel import abi
from rpaccel.config import Config
from rpaccel.counters import counters_of
from rpaccel.errors import ConfigError
from rpaccel.hardware import HardwareConfig
from rpaccel.image_layout import (
    ENTRY,
    FIELD,
    IMAGE_HEADER,
    IMAGE_SEGMENT,
    LANE,
    PARAM,
    PASS,
    STAGE,
    STEP,
    Destination,
    FieldScope,
    Target,
)
from rpaccel.layout import Layout
from rpaccel.registers import (
    CAPABILITIES,
    CAPABILITY_BASE,
    REGISTERS,
    Control,
    DeviceErrorBit,
    DeviceStatus,
    Interrupt,
    capability_values,
)
from rtl_gen.emit import emit
from rtl_gen.serial_machine import SerialMachine
from rtl_gen.top import RPAccel

__all__ = ["SERIAL_TOP", "TOP", "description", "serial_verilog", "verilog", "write"]

TOP = "rpaccel"
"""Name of the top module, and of the files."""
SERIAL_TOP = "rpaccel_serial"
"""The same of a machine behind a serial line."""

LAYOUTS = (
    *(abi.DESCRIPTOR, abi.COMPLETION, abi.RESULT),
    *(IMAGE_HEADER, IMAGE_SEGMENT, STAGE, ENTRY),
    *(STEP, LANE, FIELD, PASS, PARAM),
)
ENUMERATIONS: tuple[type[IntEnum], ...] = (
    *(Control, DeviceStatus, DeviceErrorBit, Interrupt, abi.Status),
    *(Target, FieldScope, Destination),
)


def verilog(hardware: HardwareConfig) -> dict[str, str]:
    """Write a machine in Verilog.

    The same machine gives the same text, whatever the computer.

    Parameters
    ----------
    hardware : HardwareConfig

    Returns
    -------
    dict of str
        Text by file name: ``rpaccel.v`` with module ``rpaccel`` and all below it, and
        ``rpaccel_sram.v`` and ``rpaccel_static.v``, the simulation models of the SRAM macros that
        large memories and the static region are instances of.
    """
    return dict(_texts(hardware.model_dump_json()))


@lru_cache(maxsize=4)
def _texts(hardware: str) -> Mapping[str, str]:
    """Verilog of a machine given as JSON: a machine is often simulated several times in a row."""
    files, _ = emit(RPAccel(HardwareConfig.model_validate_json(hardware)), TOP)
    return files


def serial_verilog(config: Config, divisor: int) -> dict[str, str]:
    """Write a machine with its memories and a serial bridge in Verilog.

    Parameters
    ----------
    config : Config
    divisor : int
        Clock cycles in a bit of the serial line.

    Returns
    -------
    dict of str
        Text by file name: ``rpaccel_serial.v`` with a module of that name, ``rpaccel_sram.v``.
    """
    files, _ = emit(SerialMachine(config, divisor=divisor), SERIAL_TOP)
    return dict(files)


def description(config: Config) -> dict[str, Any]:
    """Describe a machine to programs: configuration, register map, layouts, digest.

    Returns
    -------
    dict
        Of plain values, as ``rpaccel.json`` holds it. Addresses are byte addresses; layouts are
        packed little-endian, the first field in the lowest bits.
    """
    hardware = config.hardware
    capabilities = capability_values(hardware)
    return {
        "name": config.name,
        "abi": {"major": abi.VERSION_MAJOR, "minor": abi.VERSION_MINOR},
        "digest": f"{hardware.digest():016x}",
        "top": TOP,
        "registers": {
            r.name: {"address": r.address, "access": r.access, "doc": r.doc}
            for r in REGISTERS.values()
        },
        "capabilities": {
            name: {"address": CAPABILITY_BASE + 4 * n, "value": capabilities[name]}
            for n, name in enumerate(CAPABILITIES)
        },
        "counters": {
            c.name: {"address": c.address, "unit": c.unit, "doc": c.doc}
            for c in counters_of(hardware).values()
        },
        "layouts": {layout.name: _layout(layout) for layout in LAYOUTS},
        "enumerations": {e.__name__: {i.name: i.value for i in e} for e in ENUMERATIONS},
        "configuration": config.model_dump(mode="json"),
    }


def _layout(layout: Layout) -> dict[str, Any]:
    fields = {
        f.name: {
            "offset": layout.offset(f.name),
            "bits": f.bits,
            "signed": f.signed,
            "doc": f.doc,
        }
        for f in layout
    }
    return {"bits": layout.bits, "fields": fields}


def write(config: Config, directory: str | Path) -> list[Path]:
    """Write Verilog and description of a configuration's machine into a folder.

    Parameters
    ----------
    config : Config
    directory : path
        Created if missing; files of the same names are replaced.

    Returns
    -------
    list of Path
        The files written: ``rpaccel.v``, ``rpaccel_sram.v``, ``rpaccel.json``.

    Raises
    ------
    ConfigError
        The folder or a file cannot be written.
    """
    directory = Path(directory)
    text = json.dumps(description(config), indent=2) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = verilog(config.hardware) | {f"{TOP}.json": text}
        for name, content in files.items():
            (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written: {error.strerror}") from None
    return [directory / name for name in files]
