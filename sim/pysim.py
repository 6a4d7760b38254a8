"""Helpers for testbenches that run in Amaranth's own simulator."""

from collections.abc import Awaitable, Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator

__all__ = ["idle", "simulate", "stream_get", "stream_put"]

CLOCK_PERIOD = 1e-6

Testbench = Callable[[Any], Awaitable[None]]


def simulate(
    dut: Elaboratable,
    *testbenches: Testbench,
    background: Sequence[Testbench] = (),
    timeout: int = 100_000,
    vcd: str | PathLike | None = None,
) -> None:
    """Run testbenches against a design until all of them return.

    Parameters
    ----------
    dut : Elaboratable
        The design. It may use the ``sync`` domain or be purely combinational.
    testbenches : async function of a simulator context
        They run at the same time; the simulation ends when the last one returns.
    background : sequence of testbenches
        They run beside the others and need not return, such as a memory. They wait with
        ``await ctx.tick()`` only: when the simulation ends, Python 3.11 cannot close the
        asynchronous generators behind ``until``, ``repeat`` and ``async for``.
    timeout : int, cycles
        Limit after which the testbenches are considered stuck.
    vcd : path, optional
        File that receives the waveform.

    Raises
    ------
    TimeoutError
        A testbench is still running after ``timeout`` cycles. The message names it.
    """
    top = Module()
    top.submodules.dut = dut
    # The clock must exist even if the design is combinational, for testbenches that tick.
    top.d.sync += Signal(name="clock_anchor").eq(1)
    sim = Simulator(top)
    sim.add_clock(CLOCK_PERIOD)
    running: dict[int, str] = {}

    def tracked(key: int, testbench: Testbench) -> Testbench:
        running[key] = getattr(testbench, "__name__", repr(testbench))

        async def run(ctx):
            await testbench(ctx)
            del running[key]

        return run

    async def watchdog(ctx):
        await ctx.delay(timeout * CLOCK_PERIOD)
        stuck = ", ".join(running.values())
        raise TimeoutError(f"testbench {stuck} still running after {timeout} cycles")

    for key, testbench in enumerate(testbenches):
        sim.add_testbench(tracked(key, testbench))
    for testbench in (*background, watchdog):
        sim.add_testbench(testbench, background=True)
    if vcd is None:
        sim.run()
    else:
        with sim.write_vcd(str(vcd)):
            sim.run()


async def idle(ctx: Any, rng: np.random.Generator | None, stall: float) -> None:
    """Wait a random number of cycles, each more with probability ``stall`` (0 never waits)."""
    if stall and rng is None:
        raise ValueError("random stalls need an rng")
    while stall and rng.random() < stall:  # type: ignore[union-attr]
        await ctx.tick()


async def stream_put(
    ctx: Any,
    stream: Any,
    payload: Any,
    *,
    rng: np.random.Generator | None = None,
    stall: float = 0.0,
) -> None:
    """Send one payload into a stream; one cycle if the design is ready and ``stall`` is 0.

    Parameters
    ----------
    ctx : simulator context
    stream : stream interface driven by the testbench
    payload : value accepted by ``ctx.set`` for the stream's payload
        A dictionary for a structure, an integer for a plain shape.
    rng, stall : random generator and probability of each idle cycle before ``valid``
    """
    await idle(ctx, rng, stall)
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    while not (await ctx.tick().sample(stream.ready))[2]:
        pass
    ctx.set(stream.valid, 0)


async def stream_get(
    ctx: Any,
    stream: Any,
    *,
    rng: np.random.Generator | None = None,
    stall: float = 0.0,
) -> Any:
    """Receive one payload from a stream; one cycle if it is valid and ``stall`` is 0.

    With stalls, ``ready`` comes sometimes before ``valid`` and sometimes after it, so that neither
    order hides a mistake.

    Returns
    -------
    payload : int or a constant of the payload's shape (fields as attributes)
    """
    if stall:
        if rng is None:
            raise ValueError("random stalls need an rng")
        if rng.random() < 0.5:
            # tick().until() would consume the cycle in which valid is already high: look first.
            while not ctx.get(stream.valid):
                await ctx.tick()
        await idle(ctx, rng, stall)
    ctx.set(stream.ready, 1)
    valid = False
    while not valid:
        _, _, payload, valid = await ctx.tick().sample(stream.payload, stream.valid)
    ctx.set(stream.ready, 0)
    return payload
