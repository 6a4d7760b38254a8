"""DLRM with dot interaction: configuration, float model, int8 golden model."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.calibration import column_scales, tensor_scale
from sw_model.dlrm import FloatModel, Inputs, tensor_shapes
from sw_model.equalise import equalise
from sw_model.funnel import rank, score_items
from sw_model.numerics import dot
from sw_model.quantisation_error import tensor_errors
from sw_model.quantise import quantise
from sw_model.quantised import QuantisedDot, QuantisedModel
from sw_model.random_models import random_model, random_models, random_query
from tests.test_sw_model_quantise import (
    DENSE_SCALE,
    float_model,
    inputs,
    int8_logits,
    relative_error,
)
from tests.workloads import workload

TABLES = [
    TableConfig(name="user", rows=30, scope="query"),
    TableConfig(name="tags", rows=9, index_bits=8, lookups=3),
    TableConfig(name="item", rows=40),
]
FEATURES = FeaturesConfig(dense_query=1, dense_item=2, tables=TABLES)
DOT = {"name": "dot", "interaction": "dot", "dimensions": 5}
MODELS = {
    "dense": (FEATURES, ModelConfig(**DOT, bottom=[6, 5], top=[8, 7, 1])),
    "tables": (FeaturesConfig(tables=TABLES), ModelConfig(**DOT, top=[6, 1])),
    "pair": (FeaturesConfig(tables=TABLES[1:]), ModelConfig(**DOT, top=[1])),
}
"""Four vectors, three, and one product with nothing beside it."""


def trained(rng, kind) -> FloatModel:
    """Random weights; vectors, so products, of very different sizes, and all of them matter."""
    features, config = MODELS[kind]
    model = float_model(rng, features, config)
    for size, rows in zip((0.1, 1, 10), model.tables.values(), strict=False):
        rows *= size
    x = inputs(rng, 500, features)
    products = dict(model.activations(x))["dot"]
    model.top[0].weight[:, : products.shape[1]] /= np.maximum(products.std(axis=0), 1e-2)
    model.top[-1].weight[:] *= 3 / model(x).std()  # few logits beyond int16
    return model


def test_shapes():
    assert tensor_shapes(*reversed(MODELS["dense"])) == {
        "tables.user": (30, 5), "tables.tags": (9, 5), "tables.item": (40, 5),
        "bottom.0.weight": (6, 3), "bottom.0.bias": (6,),
        "bottom.1.weight": (5, 6), "bottom.1.bias": (5,),
        "top.0.weight": (8, 6 + 5), "top.0.bias": (8,),
        "top.1.weight": (7, 8), "top.1.bias": (7,),
        "top.2.weight": (1, 7), "top.2.bias": (1,),
    }  # fmt: skip
    assert tensor_shapes(*reversed(MODELS["pair"]))["top.0.weight"] == (1, 1)
    for kind, pairs in ("dense", 6), ("tables", 3), ("pair", 1):
        features, config = MODELS[kind]
        assert config.pairs(features) == pairs
        assert config.model_copy(update={"interaction": "concat"}).pairs(features) == 0


@pytest.mark.parametrize("kind", MODELS)
def test_float_model_by_hand(rng, kind, tmp_path):
    features, config = MODELS[kind]
    model = trained(rng, kind)
    model.save(tmp_path / "m.safetensors")
    model = FloatModel.load(tmp_path / "m.safetensors", config, features)
    x = inputs(rng, 20, features)
    logits = model(x)
    for n in range(20):
        vectors = []
        for t in features.tables:
            bag = [i for i in x.indices[t.name][n] if i < t.rows]
            vectors.append(model.tables[t.name][bag].sum(axis=0))
        if model.bottom:
            below = x.dense[n]
            for layer in model.bottom:
                below = np.maximum(layer.weight @ below + layer.bias, 0)
            vectors.append(below)
        hidden = [sum(vectors[i] * vectors[j]) for i in range(len(vectors)) for j in range(i)]
        hidden = np.array([*hidden, *(vectors[-1] if model.bottom else [])])
        for layer in model.top[:-1]:
            hidden = np.maximum(layer.weight @ hidden + layer.bias, 0)
        expected = model.top[-1].weight @ hidden + model.top[-1].bias
        assert logits[n] == pytest.approx(expected[0], rel=1e-4, abs=1e-4)
    concat = config.model_copy(update={"interaction": "concat"})
    with pytest.raises(DataError, match=r"tensor top\.0\.weight must have shape"):
        FloatModel.load(tmp_path / "m.safetensors", concat, features)


@given(
    st.integers(1, 6).flatmap(
        lambda d: st.lists(
            st.lists(st.sampled_from([-128, -127, -1, 0, 1, 127]), min_size=d, max_size=d),
            min_size=2,
            max_size=5,
        )
    ),
    st.data(),
)
def test_dot_is_exact(vectors, data):
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i)]
    numbers = st.tuples(st.integers(0, 65535), st.integers(0, 47))
    drawn = data.draw(st.lists(numbers, min_size=len(pairs), max_size=len(pairs)))
    mantissa, shift = np.array(drawn, np.int32).T
    got = dot(np.array([vectors], np.int8), QuantisedDot(mantissa, shift))
    assert got.dtype == np.int8
    assert got.shape == (1, len(pairs))
    for y, (i, j), (m, s) in zip(got[0].tolist(), pairs, drawn, strict=True):
        acc = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
        assert y == min(max(floor(Fraction(acc * m, 2**s) + Fraction(1, 2)), -128), 127)


def test_widest_accumulator():
    """The largest sum of the widest vectors, and one less: no float rounds it."""
    vectors = np.full((1, 2, 511), -128, np.int8)
    acc = 511 * 2**14
    for change in 0, 1:
        vectors[0, 1, 0] += change
        scaling = QuantisedDot(np.array([1], np.int32), np.array([17], np.int32))
        assert dot(vectors, scaling)[0, 0] == ((acc - 128 * change) + 2**16) >> 17
    odd = np.full((1, 2, 511), 127, np.int8)
    odd[0, 0, 0] = 0
    for shift in range(15, 30):
        scaling = QuantisedDot(np.array([1], np.int32), np.array([shift], np.int32))
        expected = min((510 * 127 * 127 + (1 << shift - 1)) >> shift, 127)
        assert dot(odd, scaling)[0, 0] == expected


def score_by_hand(model: QuantisedModel, features, query, item):
    def clamp(value, mantissa, shift, low, high):
        real = Fraction(int(value) * int(mantissa), 2 ** int(shift))
        return min(max(floor(real + Fraction(1, 2)), low), high)

    def run(layer, x):
        low, high = (-32768, 32767) if layer.logit else (0 if layer.relu else -128, 127)
        return [
            clamp(sum(int(w) * v for w, v in zip(row, x, strict=True)) + int(b), m, s, low, high)
            for row, b, m, s in zip(
                layer.weights, layer.bias, layer.mantissa, layer.shift, strict=True
            )
        ]

    vectors = []
    for table, quantised in zip(features.tables, model.tables, strict=True):
        bag = query.indices[table.name]
        bag = bag[item] if table.scope == "item" else bag
        rows = [quantised.rows[i].tolist() for i in bag if i < table.rows]
        sums = [sum(row[k] for row in rows) for k in range(quantised.rows.shape[1])]
        vectors.append([clamp(total, 1, quantised.shift, -128, 127) for total in sums])
    x = [*query.dense_query.tolist(), *query.dense_item[item].tolist()]
    for layer in model.bottom:
        x = run(layer, x)
    if model.bottom:
        vectors.append(x)
    hidden = []
    for i in range(1, len(vectors)):
        for j in range(i):
            p = i * (i - 1) // 2 + j
            assert p == len(hidden)
            acc = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
            hidden.append(clamp(acc, model.dot.mantissa[p], model.dot.shift[p], -128, 127))
    hidden += x if model.bottom else []
    for layer in model.top:
        hidden = run(layer, hidden)
    return hidden[0]


@pytest.mark.parametrize("kind", MODELS)
def test_golden_score_by_hand(rng, kind, tmp_path):
    features, config = MODELS[kind]
    for _ in range(3):
        model = random_model(config, features, rng)
        query = random_query(features, 25, rng)
        scores = score_items(model, features, query)
        expected = [score_by_hand(model, features, query, i) for i in range(25)]
        assert scores.logits.tolist() == expected
        model.save(tmp_path / "m.npz")
        again = QuantisedModel.load(tmp_path / "m.npz")
        np.testing.assert_array_equal(again.dot.mantissa, model.dot.mantissa)
        np.testing.assert_array_equal(again.dot.shift, model.dot.shift)
        assert score_items(again, features, query).logits.tolist() == expected
    if kind != "pair":
        assert len(set(expected)) > 10


def test_random_products_use_their_range(rng):
    features, config = MODELS["dense"]
    rows = [random_model(config, features, rng).dot for _ in range(40)]
    shifts = np.concatenate([row.shift for row in rows])
    assert shifts.min() < 20 < shifts.max()
    model = random_model(config, features, rng)
    vectors = rng.integers(-128, 128, (500, 4, 5)).astype(np.int8)
    products = dot(vectors, model.dot)
    assert (np.abs(products.astype(int)) == 127).any()
    assert np.unique(products).size > 50


@pytest.mark.parametrize("kind", MODELS)
def test_int8_model_follows_the_float_model(rng, kind):
    features, config = MODELS[kind]
    errors = []
    for _ in range(5):
        model = trained(rng, kind)
        x = inputs(rng, 2000, features)
        quantised = quantise(model, x, dense_scale=DENSE_SCALE)
        assert len(quantised.dot.mantissa) == config.pairs(features)
        x = inputs(rng, 500, features)
        expected = np.clip(model(x), -16, 16)
        errors.append(relative_error(int8_logits(quantised, x, features), expected))
    assert np.median(errors) < 0.08, errors


def test_a_scale_a_pair(rng):
    """Pairs whose products differ tenfold and more each use the int8 range."""
    features, _ = MODELS["tables"]
    x = inputs(rng, 2000, features)
    model = trained(rng, "tables")
    quantised = quantise(model, x, dense_scale=DENSE_SCALE, kind="min-max")
    largest = np.abs(dict(model.activations(x))["dot"]).max(axis=0)
    assert largest.max() > 10 * largest.min()
    pooled = [
        np.where(x.indices[t.name][..., None] < t.rows, table.rows[x.indices[t.name] % t.rows], 0)
        .sum(axis=1)
        for t, table in zip(features.tables, quantised.tables, strict=True)
    ]  # fmt: skip
    assert max(np.abs(p).max() for p in pooled) <= 127 or quantised.tables[1].shift
    pooled[1] = np.floor(pooled[1] / 2.0 ** quantised.tables[1].shift + 0.5)
    whole = dot(np.clip(np.stack(pooled, axis=1), -128, 127).astype(np.int8), quantised.dot)
    assert (np.abs(whole.astype(int)).max(axis=0) >= 120).all()


def test_a_product_that_is_hardly_seen(rng):
    """Vectors at right angles in calibration: the scale stays that of the accumulator."""
    features, config = MODELS["pair"]
    model = float_model(rng, features, config)
    for name, half in ("tags", 0), ("item", 1):
        model.tables[name][:, half::2] = 0
    model.tables["item"][:, 1] = 1e-9
    x = inputs(rng, 500, features)
    quantised = quantise(model, x, dense_scale=DENSE_SCALE)
    assert 0 < quantised.dot.mantissa[0] / 2.0 ** quantised.dot.shift[0] <= 1
    silent = Inputs(x.dense, {t.name: np.full_like(x.indices[t.name], t.rows) for t in TABLES[1:]})
    quantised = quantise(model, silent, dense_scale=DENSE_SCALE)  # all products are zero
    np.testing.assert_allclose(int8_logits(quantised, silent, features), model(silent), atol=0.03)


@pytest.mark.parametrize("kind", ["mse", "min-max", "percentile"])
def test_column_scales(rng, kind):
    values = rng.normal(size=(5000, 3)) * [0.01, 1, 100]
    assert column_scales(values, kind).tolist() == [tensor_scale(v, kind) for v in values.T]
    many = rng.normal(size=(60_000, 1))
    np.testing.assert_allclose(column_scales(many, kind), tensor_scale(many, kind), rtol=0.1)


@pytest.mark.parametrize("kind", MODELS)
def test_equalised_model_is_the_same(rng, kind):
    features, _ = MODELS[kind]
    model = trained(rng, kind)
    x = inputs(rng, 300, features)
    equal = equalise(model, x)
    assert equal.dot
    np.testing.assert_allclose(equal(x), model(x), rtol=1e-3, atol=1e-3)
    for name, rows in equal.tables.items():
        np.testing.assert_array_equal(rows, model.tables[name])
    if len(model.bottom) > 1:
        assert not np.allclose(equal.bottom[0].bias, model.bottom[0].bias)


def test_errors_of_tensors(rng):
    features, _ = MODELS["dense"]
    model = trained(rng, "dense")
    x = inputs(rng, 1000, features)
    equal = equalise(model, x)
    quantised = quantise(model, x, dense_scale=DENSE_SCALE)
    errors = tensor_errors(equal, quantised, x)
    assert list(errors) == [
        "dense", "bottom.0", "bottom.1", "table.user", "table.tags", "table.item", "dot",
        "top.0", "top.1", "top.2",
    ]  # fmt: skip
    assert 0 < errors["dot"].added <= errors["dot"].total < 0.05
    # the logit's layer reads int8 products: what it adds is small, where their scales are right
    assert errors["top.0"].added < 0.05
    half = replace(quantised, dot=replace(quantised.dot, mantissa=quantised.dot.mantissa // 2 + 1))
    again = tensor_errors(equal, half, x)
    assert again["dot"].total < 2 * errors["dot"].total + 0.02  # its steps are twice as large
    assert again["top.2"].total > 2 * errors["top.2"].total + 0.02


def dot_workload(**change):
    front = {"name": "front", "dimensions": 3, "bottom": [5], "top": [6, 1]}
    back = {
        "name": "back", "interaction": "dot", "dimensions": 5, "bottom": [4, 5], "top": [9, 1],
    }  # fmt: skip
    return workload(models=[front, back | change])


def test_funnel_with_a_dot_interaction(rng):
    config = dot_workload()
    models = random_models(config, rng)
    query = random_query(config.features, 40, rng)
    got = rank(models, config.features, query, keep=[20, 8], sub_batch=40)
    first = score_items(models[0], config.features, query).logits
    kept = np.lexsort((np.arange(40), -first.astype(int)))[:20]
    back = {int(i): score_by_hand(models[1], config.features, query, int(i)) for i in kept}
    expected = sorted(back.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
    assert list(zip(got.positions.tolist(), got.scores.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "change, text",
    [
        ({"interaction": "cat"}, r"models\.1\.interaction: .*'concat' or 'dot'.*'cat'"),
        ({"dimensions": 6}, r"model 'back': interaction = \"dot\" needs tables of one dimension"),
        ({"dimensions": {"user": 5, "item": 5, "tags": 4}}, r"of one dimension.* 'tags': 4"),
        (
            {"bottom": [5, 4]},
            r"last width of bottom; dimensions = 5 and bottom = \[5, 4\]",
        ),
        ({"dimensions": 0}, "of one dimension, at least 1"),
        (
            {"kind": "neumf", "factors": 3, "product": ["user", "item"]},
            r"model 'back': interaction = \"dot\" needs kind = \"dlrm\"",
        ),
    ],
)
def test_bad_configuration(change, text):
    assert dot_workload(dimensions={"user": 5, "item": 5, "tags": 5}).models[1].pairs
    with pytest.raises(ConfigError, match=text):
        dot_workload(**change)


def test_a_single_vector_has_no_pair():
    tables = [{"name": "item", "rows": 40}]
    model = DOT | {"top": [4, 1]}
    with pytest.raises(ConfigError, match=r"model 'dot': layer top\.0 has no inputs"):
        workload(models=[model], tables=tables, dense=(0, 0), keep=[8])
