"""``rpaccel schedule``: from a configuration and targets to an answer, and its report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.report import grid
from rpaccel.schedule.array import ArrayBackend
from rpaccel.schedule.backends import Backend, ProfileBackend
from rpaccel.schedule.plans import Plan
from rpaccel.schedule.profiles import Profile
from rpaccel.schedule.qualities import Qualities, measured, sizes
from rpaccel.schedule.search import Answer, Simulated, Targets, schedule

__all__ = ["duration", "report", "run", "text"]

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
CAUSES = {"p99": "lowest p99", "quality": "highest quality", "qps": "most queries a second"}


def duration(value: str) -> float:
    """Read a time like ``25ms``, ``500us`` or ``1.5s``, in seconds.

    Raises
    ------
    ConfigError
        It is no positive number with one of these units.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(us|ms|s)", value.strip())
    if found is None or not float(found[1]):
        raise ConfigError(f"a time is a positive number with us, ms or s, like 25ms, not {value!r}")
    return float(found[1]) * UNITS[found[2]]


def platforms(config: Config, names: Sequence[str], cache: Path) -> list[Backend]:
    """Make platforms by their names: RPAccel, this computer's CPU or GPU, or a profile's.

    Raises
    ------
    ConfigError
        A name is unknown or given twice, a profile cannot be used.
    ToolError
        ``cpu`` or ``gpu`` needs PyTorch.
    """
    found: list[Backend] = []
    for name in names:
        if name in ("rpaccel", "rpaccel-rtl"):
            found.append(ArrayBackend(config, store=cache, rtl=name == "rpaccel-rtl"))
        elif name in ("cpu", "gpu"):
            from rpaccel.schedule.cpu import cpu_profile
            from rpaccel.schedule.gpu import gpu_profile

            profile = cpu_profile if name == "cpu" else gpu_profile
            found.append(ProfileBackend(profile(config, sizes(config), cache)))
        else:
            found.append(ProfileBackend(Profile.load(name)))
    known = [backend.name for backend in found]
    if len(set(known)) < len(known):
        raise ConfigError(f"platforms must be distinct, not {', '.join(known)}")
    return found


def run(
    config: Config,
    targets: Targets,
    names: Sequence[str],
    cache: Path,
    *,
    table: str | None = None,
    queries: int,
) -> dict[str, Any]:
    """Search, and report.

    Parameters
    ----------
    config : Config
    targets : Targets
    names : sequence of str
        Of platforms.
    cache : Path
        Folder for what is measured.
    table : str, optional
        Of quality, in place of measuring it: a file or one that comes with the package.
    queries : int
        To simulate in all.
    """
    backends = platforms(config, names, cache)
    qualities = Qualities.load(table) if table else measured(config, cache)
    return report(schedule(backends, qualities, targets, queries=queries), backends, qualities)


def report(answer: Answer, backends: Sequence[Backend], qualities: Qualities) -> dict[str, Any]:
    """Turn an answer into plain values that JSON can hold."""
    kinds = {backend.name: backend.kind for backend in backends}

    def plain(found: Simulated) -> dict[str, Any]:
        return _plain(found, kinds)

    best = answer.best
    return {
        "targets": vars(answer.targets),
        "feasible": best is not None,
        "best": plain(best) if best else None,
        "why": _why(answer),
        "limits": _limits(best.plan, answer.targets) if best else None,
        "nearest": {name: plain(found) for name, found in answer.nearest.items()},
        "alternatives": {name: plain(found) for name, found in answer.alternatives.items()},
        "frontier": [plain(found) for found in answer.frontier],
        "screened": {
            "plans": answer.screened,
            "overloaded": answer.overloaded,
            "seconds": answer.seconds,
            "plans_per_minute": answer.screened / answer.seconds * 60,
        },
        "simulated_queries": answer.queries,
        "quality": {
            **qualities.model_dump(exclude={"rows"}),
            "funnels": len(qualities.rows),
        },
        "platforms": [backend.identity() for backend in backends],
    }


def _plain(found: Simulated, kinds: Mapping[str, str]) -> dict[str, Any]:
    plan = found.plan
    estimate = plan.p99(found.qps)
    return {
        "plan": plan.name,
        "stages": [
            {
                "model": model,
                "items": items,
                "platform": place.platform,
                "kind": kinds[place.platform],
                "units": place.units,
                "seconds": place.served.seconds + place.served.delay,
            }
            for model, items, place in zip(
                plan.rated.stages, plan.rated.items, plan.places, strict=True
            )
        ],
        "quality": plan.quality,
        "quality_interval": [plan.rated.low, plan.rated.high],
        "qps": found.qps,
        "capacity_qps": plan.capacity,
        "alone": plan.alone,
        "p99": found.p99 if math.isfinite(found.p99) else None,
        "p99_estimate": estimate if math.isfinite(estimate) else None,
        "simulation": found.summary.as_dict(),
    }


def _why(answer: Answer) -> list[str]:
    """What speaks for the best plan, or against there being one."""
    targets, best = answer.targets, answer.best
    lines = []
    if best is None:
        goods = [s for s in answer.alternatives.values()]
        if not goods:
            lines.append(
                f"no plan of quality {targets.quality:g} sustains {targets.qps:g} queries a second"
            )
        return [
            f"no plan has quality {targets.quality:g} and p99 {_ms(targets.p99)} at "
            f"{targets.qps:g} queries a second",
            *lines,
        ]
    lines.append(
        f"lowest p99 of the plans that meet the targets: {_ms(best.p99)} of the "
        f"{_ms(targets.p99)} asked for, quality {best.plan.quality:.4f}"
    )
    for name, other in sorted(answer.alternatives.items(), key=lambda each: each[1].p99):
        if other.plan is not best.plan:
            met = "" if other.meets(targets) else ", which is too long"
            ratio = f"{_ms(other.p99)}, {other.p99 / best.p99:.2f} times as long{met}"
            lines.append(f"{name}: {ratio if math.isfinite(other.p99) else 'not steady'}")
    return lines


def _limits(plan: Plan, targets: Targets) -> dict[str, Any]:
    """The station that saturates first, where a query's time goes, and how far p99 holds."""
    stages = [(s, segment.sub_batches) for segment in plan.segments for s in segment.stages]
    held = [(s.name, float(s.service) * n / s.servers) for s, n in stages if s.servers is not None]
    name, demand = max(held, key=lambda each: each[1])
    slow, count = max(stages, key=lambda each: float(each[0].service) * each[1])
    return {
        "bottleneck": name,
        "load": targets.qps * demand,
        "saturates_qps": plan.capacity,
        "p99_held_to_qps": plan.sustained(targets.p99),
        "longest": slow.name,
        "longest_share": float(slow.service) * count / plan.alone,
    }


def text(found: dict[str, Any]) -> str:
    """Lay a report out for people."""
    targets = found["targets"]
    lines = [
        f"Asked for: {targets['qps']:g} queries a second, p99 {_ms(targets['p99'])}, quality "
        f"{targets['quality']:g} of {found['quality']['reference']['stages'][0]} alone on "
        f"{found['quality']['reference']['items'][0]} items ({found['quality']['metric']})",
        "",
    ]
    best = found["best"]
    if best:
        limits = found["limits"]
        lines += [
            f"Best plan: {best['plan']}",
            *(f"  {line}" for line in found["why"]),
            f"Limit: {limits['bottleneck']} is offered {limits['load']:.0%} of what it can do and "
            f"is saturated at {limits['saturates_qps']:,.0f} queries a second; p99 is held to "
            f"about {limits['p99_held_to_qps']:,.0f}",
            f"  of a query alone ({_ms(best['alone'])}), {limits['longest']} takes "
            f"{limits['longest_share']:.0%}",
        ]
    else:
        lines += ["Infeasible: " + "; ".join(found["why"])]
        for name, cause in CAUSES.items():
            near = found["nearest"].get(name)
            lines.append(
                f"  nearest, {cause} with the rest kept: "
                + (
                    f"{near['plan']}: p99 {_ms(near['p99'])}, quality {near['quality']:.4f}, "
                    f"{near['qps']:,.0f} QPS"
                    if near
                    else "no plan"
                )
            )
    rows = [
        [
            row["plan"],
            f"{row['quality']:.4f}",
            _ms(row["p99"]),
            _ms(row["p99_estimate"]),
            f"{row['capacity_qps']:,.0f}",
            "/".join(dict.fromkeys(stage["kind"] for stage in row["stages"])),
        ]
        for row in found["frontier"]
    ]
    screened = found["screened"]
    lines += [
        "",
        grid(
            f"Pareto frontier at {targets['qps']:g} queries a second",
            ["plan", "quality", "p99", "estimate", "saturates at QPS", "times"],
            rows,
        ),
        "",
        f"{screened['plans']:,} plans screened in {screened['seconds']:.1f} s "
        f"({screened['plans_per_minute']:,.0f} a minute), {screened['overloaded']:,} overloaded; "
        f"{found['simulated_queries']:,} queries simulated",
        f"Quality: {found['quality']['kind']}, {found['quality']['source']}",
    ]
    for each in found["platforms"]:
        lines.append(f"{each['name']}: {each['kind']}, {each['machine']}, {each['source']}")
        lines += [f"  {note}" for note in each["notes"]]
    return "\n".join(lines)


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None or not math.isfinite(seconds) else f"{seconds * 1e3:.3g} ms"
