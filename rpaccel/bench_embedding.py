"""What the embedding memory fetches and how long its accesses take, against what it must reach.

``traces`` and ``splits`` are its functional model: lines fetched are a function of the order of
lookups, and access times follow from the rules of :mod:`sw_model.fetch_timing`. ``gather`` is a
gather unit in RTL, ``machine`` whole machines by their cycle model, ``rtl`` a small one in RTL too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpaccel.embedding_setting import LIFETIME, Setting, criteo_like, load_movielens, movielens
from rpaccel.embedding_targets import MACHINE, targets
from rpaccel.errors import ConfigError, ToolError
from rpaccel.placement import assign_macros
from sw_model.lookups import Funnel

try:
    from sw_model.embedding_memory import Cache, Replacement, Trace, least_fetches, simulate
    from sw_model.fetch_timing import access_times
except ModuleNotFoundError as error:
    raise ToolError(f"{error.name} is missing: pip install -e '.[bench]'") from None

__all__ = ["PARTS", "Fetches", "Memory", "bench", "policies", "split_rows", "timing_rows"]

log = logging.getLogger(__name__)

WAYS = 4
QUEUE = 1024
MEMORY_CYCLES = 100
SIZES = (1, 2, 4, 8, 12, 16)  # MB
RATIOS = (4, 8, 16)  # items of the front end to one of the back end
SHARES = tuple(eighth / 8 for eighth in range(9))
AHEAD = (0, 16, 32, 64, 128)  # items
PARTS = ("traces", "splits", "gather", "machine", "rtl")


@dataclass(frozen=True)
class Fetches:
    """What a memory fetches in the test trace.

    Attributes
    ----------
    memory : str
    lines : float
        Fetched, a query.
    bytes : float
        Of these lines.
    over_min : float
        Lines by those of MIN that has seen the training trace.
    over_min_same_start : float
        Lines by those of MIN that starts the test with what the machine holds.
    useless : float, or None
        Share of the prefetched lines that were not read, where the memory looks ahead.
    """

    memory: str
    lines: float
    bytes: float
    over_min: float
    over_min_same_start: float
    useless: float | None


class Memory:
    """A setting's lookups behind its static region.

    Parameters
    ----------
    setting : Setting
    macros : int
        Of the static region; its tables' shares are chosen by the training trace.
    """

    def __init__(self, setting: Setting, macros: int) -> None:
        self.setting = setting
        training, test, following = setting.lines
        layout = setting.layout
        self.macros = assign_macros(layout.heat(training, setting.macro_lines), macros)
        held = [
            layout.held(part, self.macros, setting.macro_lines)
            for part in (training, test, following)
        ]
        self.parts = [part[~h] for part, h in zip(setting.lines, held, strict=True)]
        self.hits = float(held[1].mean())
        self._held = held[1]

    @property
    def misses(self) -> int:
        """Lookups of the test trace that are not in the static region."""
        return len(self.parts[1])

    def run(self, cache: Cache, stage: int | None = None, table: int | None = None) -> Any:
        """Counters of a cache behind the static region, warmed with the training trace.

        With ``stage``, or ``table`` (one of all stages'), it sees the lookups of that alone.
        """
        parts = self.parts[:2]
        if stage is not None:
            parts = [part[self.stages(part) == stage] for part in parts]
        if table is not None:
            parts = [part[self.setting.layout.table_of(part) == table] for part in parts]
        return simulate(Trace(np.concatenate(parts)), cache, warm=len(parts[0]))

    def stages(self, lines: NDArray[np.integer]) -> NDArray[np.int64]:
        """Stage that each line is of."""
        stages = np.array([stage for stage, _ in self.setting.layout.tables])
        return np.asarray(stages[self.setting.layout.table_of(lines)])

    def items(self, stage: int) -> tuple[NDArray[np.int64], int]:
        """Running item numbers of the stage's lookups that are not held, and how many items."""
        lines = self.setting.lines[1]
        own = self.stages(lines) == stage
        per_item = self.setting.layout.accesses_per_item(stage)
        count = int(own.sum())
        return np.flatnonzero(~self._held[own]) // per_item, count // per_item


def policies(setting: Setting) -> dict[str, Any]:
    """Lines that memories of the same bytes fetch, and those that no memory can do without."""
    log.info("%s: drawing lookups", setting.name)
    lookups = np.concatenate(setting.lines)
    training, test, following = setting.lines
    log.info("%s: MIN", setting.name)
    room = setting.memory_lines
    least = least_fetches(Trace(lookups), room, warm=len(training), tail=len(following))
    mixed = Memory(setting, setting.static_macros)
    start = _held_at_start(mixed)
    same = least_fetches(
        Trace(np.concatenate([start, test, following])), room, warm=len(start), tail=len(following)
    )
    found = []

    def add(memory: str, fetched: int, useless: float | None = None) -> None:
        lines = fetched / len(setting.test)
        size = lines * setting.layout.line_bytes
        found.append(Fetches(memory, lines, size, fetched / least, fetched / same, useless))

    def cached(name: str, memory: Memory, cache: Cache) -> None:
        log.info("%s: %s", setting.name, name)
        counted = memory.run(cache)
        useless = counted.useless / max(1, counted.prefetched) if cache.lookahead else None
        add(name, counted.fetched, useless)

    add("static only", Memory(setting, setting.memory_bytes // setting.macro_bytes).misses)
    nothing = Memory(setting, 0)
    cached("LRU only, 16 ways", nothing, Cache(room // 16, 16, Replacement.LRU))
    cached("SIEVE only, 16 ways", nothing, Cache(room // 16, 16, Replacement.SIEVE))
    del nothing
    add("static part alone", mixed.misses)
    sets = setting.cache_lines // WAYS
    for policy in Replacement:
        cached(f"static + {policy.name}, no look-ahead", mixed, Cache(sets, WAYS, policy))
    for policy in (Replacement.LRU, Replacement.SIEVE):
        name = f"static + {policy.name}, look-ahead {QUEUE}"
        cached(name, mixed, Cache(sets, WAYS, policy, QUEUE))
    name = f"static + SIEVE, look-ahead {QUEUE}, bypass"
    cached(name, mixed, Cache(sets, WAYS, Replacement.SIEVE, QUEUE, bypass=True))
    for ways in (1, 16):
        cache = Cache(setting.cache_lines // ways, ways, Replacement.SIEVE, QUEUE)
        cached(f"static + SIEVE, look-ahead {QUEUE}, ways {ways}", mixed, cache)
    for share in (0.5, 0.75):
        caches = [Cache(int(sets * s), WAYS, Replacement.SIEVE, QUEUE) for s in (share, 1 - share)]
        fetched = sum(mixed.run(cache, stage).fetched for stage, cache in enumerate(caches))
        add(f"static + SIEVE, look-ahead {QUEUE}, a cache a stage, {share:.0%} front", fetched)
    log.info("%s: %s", setting.name, MACHINE)
    lanes = len(setting.layout.tables)
    own = 1 << (setting.cache_lines // (lanes * WAYS)).bit_length() - 1  # sets
    cache = Cache(own, WAYS, Replacement.SIEVE)
    add(MACHINE, sum(mixed.run(cache, table=table).fetched for table in range(lanes)))
    for part in (2, 4):
        smaller = Memory(setting, setting.static_macros // part)
        left = room - setting.static_macros // part * setting.macro_lines
        cache = Cache(left // WAYS, WAYS, Replacement.SIEVE, QUEUE)
        cached(f"1/{part} of the static part, rest SIEVE, look-ahead {QUEUE}", smaller, cache)
    parts = mixed.parts
    bound = least_fetches(
        Trace(np.concatenate(parts)), setting.cache_lines, warm=len(parts[0]), tail=len(parts[2])
    )
    add("static + MIN", bound)
    add("MIN, starts with what the machine holds", same)
    add("MIN, has seen the training trace", least)
    return {
        "trace": setting.name,
        "lookups": len(test) / len(setting.test),
        "memory_bytes": setting.memory_bytes,
        "static_hits": mixed.hits,
        "front_macros": int(sum(mixed.macros[: len(setting.layout.stages[0].rows)])),
        "rows": [asdict(row) for row in found],
    }


def _held_at_start(memory: Memory) -> NDArray[np.int64]:
    """Lines of the static region, and the lines last looked up that the cache has room for."""
    setting = memory.setting
    first, lines = setting.layout.first, memory.macros * setting.macro_lines
    ranges = [np.arange(a, min(a + n, b)) for a, n, b in zip(first, lines, first[1:], strict=False)]
    back = memory.parts[0][::-1]
    known, at = np.unique(back, return_index=True)
    recent = known[np.argsort(at)][: setting.cache_lines]
    return np.concatenate([*ranges, recent[::-1]]).astype(np.int64)


def timing_rows(setting: Setting, ahead: Sequence[int] = AHEAD) -> dict[str, Any]:
    """AMAT of static only and of static and cache, with the walker so many items ahead.

    A sub-batch of the back end becomes known when the one before was read, with the front end's
    items everything is known long before.
    """
    log.info("%s: access times", setting.name)
    only = Memory(setting, setting.memory_bytes // setting.macro_bytes)
    lookups = len(setting.lines[1])
    static = 1 + (MEMORY_CYCLES - 1) * only.misses / lookups
    memory = Memory(setting, setting.static_macros)
    cache = Cache(setting.cache_lines // WAYS, WAYS, Replacement.SIEVE)
    trace = Trace(np.concatenate(memory.parts[:2]))
    warm = len(memory.parts[0])
    missed = simulate(trace, cache, warm=warm).missed[warm:]
    at, stages = trace.at[warm:], memory.stages(memory.parts[1])
    rows = []
    for distance in ahead:
        cycles, hidden = lookups - memory.misses, {}
        for stage in range(len(setting.layout.stages)):
            own = stages == stage
            items, count = memory.items(stage)
            found = access_times(
                at[own], missed[own], items, _known(setting.funnel, stage, count), ahead=distance
            )
            fetches = int(missed[own].sum())
            cycles += found.cycles
            exposed = found.missed_cycles - fetches
            hidden[stage] = 1 - exposed / max(1, fetches * (MEMORY_CYCLES - 1))
        rows.append(
            {
                "ahead": distance,
                "amat": cycles / lookups,
                "over_static_only": cycles / lookups / static - 1,
                "hidden_front": hidden[0],
                "hidden_back": hidden[1],
            }
        )
    return {"trace": setting.name, "static_only": static, "rows": rows}


def _known(funnel: Funnel, stage: int, count: int) -> NDArray[np.int64]:
    """For each item, the first item of the batch that it becomes known with."""
    if stage == 0:
        return np.zeros(count, np.int64)
    edges = np.arange(funnel.sub_batches + 1) * funnel.items // funnel.sub_batches
    released = -(-funnel.survivors * edges // funnel.items)
    query, position = np.divmod(np.arange(count), funnel.survivors)
    batch = np.searchsorted(released, position, side="right") - 1
    return query * funnel.survivors + released[batch]


def split_rows(setting: Setting, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """AMAT = hits x 1 + misses x 100 of a static region alone, by bytes and the stages' shares."""
    log.info("%s: splits, 1 of %d", setting.name, setting.funnel.items // setting.funnel.survivors)
    training, test = (setting.layout.heat(p, setting.macro_lines) for p in setting.lines[:2])
    front = len(setting.layout.stages[0].rows)
    lookups = len(setting.lines[1])
    found = []
    for size in sizes:
        macros = size // setting.macro_bytes
        for share in (*SHARES, None):
            if share is None:
                given = assign_macros(training, macros)
            else:
                first = round(share * macros)
                given = np.concatenate(
                    [
                        assign_macros(training[:front], first),
                        assign_macros(training[front:], macros - first),
                    ]
                )
            hits = sum(int(h[:m].sum()) for h, m in zip(test, given, strict=True)) / lookups
            found.append(
                {
                    "bytes": size,
                    "items_a_survivor": setting.funnel.items // setting.funnel.survivors,
                    "front_share": share,
                    "front_macros": int(given[:front].sum()),
                    "hits": hits,
                    "amat": hits + MEMORY_CYCLES * (1 - hits),
                }
            )
    return found


def bench(
    movielens_folder: Path | None = None,
    parts: Collection[str] = PARTS,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure everything, or some parts of it; takes minutes.

    Parameters
    ----------
    movielens_folder : Path, optional
        MovieLens 1M, to be measured beside latest-small, which comes with the package.
    parts : collection of str
        Of :data:`PARTS`.
    say : function
        Told what is going on.

    Returns
    -------
    dict
        ``fetches``: of each trace, :func:`policies`; ``access_times``: of the Criteo-like traces,
        :func:`timing_rows`; ``splits``: :func:`split_rows` by filter ratio; ``gather``:
        :func:`rpaccel.bench_gather.bench`; ``machine``: :func:`rpaccel.bench_access.bench`; and
        ``targets`` (:func:`rpaccel.embedding_targets.targets`).

    Raises
    ------
    ConfigError
        There is no such part.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ConfigError(f"parts must be among {', '.join(PARTS)}, not {', '.join(unknown)}")
    report: dict[str, Any] = {}
    if "traces" in parts:
        report |= _traces(movielens_folder)
    if "splits" in parts:
        report["splits"] = splits = []
        for ratio in RATIOS:
            setting = criteo_like(queries=(64, 32, 0), funnel=Funnel(4096, 4096 // ratio))
            splits += split_rows(setting, [size << 20 for size in SIZES])
    if "gather" in parts:
        from rpaccel.bench_gather import bench as gather

        report["gather"] = gather(say)
    if {"machine", "rtl"} & set(parts):
        from rpaccel.bench_access import bench as machine

        report["machine"] = machine(say, rtl="rtl" in parts)
    return report | {"targets": targets(report)}


def _traces(movielens_folder: Path | None) -> dict[str, Any]:
    fetches, times = [], []
    for lifetime in (None, LIFETIME):
        setting = criteo_like(lifetime=lifetime)
        fetches.append(policies(setting))
        times.append(timing_rows(setting))
    fetches.append(policies(criteo_like(learned=True)))
    for folder in (None,) if movielens_folder is None else (None, movielens_folder):
        data, name = load_movielens(folder)
        for drifting in (False, True):
            fetches.append(policies(movielens(data, name, drifting=drifting)))
    return {"fetches": fetches, "access_times": times}
