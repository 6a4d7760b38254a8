"""Following passes through a group: which pass an item belongs to when it reaches a place."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rtl_gen.queue import Queue

__all__ = ["PassTracker", "flow_layout"]


def flow_layout() -> data.StructLayout:
    """What travels beside a row of items.

    Whether there is one, if it is first or last of its pass, and which set of weights it meets.
    """
    return data.StructLayout({"valid": 1, "start": 1, "end": 1, "set": 1})


class PassTracker(wiring.Component):
    """Say, where items arrive some cycles after they were issued, of which pass and which they are.

    Passes are queued when they are issued, and change with the first item of each. Shorter than a
    copy of the whole command for each cycle of the way.

    Parameters
    ----------
    shape : shape-castable
        What is known of a pass.
    depth : int, positive
        Passes that can be on the way, all but the first item of which may still be missing.

    Members
    -------
    i : In(stream.Signature(shape))
        Passes, each at the latest when its first item is issued.
    flow : In(flow_layout())
        The item here in this cycle.
    o : Out(shape), item : Out(15)
        Its pass and its number, in the same cycle.
    """

    def __init__(self, shape, *, depth: int):
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "flow": In(flow_layout()),
                "o": Out(shape),
                "item": Out(abi.ITEM_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.passes = passes = Queue(self.shape, depth=self.depth)
        begins = self.flow.valid & self.flow.start
        held = Signal.like(self.o)
        following = Signal(abi.ITEM_BITS)
        m.d.comb += [
            passes.i.valid.eq(self.i.valid),
            passes.i.payload.eq(self.i.payload),
            self.i.ready.eq(passes.i.ready),
            passes.o.ready.eq(begins),
            self.o.eq(Mux(begins, passes.o.payload, held)),
            self.item.eq(Mux(begins, 0, following)),
        ]
        with m.If(self.flow.valid):
            m.d.sync += [held.eq(self.o), following.eq(self.item + 1)]
        return m
