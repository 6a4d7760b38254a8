"""A machine on an FPGA board: pins and clock of a board of amaranth-boards around it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from math import gcd

import amaranth_boards
from amaranth.build import ResourceError
from amaranth.hdl import (
    ClockDomain,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
)
from amaranth.lib import io
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
    machine is in reset until it is locked; nextpnr takes the frequency that it is constrained to
    from the dividers. Else the machine's clock is the board's.

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
            uart = platform.request("uart", 0, dir="-")
        except ResourceError as error:
            raise ConfigError(f"the board has no serial port: {error}") from None
        m.d.comb += machine.rx.eq(_input(m, "rx", uart.rx))
        _output(m, "tx", uart.tx, machine.tx)
        if self.config.board.memory == "sdram":
            self._sdram(m, platform, machine.sdram)
        source, target = int(platform.default_clk_frequency), self.config.board.clock_hz
        if source != target:
            self._clock(m, platform, pll(source, target))
        return m

    def _sdram(self, m, platform, pins):
        try:
            chip = platform.request("sdram", 0, dir="-")
        except ResourceError as error:
            raise ConfigError(f'board.memory = "sdram": the board has none: {error}') from None
        if len(chip.dq) != len(pins.read) or len(chip.a) < len(pins.address):
            raise ConfigError(
                f'board.memory = "sdram": {len(chip.dq)} data pins and {len(chip.a)} address '
                f"pins, not {len(pins.read)} and {len(pins.address)}"
            )
        m.submodules.sdram_clk = clock = io.DDRBuffer("o", chip.clk)
        m.submodules.sdram_dq = data = io.Buffer("io", chip.dq)
        m.d.comb += [
            # Low in the first half of a cycle, high in the second.
            clock.o[0].eq(0),
            clock.o[1].eq(1),
            data.o.eq(pins.data),
            data.oe.eq(pins.drive),
            pins.read.eq(data.i),
        ]
        command = pins.command.as_value()  # {RAS, CAS, WE}
        for name, value in (
            *(("we", command[0]), ("cas", command[1]), ("ras", command[2])),
            *(("ba", pins.bank), ("a", pins.address), ("dqm", pins.mask)),
            *(("clk_en", 1), ("cs", 1)),
        ):
            if hasattr(chip, name):  # those that are not there are wired on the board
                _output(m, f"sdram_{name}", getattr(chip, name), value)

    def _clock(self, m, platform, dividers):
        m.domains.sync = domain = ClockDomain(reset_less=True)
        locked, synchronised, running = Signal(), Signal(), Signal()
        pin = _input(m, "clock", platform.request(platform.default_clk, 0, dir="-"))
        m.submodules.pll = Instance(
            "EHXPLLL",
            **{f"p_{name}": value for name, value in dividers.items()},
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=dividers["CLKOP_DIV"] - 1,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=pin,
            i_CLKFB=domain.clk,
            i_RST=Const(0),
            i_STDBY=Const(0),
            o_CLKOP=domain.clk,
            o_LOCK=locked,
        )
        # The chip's global reset reaches every flip-flop on wires of its own, as Amaranth has it
        # for a clock without a PLL; a reset in logic would be a net to tens of thousands.
        for name, source, target in (
            ("lock_0", locked, synchronised),
            ("lock_1", synchronised, running),
        ):
            m.submodules[name] = Instance(
                "FD1S3AX", p_GSR="DISABLED", i_CK=domain.clk, i_D=source, o_Q=target
            )
        m.submodules.reset = Instance("SGSR", i_CLK=domain.clk, i_GSR=running)


def _input(m, name, port):
    m.submodules[f"{name}_buffer"] = buffer = io.Buffer("i", port)
    return buffer.i


def _output(m, name, port, value):
    m.submodules[f"{name}_buffer"] = buffer = io.Buffer("o", port)
    m.d.comb += buffer.o.eq(value)
