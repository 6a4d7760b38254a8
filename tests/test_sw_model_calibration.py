import numpy as np
import pytest

from sw_model.calibration import quantise_values, tensor_scale
from sw_model.equalise import equalise
from sw_model.quantisation_error import tensor_errors
from sw_model.quantise import RELU_ZERO, quantise
from tests import test_sw_model_neumf as neumf
from tests.test_sw_model_quantise import DENSE_SCALE, float_model, inputs, int8_logits

KINDS = ["mse", "min-max", "percentile"]


def test_scales(rng):
    values = rng.normal(size=100_000)
    largest = np.abs(values).max() / 127
    assert tensor_scale(values, "min-max") == pytest.approx(largest)
    share = (np.abs(values) > 127 * tensor_scale(values, "percentile")).mean()
    assert share == pytest.approx(1e-3, rel=0.02)
    assert tensor_scale(values, "mse") < largest  # clipping rare outliers pays

    def error(kind: str) -> float:
        scale = tensor_scale(values, kind)
        return float(np.square(quantise_values(values, scale, -128, 127) * scale - values).sum())

    assert error("mse") < min(error("min-max"), error("percentile"))
    assert tensor_scale(values) == tensor_scale(values, "mse")


@pytest.mark.parametrize("kind", KINDS)
def test_special_tensors(rng, kind):
    assert tensor_scale(np.zeros(5), kind) == 1.0
    assert tensor_scale(np.zeros((0, 4)), kind) == 1.0
    assert tensor_scale(np.linspace(-1, 1, 1001), kind) == pytest.approx(1 / 127, rel=0.02)
    # zeros behind a ReLU do not count
    some = np.abs(rng.normal(size=1000))
    sparse = np.concatenate([some, np.zeros(99_000)])
    assert tensor_scale(sparse, kind) == pytest.approx(tensor_scale(some, kind), rel=0.05)


def test_quantise_values():
    got = quantise_values(np.array([0.5, -0.5, 1.49, 99, -999]), 1.0, -128, 127)
    assert got.tolist() == [1, 0, 1, 99, -128]


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of .*, not 'entropy'"):
        tensor_scale(np.ones(3), "entropy")


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_a_model(rng, kind):
    model, calibration = float_model(rng), inputs(rng, 1500)
    quantised = quantise(model, calibration, dense_scale=DENSE_SCALE, kind=kind)
    x = inputs(rng, 400)
    real = equalise(model, calibration)
    errors = tensor_errors(real, quantised, x)
    assert set(errors) == {name for name, _ in real.activations(x)}
    assert errors["dense"] == (0, 0, 0)  # exact in int8
    logits = np.asarray(real(x), dtype=np.float64)
    got = int8_logits(quantised, x)
    expected = np.sqrt(np.square(got - logits).mean() / np.square(logits).mean())
    assert errors["top.2"].total == pytest.approx(expected, rel=1e-6)
    # the first layer reads exact inputs: what it adds is all there is
    assert errors["bottom.0"].added == pytest.approx(errors["bottom.0"].total, rel=1e-6)
    assert errors["top.2"].added < errors["top.2"].total
    assert 0 < errors["top.0"].added < 0.2


def test_errors_name_the_bad_tensor(rng):
    model, calibration = float_model(rng), inputs(rng, 1500)
    quantised = quantise(model, calibration, dense_scale=DENSE_SCALE)
    real = equalise(model, calibration)
    before = tensor_errors(real, quantised, calibration)
    layer = quantised.top[1]
    zeros = RELU_ZERO * layer.weights.sum(axis=1, dtype=np.int32)
    layer.weights[:] = np.round(layer.weights / 32.0) * 32  # 3 bits
    layer.bias[:] += zeros - RELU_ZERO * layer.weights.sum(axis=1, dtype=np.int32)
    after = tensor_errors(real, quantised, calibration)
    changed = [name for name in before if after[name].added > 2 * before[name].added]
    assert changed == ["top.1"]
    assert after["top.2"].total > 2 * before["top.2"].total


@pytest.mark.parametrize("kind", neumf.MODELS)
def test_errors_of_a_product(rng, kind, tmp_path):
    features, _ = neumf.MODELS[kind]
    model = neumf.float_model(rng, kind, tmp_path)
    calibration = inputs(rng, 1500, features)
    quantised = quantise(model, calibration, dense_scale=DENSE_SCALE)
    real = equalise(model, calibration)
    errors = tensor_errors(real, quantised, calibration)
    names = {name for name, values in real.activations(calibration) if values.shape[1]}
    assert set(errors) == {name for name in names if not name.startswith("factors.")}
    assert 0 < errors["product"].total < 0.1
    last = f"top.{len(model.top) - 1}"
    assert errors[last].added < errors[last].total


def test_clamped_share(rng):
    model = float_model(rng)
    quantised = quantise(model, inputs(rng, 800), dense_scale=DENSE_SCALE, kind="min-max")
    x = inputs(rng, 800)
    base = tensor_errors(model, quantised, x)["top.2"].clamped
    quantised.top[2].mantissa[:] = 65535
    quantised.top[2].shift[:] = 8
    assert tensor_errors(model, quantised, x)["top.2"].clamped > max(base, 0.5)
