import numpy as np
import pytest

from rpaccel.abi import LOGIT_FRACTION_BITS
from rpaccel.errors import ConfigError
from rpaccel.models import FeaturesConfig, ModelConfig, TableConfig
from sw_model.calibration import quantise_values
from sw_model.dlrm import FloatLayer, FloatModel, Inputs, tensor_shapes
from sw_model.equalise import equalise
from sw_model.gather import pool
from sw_model.group import score
from sw_model.numerics import layer as run_layer
from sw_model.quantise import RELU_ZERO, quantise, quantise_layer
from sw_model.quantised import QuantisedModel

FEATURES = FeaturesConfig(
    dense_query=3,
    dense_item=5,
    tables=[
        TableConfig(name="user", rows=30, scope="query"),
        TableConfig(name="genres", rows=12, index_bits=8, lookups=5),
    ],
)
MODEL = ModelConfig(name="m", dimensions={"user": 6, "genres": 4}, bottom=[10, 7], top=[16, 9, 1])
DENSE_SCALE = 1 / 32


def float_model(rng, features=FEATURES, config=MODEL) -> FloatModel:
    """A random model whose tensors all have scales of their own."""
    tensors = {
        name: (rng.normal(size=shape) * rng.uniform(0.3, 3) / np.sqrt(shape[-1])).astype("f4")
        for name, shape in tensor_shapes(config, features).items()
    }
    return FloatModel.of_tensors(tensors, config, features, origin="random")


def inputs(rng, count: int, features=FEATURES) -> Inputs:
    """Random inputs; dense ones are exact in int8, bags have empty slots."""
    indices = {}
    for table in features.tables:
        bags = rng.integers(table.rows, size=(count, table.lookups))
        empty = rng.random(bags.shape) < (0.4 if table.lookups > 1 else 0)
        indices[table.name] = np.where(empty, table.empty_index, bags)
    dense = rng.integers(-100, 101, size=(count, features.dense)) * DENSE_SCALE
    return Inputs(dense.astype(np.float32), indices)


def int8_logits(model: QuantisedModel, x: Inputs, features=FEATURES) -> np.ndarray:
    dense = quantise_values(x.dense, DENSE_SCALE, -128, 127).astype(np.int8)
    pooled = [
        pool(table, x.indices[t.name], empty_index=t.empty_index)
        for table, t in zip(model.tables, features.tables, strict=True)
    ]
    return score(model, dense, pooled).logits / 2.0**LOGIT_FRACTION_BITS


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.std(got - expected) / np.std(expected))


def test_int8_model_follows_the_float_model(rng):
    errors = []
    for _ in range(7):
        model = float_model(rng)
        quantised = quantise(model, inputs(rng, 2000), dense_scale=DENSE_SCALE)
        x = inputs(rng, 500)
        expected = np.clip(model(x), -16, 16)
        errors.append(relative_error(int8_logits(quantised, x), expected))
        assert quantised.name == "m"
        assert [t.name for t in quantised.tables] == ["user", "genres"]
        # the lowest int8 stands for zero, so the clamp is the ReLU
        assert not any(layer.relu for layer in [*quantised.bottom, *quantised.top])
        assert [layer.logit for layer in quantised.top] == [False, False, True]
    # A model whose logits hardly vary has a large relative error; most have not.
    assert np.median(errors) < 0.06, errors
    assert max(errors) < 0.25, errors


def test_without_dense_inputs(rng):
    features = FeaturesConfig(tables=FEATURES.tables)
    config = ModelConfig(name="m", dimensions=5, top=[8, 1])
    model = float_model(rng, features, config)
    quantised = quantise(model, inputs(rng, 1000, features), dense_scale=DENSE_SCALE)
    x = inputs(rng, 300, features)
    assert quantised.bottom == []
    assert relative_error(int8_logits(quantised, x, features), model(x)) < 0.1


def test_shapes_and_types(rng):
    quantised = quantise(float_model(rng), inputs(rng, 200), dense_scale=DENSE_SCALE)
    for layer in [*quantised.bottom, *quantised.top]:
        assert layer.weights.dtype == np.int8
        assert layer.weights.min() >= -127
        assert (layer.bias.dtype, layer.mantissa.dtype) == (np.int32, np.int32)
        assert (layer.mantissa >= 2**15).all()  # normalised
        assert layer.shift.dtype == np.int32
        assert np.abs(layer.weights).max(axis=1).tolist() == [127] * len(layer.weights)
    assert all(t.rows.dtype == np.int8 for t in quantised.tables)
    assert set(quantised.scales) == {
        "dense", "bottom.0", "bottom.1", "table.user", "table.genres", "top.0", "top.1", "top.2",
    }  # fmt: skip
    assert quantised.scales["dense"] == DENSE_SCALE
    assert quantised.scales["top.2"] == 2.0**-LOGIT_FRACTION_BITS


def test_layer_folds_the_scale_of_each_input(rng):
    layer = FloatLayer(
        rng.normal(size=(6, 40)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    )
    scales = np.repeat([0.02, 0.3], 20)
    x = rng.integers(-128, 128, size=(50, 40)).astype(np.int8)
    x[:, 20:] //= 16
    real = layer((x * scales).astype(np.float32))
    step = np.abs(real).max() / 120
    quantised = quantise_layer(layer, scales, step)
    got = run_layer(x, quantised) * step
    assert relative_error(got, np.maximum(real, 0)) < 0.1


def test_all_256_values_behind_a_relu(rng):
    """Zeros of inputs and outputs go into the bias: the same layer, with steps half as large."""
    scales, zeros = np.repeat([0.02, 0.3], 30), np.repeat([0, RELU_ZERO], 30)
    whole = rng.integers(-127, 128, size=(20, 60))
    whole[:, 0] = 127
    weight = (whole / 1000 / scales).astype(np.float32)  # exact in int8
    bias = rng.normal(size=20).astype(np.float32)
    weight[3] = 1e-9  # all bias
    weight[4], bias[4] = 0, 0  # always zero
    weight[5], bias[5] = 0, -1
    layer = FloatLayer(weight, bias)
    x = rng.integers(-128, 128, size=(300, 60)).astype(np.int8)
    real = np.maximum(layer(((x - zeros) * scales).astype(np.float32)), 0)
    errors = []
    for zero, steps in ((RELU_ZERO, 250), (0, 125)):
        step = real.max() / steps
        int8 = quantise_layer(layer, scales, step, input_zeros=zeros, output_zero=zero)
        assert int8.relu == (zero == 0)
        got = run_layer(x, int8).astype(np.int64) - zero
        assert (got.min(), got.max()) == (0, steps)
        assert (got[:, 4:6] == 0).all()
        assert np.abs(got * step - real).max() < 0.51 * step
        errors.append(relative_error(got * step, real))
    assert errors[0] == pytest.approx(errors[1] / 2, rel=0.3), errors


def test_channels_without_weights(rng):
    weight = rng.normal(size=(4, 8)).astype(np.float32)
    weight[1:] = 0
    weight[3] = 1e-12
    bias = np.array([0.1, 0.5, 0.0, -3.0], dtype=np.float32)
    layer = quantise_layer(FloatLayer(weight, bias), np.full(8, 0.01), 0.01)
    x = rng.integers(-128, 128, size=(9, 8)).astype(np.int8)
    got = run_layer(x, layer)
    assert (got[:, 1] == 50).all()
    assert (got[:, 2] == 0).all()
    assert (got[:, 3] == 0).all()  # ReLU


def test_pooling_shift_keeps_full_bags(rng):
    rows = np.full((12, 4), 0.5, dtype=np.float32) + rng.uniform(-0.1, 0.1, (12, 4)).astype("f4")
    base = float_model(rng)
    model = FloatModel("m", {**base.tables, "genres": rows}, base.bottom, base.top)
    x = inputs(rng, 400)
    x.indices["genres"][:] = rng.integers(12, size=(400, 5))
    quantised = quantise(model, x, dense_scale=DENSE_SCALE)
    table = quantised.tables[1]
    assert table.shift == 3  # five rows near 127 need three bits more
    pooled = pool(table, x.indices["genres"], empty_index=255) * quantised.scales["table.genres"]
    expected = equalise(model, x).pool("genres", x.indices["genres"])
    assert np.abs(pooled - expected).max() < 0.03
    assert quantised.tables[0].shift == 0


def test_bad_arguments(rng):
    model = float_model(rng)
    with pytest.raises(ConfigError, match="model 'm': there are no inputs to calibrate on"):
        quantise(model, inputs(rng, 0), dense_scale=DENSE_SCALE)
    wide = FloatLayer(np.ones((1, 140_000), np.float32), np.ones(1, np.float32))
    with pytest.raises(ConfigError, match="140000 inputs could overflow the accumulator"):
        quantise_layer(wide, np.ones(140_000), 1.0)
    top = [FloatLayer(model.top[0].weight * 1e12, model.top[0].bias), *model.top[1:]]
    huge = FloatModel("m", model.tables, model.bottom, [top[0], top[1], model.top[2]])
    with pytest.raises(ConfigError, match=r"model 'm', layer top.2: .*multiplier"):
        quantise(huge, inputs(rng, 50), dense_scale=DENSE_SCALE)
