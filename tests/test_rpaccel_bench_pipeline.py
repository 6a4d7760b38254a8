"""The presets, their queries, and what the benches of whole machines print."""

from pathlib import Path

import numpy as np
import pytest

from rpaccel.bench_ablation import FEATURES, Variant, machine, run_variant, variants
from rpaccel.bench_ablation import bench as ablation
from rpaccel.bench_ablation import table as ablation_table
from rpaccel.bench_pipeline import PRESETS, TRAINING_QUERIES, criteo_like_queries, preset, table
from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.errors import ConfigError
from sw_model.device import GoldenTransport
from sw_model.random_models import random_models


def compiled(config):
    return compile_image(config, random_models(config, np.random.default_rng(1)))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_their_funnels(name):
    config = load(preset(name))
    image = compiled(config)
    for stage, bound in zip(image.stages, (1, 1 / 8), strict=False):
        assert stage.max_items >= config.funnel.sub_batch_items * bound


def test_both_machines_have_the_same_resources():
    ours, theirs = (load(preset(name)) for name in ("rpaccel", "baseline"))
    assert ours.hardware.macs == theirs.hardware.macs == 128 * 128
    assert ours.features == theirs.features
    assert ours.features.item_bytes == 73
    assert ours.simulation == theirs.simulation
    assert ours.hardware.memory == theirs.hardware.memory
    sizes = []
    for config in ours, theirs:
        lines = config.hardware.static_lines
        lines += sum(gather.lanes * gather.cache_lines for gather in config.hardware.gather)
        sizes.append(lines * config.hardware.memory.line_bytes)
    assert sizes[0] <= sizes[1] <= 16 * 2**20


def test_queries_follow_each_other_and_not_the_training_trace():
    config = load(preset("scaled"))
    first, second = criteo_like_queries(config, TRAINING_QUERIES, 2)
    (again,) = criteo_like_queries(config, TRAINING_QUERIES + 1, 1)
    for name, rows in second.indices.items():
        assert rows.shape == (config.funnel.items, 1)
        assert (rows == again.indices[name]).all()
    assert any((first.indices[n] != second.indices[n]).any() for n in first.indices)
    trained = criteo_like_queries(config, 0, TRAINING_QUERIES)
    assert len(trained) == TRAINING_QUERIES
    large = max(config.features.tables, key=lambda t: t.rows).name
    assert all((q.indices[large] != first.indices[large]).any() for q in trained)


def test_other_features_are_refused():
    values = load(preset("scaled")).model_dump()
    values["features"]["tables"][2]["lookups"] = 3
    with pytest.raises(ConfigError, match="at most 26 tables of items with one lookup each"):
        criteo_like_queries(parse(values), 0, 1)


def test_features_come_out_of_a_configuration():
    config = load(preset("scaled"))
    names = [variant.name for variant in variants()]
    assert names[:6] == ["none", *FEATURES]
    assert names[-1] == "O.1, O.2, O.3, O.4, O.5"
    assert machine(config, variants()[-1]) == config
    base = machine(config, variants()[0])
    assert len(base.funnel.stages) == base.funnel.sub_batches == 1
    assert base.hardware.tile_rows == 32
    assert base.hardware.macs == config.hardware.macs
    assert {machine(config, v).hardware.gather[0].lookahead for v in variants()} == {2, 64}
    for variant in variants():
        compiled(machine(config, variant))


@pytest.mark.parametrize("features", [[], ["O.1"], list(FEATURES)])
def test_the_host_ranks_where_the_device_does_not(features, monkeypatch):
    """Rankings that go over the host are those of the funnel, on the golden device."""
    monkeypatch.setattr(
        "rpaccel.bench_ablation.open_transport",
        lambda kind, config, models, image: GoldenTransport(config, models),
    )
    small = load(Path(__file__).parent / "funnel.toml")
    done = run_variant(small, Variant(frozenset(features)), 5)  # it compares them
    assert done["host_trips"] == (2 if features and features != list(FEATURES) else 1)


def row(cycles, alone, **more):
    measured = {"bytes_per_query": {"host_read": 9.0, "host_write": 8.0, "memory_read": 7.0}}
    return {
        "name": "m",
        "cycles_per_query": cycles,
        "alone": {
            "cold": alone + 1,
            "best": {"sub_batches": 4},
            "warm": alone,
            "seconds": 1e-4,
        },
        "utilisation": 0.5,
        "demand": {"macs": 2e6, "row_bytes": 1e3},
        "measured": measured,
        "compared": 3,
        **more,
    }


def test_table():
    report = {
        "rpaccel": row(10.0, 100),
        "baseline": row(80.0, 700),
        "ratios": dict.fromkeys(("throughput", "cycles_alone", "latency_alone"), 8.0)
        | {"compute": 6.4, "rows": 4.0},
        "host_sort_seconds": 2e-5,
    }
    text = table(report)
    assert "ranks the baseline's scores in 20 us" in text
    line = next(line for line in text.splitlines() if "back to back" in line)
    assert line.split()[-3:] == ["80", "10", "8.00"]


@pytest.mark.parametrize(
    "path, passes, alone",
    [
        pytest.param(
            Path(__file__).parent / "funnel.toml", (38, 22, 134), 5, marks=pytest.mark.slow
        ),
        pytest.param(preset("scaled"), (21, 18, 70), 4, marks=pytest.mark.slow),
    ],
    ids=["16x16", "32x32"],
)
def test_what_the_features_are_worth(path, passes, alone, monkeypatch):
    """Without any and with all of them, in RTL: what their tiles promise, bit-exact."""
    both = [Variant(frozenset()), Variant(frozenset(FEATURES))]
    monkeypatch.setattr("rpaccel.bench_ablation.variants", lambda: both)
    config = load(path)
    items, kept, groups = config.funnel.items, config.funnel.keep[0], len(config.hardware.groups)
    base, full = passes[0] * items, (passes[1] * items / 4 + passes[2] * kept) / groups
    report = ablation(path, queries=8)
    without, every = report["variants"]
    assert base <= without["cycles_per_query"] < 1.01 * base
    assert full <= every["cycles_per_query"] < 1.15 * full
    assert every["gain_cycles_alone"] > alone
    assert "O.1, O.2, O.3, O.4, O.5" in ablation_table(report)
