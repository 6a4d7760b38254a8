"""Ranking tasks made of click logs."""

import itertools

import numpy as np
import pytest

from rpaccel.config import Config, parse
from rpaccel.errors import ConfigError, DataError
from rpaccel.workflow import Workflow
from sw_model.click_log import ClickLog
from sw_model.criteo import MISSING, build_vocabulary, read
from sw_model.criteo_like import TABLES
from sw_model.dataset import DENSE_SCALE
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatLayer, FloatModel, tensor_shapes
from sw_model.movielens import Split
from sw_model.planted import capped, clicks
from tests.workloads import workload

PERIODS = {"training": 3000, "calibration": 500, "test": 900}
CAP = 40


def config(data=None, *, cap=CAP, dense=(0, 13), tables=None, items=100) -> Config:
    made = tables or [
        {"name": f"c{i}", "rows": min(t.rows, cap)} for i, t in enumerate(TABLES, start=1)
    ]
    base = workload(tables=made, dense=dense, items=items, keep=[40, 10])
    values = base.model_dump()
    values["data"] = {"source": "criteo-like", "periods": PERIODS, "seed": 5} | (data or {})
    return parse(values)


def rows_of(queries):
    """Dense inputs and ids of queries, as bytes, impression by impression."""
    for query in queries:
        ids = np.concatenate([*query.inputs.indices.values()], axis=1)
        yield from (a.tobytes() + b.tobytes() for a, b in zip(query.inputs.dense, ids, strict=True))


def test_criteo_like_queries():
    data = open_dataset(config())
    assert isinstance(data, ClickLog)
    queries = data.candidates(Split.TEST, items=100)
    assert len(queries) == 9
    (drawn,) = clicks(range(3500, 4400), seed=5, tables=capped(CAP))
    np.testing.assert_array_equal(np.concatenate([q.relevant for q in queries]), drawn.labels)
    for i in range(26):
        ids = np.concatenate([q.inputs.indices[f"c{i + 1}"] for q in queries])
        np.testing.assert_array_equal(ids[:, 0], drawn.ranks[:, i])
    dense = np.concatenate([q.inputs.dense for q in queries])
    assert (np.abs(dense).max(axis=0) <= 4).all()
    inner = np.abs(dense[:, 8]) < 4
    assert np.corrcoef(dense[inner, 8], drawn.dense[inner, 8])[0, 1] == pytest.approx(1)
    device = data.query(queries[0])
    assert device.items == 100
    np.testing.assert_allclose(
        device.dense_item * DENSE_SCALE, queries[0].inputs.dense, atol=DENSE_SCALE * 0.51
    )
    assert len(data.candidates(Split.CALIBRATION, items=100, count=3)) == 3


@pytest.mark.parametrize("block", [37, 100, 250])
def test_queries_across_blocks(monkeypatch, block):
    """Where a log's blocks end makes no difference."""
    data = open_dataset(config())
    expected = data.candidates(Split.TEST, items=100)
    whole = data._rows

    def cut(period):
        for rows in whole(period):
            for at in range(0, len(rows[0]), block):
                yield tuple(part[at : at + block] for part in rows)

    monkeypatch.setattr(data, "_rows", cut)
    streamed = list(data.stream(Split.TEST, items=100))
    assert len(streamed) == len(expected) == 9
    assert list(rows_of(streamed)) == list(rows_of(expected))
    for got, wanted in zip(streamed, expected, strict=True):
        np.testing.assert_array_equal(got.relevant, wanted.relevant)


def test_periods_are_disjoint():
    data = open_dataset(config())
    blocks = list(data.training())
    assert sum(len(labels) for _, labels in blocks) == 3000
    training = set()
    for inputs, _ in blocks:
        ids = np.concatenate([*inputs.indices.values()], axis=1)
        training |= {a.tobytes() + b.tobytes() for a, b in zip(inputs.dense, ids, strict=True)}
    splits = [
        set(rows_of(data.candidates(split, items=100))) for split in (Split.CALIBRATION, Split.TEST)
    ]
    for first, second in itertools.combinations([training, *splits], 2):
        assert first
        assert not first & second


def write(path, rows, rng):
    """A log whose column C1 has ids that come later, C2 ids that are missing."""
    lines = []
    for row in range(rows):
        counts = rng.integers(0, 50, 13)
        ids = [f"{i:x}" for i in rng.integers(0, 6, 26)]
        ids[0] = f"{row // 10:x}"
        ids[1] = "" if row % 3 else "ff"
        lines.append("\t".join([str(int(row % 4 == 0)), *map(str, counts), *ids]))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_criteo_file(tmp_path, rng):
    path = write(tmp_path / "train.txt", 200, rng)
    periods = {"training": 100, "calibration": 40, "test": 60}
    data = open_dataset(config({"source": "criteo", "path": path, "periods": periods}, cap=8))
    queries = data.candidates(Split.TEST, items=20)
    assert len(queries) == 3
    (block,) = read(path)
    labels = np.concatenate([q.relevant for q in queries])
    np.testing.assert_array_equal(labels, block.labels[140:200])
    # ids of the test period were never seen in training: all have the last row
    assert all((q.inputs.indices["c1"] == 7).all() for q in queries)
    known = build_vocabulary([block.categories[:100]])
    for column in range(1, 26):
        ids = np.concatenate([q.inputs.indices[f"c{column + 1}"] for q in queries])[:, 0]
        last = min(TABLES[column].rows, 8) - 1
        for rank, raw in zip(ids, block.categories[140:200, column], strict=True):
            at = known.ids[column].tolist().index(raw)
            assert rank == min(at, last)
    assert (block.categories[140:200, 1] == MISSING).any()
    # dense inputs are standardised by the training period
    mean = block.dense[:100].astype(np.float64).mean(axis=0)
    spread = block.dense[:100].astype(np.float64).std(axis=0)
    expected = np.clip((block.dense[140:160] - mean) / spread, -4, 4)
    np.testing.assert_allclose(queries[0].inputs.dense, expected, atol=1e-5)
    short = {"training": 100, "calibration": 40, "test": 61}
    data = open_dataset(config({"source": "criteo", "path": path, "periods": short}, cap=8))
    with pytest.raises(DataError, match="the click log has 200 rows, and the periods need 201"):
        data.candidates(Split.TEST, items=61)


def test_rare_and_hashed_ids(tmp_path, rng):
    """As the vocabulary that the configuration asks for has them."""
    path = write(tmp_path / "train.txt", 200, rng)
    periods = {"training": 100, "calibration": 40, "test": 60}
    (block,) = read(path)
    for options in {"threshold": 18}, {"hash_size": 3}, {"threshold": 18, "hash_size": 4}:
        values = {"source": "criteo", "path": path, "periods": periods, **options}
        (query,) = open_dataset(config(values, cap=8)).candidates(Split.TEST, items=60)
        known = build_vocabulary([block.categories[:100]], **options)
        ranks = known.ranks(block.categories[140:200])
        for column in range(1, 26):
            last = min(TABLES[column].rows, 8) - 1
            unknown = ranks[:, column] == known.rows[column] - 1
            expected = np.where(unknown, last, np.minimum(ranks[:, column], last))
            np.testing.assert_array_equal(query.inputs.indices[f"c{column + 1}"][:, 0], expected)
        plain = build_vocabulary([block.categories[:100]])
        assert len(known.ids[5]) < len(plain.ids[5])


TABLE_LIST = [{"name": f"c{i}", "rows": 3} for i in range(26)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dense": (1, 12)}, "features.dense_query must be 0 for a click log, not 1"),
        ({"dense": (0, 12)}, "features.dense_item must be 13 for a click log, not 12"),
        ({"tables": TABLE_LIST[1:]}, "features.tables must be 26 for a click log, not 25"),
        (
            {"tables": [TABLE_LIST[0] | {"scope": "query"}, *TABLE_LIST[1:]]},
            "scope of 'c0' must be 'item' for a click log, not 'query'",
        ),
        (
            {"tables": [TABLE_LIST[0] | {"lookups": 2}, *TABLE_LIST[1:]]},
            "lookups of 'c0' must be 1 for a click log, not 2",
        ),
        (
            {"tables": [TABLE_LIST[0] | {"rows": 1461}, *TABLE_LIST[1:]]},
            r"rows of 'c0' must be 2..1460, not 1461",
        ),
    ],
)
def test_features_must_fit(change, text):
    with pytest.raises(ConfigError, match=text):
        open_dataset(config(**change))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"periods": None}, 'source = "criteo-like" needs data.periods'),
        ({"path": "x"}, 'source = "criteo-like" takes no data.path'),
        ({"source": "criteo"}, 'source = "criteo" needs data.path'),
        ({"source": "random"}, 'source = "random" takes no data.periods'),
        ({"hash_size": 9}, 'source = "criteo-like" takes no data.hash_size'),
        ({"threshold": 2}, 'source = "criteo-like" takes no data.threshold'),
        ({"periods": PERIODS | {"test": 0}}, "data.periods.test: .* greater than or equal to 1"),
    ],
)
def test_what_a_source_needs(data, text):
    with pytest.raises(ConfigError, match=text):
        config(data)


def test_too_few_rows():
    data = open_dataset(config())
    with pytest.raises(ConfigError, match="data.periods.test = 900 gives no query of 901 items"):
        data.candidates(Split.TEST, items=901)


def test_quality_of_a_click_log(tmp_path, rng):
    """The whole way: quantised on the calibration period, measured on the test period."""
    settings = config({"weights": str(tmp_path)}, items=60)
    for model in settings.models:
        shapes = tensor_shapes(model, settings.features)
        tensors = {n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in shapes.items()}

        def layers(part, widths, tensors=tensors):
            return [
                FloatLayer(tensors[f"{part}.{i}.weight"], tensors[f"{part}.{i}.bias"])
                for i in range(len(widths))
            ]

        tables = {t.name: tensors[f"tables.{t.name}"] for t in settings.features.tables}
        made = FloatModel(
            model.name, tables, layers("bottom", model.bottom), layers("top", model.top)
        )
        made.save(tmp_path / f"{model.name}.safetensors")
    work = Workflow(settings)
    assert work.scored.relevant.shape == (15, 60)
    for real, int8 in zip(work.scored.logits["float"], work.scored.logits["int8"], strict=True):
        assert np.corrcoef(real.ravel(), int8.ravel())[0, 1] > 0.98
    counts = work.hotness[0]
    assert counts["c9"].sum() == 8 * 60
    assert counts["c9"][0] > 0.8 * counts["c9"].sum()
