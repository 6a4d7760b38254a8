"""Host memory behind an AXI4 host port, for unit tests in Amaranth's simulator."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from rpaccel import abi

__all__ = ["HostMemory"]


class HostMemory:
    """Serve an AXI4 master and check that it keeps to the rules.

    Parameters
    ----------
    read, write : AXI4 interfaces of the master
    rng : random generator
    base, size : int
        Address of the first byte, bytes.
    latency : int
        Cycles from an address (or last write beat) to the earliest answer.
    stall : float
        Probability of each idle cycle on every channel.
    late_address : bool
        Take a write's address only after its data, as a slave may.
    """

    def __init__(
        self,
        read: Any,
        write: Any,
        *,
        rng: np.random.Generator,
        base: int = 0xABCD_0123_4000_0000,
        size: int = 1 << 16,
        latency: int = 5,
        stall: float = 0.0,
        late_address: bool = False,
    ) -> None:
        self.read, self.write = read, write
        self.rng, self.latency, self.stall, self.late_address = rng, latency, stall, late_address
        self.base = base
        self.data = bytearray(size)
        self.running = True
        self.bad_reads: set[int] = set()
        self.bad_writes: set[int] = set()
        self.stores_bad = False  # whether a write that is answered with an error is done
        self.read_addresses: list[int] = []
        self.outstanding = self.most_outstanding = 0
        self.now = 0
        self._reads: deque[tuple[int, int]] = deque()
        self._addresses: deque[int] = deque()
        self._bursts: deque[tuple[bytes, int]] = deque()
        self.addresses_taken = self.bursts_taken = 0

    @property
    def testbenches(self) -> list:
        """The five channels, to be given to ``simulate``; ``running`` ends them."""
        return [self._ar, self._r, self._aw, self._w, self._b]

    def get(self, address: int, count: int) -> bytes:
        """Bytes at an address."""
        return bytes(self.data[address - self.base : address - self.base + count])

    def put(self, address: int, value: bytes) -> None:
        """Store bytes at an address."""
        at = address - self.base
        assert 0 <= at <= len(self.data) - len(value), f"outside memory: {address:#x}"
        self.data[at : at + len(value)] = value

    def _free(self) -> bool:
        return not self.stall or self.rng.random() >= self.stall

    async def _accept(self, ctx, valid, ready, payload, *, when=lambda: True):
        """Cycle through a channel; yields each payload taken and checks that it was held."""
        held = None
        while self.running:
            take = when() and self._free()
            ctx.set(ready, take)
            _, _, is_valid, *values = await ctx.tick().sample(valid, *payload)
            if held is not None:
                assert [is_valid, *values] == [1, *held], "changed or vanished while waiting"
            held = values if is_valid and not take else None
            if is_valid and take:
                yield values

    async def _ar(self, ctx):
        bus = self.read
        beats = abi.BLOCK_BYTES * 8 // len(bus.rdata)
        payload = (bus.araddr, bus.arlen, bus.arsize, bus.arburst, bus.arid)
        async for address, length, size, burst, _ in self._accept(
            ctx, bus.arvalid, bus.arready, payload
        ):
            assert (length, burst, 8 << size) == (beats - 1, 1, len(bus.rdata))
            assert address % abi.BLOCK_BYTES == 0
            self._reads.append((address, self.now + self.latency))
            self.read_addresses.append(address)
            self.outstanding += 1
            self.most_outstanding = max(self.most_outstanding, self.outstanding)

    async def _r(self, ctx):
        bus = self.read
        count = len(bus.rdata) // 8

        async def tick():
            _, _, ready = await ctx.tick().sample(bus.rready)
            self.now += 1
            return ready

        while self.running:
            if not self._reads or self._reads[0][1] > self.now:
                await tick()
                continue
            address, _ = self._reads.popleft()
            for at in range(0, abi.BLOCK_BYTES, count):
                while not self._free():
                    await tick()
                ctx.set(bus.rdata, int.from_bytes(self.get(address + at, count), "little"))
                ctx.set(bus.rresp, 2 * (address in self.bad_reads))
                ctx.set(bus.rlast, at + count == abi.BLOCK_BYTES)
                ctx.set(bus.rvalid, 1)
                while not await tick():
                    pass
                ctx.set(bus.rvalid, 0)
            self.outstanding -= 1

    async def _aw(self, ctx):
        bus = self.write
        beats = abi.BLOCK_BYTES * 8 // len(bus.wdata)
        payload = (bus.awaddr, bus.awlen, bus.awsize, bus.awburst, bus.awid)

        def when():
            return not self.late_address or self.addresses_taken < self.bursts_taken

        async for address, length, size, burst, _ in self._accept(
            ctx, bus.awvalid, bus.awready, payload, when=when
        ):
            assert (length, burst, 8 << size) == (beats - 1, 1, len(bus.wdata))
            assert address % abi.BLOCK_BYTES == 0
            self.addresses_taken += 1
            self._addresses.append(address)

    async def _w(self, ctx):
        bus = self.write
        count = len(bus.wdata) // 8
        block = b""
        payload = (bus.wdata, bus.wstrb, bus.wlast)
        async for word, strobe, last in self._accept(ctx, bus.wvalid, bus.wready, payload):
            assert strobe == (1 << count) - 1
            block += word.to_bytes(count, "little")
            assert last == (len(block) == abi.BLOCK_BYTES)
            if last:
                self._bursts.append((block, self.now + self.latency))
                self.bursts_taken += 1
                block = b""

    async def _b(self, ctx):
        bus = self.write
        while self.running:
            if not (self._addresses and self._bursts and self._bursts[0][1] <= self.now):
                await ctx.tick()
                continue
            while not self._free():
                await ctx.tick()
            address = self._addresses.popleft()
            block, _ = self._bursts.popleft()
            bad = address in self.bad_writes
            if not bad or self.stores_bad:
                self.put(address, block)
            ctx.set(bus.bresp, 2 * bad)
            ctx.set(bus.bvalid, 1)
            await ctx.tick().until(bus.bready)
            ctx.set(bus.bvalid, 0)
