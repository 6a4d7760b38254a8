"""Energy of queries on a machine, from the bits and accesses of a smaller one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rpaccel.silicon.activity import Activity, Scope
from rpaccel.silicon.blocks import block_of, duty, kind_of
from rpaccel.silicon.machine import Place
from rpaccel.silicon.runs import Observed
from rpaccel.silicon.technology import CLOCK_HZ

__all__ = ["Energy", "Rates", "energies", "rates"]

READ, WRITE = ("read__en", "r_en"), ("write__en", "w_en")
WORDS = "r_data"


@dataclass(frozen=True)
class Rates:
    """What an instance of a kind does in a cycle, on average.

    Attributes
    ----------
    toggles : float
        Of one of its bits.
    reads, writes : float
        Words read, and shares of words written.
    flips : float
        Share of a word's bits that are others than in the word read before.
    """

    toggles: float = 0.0
    reads: float = 0.0
    writes: float = 0.0
    flips: float = 0.0


@dataclass
class Energy:
    """Area of a block, and energies of a query in pJ.

    ``by_means`` is of the logic of instances that the small machine has none like: their bits
    change as those of their block do on average.
    """

    logic_um2: float = 0.0
    sram_um2: float = 0.0
    bits: float = 0.0
    flip_flops: float = 0.0
    clock: float = 0.0
    logic: float = 0.0
    by_means: float = 0.0
    sram: float = 0.0
    leakage: float = 0.0
    seconds: float = 0.0

    def report(self) -> dict[str, float]:
        """Area in mm2, bits, uJ a query by kind, W at full load and when nothing is done."""
        total = self.clock + self.logic + self.sram + self.leakage
        return {
            "logic_mm2": 1e-6 * self.logic_um2,
            "sram_mm2": 1e-6 * self.sram_um2,
            "mm2": 1e-6 * (self.logic_um2 + self.sram_um2),
            "bits": self.bits,
            "flip_flops": self.flip_flops,
            "clock_uj": 1e-6 * self.clock,
            "logic_uj": 1e-6 * self.logic,
            "by_means_uj": 1e-6 * self.by_means,
            "sram_uj": 1e-6 * self.sram,
            "leakage_uj": 1e-6 * self.leakage,
            "uj": 1e-6 * total,
            "watts": 1e-12 * total / self.seconds,
            "idle_watts": 1e-12 * (self.clock + self.leakage) / self.seconds,
        }


def _share_high(scope: Scope, names: Sequence[str], activity: Activity, *, mean: bool) -> float:
    """Cycles in which a net is high, in a cycle; of several bits their sum or mean."""
    for name in names:
        if name in scope.nets:
            bits, high, _ = scope.nets[name]
            share = high / activity.period / activity.cycles
            return share / bits if mean else share
    return 0.0


def rates(activity: Activity) -> dict[tuple[str, ...], Rates]:
    """What instances of each kind do in a cycle, on average over them."""
    kinds: defaultdict[tuple[str, ...], list[Scope]] = defaultdict(list)
    for path, scope in activity.scopes.items():
        kinds[kind_of(path)].append(scope)
    found = {}
    for kind, scopes in kinds.items():
        bits = sum(scope.bits for scope in scopes)
        changes = sum(scope.changes for scope in scopes)
        reads = sum(_share_high(s, READ, activity, mean=False) for s in scopes)
        writes = sum(_share_high(s, WRITE, activity, mean=True) for s in scopes)
        found[kind] = Rates(
            changes / max(1, bits) / activity.cycles,
            reads / len(scopes),
            writes / len(scopes),
            _flips(scopes, reads * activity.cycles),
        )
    return found


def _flips(scopes: Sequence[Scope], reads: float) -> float:
    """See :class:`Rates`; 0 where no words are seen."""
    words = [scope for scope in scopes if WORDS in scope.nets and READ[1] in scope.nets]
    if not words or not reads:
        return 0.0
    bits, _, _ = words[0].nets[WORDS]
    ports, _, _ = words[0].nets[READ[1]]
    changes = sum(scope.nets[WORDS][2] for scope in words)
    return changes / reads / (bits / ports)


def energies(places: Sequence[Place], small: Observed, full: Observed) -> dict[str, Energy]:
    """Area and energy of a query by block.

    Parameters
    ----------
    places : sequence of Place
        Of the machine of full size.
    small, full : Observed
        A smaller machine bit by bit, and what the full one does. Rates of the one hold for the
        other, times the ratio of the work that their blocks do in a cycle.

    Returns
    -------
    dict of Energy by block
    """
    assert small.activity is not None
    known = rates(small.activity)
    blocks: defaultdict[str, Energy] = defaultdict(Energy)
    fallback = _block_means(small.activity)
    cycles = full.cycles_per_query
    for place in places:
        block = blocks[name := block_of(place.path)]
        seen = known.get(kind_of(place.path))
        rate = seen or Rates(fallback.get(name, 0.0))
        more = _more(place.path, small, full)
        block.seconds = cycles / CLOCK_HZ
        block.logic_um2 += place.logic.um2
        block.flip_flops += place.logic.flip_flops
        block.clock += cycles * place.logic.clock_pj
        toggles = rate.toggles
        if place.store is not None and place.store.count > 1:
            # The word that a macro of the static region shows goes to the selectors of all lanes.
            toggles = rate.reads * rate.flips / place.store.count
        logic = cycles * more * toggles * place.logic.toggle_pj
        block.logic += logic
        block.by_means += 0.0 if seen else logic
        block.leakage += 1e9 * block.seconds * place.logic.leakage_mw
        if place.store is not None:
            macro, count = place.store.macro, place.store.count
            block.bits += count * place.store.memory.bits
            block.sram_um2 += count * macro.um2
            block.leakage += 1e9 * block.seconds * count * macro.leakage_mw
            # One memory is read once a cycle at most; some are read in every cycle as it is.
            reads = more * rate.reads if count > 1 else min(1.0, more * rate.reads)
            writes = min(1.0, more * rate.writes)
            block.sram += cycles * (reads * macro.read_pj + writes * macro.write_pj)
    return dict(blocks)


def _more(path: tuple[str, ...], small: Observed, full: Observed) -> float:
    """How much more an instance of the full machine does in a cycle than one of the small one."""
    pace = [
        duty(path, run.config.hardware, run.counts) / run.counts["device.cycles"]
        for run in (full, small)
    ]
    return pace[0] / pace[1] if pace[1] else 0.0


def _block_means(activity: Activity) -> dict[str, float]:
    """Toggles of a bit in a cycle, on average over all instances of a block."""
    bits: defaultdict[str, int] = defaultdict(int)
    changes: defaultdict[str, int] = defaultdict(int)
    for path, scope in activity.scopes.items():
        bits[block_of(path)] += scope.bits
        changes[block_of(path)] += scope.changes
    return {name: changes[name] / max(1, bits[name]) / activity.cycles for name in bits}
