"""On-chip memory behind an AXI4 port, which the serial bridge reaches byte by byte."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl_gen.ram import Ram
from rtl_gen.signatures import axi_read_signature, axi_write_signature

__all__ = ["BlockMemory", "byte_port_signature"]

AXI_OKAY = 0b00
AXI_SLVERR = 0b10


def byte_port_signature() -> wiring.Signature:
    """Reads and writes of single bytes, seen from who asks; ``r_data`` is valid the cycle after."""
    return wiring.Signature(
        {
            "valid": Out(1),
            "write": Out(1),
            "address": Out(32),
            "data": Out(8),
            "ready": In(1),
            "r_data": In(8),
        }
    )


class BlockMemory(wiring.Component):
    """A RAM for one AXI4 master and one port for bytes.

    Bursts are INCR, their beats as wide as the bus and aligned, and do not leave the memory if
    they begin in it; what begins behind it is answered with SLVERR and changes nothing. One burst
    of each kind at a time, a beat a cycle after two cycles. A byte goes before a beat.

    Parameters
    ----------
    size : int, a multiple of ``data_bytes``
        Bytes.
    data_bytes, address_bits, id_bits : int
        Of the AXI port.
    writable : bool
        There are write channels.

    Members
    -------
    read : In(axi_read_signature(...))
    write : In(axi_write_signature(...)), if ``writable``
    bytes : In(byte_port_signature())
        Addresses of ``size`` and more are undefined.
    """

    def __init__(
        self, *, size: int, data_bytes: int, address_bits: int, id_bits: int, writable: bool
    ):
        if size <= 0 or size % data_bytes:
            raise ValueError(f"Size must be a positive multiple of {data_bytes}, not {size}")
        self.size = size
        self.data_bytes = data_bytes
        self.writable = writable
        shape = {"data_bytes": data_bytes, "address_bits": address_bits, "id_bits": id_bits}
        members = {"read": In(axi_read_signature(**shape)), "bytes": In(byte_port_signature())}
        if writable:
            members["write"] = In(axi_write_signature(**shape))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(
            width=8 * self.data_bytes,
            depth=self.size // self.data_bytes,
            granularity=8,
        )
        port = self.bytes
        lane = Signal(ceil_log2(self.data_bytes))
        word = port.address >> ceil_log2(self.data_bytes)
        asked = Signal.like(lane)
        m.d.comb += lane.eq(port.address[: len(lane)])
        m.d.sync += asked.eq(lane)
        m.d.comb += [
            port.r_data.eq(ram.read.data.word_select(asked, 8)),
            ram.read.addr.eq(word),
            ram.write.addr.eq(word),
            ram.write.data.eq(port.data.replicate(self.data_bytes)),
        ]
        read_taken = self._reads(m, ram, port.valid & ~port.write)
        with m.If(port.valid & port.write):
            m.d.comb += ram.write.en.eq(1 << lane)
        m.d.comb += port.ready.eq(port.write | read_taken)
        if self.writable:
            self._writes(m, ram, port.valid & port.write)
        return m

    def _word(self, address):
        return address >> ceil_log2(self.data_bytes)

    def _reads(self, m, ram, byte):
        """Read channels; returns whether a byte's read is taken."""
        bus = self.read
        left = Signal(9)
        address = Signal(ram.addr_width)
        bad = Signal()
        identity = Signal.like(bus.arid)
        free = ~bus.rvalid | bus.rready  # the RAM's output may change
        m.d.comb += [bus.arready.eq(left == 0), bus.rdata.eq(ram.read.data)]
        m.d.comb += ram.read.en.eq(free & (byte | (left != 0)))
        with m.If(free):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [
                left.eq(bus.arlen + 1),
                address.eq(self._word(bus.araddr)),
                bad.eq(bus.araddr >= self.size),
                identity.eq(bus.arid),
            ]
        with m.If(~byte):
            m.d.comb += ram.read.addr.eq(address)
            with m.If(free & (left != 0)):
                m.d.sync += [
                    bus.rvalid.eq(1),
                    bus.rlast.eq(left == 1),
                    bus.rid.eq(identity),
                    bus.rresp.eq(Mux(bad, AXI_SLVERR, AXI_OKAY)),
                    left.eq(left - 1),
                    address.eq(address + 1),
                ]
        return free

    def _writes(self, m, ram, byte):
        bus = self.write
        address = Signal(ram.addr_width)
        bad = Signal()
        with m.FSM(name="write"):
            with m.State("ADDRESS"):
                m.d.comb += bus.awready.eq(1)
                m.d.sync += [
                    address.eq(self._word(bus.awaddr)),
                    bad.eq(bus.awaddr >= self.size),
                    bus.bid.eq(bus.awid),
                ]
                with m.If(bus.awvalid):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += bus.wready.eq(~byte)
                m.d.sync += bus.bresp.eq(Mux(bad, AXI_SLVERR, AXI_OKAY))
                with m.If(bus.wvalid & ~byte):
                    m.d.comb += [
                        ram.write.en.eq(Mux(bad, 0, bus.wstrb)),
                        ram.write.addr.eq(address),
                        ram.write.data.eq(bus.wdata),
                    ]
                    m.d.sync += address.eq(address + 1)
                    with m.If(bus.wlast):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += bus.bvalid.eq(1)
                with m.If(bus.bready):
                    m.next = "ADDRESS"
