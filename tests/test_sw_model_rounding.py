import numpy as np
import pytest

from sw_model.calibration import quantise_values
from sw_model.dlrm import FloatLayer
from sw_model.numerics import INT8
from sw_model.numerics import layer as run_layer
from sw_model.quantise import quantise, quantise_layer
from sw_model.rounding import compensated
from tests import test_sw_model_neumf as neumf
from tests.test_sw_model_quantise import (
    DENSE_SCALE,
    FEATURES,
    float_model,
    inputs,
    int8_logits,
    relative_error,
)


def cost(errors: np.ndarray, metric: np.ndarray) -> float:
    return float(np.einsum("ni,ij,nj->", errors, metric, errors))


def test_errors_make_up_for_each_other(rng):
    values = rng.uniform(-100, 100, size=(200, 12))
    x = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(500, 12))
    metric = x.T @ x
    got = compensated(values, metric, -128, 127)
    assert got.dtype == np.int64
    nearest = np.floor(values + 0.5)
    assert cost(got - values, metric) < 0.3 * cost(nearest - values, metric)
    assert np.abs(got - values).max() < 10  # damping keeps them near


def test_without_correlations_to_the_nearest(rng):
    values = rng.uniform(-150, 150, size=(50, 7))
    for metric in (np.diag(rng.uniform(1, 9, 7)), np.zeros((7, 7))):
        expected = np.clip(np.floor(values + 0.5), -128, 127)
        np.testing.assert_array_equal(compensated(values, metric, -128, 127), expected)


def test_what_a_clamp_loses_is_made_up_for():
    metric = np.array([[1.0, 0.999], [0.999, 1.0]])
    assert compensated(np.array([[133.0, 20.0]]), metric, -128, 127).tolist() == [[127, 26]]


def test_layers(rng):
    """Inputs that go together: what a weight loses, the others make up for."""
    layer = FloatLayer(rng.normal(size=(8, 24)).astype("f4"), rng.normal(size=8).astype("f4"))
    scales = np.full(24, 0.05)
    x = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 24)) + 0.2 * rng.normal(size=(600, 24))
    whole = quantise_values(x, scales, *INT8).astype(np.int8)
    read = (whole * scales).astype(np.float32)
    expected = layer(read)
    step = np.abs(expected).max() / 30_000
    nearest, made_up = (
        relative_error(
            run_layer(whole, quantise_layer(layer, scales, step, logit=True, read=given)) * step,
            expected,
        )
        for given in (None, read)
    )
    assert made_up < 0.6 * nearest


MODELS = {"dlrm": FEATURES, **{kind: features for kind, (features, _) in neumf.MODELS.items()}}


@pytest.mark.parametrize("kind", MODELS)
def test_models(rng, kind, tmp_path):
    features = MODELS[kind]
    model = float_model(rng) if kind == "dlrm" else neumf.float_model(rng, kind, tmp_path)
    if kind != "gmf":  # the first layer tells few directions of its inputs apart
        weight = model.top[0].weight
        few = rng.normal(size=(len(weight), 3)) @ rng.normal(size=(3, weight.shape[1])) / 4
        model.top[0].weight[:] = few
    calibration, x = inputs(rng, 2000, features), inputs(rng, 1000, features)
    real = np.clip(model(x), -16, 16)
    nearest, made_up = (
        relative_error(int8_logits(int8, x, features), real)
        for int8 in (
            quantise(model, calibration, dense_scale=DENSE_SCALE, rounding=rounding)
            for rounding in ("nearest", "compensated")
        )
    )
    assert made_up < nearest * (1.1 if kind == "gmf" else 0.9)
