"""cocotb test of a group: plays loader, gather units and top-k units from a file of stimuli."""

import os
import pickle

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge


class Feeder:
    """A gather unit: starts tokens, and writes an item's chunks as fast as they are taken."""

    def __init__(self, dut, stage, tokens):
        self.start, self.write, self.item_valid, self.item_position = (
            [getattr(dut, f"i__{stage}__{stream}__{end}") for end in ("valid", "ready", "payload")]
            if stream in ("start", "write")
            else getattr(dut, f"i__{stage}__{stream}")
            for stream in ("start", "write", "item_valid", "item_position")
        )
        # Steps: (is it a start, payload, position of the item that it ends or None).
        self.steps = iter(
            step
            for start, writes in tokens
            for step in [(True, start, None), *((False, *write) for write in writes)]
        )
        self.now = None
        self.seen = []  # token: cycle of its start, cycles of its items' ends
        self.advance()

    def advance(self):
        """Show the next step."""
        self.now = next(self.steps, None)
        begins, payload, _ = self.now or (None, 0, None)
        for port, chosen in ((self.start, True), (self.write, False)):
            port[0].value = int(begins is chosen)
            port[2].value = payload if begins is chosen else 0

    def edge(self, cycle, ended):
        """After a cycle with what was shown: was it taken? ``ended`` is shown in the next."""
        position = None
        if ended is not None:
            self.seen[-1][1].append(cycle)  # of the token before one that starts in this cycle
        if self.now is not None:
            begins, _, last_of = self.now
            if int((self.start if begins else self.write)[1].value):
                if begins:
                    self.seen.append((cycle, []))
                position = last_of
                self.advance()
        self.item_valid.value = int(position is not None)
        self.item_position.value = position or 0
        return position


@cocotb.test()
async def play(dut):
    """Load, feed, and write down when rows were issued and which scores came."""
    with open(os.environ["STIMULI"], "rb") as file:
        given = pickle.load(file)
    stages = range(len(given["tokens"]))
    dut.rst.value = 1
    dut.load.value = 0
    for stage in stages:
        getattr(dut, f"scores__{stage}__ready").value = 1
        getattr(dut, f"i__{stage}__item_valid").value = 0
    Clock(dut.clk, 4, unit="ns", impl="gpi").start()
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for word in [*given["load"], 0, 0]:
        dut.load.value = word
        await RisingEdge(dut.clk)
    feeders = [Feeder(dut, stage, given["tokens"][stage]) for stage in stages]
    ports = [
        (getattr(dut, f"scores__{stage}__valid"), getattr(dut, f"scores__{stage}__payload"))
        for stage in stages
    ]
    ended = [None for _ in stages]
    busy, scores = [], [[] for _ in stages]
    cycle = 0
    while [len(s) for s in scores] != given["expected"]:
        # What is shown now is taken, or not, at the coming edge.
        await ReadOnly()
        if int(dut.counters.value) & 1:
            busy.append(cycle)
        for stage, (valid, payload) in enumerate(ports):
            if int(valid.value):
                scores[stage].append((cycle, int(payload.value)))
        await RisingEdge(dut.clk)
        ended = [feeder.edge(cycle, end) for feeder, end in zip(feeders, ended)]
        cycle += 1
        assert cycle < given["limit"], f"{[len(s) for s in scores]} scores, then nothing"
    with open(os.environ["SEEN"], "wb") as file:
        seen = [feeder.seen for feeder in feeders]
        pickle.dump({"busy": busy, "scores": scores, "seen": seen, "cycles": cycle}, file)
