"""Memory ports: lines requested by units of the machine become AXI bursts of the channels."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rpaccel.counters import MEMORY_COUNTERS
from rpaccel.hardware import HardwareConfig
from rtl_gen.arbiter import RoundRobin
from rtl_gen.queue import Queue
from rtl_gen.ram import Ram
from rtl_gen.signatures import axi_read_signature, memory_client_signature
from rtl_gen.states import attribute, step_layout

__all__ = ["MemoryPorts"]

AXI_INCR = 0b01
AXI_CACHE = 0b0011  # normal, non-cacheable, bufferable memory
AXI_OKAY = 0b00


def _tags(hardware: HardwareConfig) -> list[int]:
    """Number of tags each client uses: the loader's, then those of the gather units' lanes."""
    lanes = (g.outstanding for g in hardware.gather for _ in range(g.lanes))
    return [hardware.memory.loader_lines, *lanes]


class MemoryPorts(wiring.Component):
    """Share the AXI channels of the device memory among the loader and the gather units.

    A request goes to channel ``line % channels`` and becomes one burst there, one cycle later if
    the channel is free. Each channel takes a request a cycle, from its clients in turn. A client
    gets one beat a cycle, from the channels in turn, two cycles after the beat was on the bus.
    Bursts of different IDs may be answered in any order and interleaved. Outputs of the AXI
    channels depend on registers only.

    Parameters
    ----------
    hardware : HardwareConfig

    Members
    -------
    clients : In(memory_client_signature), array
        The loader, then the lanes of the gather units, stage by stage. A client asks for no tag
        that is in flight, except that all its requests may bear one tag if only one is in flight
        at a time.
    channels : Out(axi_read_signature), array of ``memory.channels``
        IDs are ``{client, tag}``, the tag in the low bits.
    read_bytes : Out
        Bytes that arrived in this cycle, for the counter.
    counters : Out(StructLayout).array(memory.channels)
        Increments of ``counters.MEMORY_COUNTERS``.
    """

    def __init__(self, hardware: HardwareConfig):
        self.hardware = hardware
        memory = hardware.memory
        clients = len(_tags(hardware))
        self.client_bits = ceil_log2(clients)
        self.tag_bits = max(1, ceil_log2(max(_tags(hardware))))
        axi = axi_read_signature(
            data_bytes=memory.bus_bytes,
            address_bits=memory.address_bits,
            id_bits=self.client_bits + self.tag_bits,
        )
        super().__init__(
            {
                "clients": In(memory_client_signature(hardware)).array(clients),
                "channels": Out(axi).array(memory.channels),
                "read_bytes": Out(range(memory.channels * memory.bus_bytes + 1)),
                "counters": Out(step_layout(MEMORY_COUNTERS)).array(memory.channels),
            }
        )

    def elaborate(self, platform):
        m = Module()
        grants = [self._requests(m, number) for number in range(len(self.channels))]
        beats = [self._beats(m, number) for number in range(len(self.channels))]
        takes = [self._responses(m, number, beats) for number in range(len(self.clients))]
        for number, client in enumerate(self.clients):
            m.d.comb += client.request.ready.eq(Cat(grant[number] for grant in grants).any())
        for number, beat in enumerate(beats):
            m.d.comb += beat.ready.eq(Cat(take[number] for take in takes).any())
        arrived = [channel.rvalid & channel.rready for channel in self.channels]
        m.d.comb += self.read_bytes.eq(sum(arrived) * self.hardware.memory.bus_bytes)
        for channel, step in zip(self.channels, self.counters):
            self._states(m, channel, step)
        return m

    def _states(self, m, channel, step):
        """Count what a memory channel does."""
        owed = Signal(range(sum(_tags(self.hardware)) + 1))  # bursts that were asked for
        arrived = channel.rvalid & channel.rready
        asked = channel.arvalid & channel.arready
        m.d.sync += owed.eq(owed + asked - (arrived & channel.rlast))
        causes = {
            "busy": arrived,
            "stall_clients": channel.rvalid,
            "stall_memory": channel.arvalid | (owed != 0),
        }
        attribute(m, step, MEMORY_COUNTERS, causes, "starved")

    def _requests(self, m, number):
        """Address channel of a memory channel; returns which client it takes a request of."""
        memory, channel = self.hardware.memory, self.channels[number]
        select_bits = ceil_log2(memory.channels)
        m.submodules[f"request_turn{number}"] = turn = RoundRobin(count=len(self.clients))
        free = ~channel.arvalid | channel.arready
        m.d.comb += [
            channel.arlen.eq(memory.beats - 1),
            channel.arsize.eq(ceil_log2(memory.bus_bytes)),
            channel.arburst.eq(AXI_INCR),
            channel.arcache.eq(AXI_CACHE),
            turn.request.eq(
                Cat(
                    client.request.valid & free & (client.request.p.line[:select_bits] == number)
                    for client in self.clients
                )
            ),
        ]
        with m.If(free):
            m.d.sync += channel.arvalid.eq(turn.grant.any())
        for index, client in enumerate(self.clients):
            line, tag = client.request.p.line, client.request.p.tag
            with m.If(turn.grant[index]):
                m.d.sync += [
                    channel.araddr.eq(line[select_bits:] << ceil_log2(memory.line_bytes)),
                    channel.arid.eq(Cat(tag[: self.tag_bits], Const(index, self.client_bits))),
                ]
        return turn.grant

    def _beats(self, m, number):
        """Two entries for the beats of a channel, so that RREADY comes from a register."""
        channel = self.channels[number]
        beat = data.StructLayout(
            {
                "tag": self.tag_bits,
                "client": self.client_bits,
                "error": 1,
                "last": 1,
                "data": 8 * self.hardware.memory.bus_bytes,
            }
        )
        m.submodules[f"beats{number}"] = queue = Queue(beat, depth=2)
        m.d.comb += [
            queue.i.p.tag.eq(channel.rid[: self.tag_bits]),
            queue.i.p.client.eq(channel.rid[self.tag_bits :]),
            queue.i.p.error.eq(channel.rresp != AXI_OKAY),
            queue.i.p.last.eq(channel.rlast),
            queue.i.p.data.eq(channel.rdata),
            queue.i.valid.eq(channel.rvalid),
            channel.rready.eq(queue.i.ready),
        ]
        return queue.o

    def _responses(self, m, number, beats):
        """Beats for a client; returns the channel whose beat it takes."""
        client = self.clients[number]
        m.submodules[f"response_turn{number}"] = turn = RoundRobin(count=len(beats))
        m.d.comb += turn.request.eq(Cat(b.valid & (b.p.client == number) for b in beats))
        taken = Signal.like(beats[0].p)
        for channel, beat in enumerate(beats):
            with m.If(turn.grant[channel]):
                m.d.comb += taken.eq(beat.payload)
        arrived = Signal.like(taken, reset_less=True)
        m.d.sync += [client.response_valid.eq(turn.grant.any()), arrived.eq(taken)]
        m.d.comb += [
            client.response.tag.eq(arrived.tag),
            client.response.data.eq(arrived.data),
            client.response.error.eq(arrived.error),
            client.response.last.eq(arrived.last),
        ]
        if self.hardware.memory.beats > 1:
            self._count(m, number, taken.tag, arrived)
        return turn.grant

    def _count(self, m, number, tag, arrived):
        """Number of each beat in its line: beats of lines in flight may be interleaved."""
        client = self.clients[number]
        m.submodules[f"beat{number}"] = ram = Ram(
            width=len(client.response.beat), depth=max(2, _tags(self.hardware)[number])
        )
        # The beat before may be of the same line; its count is not in the RAM yet.
        recent = Signal()
        recent_tag = Signal(self.tag_bits)
        recent_next = Signal(ram.width)
        beat = client.response.beat
        m.d.comb += [
            ram.read.en.eq(1),
            ram.read.addr.eq(tag),
            ram.write.en.eq(client.response_valid),
            ram.write.addr.eq(arrived.tag),
            ram.write.data.eq(beat + 1),  # from the last beat back to zero
            beat.eq(Mux(recent & (recent_tag == arrived.tag), recent_next, ram.read.data)),
        ]
        m.d.sync += [
            recent.eq(client.response_valid),
            recent_tag.eq(arrived.tag),
            recent_next.eq(ram.write.data),
        ]
