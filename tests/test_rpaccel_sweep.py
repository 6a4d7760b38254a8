"""Quality over items a stage and sub-batches."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rpaccel.cli import app
from rpaccel.errors import ConfigError
from rpaccel.quality import ScoredQueries
from rpaccel.sweep import Setting, settings, sweep
from rpaccel.sweep_report import draw_sweep, sweep_table
from rpaccel.workflow import Workflow
from sw_model.metrics import ndcg
from sw_model.topk import Bins, threshold_entry
from tests.workloads import workload

ROOT = Path(__file__).parents[1]
ITEMS = 40


@pytest.fixture
def scored(rng) -> ScoredQueries:
    relevant = rng.permuted(np.arange(ITEMS)[None] < np.full((60, 1), 5), axis=1)

    def logits(noise: float) -> list[np.ndarray]:
        return [relevant + rng.normal(0, s * noise, relevant.shape) for s in (1.0, 0.3)]

    return ScoredQueries(relevant, {"float": logits(1.0), "int8": logits(1.2)})


def test_settings():
    config = workload(items=40, keep=[12, 8], sub_batches=3)
    found = settings(config, (1, 4))
    assert len(set(found)) == len(found)
    assert {(s.stages, s.items) for s in found if len(s.stages) == 1} == {
        ((0,), 40), ((0,), 20), ((0,), 10), ((1,), 40), ((1,), 20), ((1,), 10),
    }  # fmt: skip
    whole = {(s.items, s.keep[0], s.sub_batches, *s.filters) for s in found if len(s.stages) == 2}
    grid = [(40, 8), (40, 16), (40, 32), (20, 8), (20, 16), (10, 8)]
    own = {(40, 12, 1, "exact"), (40, 12, 3, "exact")}
    swept = {(n, keep, b, f) for n, keep in grid for b in (1, 4) for f in ("exact", "bins")}
    assert whole == swept | own
    assert Setting((0, 1), 10, (8, 8), 4).sub_batch == 3
    binned = workload(items=40, keep=[12, 8], hardware={"filter": ["bins", "exact"]})
    more = {s for s in settings(binned, (1,)) if s.keep[0] == 12}
    assert more == {
        Setting((0, 1), 40, (12, 8), number, (kind,))
        for number, kind in ((1, "exact"), (1, "bins"), (3, "bins"))
    }


def funnel_of(items, keep, sub_batches=1):
    shape = {"dimensions": 3, "bottom": [5], "top": [6, 1]}
    models = [{"name": "abc"[i], **shape} for i in range(len(keep))]
    return workload(models=models, items=items, keep=keep, sub_batches=sub_batches)


def test_settings_of_other_funnels():
    every = settings(funnel_of(32, [16, 8, 4], 2))
    assert len(set(every)) == len(every)
    for setting in every:
        numbers = [setting.items, *setting.keep]
        assert numbers == sorted(numbers, reverse=True)
        assert len(setting.keep) == len(setting.filters) + 1 == len(setting.stages)
    assert Setting((0, 1, 2), 32, (16, 8, 4), 2, ("exact", "exact")) in every
    # each inner stage keeps 4, 8 or 16 of 32 items; no more than the stage before it
    counts = Counter(s.stages for s in every if s.items == 32)
    pairs = dict.fromkeys([(0, 1), (0, 2), (1, 2)], 3 * 8)
    assert counts == {(0,): 1, (1,): 1, (2,): 1, **pairs, (0, 1, 2): 6 * 8}
    one = funnel_of(30, [20])
    assert settings(one) == [Setting((0,), 30, (20,))]
    found = settings(funnel_of(8, [8, 8]))
    assert all(s.keep == (8, 8) for s in found if len(s.stages) == 2)
    with pytest.raises(ConfigError, match=r"sub-batches must be numbers from 1 on, not \[0, 2\]"):
        settings(one, (0, 2))


def test_sweep(scored):
    config = workload(items=ITEMS, keep=[12, 8], sub_batches=2)
    report = json.loads(json.dumps(sweep(config, scored, sub_batches=(1, 2, 5))))
    rows = {
        (tuple(r["stages"]), r["items"], r["keep"][0], r["sub_batches"]): r
        for r in report["settings"]
        if "bins" not in r["filters"]
    }
    assert sum(r["configured"] for r in rows.values()) == 1
    both = ("front", "back")
    own = rows[both, 40, 12, 2]
    assert own["configured"]
    # work of a query: all layers of each stage for the items it ranks
    front = 5 * 5 + 6 * (9 + 5) + 6
    back = 5 * 11 + 11 * 7 + 13 * (27 + 7) + 13 * 10 + 10
    assert own["macs"] == 40 * front + 12 * back
    assert rows[("back",), 20, 8, 1]["macs"] == 20 * back
    # items that are not ranked count as not served
    half = rows[("back",), 20, 8, 1]["float"]["ndcg"]["mean"]
    served = np.argsort(-scored.logits["float"][1][:, :20], axis=1)[:, :8]
    hits = np.take_along_axis(scored.relevant, served, axis=1)
    assert half == pytest.approx(ndcg(hits, np.full(60, 5)).mean())
    assert half < rows[("back",), 40, 8, 1]["float"]["ndcg"]["mean"]
    for kind in ("float", "int8"):
        mean = own[kind]["ndcg"]["mean"]
        for against, other in (
            ("against_last", rows[("back",), 40, 8, 1]),
            ("against_unbatched", rows[both, 40, 12, 1]),
            ("against_exact", rows[both, 40, 12, 1]),
        ):
            gap = own[kind][against]
            assert gap["mean"] == pytest.approx(mean - other[kind]["ndcg"]["mean"])
            assert gap["low"] <= gap["mean"] <= gap["high"]
        assert rows[both, 40, 12, 1][kind]["against_unbatched"]["mean"] == 0
    gap = own["int8"]["against_float"]["mean"]
    assert gap == pytest.approx(own["int8"]["ndcg"]["mean"] - own["float"]["ndcg"]["mean"])


def test_bins_against_exact(scored):
    """Bins lose to exact filters, as the filter of the golden model says; fewer lose more."""
    found = {}
    for bins in (2, 64):
        config = workload(items=ITEMS, keep=[12, 8], sub_batches=2, hardware={"bins": bins})
        rows = sweep(config, scored, sub_batches=(4,))["settings"]
        for r in rows:
            if (len(r["stages"]), r["items"], r["keep"][0]) == (2, 40, 16):
                found[bins, *r["filters"], r["sub_batches"]] = r["int8"]
        served = scored.values("int8", [0, 1], [16, 8], 10, filters=[Bins(bins, 0)])["ndcg"]
        binned, exact = found[bins, "bins", 4], found[bins, "exact", 1]
        assert binned["ndcg"]["mean"] == pytest.approx(served.mean())
        gap = binned["against_exact"]
        assert gap["mean"] == pytest.approx(binned["ndcg"]["mean"] - exact["ndcg"]["mean"])
        unbatched = binned["ndcg"]["mean"] - found[bins, "bins", 1]["ndcg"]["mean"]
        assert binned["against_unbatched"]["mean"] == pytest.approx(unbatched)
        assert exact["against_exact"]["mean"] == 0
    losses = [found[bins, "bins", 1]["against_exact"]["high"] for bins in (2, 64)]
    assert losses[0] < losses[1]
    assert losses[0] < 0


def test_a_threshold_belongs_to_bins(scored):
    config = workload(
        items=ITEMS, keep=[12, 8], hardware={"filter": ["bins", "exact"]}, threshold=[0.99, 0.0]
    )
    rows = sweep(config, scored, sub_batches=(1,))["settings"]
    (own,) = [r for r in rows if r["configured"]]
    assert own["filters"] == ["bins"]
    for entry, equal in ((threshold_entry(0.99), True), (0, False)):
        served = scored.values("float", [0, 1], [12, 8], 14, filters=[Bins(16, entry)])["ndcg"]
        assert (own["float"]["ndcg"]["mean"] == pytest.approx(served.mean())) == equal


def test_table_and_picture(scored, tmp_path):
    config = workload(items=ITEMS, keep=[12, 8], sub_batches=2)
    report = sweep(config, scored, sub_batches=(2,))
    lines = sweep_table(report).splitlines()
    assert len(lines) == 4 + len(report["settings"])
    (own,) = [line for line in lines[3:] if line.strip().startswith("*")]
    row = next(r for r in report["settings"] if r["configured"])
    assert own.split()[:7] == ["*", "front", "40", "->", "back", "12", "exact"]
    assert f"{row['int8']['ndcg']['mean']:.4f}" in own
    base = row["int8"]["ndcg"]["mean"] - row["int8"]["against_exact"]["mean"]
    loss = f"{row['int8']['against_exact']['mean'] / base:+.2%}"
    assert loss in own
    assert lines[-1].startswith("The configuration against the same with exact filters and one sub")
    assert f"NDCG@8 {loss}, from" in lines[-1]
    draw_sweep(report, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 20_000


def test_one_stage_has_no_sub_batches(scored, tmp_path):
    model = {"name": "m", "dimensions": 3, "bottom": [5], "top": [6, 1]}
    config = workload(models=[model], items=ITEMS, keep=[8])
    one = ScoredQueries(scored.relevant, {k: v[:1] for k, v in scored.logits.items()})
    report = sweep(config, one)
    assert {r["sub_batches"] for r in report["settings"]} == {1}
    assert "m 40" in sweep_table(report)
    draw_sweep(report, tmp_path / "quality.png")


def test_funnels_that_leave_a_stage_out(rng, tmp_path):
    """Each is measured with its own models and work."""
    relevant = rng.permuted(np.arange(32)[None] < np.full((40, 1), 4), axis=1)
    logits = [relevant + rng.normal(0, noise, relevant.shape) for noise in (1.0, 0.6, 0.3)]
    scored = ScoredQueries(relevant, {"float": logits, "int8": logits})
    config = funnel_of(32, [16, 8, 4])
    report = sweep(config, scored, sub_batches=(1,))
    rows = {
        (*row["stages"], *row["keep"]): row
        for row in report["settings"]
        if row["items"] == 32 and "bins" not in row["filters"]
    }
    row = rows["a", "c", 8, 4]
    expected = scored.values("float", [0, 2], [8, 4], 32)
    assert row["float"]["ndcg"]["mean"] == pytest.approx(expected["ndcg"].mean())
    (macs,) = {model.macs(config.features) for model in config.models}
    assert row["macs"] == (32 + 8) * macs
    assert not row["configured"]
    assert rows["a", "b", "c", 16, 8, 4]["configured"]
    draw_sweep(report, tmp_path / "quality.png")
    assert "a 32 -> c 8" in sweep_table(report)


def test_fewer_queries(tmp_path, monkeypatch):
    """Of MovieLens as well, whose larger editions have very many."""
    asked = []

    def sweep(work, sub_batches):
        asked.append([query.user for query in work.candidates])
        raise ConfigError("enough")

    monkeypatch.setattr(Workflow, "sweep", sweep)
    call = ["quality", str(ROOT / "examples" / "demo.toml"), "-o", str(tmp_path)]
    for options in ["--queries", "3"], ["--queries", "700"], []:
        assert "enough" in CliRunner().invoke(app, [*call, *options]).stderr
    three, many, every = asked
    assert three == every[:3]
    assert many == every


def test_nothing_served_is_relevant(scored, tmp_path):
    """No difference is relative to a quality of zero."""
    config = workload(items=ITEMS, keep=[12, 8], sub_batches=2)
    last = scored.relevant.argsort(axis=1).argsort(axis=1)  # relevant items get the highest numbers
    logits = {kind: [-last, -last] for kind in ("float", "int8")}
    report = sweep(config, ScoredQueries(scored.relevant, logits), sub_batches=(2,))
    assert report["settings"][0]["int8"]["ndcg"]["mean"] == 0
    text = sweep_table(report)
    assert "nan" not in text
    assert text.endswith("int8: NDCG@8 cannot be told, it is 0 there")
    draw_sweep(report, tmp_path / "quality.png")


def test_random_data_have_no_quality(tmp_path):
    result = CliRunner().invoke(
        app, ["quality", str(ROOT / "tests" / "tiny.toml"), "-o", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "data.source = 'random' has no labels" in result.stderr


@pytest.mark.parametrize(
    "stages, text",
    [
        (["front"], "keep must give a number for each of the 1 stages"),
        (["front", "rear"], "funnel stage 'rear' names no model; there are ['front', 'back']"),
    ],
)
def test_other_stages_are_checked(tmp_path, stages, text):
    options = [word for stage in stages for word in ("--stage", stage)]
    call = ["quality", str(ROOT / "tests" / "tiny.toml"), "-o", str(tmp_path), *options]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.slow
def test_command(tmp_path):
    call = [
        "quality",
        str(ROOT / "examples" / "demo.toml"),
        "-o",
        str(tmp_path),
        "--sub-batches",
        "4",
        "--json",
    ]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "quality.json").read_text())
    (row,) = [r for r in report["settings"] if r["configured"]]
    assert row["int8"]["against_last"]["low"] > -0.01 * row["int8"]["ndcg"]["mean"]
    assert (tmp_path / "quality.png").exists()
