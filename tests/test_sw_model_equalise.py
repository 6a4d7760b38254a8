from itertools import pairwise

import numpy as np
import pytest

from sw_model.dlrm import FloatLayer, FloatModel, Inputs
from sw_model.equalise import equalise


def uneven(rng, *shape: int) -> np.ndarray:
    """Random values whose first axis has very different ranges."""
    ranges = 10 ** rng.uniform(-2, 0.5, size=(shape[0], *[1] * (len(shape) - 1)))
    return (rng.normal(size=shape) * ranges).astype(np.float32)


@pytest.fixture
def model(rng) -> FloatModel:
    def mlp(*widths):
        return [FloatLayer(uneven(rng, n, k), uneven(rng, n)) for k, n in pairwise(widths)]

    tables = {"a": uneven(rng, 5, 20).T.copy(), "b": uneven(rng, 3, 8).T.copy()}
    return FloatModel("m", tables, mlp(6, 9, 7), mlp(15, 12, 8, 1))


@pytest.fixture
def inputs(rng) -> Inputs:
    indices = {"a": rng.integers(20, size=(400, 1)), "b": rng.integers(9, size=(400, 3))}
    return Inputs(rng.normal(size=(400, 6)).astype(np.float32), indices)


def test_logits_stay(model, inputs):
    got = equalise(model, inputs)
    expected = model(inputs)
    np.testing.assert_allclose(got(inputs), expected, atol=1e-4 * np.abs(expected).max())
    bare = FloatModel("m", model.tables, [], [FloatLayer(np.ones((1, 8), "f4"), np.ones(1, "f4"))])
    np.testing.assert_allclose(equalise(bare, inputs)(inputs), bare(inputs), rtol=1e-3, atol=1e-4)


def test_ranges_get_closer(model, inputs):
    before, after = (dict(m.activations(inputs)) for m in (model, equalise(model, inputs)))
    for name in before:
        if name in ("dense", "top.2"):
            continue
        old, new = (np.abs(values[name]).max(axis=0) for values in (before, after))
        old, new = old[old > 0], new[old > 0]
        # Half as far apart as before, on a logarithmic scale; the largest stays.
        np.testing.assert_allclose(new.max(), old.max(), rtol=1e-4)
        far = old > 1e-3 * old.max()
        np.testing.assert_allclose(new[far], np.sqrt(old * old.max())[far], rtol=1e-3)


def test_all_the_way(model, inputs):
    got = equalise(model, inputs, exponent=1.0)
    expected = model(inputs)
    np.testing.assert_allclose(got(inputs), expected, atol=1e-4 * np.abs(expected).max())
    ranges = np.abs(dict(got.activations(inputs))["table.a"]).max(axis=0)
    np.testing.assert_allclose(ranges, ranges.max(), rtol=1e-4)


def test_dead_elements_stay(model, inputs):
    model.bottom[1].bias[2] = -1e6  # this output is always zero
    got = equalise(model, inputs)
    raised = got.top[0].bias / model.top[0].bias
    np.testing.assert_allclose(
        got.top[0].weight[:, 8 + 2], model.top[0].weight[:, 8 + 2] * raised, rtol=1e-4
    )
