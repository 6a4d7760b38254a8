"""Boards for the host's side of the serial protocol: golden bridges behind lines and ports."""

import os
import pty
import random
import threading
import tty

from rpaccel.counters import COUNTER_BASE, counters_of, states_of, unit_counters
from sw_model.device import GoldenTransport
from sw_model.serial_bridge import SerialBridge

BYTES = {"host_bytes": 4096, "memory_bytes": 2048}


class BoardLine:
    """A line to a golden bridge, with a clock that only waiting moves."""

    baud = 1_000_000
    slack = 0.25

    def __init__(self, **functions):
        self.registers = {}
        self.writes = []
        defaults = {
            "read32": lambda at: self.registers.get(at, 0),
            "write32": self.write32,
            "irq": lambda: False,
            "clock_hz": 25_000_000,
        }
        self.parameters = defaults | BYTES | functions
        self.reset()
        self.came = bytearray()
        self.time = 0.0
        self.closed = 0

    def reset(self):
        self.board = SerialBridge(**self.parameters)

    def write32(self, at, value):
        self.writes.append((at, value))
        self.registers[at] = value

    def write(self, data):
        for byte in data:
            self.came += self.board.feed(byte)

    def read(self, seconds):
        self.time += 1e-6
        if not self.came:
            self.time += seconds
        size = random.Random(len(self.came)).randrange(1, 40)
        data = bytes(self.came[:size])
        del self.came[:size]
        return data

    def now(self):
        return self.time

    def close(self):
        self.closed += 1


class Terminal:
    """A real port of the operating system with a board behind it, that may be unplugged.

    With ``bytes_left``, the line goes when so many bytes have passed, both ways together.
    """

    def __init__(self, board, bytes_left=1 << 30):
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        self.name = os.ttyname(self._theirs)
        self._left = bytes_left
        self._thread = threading.Thread(target=self._serve, args=(board,), daemon=True)
        self._thread.start()

    def _serve(self, board):
        while self._left:
            try:
                data = os.read(self._ours, min(self._left, 4096))
            except OSError:  # nobody has it open
                break
            self._left -= len(data)
            reply = b"".join(map(board.feed, data))[: self._left]
            self._left -= os.write(self._ours, reply)
        os.close(self._ours)

    def end(self):
        """Nobody has the port open but us, and the board has not hung."""
        os.close(self._theirs)
        self._thread.join(10)
        assert not self._thread.is_alive()


def golden_board(config, models):
    """A line to a board with a golden device in it, which has no time: here all units are busy."""
    golden = GoldenTransport(config, models, host_bytes=1 << 16)
    hardware = config.hardware
    names = {counter.address: name for name, counter in counters_of(hardware).items()}
    busy = {f"{unit}.{states_of(table)[0]}" for unit, table in unit_counters(hardware).items()}
    clock = 0

    def read32(at):
        nonlocal clock
        if at not in names:
            return golden.read32(at) if at < COUNTER_BASE else 0
        clock += 100 * (names[at] == "device.cycles")
        return clock if names[at] in busy | {"device.active"} else 0

    line = BoardLine(
        read32=read32,
        write32=golden.write32,
        irq=lambda: golden.wait(10),
        host_bytes=golden.host_bytes,
        memory_bytes=1 << 20,
    )
    # The bridge's memories are those that the device works with.
    golden._host, golden._memory = line.board.host, line.board.memory
    return line
