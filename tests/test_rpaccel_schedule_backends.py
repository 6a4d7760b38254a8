"""Profiles and platforms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reference_profiles import FUNNELS, ITEMS, PUBLISHED, p99, profiles
from rpaccel.config import load
from rpaccel.errors import ConfigError, ToolError
from rpaccel.schedule.array import CLOCK, ArrayBackend, shipped_cycles
from rpaccel.schedule.backends import ProfileBackend
from rpaccel.schedule.profiles import Profile, machine, shipped
from rpaccel.schedule.qualities import sizes
from tests.workloads import workload

ROOT = Path(__file__).parents[1]


def profile(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "name": "p",
        "kind": "measured",
        "machine": "m",
        "source": "s",
        "units": 3,
        "points": [{"model": "a", "items": n, "seconds": n * 1e-3} for n in (10, 20, 40)],
    }
    return values | changes


def written(folder: Path, values: object) -> str:
    path = folder / "p.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_times_between_points_are_interpolated_and_beyond_them_unknown(tmp_path: Path) -> None:
    backend = ProfileBackend(Profile.load(written(tmp_path, profile())))
    served = backend.serve("a", 30, 2)
    assert served is not None
    assert served.seconds == pytest.approx(30e-3)
    assert served.servers == 2
    assert served.demand == pytest.approx(15e-3)
    assert backend.serve("a", 41, 2) is None
    assert backend.serve("a", 9, 2) is None
    assert backend.serve("b", 20, 2) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "guessed"}, "kind"),
        ({"units": 0}, "units"),
        ({"machine": ""}, "machine"),
        ({"points": []}, "points"),
        ({"points": [{"model": "a", "items": 1, "seconds": 0}]}, "seconds"),
        ({"points": [{"model": "a", "items": 1, "seconds": 1}] * 2}, "a on 1 items is there twice"),
    ],
)
def test_bad_profiles_are_named(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Profile.load(written(tmp_path, profile(**changes)))


def test_missing_profiles_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gpu' is not among.*cascade-lake-64, h100, t4"):
        Profile.load("gpu")
    with pytest.raises(ConfigError, match="cannot be read"):
        Profile.load(str(tmp_path / "none.json"))
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        Profile.load(str(path))


def test_shares_use_all_units_and_are_all_ways() -> None:
    backend = ProfileBackend(Profile.model_validate(profile(units=5)))
    assert backend.shares(1) == [(5,)]
    assert sorted(backend.shares(2)) == [(1, 4), (2, 3), (3, 2), (4, 1)]
    assert len(backend.shares(3)) == 6
    assert backend.shares(6) == []  # a stage needs a unit of its own
    many = ProfileBackend(Profile.model_validate(profile(units=35)))
    assert len(many.shares(2)) == 15
    assert all(sum(share) == 35 and min(share) > 0 for share in many.shares(3))


@pytest.mark.slow
def test_shipped_profiles_are_what_the_published_points_give() -> None:
    assert shipped("profiles") == sorted([*PUBLISHED, "h100"])
    for made in profiles():
        assert made.kind == "derived"
        assert Profile.load(made.name) == made


def test_the_measured_profile_says_what_was_measured() -> None:
    card = Profile.load("h100")
    assert (card.kind, card.units, card.handover) == ("measured", 1, 0)
    assert card.machine.startswith("NVIDIA H100 80GB HBM3, ")
    assert card.source.startswith("PyTorch 2.11.0+cu130, a CUDA graph a query")
    config = load(ROOT / "examples/recpipe.toml")
    assert [(p.model, p.items) for p in card.points] == [
        (model.name, items) for model in config.models for items in sizes(config)
    ]


def test_derived_profiles_give_back_the_points_they_were_made_of() -> None:
    cores, card = (ProfileBackend(Profile.load(name)) for name in PUBLISHED)

    def seconds(backend: ProfileBackend, stages: int, stage: int) -> float:
        served = backend.serve(*FUNNELS[stages][stage], 1)
        assert served is not None
        return served.seconds

    published = PUBLISHED[cores.name]
    one = seconds(cores, 1, 0)
    assert p99(one, cores.units, 500) * 1e3 == pytest.approx(published[1][500], rel=1e-3)
    assert one * 1e3 == pytest.approx(published[1][100], rel=0.02)
    for stages in (2, 3):
        alone = sum(seconds(cores, stages, stage) for stage in range(stages))
        assert alone * 1e3 == pytest.approx(published[stages][100], rel=1e-3)
    published = PUBLISHED[card.name]
    assert p99(seconds(card, 1, 0), 1, 100) * 1e3 == pytest.approx(published[1][100], rel=1e-3)
    (wait,) = card.leave(64, last=False)
    for qps in (100, 500):
        both = p99(seconds(card, 2, 0), 1, qps) + float(wait.service) + seconds(cores, 2, 1)
        assert both * 1e3 == pytest.approx(published[2][qps], rel=1e-3)
    assert card.serve("RM-med", ITEMS, 1) is None


def test_array_divides_its_sub_arrays() -> None:
    config = load(ROOT / "examples/criteo-like.toml")
    backend = ArrayBackend(config)
    assert backend.units == 8
    assert backend.kind == "modelled"
    times = []
    for units in (1, 2, 4, 8):
        served = backend.serve("large", 512, units)
        assert served is not None
        times.append(served.seconds)
    # no faster than the multiply-accumulates allow, and nearly as fast
    macs = sum(a * b for a, b in config.models[2].layers(config.features).values()) * 512
    for units, seconds in zip((1, 2, 4, 8), times, strict=True):
        assert 1 < seconds * CLOCK * 256 * units / macs < 1.1
    # the front end on all sub-arrays takes the gather unit's cycle an item, or more
    front = backend.serve("small", 4096, 8)
    assert front is not None
    assert front.seconds * CLOCK >= 4096
    assert backend.serve("huge", 64, 1) is None


def test_array_is_entered_and_left_by_the_link() -> None:
    backend = ArrayBackend(load(ROOT / "examples/criteo-like.toml"))
    features, latency = backend.enter(4096)
    assert float(features.service) == pytest.approx(4096 * (13 + 26 * 2) / 11e9)
    assert features.servers == 1
    assert latency.servers is None
    assert float(latency.service) == 40e-6


def test_cpu_without_pytorch_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rpaccel.schedule.cpu import cpu_profile

    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ToolError, match=r"pip install -e '\.\[train\]'"):
        cpu_profile(load(ROOT / "examples/demo.toml"), [64], tmp_path)


def test_cpu_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="platform cpu needs PyTorch")
    from rpaccel.schedule import cpu

    config = load(ROOT / "examples/demo.toml")
    made = cpu.cpu_profile(config, [64, 1024], tmp_path, workers=2)
    assert made.kind == "measured"
    assert made.units == 2
    assert made.machine == machine()
    assert {(p.model, p.items) for p in made.points} == {
        (m.name, n) for m in config.models for n in (64, 1024)
    }
    monkeypatch.setattr(cpu, "measure", None)  # a second measurement would fail
    assert cpu.cpu_profile(config, [1024, 64], tmp_path, workers=2) == made


def test_array_takes_about_an_item_a_cycle() -> None:
    backend = ArrayBackend(load(ROOT / "examples/recpipe.toml"))
    fast, slow = (backend.serve("RM-small", 4096, units) for units in (16, 8))
    assert fast is not None
    assert slow is not None
    assert 4096 <= fast.seconds * CLOCK < 1.1 * 4096
    assert slow.seconds * CLOCK == pytest.approx(4 * 1792)  # 7 tiles of 256 items a sub-array


@pytest.mark.parametrize(
    "point", [("RM-small", 4096, 16), ("RM-med", 512, 5), ("RM-large", 64, 3)], ids=str
)
def test_cycles_that_come_along_are_the_models(point: tuple[str, int, int]) -> None:
    config = load(ROOT / "examples/recpipe.toml")
    (path,) = shipped_cycles(config).parent.iterdir()
    assert path == shipped_cycles(config), "run python -m benchmarks.stage_cycles"
    known = json.loads(path.read_text())
    assert len(known) == 3 * len(sizes(config)) * 16
    model, items, units = point
    assert tuple(known[f"{model} {items} on {units}"]) == ArrayBackend(config).cycles(*point)


def test_cycles_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(ROOT / "examples/demo.toml")
    made = ArrayBackend(config, store=tmp_path).serve("front", 64, 2)
    assert made is not None
    monkeypatch.setattr(ArrayBackend, "cycles", None)  # a second run would fail
    assert ArrayBackend(config, store=tmp_path).serve("front", 64, 2) == made
    with pytest.raises(TypeError):
        ArrayBackend(config, store=tmp_path).serve("front", 64, 3)


@pytest.mark.slow
def test_array_in_rtl_takes_the_cycles_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workload()
    model, rtl = ArrayBackend(config), ArrayBackend(config, store=tmp_path, rtl=True)
    assert (rtl.name, rtl.kind) == ("rpaccel-rtl", "simulated")
    assert rtl.serve("front", 40, 2) == model.serve("front", 40, 2)
    assert rtl.serve("front", 21, 2) == model.serve("front", 21, 2)
    monkeypatch.setattr(ArrayBackend, "cycles", None)  # a second run would fail
    again = ArrayBackend(config, store=tmp_path, rtl=True)
    assert again.serve("front", 40, 2) == rtl.serve("front", 40, 2)


def test_a_stage_is_an_interval_and_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(ROOT / "examples/demo.toml")
    backend = ArrayBackend(config)
    monkeypatch.setattr(backend, "_run", lambda *_: (100.0, 130))
    assert backend.serve("front", 64, 2) == (4 * 100 / CLOCK, 1, 45 / CLOCK)

    def full(model: str, items: int, units: int, sub_batches: int) -> tuple[float, int]:
        if sub_batches < 16:
            raise ConfigError("it does not fit")
        return 25.0, 40

    monkeypatch.setattr(backend, "_run", full)
    assert backend.cycles("front", 1024, 1) == (100.0, 115)  # four parts a sub-batch
    monkeypatch.setattr(backend, "_run", lambda *_: full("", 0, 0, 1))
    assert backend.serve("front", 1024, 3) is None
