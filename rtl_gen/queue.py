"""A queue of stream payloads of any shape."""

from amaranth.hdl import Module, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First-in first-out queue between two streams.

    A payload leaves at the earliest one cycle after it entered; one a cycle goes in and out. Meant
    for a few entries: the store is read asynchronously, so it is flip-flops or distributed RAM.

    Parameters
    ----------
    shape : shape-castable
        Shape of the payload.
    depth : int, positive
        Entries.

    Members
    -------
    i, o : In, Out(stream.Signature(shape))
        Where payloads enter and leave.
    level : Out(range(depth + 1))
        Entries held.

    Raises
    ------
    TypeError
        If ``depth`` is not a positive integer.
    """

    def __init__(self, shape, *, depth):
        if not isinstance(depth, int) or depth <= 0:
            raise TypeError(f"Depth must be a positive integer, not {depth!r}")
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = len(Value.cast(self.i.p))
        m.submodules.store = store = fifo.SyncFIFO(width=width, depth=self.depth)
        m.d.comb += [
            store.w_data.eq(self.i.payload),
            store.w_en.eq(self.i.valid),
            self.i.ready.eq(store.w_rdy),
            self.o.valid.eq(store.r_rdy),
            store.r_en.eq(self.o.ready),
            self.level.eq(store.level),
        ]
        m.d.comb += Value.cast(self.o.p).eq(store.r_data)
        return m
