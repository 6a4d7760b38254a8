"""Division: by a constant, and the divider of the controller: a share of a count, rounded up."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel import abi

__all__ = ["Divider", "divide", "divider_client_signature", "share_layout"]


def divide(value: Value, by: int) -> tuple[Value, Value]:
    """Quotient and remainder of an unsigned value and a positive constant, without a divider."""
    bits = ceil_log2(by)
    if by == 1 << bits:
        return value[bits:], value[:bits]
    # The reciprocal, rounded up to one bit more than the value has, gives each quotient exactly.
    shift = len(value) + bits
    quotient = (value * -(-(1 << shift) // by))[shift : shift + len(value)]
    return quotient, (value - quotient * by)[:bits]


def share_layout() -> data.StructLayout:
    """The operands of ``ceil(keep * part / whole)``; ``whole`` is positive."""
    return data.StructLayout({name: abi.ITEM_BITS for name in ("keep", "part", "whole")})


def divider_client_signature() -> wiring.Signature:
    """A client of the divider, seen from the client; ``done`` is high for one cycle."""
    return wiring.Signature(
        {
            "request": Out(stream.Signature(share_layout())),
            "done": In(1),
            "quotient": In(abi.ITEM_BITS),
        }
    )


class Divider(wiring.Component):
    """``ceil(keep * part / whole)`` for several clients, one bit a cycle.

    A result comes ``ITEM_BITS + 2`` cycles after its request was taken. One at a time; the client
    with the lowest number goes first.

    Parameters
    ----------
    clients : int, positive

    Members
    -------
    client : In(divider_client_signature()).array(clients)
        ``part`` must not exceed ``whole``, so that the result does not exceed ``keep``.

    Raises
    ------
    TypeError
        If ``clients`` is not a positive integer.
    """

    def __init__(self, *, clients):
        if not isinstance(clients, int) or clients <= 0:
            raise TypeError(f"Clients must be a positive integer, not {clients!r}")
        self.clients = clients
        super().__init__({"client": In(divider_client_signature()).array(clients)})

    def elaborate(self, platform):
        m = Module()
        bits = abi.ITEM_BITS
        owner = Signal(range(max(2, self.clients)))
        whole = Signal(bits)
        product = Signal(2 * bits)
        remainder = Signal(bits)
        # The dividend's low half moves out at the top while the quotient moves in at the bottom.
        low = Signal(bits)
        step = Signal(range(bits))
        shifted = Signal(bits + 1)
        fits = Signal()
        m.d.comb += [
            shifted.eq(low[-1] | remainder << 1),
            fits.eq(shifted >= whole),
        ]
        for client in self.client:
            m.d.comb += client.quotient.eq(low)

        with m.FSM():
            with m.State("IDLE"):
                taken = 0
                for number, client in enumerate(self.client):
                    request = client.request
                    m.d.comb += request.ready.eq(~taken if number else 1)
                    with m.If(request.valid & request.ready):
                        m.d.sync += [
                            owner.eq(number),
                            product.eq(request.p.keep * request.p.part),
                            whole.eq(request.p.whole),
                        ]
                        m.next = "ROUND-UP"
                    taken = taken | request.valid
            with m.State("ROUND-UP"):
                dividend = Signal(2 * bits)
                m.d.comb += dividend.eq(product + whole - 1)
                m.d.sync += [
                    low.eq(dividend[:bits]),
                    # Less than ``whole``, because the quotient fits in ``bits`` bits.
                    remainder.eq(dividend[bits:]),
                    step.eq(bits - 1),
                ]
                m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += [
                    low.eq(low << 1 | fits),
                    remainder.eq(Mux(fits, shifted - whole, shifted)),
                    step.eq(step - 1),
                ]
                with m.If(step == 0):
                    m.next = "DONE"
            with m.State("DONE"):
                for number, client in enumerate(self.client):
                    m.d.comb += client.done.eq(owner == number)
                m.next = "IDLE"
        return m
