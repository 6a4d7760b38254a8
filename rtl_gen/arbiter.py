"""Round-robin arbitration."""

from amaranth.hdl import Module, Mux, Signal
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
        # Requests behind the one that was granted last; at first, behind the first one.
        after = Signal(self.count, init=(1 << self.count) - 2)
        later = Signal(self.count)
        m.d.comb += [
            later.eq(self.request & after),
            self.grant.eq(Mux(later.any(), later & -later, self.request & -self.request)),
        ]
        with m.If(self.grant.any()):
            m.d.sync += after.eq(~(self.grant | (self.grant - 1)))
        return m
