"""Round-robin arbitration."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin"]


class RoundRobin(wiring.Component):
    """Grant one of several requests in the same cycle, taking turns.

    The request after the one granted last goes first. A cycle with a request has a grant.

    Parameters
    ----------
    count : int, positive
        Requesters.

    Members
    -------
    request, grant : In(count), Out(count)
        ``grant`` has at most one bit set, of those set in ``request``.

    Raises
    ------
    TypeError
        If ``count`` is not a positive integer.
    """

    def __init__(self, *, count):
        if not isinstance(count, int) or count <= 0:
            raise TypeError(f"Count must be a positive integer, not {count!r}")
        self.count = count
        super().__init__({"request": In(count), "grant": Out(count)})

    def elaborate(self, platform):
        m = Module()
        before = Signal(range(max(2, self.count)))  # who was granted last
        with m.Switch(before):
            for last in range(self.count):
                with m.Case(last):
                    # The statement that comes last wins: lowest priority first.
                    for step in range(self.count, 0, -1):
                        candidate = (last + step) % self.count
                        with m.If(self.request[candidate]):
                            m.d.comb += self.grant.eq(1 << candidate)
        for number in range(self.count):
            with m.If(self.grant[number]):
                m.d.sync += before.eq(number)
        return m
