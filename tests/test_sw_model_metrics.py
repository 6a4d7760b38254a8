import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from sw_model.metrics import constant_ndcg, ndcg, recall


@pytest.mark.parametrize("k", [1, 5, 64])
def test_ndcg_matches_scikit_learn(rng, k):
    items = 100
    scores = rng.permuted(np.tile(np.arange(items), (50, 1)), axis=1)  # no equal scores
    relevant = rng.random((50, items)) < rng.uniform(0.01, 0.9, size=(50, 1))
    relevant[:, 0] = True
    served = np.take_along_axis(relevant, np.argsort(-scores, axis=1)[:, :k], axis=1)
    expected = [ndcg_score([r], [s], k=k) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(ndcg(served, relevant.sum(axis=1)), expected, rtol=1e-12)


def test_by_hand():
    served = np.array([False, True, True])
    gain = 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(served, 2) == pytest.approx(gain / (1 + 1 / np.log2(3)))
    assert ndcg(served, 9) == pytest.approx(gain / (1 + 1 / np.log2(3) + 1 / 2))
    assert constant_ndcg(served) == pytest.approx(gain / (1 + 1 / np.log2(3) + 1 / 2))
    assert recall(served, 9) == pytest.approx(2 / 9)


def test_constant_ideal_is_that_of_recpipe():
    served = np.zeros((3, 64), dtype=bool)
    served[1, 0] = served[2] = True
    np.testing.assert_allclose(constant_ndcg(served), [0, 1 / 15.2847, 1], rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="without relevant items has no quality"):
        ndcg(np.zeros((2, 3)), np.array([1, 0]))
    with pytest.raises(ValueError, match=r"relevant must have shape \(2,\), not \(3,\)"):
        recall(np.zeros((2, 3)), np.ones(3))
