"""A machine on an FPGA board: pins and clock of a board of amaranth-boards around it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from math import gcd

import amaranth_boards
from amaranth.build import ResourceError
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
)
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.vendor import LatticePlatform

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rtl_gen.serial_machine import SerialMachine

__all__ = ["TOP", "BoardTop", "boards", "open_board", "pll"]

TOP = "rpaccel"
PFD_HZ = (3_125_000, 400_000_000)
VCO_HZ = (400_000_000, 800_000_000)
DIVIDERS = range(1, 129)


def boards() -> dict[str, type[LatticePlatform]]:
    """ECP5 boards with a serial port, by name: the class's without ``_Platform``, in lower case."""
    found = {}
    for info in pkgutil.iter_modules(amaranth_boards.__path__):
        if info.name in ("resources", "extensions", "test"):
            continue
        module = importlib.import_module(f"amaranth_boards.{info.name}")
        for name, board in inspect.getmembers(module, inspect.isclass):
            if board.__module__ != module.__name__ or not issubclass(board, LatticePlatform):
                continue
            if name.startswith("_") or not _usable(board):
                continue
            found[name.lower().removesuffix("platform").removesuffix("_")] = board
    return found


def _usable(board: type[LatticePlatform]) -> bool:
    device = getattr(board, "device", None)
    uart = any(resource.name == "uart" for resource in getattr(board, "resources", ()))
    return isinstance(device, str) and device.startswith("LFE5U") and uart


def open_board(name: str) -> LatticePlatform:
    """Make the platform of a board.

    Raises
    ------
    ConfigError
        There is none of this name.
    """
    known = boards()
    if name not in known:
        raise ConfigError(f"board {name!r} is not one of {', '.join(sorted(known))}")
    return known[name]()


def pll(source: int, target: int) -> dict[str, int]:
    """Dividers of an ECP5 PLL that makes one frequency of another, in hertz.

    Raises
    ------
    ConfigError
        There are none.
    """
    common = gcd(source, target)
    multiply, divide = target // common, source // common
    if multiply in DIVIDERS and divide in DIVIDERS and PFD_HZ[0] <= source / divide <= PFD_HZ[1]:
        for output in DIVIDERS:
            if VCO_HZ[0] <= target * output <= VCO_HZ[1]:
                return {"CLKI_DIV": divide, "CLKFB_DIV": multiply, "CLKOP_DIV": output}
    raise ConfigError(
        f"board.clock_hz = {target} cannot be made of the board's {source} Hz; "
        f"try a divisor or a small multiple of it"
    )


class BoardTop(Elaboratable):
    """A :class:`rtl_gen.serial_machine.SerialMachine` on a board's serial port and clock.

    Where the board's clock has another frequency than ``board.clock_hz``, a PLL makes that, and the
    machine is in reset until it is locked. Else the machine's clock is the board's.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = SerialMachine(self.config)
        try:
            uart = platform.request("uart", 0)
        except ResourceError as error:
            raise ConfigError(f"the board has no serial port: {error}") from None
        m.d.comb += [machine.rx.eq(uart.rx.i), uart.tx.o.eq(machine.tx)]
        if self.config.board.memory == "sdram":
            self._sdram(m, platform, machine.sdram)
        source, target = int(platform.default_clk_frequency), self.config.board.clock_hz
        if source != target:
            self._clock(m, platform, pll(source, target))
        return m

    def _sdram(self, m, platform, pins):
        try:
            chip = platform.request("sdram", 0, xdr={"clk": 2})
        except ResourceError as error:
            raise ConfigError(f'board.memory = "sdram": the board has none: {error}') from None
        if len(chip.dq.i) != len(pins.read) or len(chip.a.o) < len(pins.address):
            raise ConfigError(
                f'board.memory = "sdram": {len(chip.dq.i)} data pins and {len(chip.a.o)} address '
                f"pins, not {len(pins.read)} and {len(pins.address)}"
            )
        command = pins.command.as_value()
        m.d.comb += [
            # Low in the first half of a cycle, high in the second.
            chip.clk.o_clk.eq(ClockSignal()),
            chip.clk.o0.eq(0),
            chip.clk.o1.eq(1),
            Cat(chip.we.o, chip.cas.o, chip.ras.o).eq(command),
            chip.ba.o.eq(pins.bank),
            chip.a.o.eq(pins.address),
            chip.dq.o.eq(pins.data),
            chip.dq.oe.eq(pins.drive),
            pins.read.eq(chip.dq.i),
        ]
        for name, value in ("clk_en", 1), ("cs", 1), ("dqm", pins.mask):
            if hasattr(chip, name):
                m.d.comb += getattr(chip, name).o.eq(value)

    def _clock(self, m, platform, dividers):
        m.domains.sync = ClockDomain()
        clock, locked = Signal(name="pll_clock"), Signal()
        pin = platform.request(platform.default_clk, 0).i
        m.submodules.pll = Instance(
            "EHXPLLL",
            **{f"p_{name}": value for name, value in dividers.items()},
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=dividers["CLKOP_DIV"] - 1,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=pin,
            i_CLKFB=clock,
            i_RST=Const(0),
            i_STDBY=Const(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )
        m.d.comb += ClockSignal().eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked)
        platform.add_clock_constraint(clock, self.config.board.clock_hz)
