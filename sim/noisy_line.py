"""A line that injures what goes over it, for tests of whoever relies on it."""

from __future__ import annotations

import random

from rpaccel.serial import Line

__all__ = ["NoisyLine"]


class NoisyLine:
    """Damages bytes on their way over another line, in both directions, as a seed says.

    Parameters
    ----------
    line : Line
    rng : random.Random
    rate : float
        Probability of damage, a byte.

    Attributes
    ----------
    cut : bool
        While true nothing passes, in either direction.
    damages : int
        Bytes damaged so far.
    """

    def __init__(self, line: Line, rng: random.Random, rate: float) -> None:
        self.line = line
        self.baud, self.slack = line.baud, line.slack
        self.rng = rng
        self.rate = rate
        self.cut = False
        self.damages = 0

    def injure(self, data: bytes) -> bytes:
        """Flip, drop, repeat and insert bytes; sometimes lose the rest."""
        out = bytearray()
        for at, byte in enumerate(data):
            if self.rng.random() >= self.rate:
                out.append(byte)
                continue
            self.damages += 1
            kind = self.rng.randrange(6)
            if kind == 0:
                out.append(byte ^ 1 << self.rng.randrange(8))
            elif kind == 1:
                out += bytes((byte, byte))
            elif kind == 2:
                out += bytes((byte, self.rng.randrange(256)))
            elif kind == 3:
                break  # a disconnection: the rest is lost
            elif kind == 4:
                again = data[max(0, at - 20) : at + 1]
                out += again  # a stretch comes twice
            # else the byte is lost
        return bytes(out)

    def write(self, data: bytes) -> None:
        """Send bytes, injured."""
        if not self.cut:
            self.line.write(self.injure(data))

    def read(self, seconds: float) -> bytes:
        """Take what has come, injured."""
        data = self.line.read(seconds)
        return b"" if self.cut else self.injure(data)

    def now(self) -> float:
        """The other line's clock."""
        return self.line.now()

    def close(self) -> None:
        """Close the other line."""
        self.line.close()
