"""Profiles of RecPipe's CPU and GPU, derived from its published tail latencies.

    python -m benchmarks.reference_profiles

writes them into the package and prints what they give for every published point of Criteo in the
paper's figure 14. Nothing of it was measured here.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from rpaccel.load.theory import MDc
from rpaccel.schedule.profiles import SHIPPED, Point, Profile

#: Tail latency in ms by platform, stages and QPS (RecPipe, figure 14, Criteo); None: not met.
PUBLISHED = {
    "cascade-lake-64": {
        1: {100: 67.2, 500: 221.6, 2000: None},
        2: {100: 43.1, 500: 55.7, 2000: None},
        3: {100: 46.9, 500: 83.6, 2000: None},
    },
    "t4": {
        1: {100: 21.7, 500: None, 2000: None},
        2: {100: 27.4, 500: 320.0, 2000: None},
        3: {100: 34.6, 500: 437.0, 2000: None},
    },
}
#: What its funnels rank: models and items.
FUNNELS = {
    1: [("RM-large", 4096)],
    2: [("RM-small", 4096), ("RM-large", 256)],
    3: [("RM-small", 4096), ("RM-med", 512), ("RM-large", 128)],
}
ITEMS, LEAST = 4096, 64
SOURCE = "RecPipe (MICRO 2021), figure 14, Criteo"


def p99(seconds: float, servers: int, qps: float) -> float:
    """Latency of one stage at a load."""
    return MDc(qps * seconds / servers, servers, seconds).latency_quantile(0.99)


def solve(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a rising function has a value, by bisection."""
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2


def cpu() -> Profile:
    """Cores that queries use alone, fewer than there are: what contention leaves of them."""
    one, two, three = (PUBLISHED["cascade-lake-64"][n] for n in (1, 2, 3))
    alone, loaded = one[100] / 1e3, one[500] / 1e3
    # the most cores that are as slow as published at 500 QPS, with a time not above that at 100
    cores = int(500 * alone)
    while p99(alone, cores + 1, 500) > loaded:
        cores += 1
    large = solve(lambda s: p99(s, cores, 500), loaded, alone / 2, cores / 500 - 1e-5)
    small = two[100] / 1e3 - large * 256 / ITEMS
    med = (three[100] / 1e3 - small - large * 128 / ITEMS) * ITEMS / 512
    return _profile(
        "cascade-lake-64",
        "64-core Cascade Lake",
        cores,
        {"RM-small": small, "RM-med": med, "RM-large": large},
        notes=[
            f"{cores} cores of the 64: as many, each with one query, as fit one stage at 100 and "
            "500 QPS",
        ],
    )


def gpu(cores: Profile) -> Profile:
    """One query at a time; what its two stages take more than that is a hand-over."""
    one, two = PUBLISHED["t4"][1], PUBLISHED["t4"][2]
    large = solve(lambda s: p99(s, 1, 100), one[100] / 1e3, 1e-4, 9e-3)
    back = next(p.seconds for p in cores.points if p.model == "RM-large" and p.items == ITEMS)
    back *= 256 / ITEMS
    # both points of two stages: T4 in front, CPU behind
    small = solve(
        lambda s: p99(s, 1, 500) - p99(s, 1, 100), (two[500] - two[100]) / 1e3, 1e-4, 1.99e-3
    )
    handover = two[100] / 1e3 - p99(small, 1, 100) - back
    return _profile(
        "t4",
        "NVIDIA T4",
        1,
        {"RM-small": small, "RM-large": large},
        handover=handover,
        notes=[
            "hand-over: what two stages, T4 in front and Cascade Lake behind, take more at 100 QPS "
            "than both stages do",
            "RM-med: no published point tells its time",
            "the same paper says in its text that one stage saturates at about 86 QPS, and in "
            "figure 14 that it meets 100",
        ],
    )


def _profile(
    name: str,
    machine: str,
    units: int,
    seconds: dict[str, float],
    *,
    notes: list[str],
    handover: float = 0.0,
) -> Profile:
    return Profile(
        name=name,
        kind="derived",
        machine=machine,
        source=f"{SOURCE}; python -m benchmarks.reference_profiles",
        units=units,
        handover=round(handover, 8),
        notes=[*notes, "time is taken to be proportional to items"],
        points=[
            Point(model=model, items=items, seconds=round(each * items / ITEMS, 8))
            for model, each in seconds.items()
            for items in (LEAST, ITEMS)
        ],
    )


def profiles() -> list[Profile]:
    """Both, in a fixed order."""
    cores = cpu()
    return [cores, gpu(cores)]


def main() -> None:
    """Write the profiles and compare them with the published points."""
    for profile in profiles():
        path = SHIPPED / "profiles" / f"{profile.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile.save(path)
        print(path.name, json.dumps([p.model_dump() for p in profile.points if p.items == ITEMS]))
        print(f"  units {profile.units}, hand-over {profile.handover * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
