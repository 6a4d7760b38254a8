"""Metrics by hand, against scikit-learn, and against ranx."""

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import ndcg_score

from sw_model.metrics import auc, constant_ndcg, hit_rate, log_loss, ndcg, recall, served


def labelled(rng, queries=40, items=60):
    """Scores with many ties and labels, at least one item of each kind in a query."""
    scores = rng.integers(-20, 20, size=(queries, items)) * 819
    relevant = rng.random((queries, items)) < rng.uniform(0.02, 0.9, size=(queries, 1))
    relevant[:, 0], relevant[:, 1] = True, False
    return scores, relevant


def untied(scores):
    """The same order without ties: equal scores get lower with the position."""
    return scores * 1000.0 - np.arange(scores.shape[-1])


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


@pytest.mark.slow  # ranx compiles itself at its first use, not without warnings
@pytest.mark.filterwarnings("ignore:unsafe cast from uint64")
def test_ranking_metrics_match_ranx(rng):
    import ranx

    scores, relevant = labelled(rng)
    items = [f"item{i}" for i in range(scores.shape[1])]
    labels = ranx.Qrels(
        {
            f"query{q:02}": {item: 1 for item, hit in zip(items, row, strict=True) if hit}
            for q, row in enumerate(relevant)
        }
    )
    run = ranx.Run(
        {
            f"query{q:02}": dict(zip(items, row.tolist(), strict=True))
            for q, row in enumerate(untied(scores))
        }
    )
    for k in (1, 10, 60):
        hits = served(scores, relevant, k)
        ours = {
            "ndcg": ndcg(hits, relevant.sum(axis=1)),
            "recall": recall(hits, relevant.sum(axis=1)),
            "hit_rate": hit_rate(hits),
        }
        for name, values in ours.items():
            theirs = ranx.evaluate(labels, run, f"{name}@{k}", return_mean=False)
            np.testing.assert_allclose(values, theirs, rtol=1e-12, err_msg=name)


def test_auc_and_log_loss_match_scikit_learn(rng):
    scores, relevant = labelled(rng)
    expected = [sklearn.metrics.roc_auc_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(auc(scores, relevant), expected, rtol=1e-12)
    np.testing.assert_allclose(
        auc(scores.reshape(4, 10, -1), relevant.reshape(4, 10, -1)),
        np.reshape(expected, (4, 10)),
        rtol=1e-12,
    )
    logits = scores / 2048
    expected = [
        sklearn.metrics.log_loss(r, 1 / (1 + np.exp(-s)), labels=[0, 1])
        for r, s in zip(relevant, logits, strict=True)
    ]
    np.testing.assert_allclose(log_loss(logits, relevant), expected, rtol=1e-9)
    assert log_loss([1000.0, -1000.0], [False, True]) == pytest.approx(1000)


def test_ties_go_to_the_lower_position():
    scores = np.array([3, 7, 7, -32768, 3], dtype=np.int16)
    relevant = np.array([True, False, True, True, False])
    assert served(scores, relevant, 5).tolist() == [False, True, True, False, True]
    assert served(scores.astype(np.float32), relevant, 2).tolist() == [False, True]
    assert auc(scores, relevant) == pytest.approx((0.5 + 0 + 0.5 + 1 + 0 + 0) / 6)


def test_bad_scores():
    with pytest.raises(ValueError, match=r"relevant must have it, not \(3,\)"):
        served(np.zeros(4), np.ones(3), 1)
    with pytest.raises(ValueError, match=r"k must be 1..4, not 5"):
        served(np.zeros(4), np.ones(4), 5)
    with pytest.raises(ValueError, match="AUC needs relevant and other items"):
        auc(np.zeros((2, 2)), np.array([[1, 0], [1, 1]]))
