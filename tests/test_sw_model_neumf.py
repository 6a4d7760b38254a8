"""NeuMF and GMF: configuration, float model, int8 golden model, and what refuses them."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from safetensors.numpy import save_file

from rpaccel.compiler import compile_image
from rpaccel.errors import ConfigError, DataError
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.dlrm import FloatLayer, FloatModel, Inputs, tensor_shapes
from sw_model.equalise import equalise
from sw_model.funnel import rank, score_items
from sw_model.numerics import multiply
from sw_model.quantise import quantise
from sw_model.quantised import QuantisedModel, QuantisedProduct
from sw_model.random_models import random_model, random_models, random_query
from tests.test_sw_model_quantise import DENSE_SCALE, inputs, int8_logits, relative_error
from tests.workloads import workload

FEATURES = FeaturesConfig(
    dense_item=2,
    tables=[
        TableConfig(name="user", rows=30, scope="query"),
        TableConfig(name="tags", rows=9, index_bits=8, lookups=3),
        TableConfig(name="item", rows=40),
    ],
)
PAIR = FeaturesConfig(
    tables=[TableConfig(name="user", rows=30, scope="query"), TableConfig(name="item", rows=40)]
)
NEUMF = {
    "name": "neumf", "kind": "neumf", "factors": 5, "product": ["item", "user"],
    "dimensions": {"user": 4, "tags": 3, "item": 0}, "bottom": [6], "top": [8, 7, 1],
}  # fmt: skip
GMF = {
    "name": "gmf", "kind": "neumf", "factors": 6, "product": ["user", "item"],
    "dimensions": 0, "top": [1],
}  # fmt: skip
MODELS = {"neumf": (FEATURES, ModelConfig(**NEUMF)), "gmf": (PAIR, ModelConfig(**GMF))}


def bag_sum(rows, bag):
    total = np.zeros(rows.shape[1])
    for index in bag:
        if index < len(rows):
            total = total + rows[index]
    return total


def float_model(rng, kind, tmp_path) -> FloatModel:
    """Random weights with scales of their own, through a file."""
    features, config = MODELS[kind]
    tensors = {
        name: (rng.normal(size=shape) * rng.uniform(0.5, 2)).astype(np.float32)
        for name, shape in tensor_shapes(config, features).items()
    }
    # uneven elements: what equalisation and scales of their own are for
    for name in config.product:
        tensors[f"factors.{name}"] *= np.geomspace(0.01, 1, config.factors, dtype=np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    return FloatModel.load(tmp_path / "m.safetensors", config, features)


def test_tensor_shapes():
    assert tensor_shapes(*reversed(MODELS["neumf"])) == {
        "tables.user": (30, 4), "tables.tags": (9, 3), "tables.item": (40, 0),
        "factors.item": (40, 5), "factors.user": (30, 5),
        "bottom.0.weight": (6, 2), "bottom.0.bias": (6,),
        "top.0.weight": (8, 13), "top.0.bias": (8,),
        "top.1.weight": (7, 8), "top.1.bias": (7,),
        "top.2.weight": (1, 12), "top.2.bias": (1,),
    }  # fmt: skip
    assert tensor_shapes(*reversed(MODELS["gmf"]))["top.0.weight"] == (1, 6)


@pytest.mark.parametrize("kind", MODELS)
def test_float_model_by_hand(rng, kind, tmp_path):
    features, config = MODELS[kind]
    model = float_model(rng, kind, tmp_path)
    x = inputs(rng, 20, features)
    logits = model(x)
    for n in range(20):
        bags = {name: x.indices[name][n] for name in x.indices}
        product = bag_sum(model.factors["user"], bags["user"]) * bag_sum(
            model.factors["item"], bags["item"]
        )
        hidden = np.concatenate(
            [bag_sum(model.tables[t.name], bags[t.name]) for t in features.tables]
        )
        if model.bottom:
            below = model.bottom[0].weight @ x.dense[n] + model.bottom[0].bias
            hidden = np.concatenate([hidden, np.maximum(below, 0)])
        for layer in model.top[:-1]:
            hidden = np.maximum(layer.weight @ hidden + layer.bias, 0)
        last = model.top[-1]
        expected = last.weight @ np.concatenate([product, hidden]) + last.bias
        assert logits[n] == pytest.approx(expected[0], rel=1e-4, abs=1e-4)
    model.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "m.safetensors"
    ).read_bytes()
    wrong = config.model_copy(update={"factors": 4})
    with pytest.raises(DataError, match=r"tensor factors\.\w+ must have shape \(\d+, 4\)"):
        FloatModel.load(tmp_path / "m.safetensors", wrong, features)


@pytest.mark.parametrize("kind", MODELS)
def test_equalised_model_is_the_same(rng, kind, tmp_path):
    features, _ = MODELS[kind]
    model = float_model(rng, kind, tmp_path)
    x = inputs(rng, 300, features)
    equal = equalise(model, x)
    np.testing.assert_allclose(equal(x), model(x), rtol=1e-3, atol=1e-3)

    def unevenness(m: FloatModel) -> float:
        ranges = np.abs(dict(m.activations(x))["product"]).max(axis=0)
        return float(ranges.max() / ranges.min())

    assert unevenness(equal) < unevenness(model) / 10


def test_product_is_exact(rng):
    """Every pair of int8 values, by fractions."""
    both = np.arange(-128, 128)
    x, y = (v.reshape(-1, 1).astype(np.int8) for v in np.meshgrid(both, both))
    for mantissa, shift in (1, 0), (40000, 22), (65535, 47), (33000, 21), (1, 7), (0, 3):
        product = QuantisedProduct(
            ("a", "b"), np.array([mantissa], np.int32), np.array([shift], np.int32)
        )
        got = multiply(x, y, product)
        assert got.dtype == np.int8
        some = rng.integers(len(x), size=3000)
        for n in some.tolist():
            value = Fraction(int(x[n, 0]) * int(y[n, 0]) * mantissa, 2**shift)
            assert got[n, 0] == min(max(floor(value + Fraction(1, 2)), -128), 127)


@pytest.mark.parametrize("kind", MODELS)
def test_int8_model_follows_the_float_model(rng, kind, tmp_path):
    features, _ = MODELS[kind]
    errors = []
    for _ in range(5):
        model = float_model(rng, kind, tmp_path)
        quantised = quantise(model, inputs(rng, 2000, features), dense_scale=DENSE_SCALE)
        x = inputs(rng, 500, features)
        expected = np.clip(model(x), -16, 16)
        errors.append(relative_error(int8_logits(quantised, x, features), expected))
        assert "product" in quantised.scales
    assert np.median(errors) < 0.06, errors


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

    width = len(model.product.mantissa)
    parts, joined = {}, []
    for table, quantised in zip(features.tables, model.tables, strict=True):
        bag = query.indices[table.name]
        total = bag_sum(quantised.rows.astype(int), bag[item] if table.scope == "item" else bag)
        pooled = [clamp(t, 1, quantised.shift, -128, 127) for t in total]
        at = width if table.name in model.product.tables else 0
        parts[table.name] = pooled[:at]
        joined += pooled[at:]
    if model.bottom:
        x = [*query.dense_query.tolist(), *query.dense_item[item].tolist()]
        for layer in model.bottom:
            x = run(layer, x)
        joined += x
    for layer in model.top[:-1]:
        joined = run(layer, joined)
    first, second = (parts[name] for name in model.product.tables)
    product = [
        clamp(a * b, m, s, -128, 127)
        for a, b, m, s in zip(
            first, second, model.product.mantissa, model.product.shift, strict=True
        )
    ]
    return run(model.top[-1], [*product, *joined])[0]


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
        assert again.product.tables == model.product.tables
        assert score_items(again, features, query).logits.tolist() == expected
    assert len(set(expected)) > 10


def neumf_workload():
    neumf = {
        "name": "back", "kind": "neumf", "factors": 4, "product": ["user", "item"],
        "dimensions": {"user": 5, "item": 5, "tags": 2}, "bottom": [4], "top": [9, 1],
    }  # fmt: skip
    front = {"name": "front", "dimensions": 3, "bottom": [5], "top": [6, 1]}
    return workload(models=[front, neumf])


def test_funnel_with_a_neumf(rng):
    config = neumf_workload()
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
        ({"tables": ("item", "user")}, r"back\.product: tables must be \['user', 'item'\]"),
        ({"shift": np.full(4, 48, np.int32)}, r"back\.product: shift is outside 0\.\.47"),
        ({"mantissa": np.zeros(3, np.int32)}, r"back\.product: mantissa must be \(4,\)"),
        (None, r"back\.product: tables must be \['user', 'item'\], not \[\]"),
    ],
)
def test_compiler_refuses(rng, change, text):
    """A product that is not the configuration's, or that the machine cannot scale."""
    config = neumf_workload()
    front, back = random_models(config, rng)
    product = None if change is None else replace(back.product, **change)
    with pytest.raises(ConfigError, match=text):
        compile_image(config, [front, replace(back, product=product)])


@pytest.mark.parametrize(
    "change, text",
    [
        ({"kind": "dlrm"}, r"factors = 4 and product = .* need kind = \"neumf\""),
        ({"factors": 0}, "needs factors of at least 1, not 0"),
        ({"product": ["user"]}, r"product must name two different tables, not \['user'\]"),
        ({"product": ["user", "user"]}, "two different tables"),
        ({"product": ["user", "film"]}, "product names 'film'"),
        ({"dimensions": {"user": 5, "item": 5, "tags": 0}}, "table 'tags' must have 1..512 elem"),
        ({"factors": 510}, "table 'item' must have 1..512 elements, not 515"),
        ({"kind": "gmf"}, "'dlrm' or 'neumf'"),
    ],
)
def test_bad_configuration(change, text):
    model = {
        "name": "m", "kind": "neumf", "factors": 4, "product": ["user", "item"],
        "dimensions": {"user": 5, "item": 5, "tags": 2}, "bottom": [4], "top": [9, 1],
    }  # fmt: skip
    assert workload(models=[model], keep=[8]).models[0].factors == 4
    with pytest.raises(ConfigError, match=text):
        workload(models=[model | change], keep=[8])


def test_hidden_layers_without_inputs():
    gmf = GMF | {"top": [4, 1]}
    tables = [{"name": "user", "rows": 30, "scope": "query"}, {"name": "item", "rows": 40}]
    with pytest.raises(ConfigError, match=r"model 'gmf': layer top\.0 has no inputs"):
        workload(models=[gmf], tables=tables, dense=(0, 0), keep=[8])


def test_bags_in_a_product(rng):
    """A bag's shift holds for both parts of a row."""
    features = FeaturesConfig(
        tables=[TableConfig(name="user", rows=30, lookups=5), TableConfig(name="item", rows=40)]
    )
    config = ModelConfig(**GMF | {"dimensions": 2, "top": [6, 1]})
    model = FloatModel(
        "gmf",
        {t.name: rng.normal(size=(t.rows, 2)).astype(np.float32) for t in features.tables},
        [],
        [],
        {t.name: rng.normal(size=(t.rows, 6)).astype(np.float32) for t in features.tables},
    )
    for out, inside in config.layers(features).values():
        model.top.append(random_layer(rng, out, inside))
    x = Inputs(
        np.zeros((800, 0), np.float32),
        {t.name: rng.integers(t.rows, size=(800, t.lookups)) for t in features.tables},
    )
    quantised = quantise(model, x, dense_scale=DENSE_SCALE)
    assert quantised.tables[0].shift > 0
    assert relative_error(int8_logits(quantised, x, features), np.clip(model(x), -16, 16)) < 0.1


def random_layer(rng, out, inputs_):
    weight = rng.normal(size=(out, inputs_)) / np.sqrt(inputs_)
    return FloatLayer(weight.astype(np.float32), rng.normal(size=out).astype(np.float32))
