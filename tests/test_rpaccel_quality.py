"""Qualities of models and funnels, and how a report shows them."""

import json

import numpy as np
import pytest

from rpaccel.config import FunnelConfig
from rpaccel.quality import KINDS, METRICS, ScoredQueries, differences, measure, summary
from rpaccel.report import draw, quality_tables
from sw_model.metrics import discounts
from sw_model.topk import Bins

FUNNEL = FunnelConfig(stages=["small", "large"], items=12, keep=[6, 3], sub_batches=2)


@pytest.fixture
def scored(rng) -> ScoredQueries:
    """Queries of which the large model knows much, the small one little, int8 less."""
    relevant = np.zeros((200, 12), dtype=bool)
    relevant[:, :2] = True
    relevant = rng.permuted(relevant, axis=1)

    def logits(noise: float) -> list[np.ndarray]:
        return [relevant + rng.normal(0, s * noise, relevant.shape) for s in (1.0, 0.2)]

    return ScoredQueries(relevant, {"float": logits(1.0), "int8": logits(1.5)})


def test_a_funnel_by_hand(scored):
    values = scored.values("float", [0, 1], [6, 3], 6)
    small, large = scored.logits["float"]
    for query in range(20):
        first, second = (
            sorted(range(a, a + 6), key=lambda i: -small[query][i])[:3] for a in (0, 6)
        )
        best = sorted(first + second, key=lambda i: -large[query][i])[:3]
        hits = scored.relevant[query][best]
        gain = (hits * discounts(3)).sum()
        assert values["ndcg"][query] == pytest.approx(gain / discounts(2).sum())
        assert values["ndcg_constant"][query] == pytest.approx(gain / discounts(3).sum())
        assert values["recall"][query] == pytest.approx(hits.sum() / 2)
        assert values["hit_rate"][query] == hits.any()


def test_everything_is_measured(scored):
    measured = measure(scored, FUNNEL)
    assert list(measured) == [
        f"{what}, {kind}" for what in ("funnel", "large alone", "small alone") for kind in KINDS
    ]
    found = summary(measured)
    for values in found.values():
        assert set(values) == set(METRICS)
        for interval in values.values():
            assert interval["low"] <= interval["mean"] <= interval["high"]
    mean = {name: found[name]["ndcg"]["mean"] for name in found}
    assert mean["small alone, float"] < mean["funnel, float"] < mean["large alone, float"]
    one = FunnelConfig(stages=["small"], items=12, keep=[3])
    assert set(measure(scored, one)) == {"small alone, float", "small alone, int8"}


def test_global_release_is_as_good_as_no_sub_batches(scored):
    """The same survivors, so the same is served; a share of each sub-batch serves other items."""
    whole = measure(scored, FUNNEL.model_copy(update={"sub_batches": 1}))
    once = measure(scored, FUNNEL.model_copy(update={"global_release": [0]}))
    shares = measure(scored, FUNNEL)
    for kind in KINDS:
        name = f"funnel, {kind}"
        assert once[name]["ndcg"].tolist() == whole[name]["ndcg"].tolist()
        assert once[name]["ndcg"].tolist() != shares[name]["ndcg"].tolist()


def test_differences_are_of_means(scored):
    measured = measure(scored, FUNNEL)
    found = summary(measured)
    pairs = differences(measured, FUNNEL)
    assert ("funnel, int8", "large alone, int8") in [(d["of"], d["against"]) for d in pairs]
    assert len(pairs) == 5
    for d in pairs:
        means = [found[d[key]]["ndcg"]["mean"] for key in ("of", "against")]
        assert d["mean"] == pytest.approx(means[0] - means[1])
        assert d["low"] < d["mean"] < d["high"]


def test_tables_and_picture(scored, tmp_path):
    measured = measure(scored, FUNNEL)
    report = {
        "name": "n", "queries": 1, "items": 12, "keep": [6, 3], "compared": 0,
        "quality_k": 3, "quality_queries": 200, "quality": summary(measured),
        "quality_differences": differences(measured, FUNNEL),
    }  # fmt: skip
    report = json.loads(json.dumps(report))
    means, gaps = quality_tables(report, 3)
    value = report["quality"]["funnel, int8"]["ndcg"]
    row = next(line for line in means.splitlines() if line.strip().startswith("funnel, int8"))
    assert [f"{value[key]:.4f}" for key in ("mean", "low", "high")] == row.split()[2:5]
    assert "NDCG@3" in means
    assert "funnel, int8 - large alone, int8" in gaps
    assert draw(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000
    report["quality"]["large alone, int8"]["ndcg"]["mean"] = 0  # nothing is relative to it
    row = next(
        line
        for line in quality_tables(report, 3)[1].splitlines()
        if line.strip().startswith("funnel, int8 - large alone, int8")
    )
    assert "%" not in row


def test_filters_with_bins_are_part_of_it(scored):
    """One bin above a threshold that nothing passes: what is kept is the first by position."""
    coarse = ScoredQueries(scored.relevant, scored.logits, [Bins(1, 1024), None])
    found = coarse.values("int8", [0, 1], [6, 3], 12)
    first = scored.values("int8", [1], [3], 6, items=6)
    np.testing.assert_array_equal(found["ndcg"], first["ndcg"])
