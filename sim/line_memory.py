"""Device memory behind a gather unit's memory client, for testbenches in Amaranth's simulator."""

from collections import deque

import numpy as np

from sim.pysim import stream_get


class LineMemory:
    """Answers line requests with latency, in any order and interleaved, some with errors.

    Parameters
    ----------
    client : memory client port of the design
    rng : numpy.random.Generator
    lines : mapping of int to bytes, or None
        Contents; without it a line holds bytes derived from its number.
    line_bytes, bus_bytes : int
    latency : int, cycles
        Of the first beat; with ``stall``, up to twice as much.
    stall : float
        Probability of idle cycles at either side; with 0, lines come in order without gaps.
    errors : collection of int
        Lines of which one beat is answered with an error (removed once requested ``repeat`` times).
    """

    def __init__(
        self, client, rng, *, line_bytes, bus_bytes, lines=None, latency=8, stall=0.0, errors=()
    ):
        self.client = client
        self.rng = rng
        self.line_bytes = line_bytes
        self.bus_bytes = bus_bytes
        self.lines = lines
        self.latency = latency
        self.stall = stall
        self.errors = set(errors)
        self.requests = []
        self.most = 0  # outstanding at a time
        self._flight = {}  # tag -> [ready cycle, beats left]
        self._order: deque[int] = deque()
        self._now = 0

    def line(self, number):
        """Bytes of a line."""
        if self.lines is not None:
            return self.lines[number]
        return np.random.default_rng(number).bytes(self.line_bytes)

    def _accept(self, request):
        assert request.tag not in self._flight, "tag is still in use"
        self.requests.append(request.line)
        content = self.line(request.line)
        beats = [
            [content[i : i + self.bus_bytes], 0] for i in range(0, self.line_bytes, self.bus_bytes)
        ]
        if request.line in self.errors:
            beats[int(self.rng.integers(len(beats)))] = [bytes(self.bus_bytes), 1]
        latency = self.latency
        if self.stall:
            latency = int(self.rng.integers(1, 2 * latency + 1))
        self._flight[request.tag] = [self._now + latency, deque(enumerate(beats))]
        self._order.append(request.tag)
        self.most = max(self.most, len(self._flight))

    async def take_requests(self, ctx):
        """Background testbench."""
        while True:
            request = await stream_get(ctx, self.client.request, rng=self.rng, stall=self.stall)
            self._accept(request)

    async def answer(self, ctx):
        """Background testbench."""
        while True:
            ready = [t for t in self._order if self._flight[t][0] <= self._now]
            valid = bool(ready) and self.rng.random() >= self.stall
            ctx.set(self.client.response_valid, valid)
            if valid:
                tag = ready[int(self.rng.integers(len(ready)))] if self.stall else ready[0]
                beats = self._flight[tag][1]
                number, (content, error) = beats.popleft()
                last = not beats
                word = {"tag": tag, "beat": number, "error": error, "last": last}
                word["data"] = int.from_bytes(content, "little")
                ctx.set(self.client.response, word)
                if last:
                    del self._flight[tag]
                    self._order.remove(tag)
            await ctx.tick()
            self._now += 1
