"""The host port: an AXI4 master that moves blocks of host memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rpaccel import abi
from rpaccel.counters import HOST_READ_COUNTERS, HOST_WRITE_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.queue import Queue
from rtl_gen.signatures import (
    axi_read_signature,
    axi_write_signature,
    host_client_signature,
)
from rtl_gen.states import COUNTER_STEP_BITS, attribute, step_layout

__all__ = ["ADDRESS_BITS", "ID_BITS", "HostPort"]

ADDRESS_BITS = 64
ID_BITS = 1

AXI_INCR = 0b01
AXI_CACHE = 0b0011  # normal, non-cacheable, bufferable memory
AXI_OKAY = 0b00


class HostPort(wiring.Component):
    """Read and write blocks of host memory, a burst a block.

    Blocks are aligned, so no burst crosses a 4 KB border. All bursts have ID 0. A read request
    after another starts without waiting for the data of the one before; up to
    ``host_outstanding`` bursts are in flight, and one beat a cycle goes through with no buffer in
    between. Write requests are handled one at a time: address and data channels run on their own,
    and ``write_done`` follows the last response.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    client : In(host_client_signature(hardware))
    read, write : Out(axi_read_signature(...)), Out(axi_write_signature(...))
        AXI4, ``host_bus_bytes`` wide, 64-bit addresses.
    read_bytes, written_bytes : Out(COUNTER_STEP_BITS)
        Bytes that went through in this cycle.
    read_counters, write_counters : Out(StructLayout)
        Increments of ``counters.HOST_READ_COUNTERS`` and ``counters.HOST_WRITE_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        self.bus_bytes = hardware.host_bus_bytes
        self.outstanding = hardware.host_outstanding
        self.beats = abi.BLOCK_BYTES // self.bus_bytes
        shape = {"data_bytes": self.bus_bytes, "address_bits": ADDRESS_BITS, "id_bits": ID_BITS}
        super().__init__(
            {
                "client": In(host_client_signature(hardware)),
                "read": Out(axi_read_signature(**shape)),
                "write": Out(axi_write_signature(**shape)),
                "read_bytes": Out(COUNTER_STEP_BITS),
                "written_bytes": Out(COUNTER_STEP_BITS),
                "read_counters": Out(step_layout(HOST_READ_COUNTERS)),
                "write_counters": Out(step_layout(HOST_WRITE_COUNTERS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size = self.bus_bytes.bit_length() - 1
        m.d.comb += [
            self.read.arlen.eq(self.beats - 1),
            self.read.arsize.eq(size),
            self.read.arburst.eq(AXI_INCR),
            self.read.arcache.eq(AXI_CACHE),
            self.write.awlen.eq(self.beats - 1),
            self.write.awsize.eq(size),
            self.write.awburst.eq(AXI_INCR),
            self.write.awcache.eq(AXI_CACHE),
            self.write.wstrb.eq(~0),
        ]
        self._elaborate_read(m)
        self._elaborate_write(m)
        return m

    def _elaborate_read(self, m):
        request, output, bus = self.client.read_request, self.client.read_data, self.read
        address = Signal(ADDRESS_BITS)
        blocks = Signal.like(request.p.blocks)  # still to be asked for
        # One entry a burst in flight: is it the last one of its request?
        m.submodules.in_flight = in_flight = Queue(1, depth=self.outstanding)

        m.d.comb += [
            bus.araddr.eq(address),
            # Room cannot vanish while the address waits: only this handshake takes it.
            bus.arvalid.eq((blocks != 0) & in_flight.i.ready),
            in_flight.i.valid.eq(bus.arvalid & bus.arready),
            in_flight.i.payload.eq(blocks == 1),
            request.ready.eq((blocks == 0) | ((blocks == 1) & in_flight.i.valid)),
        ]
        with m.If(in_flight.i.valid):
            m.d.sync += [address.eq(address + abi.BLOCK_BYTES), blocks.eq(blocks - 1)]
        with m.If(request.valid & request.ready):
            m.d.sync += [address.eq(request.p.address), blocks.eq(request.p.blocks)]

        m.d.comb += [
            output.valid.eq(bus.rvalid),
            output.p.data.eq(bus.rdata),
            output.p.error.eq(bus.rresp != AXI_OKAY),
            output.p.last.eq(bus.rlast & in_flight.o.payload),
            bus.rready.eq(output.ready),
            in_flight.o.ready.eq(bus.rvalid & bus.rready & bus.rlast),
        ]
        with m.If(bus.rvalid & bus.rready):
            m.d.comb += self.read_bytes.eq(self.bus_bytes)
        causes = {
            "busy": bus.rvalid & bus.rready,
            "stall_device": bus.rvalid,
            "stall_host": bus.arvalid | in_flight.o.valid,
        }
        attribute(m, self.read_counters, HOST_READ_COUNTERS, causes, "starved")

    def _elaborate_write(self, m):
        request, source, bus = self.client.write_request, self.client.write_data, self.write
        done = self.client.write_done
        address = Signal(ADDRESS_BITS)
        addresses = Signal.like(request.p.blocks)  # bursts whose address is to be sent
        bursts = Signal.like(request.p.blocks)  # bursts whose data are to be sent
        responses = Signal.like(request.p.blocks)
        beat = Signal(range(max(2, self.beats)))

        # AXI forbids a master to hold data back until the address was taken, so the two channels
        # run side by side.
        m.d.comb += [
            bus.awaddr.eq(address),
            bus.awvalid.eq(addresses != 0),
            bus.wdata.eq(source.payload),
            bus.wlast.eq(beat == self.beats - 1),
            bus.wvalid.eq(source.valid & (bursts != 0)),
            source.ready.eq(bus.wready & (bursts != 0)),
            bus.bready.eq(responses != 0),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(address + abi.BLOCK_BYTES), addresses.eq(addresses - 1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.comb += self.written_bytes.eq(self.bus_bytes)
            m.d.sync += beat.eq(beat + 1)
            with m.If(bus.wlast):
                m.d.sync += [beat.eq(0), bursts.eq(bursts - 1)]

        causes = {
            "busy": bus.wvalid & bus.wready,
            "stall_device": (bursts != 0) & ~source.valid,
            "stall_host": responses != 0,
        }
        attribute(m, self.write_counters, HOST_WRITE_COUNTERS, causes, "starved")
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += request.ready.eq(1)
                m.d.sync += done.p.error.eq(0)
                with m.If(request.valid):
                    m.d.sync += [address.eq(request.p.address)]
                    m.d.sync += [n.eq(request.p.blocks) for n in (addresses, bursts, responses)]
                    m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(bus.bvalid & bus.bready):
                    m.d.sync += responses.eq(responses - 1)
                    with m.If(bus.bresp != AXI_OKAY):
                        m.d.sync += done.p.error.eq(1)
                    with m.If(responses == 1):
                        m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += done.valid.eq(1)
                with m.If(done.ready):
                    m.next = "IDLE"
