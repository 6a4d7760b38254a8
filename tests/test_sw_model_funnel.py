"""The golden ranking against a straightforward one in plain Python."""

import time
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from sw_model.funnel import Trace, rank, rank_scores, score_items
from sw_model.random_models import random_model, random_models, random_query
from tests.workloads import workload


def clamp_scaled(value, mantissa, shift, low, high):
    return min(max(floor(Fraction(value * mantissa, 2**shift) + Fraction(1, 2)), low), high)


def layer_by_hand(x, q, wide=False):
    low, high = (-32768, 32767) if q.logit else (0 if q.relu else -128, 127)
    if q.logit and wide:
        low, high = -(2**40), 2**40
    out = []
    for n in range(len(q.bias)):
        acc = sum(int(w) * v for w, v in zip(q.weights[n], x, strict=True)) + int(q.bias[n])
        out.append(clamp_scaled(acc, int(q.mantissa[n]), int(q.shift[n]), low, high))
    return out


def score_by_hand(model, features, query, item, wide=False):
    joined = []
    for table, quantised in zip(features.tables, model.tables, strict=True):
        bag = query.indices[table.name]
        bag = bag[item] if table.scope == "item" else bag
        total = [0] * quantised.rows.shape[1]
        for index in bag.tolist():
            if index < table.rows:
                total = [t + int(r) for t, r in zip(total, quantised.rows[index], strict=True)]
        joined += [clamp_scaled(t, 1, quantised.shift, -128, 127) for t in total]
    if model.bottom:
        x = [*query.dense_query.tolist(), *query.dense_item[item].tolist()]
        for q in model.bottom:
            x = layer_by_hand(x, q)
        joined += x
    for q in model.top:
        joined = layer_by_hand(joined, q, wide)
    return joined[0]


def rank_by_hand(models, features, query, keep, sub_batch):
    """Rank as docs/numerics.md says, stage after stage."""
    batches = [
        list(range(at, min(at + sub_batch, query.items))) for at in range(0, query.items, sub_batch)
    ]
    total = query.items
    for model, k in zip(models[:-1], keep[:-1], strict=True):
        done, released = 0, []
        for batch in batches:
            before, done = done, done + len(batch)
            count = ceil(Fraction(k * done, total)) - ceil(Fraction(k * before, total))
            order = sorted(batch, key=lambda i: (-score_by_hand(model, features, query, i), i))
            released.append(order[:count])
        batches, total = released, k
    scored = [
        (-score_by_hand(models[-1], features, query, i), i) for batch in batches for i in batch
    ]
    return [(i, -s) for s, i in sorted(scored)[: keep[-1]]]


@pytest.mark.parametrize("dense", [(2, 3), (0, 4), (3, 0), (0, 0)])
@pytest.mark.parametrize("sub_batch", [1, 7, 23, 100])
def test_rank(rng, dense, sub_batch):
    config = workload(dense=dense)
    models = random_models(config, rng)
    query = random_query(config.features, 23, rng)
    got = rank(models, config.features, query, keep=[11, 6], sub_batch=sub_batch)
    expected = rank_by_hand(models, config.features, query, [11, 6], sub_batch)
    assert list(zip(got.positions.tolist(), got.scores.tolist(), strict=True)) == expected


def test_three_stages_and_parts_of_them(rng):
    models = [
        {"name": f"m{i}", "dimensions": 2 + i, "bottom": [3], "top": [4, 1]} for i in range(3)
    ]
    config = workload(models=models, keep=[20, 9, 4])
    models = random_models(config, rng)
    query = random_query(config.features, 31, rng)
    for first, last, keep in ((0, 2, [17, 9, 5]), (1, 2, [9, 5]), (2, 2, [31]), (0, 0, [1])):
        got = rank(
            models,
            config.features,
            query,
            keep=keep,
            sub_batch=6,
            first_stage=first,
            last_stage=last,
        )
        part = models[first : last + 1]
        expected = rank_by_hand(part, config.features, query, keep, 6)
        assert list(zip(got.positions.tolist(), got.scores.tolist(), strict=True)) == expected
    with pytest.raises(ValueError, match=r"stages 1\.\.2"):
        rank(models, config.features, query, keep=[3], sub_batch=6, first_stage=1)


def test_trace(rng):
    config = workload()
    models = random_models(config, rng)
    query = random_query(config.features, 40, rng)
    query.indices["item"][[3, 5], 0] = 300  # beyond the table, which has 300 rows
    query.indices["user"][0] = 30
    trace = Trace()
    got = rank(models, config.features, query, keep=[20, 8], sub_batch=14, trace=trace)
    first = [t for t in trace.tokens if t.stage == 0]
    second = [t for t in trace.tokens if t.stage == 1]
    assert [len(t.positions) for t in first] == [14, 14, 12]
    assert [t.released.tolist() for t in first] == [t.positions.tolist() for t in second]
    assert second[-1].released.tolist() == got.positions.tolist()
    assert not any(len(t.released) for t in second[:-1])
    seen = [p for t in trace.tokens for p in t.positions.tolist()]
    assert len(seen) == 60
    assert trace.bad_indices == 60 + seen.count(3) + seen.count(5)
    all_slots = sum((bags != 255).sum() for bags in [query.indices["tags"][seen]])
    empty_items = (query.indices["item"][seen] == 2**24 - 1).sum()
    assert sum(t.lookups for t in trace.tokens) == (
        all_slots + 60 - empty_items - seen.count(3) - seen.count(5)
    )
    clamped = sum((np.abs(t.scores + 0.5) > 32767).sum() for t in trace.tokens)
    assert 0 < trace.saturations <= clamped


def test_saturations(rng):
    config = workload()
    model = random_models(config, rng)[0]
    model.top[-1].mantissa[:] = 65535
    query = random_query(config.features, 40, rng)
    for shift in range(9, 20):  # from all clamped to none
        model.top[-1].shift[:] = shift
        wide = [score_by_hand(model, config.features, query, i, wide=True) for i in range(40)]
        scores = score_items(model, config.features, query)
        assert scores.saturated.tolist() == [not -32768 <= v <= 32767 for v in wide]
        assert scores.logits.tolist() == [min(max(v, -32768), 32767) for v in wide]
    model.top[-1].shift[:] = 3
    trace = Trace()
    rank([model], config.features, query, keep=[3], sub_batch=9, trace=trace)
    assert trace.saturations == score_items(model, config.features, query).saturated.sum() > 20


def test_scores_do_not_depend_on_company(rng):
    config = workload()
    model = random_model(config.models[1], config.features, rng)
    query = random_query(config.features, 40, rng)
    every = score_items(model, config.features, query).logits
    some = rng.permutation(40)[:13]
    assert (score_items(model, config.features, query, some).logits == every[some]).all()


def test_given_scores(rng):
    config = workload()
    models = random_models(config, rng)
    query = random_query(config.features, 40, rng)
    scores = [score_items(m, config.features, query).logits for m in models]
    ranked = rank(models, config.features, query, keep=[20, 8], sub_batch=9).positions.tolist()
    assert rank_scores(scores, [20, 8], 9).tolist() == ranked
    real = [s / np.float32(2048) for s in scores]
    assert rank_scores(real, [20, 8], 9).tolist() == ranked


def test_random_models_are_varied(rng):
    config = workload()
    for model in random_models(config, rng):
        query = random_query(config.features, 200, rng)
        logits = score_items(model, config.features, query).logits
        assert len(np.unique(logits)) > 50
        assert logits.min() < -5000
        assert logits.max() > 5000


def test_random_queries_use_all_slots(rng):
    config = workload()
    query = random_query(config.features, 500, rng)
    tags = query.indices["tags"]
    assert ((tags == 255) | (tags < 20)).all()
    assert {0, 19, 255} <= set(tags.ravel().tolist())
    items = query.indices["item"]
    assert (items < 30).sum() > (items >= 270).sum()


def test_fast_enough(rng):
    config = workload(
        models=[{"name": "m", "dimensions": 32, "bottom": [64, 32], "top": [128, 64, 1]}],
        items=1024,
        keep=[64],
    )
    models = random_models(config, rng)
    query = random_query(config.features, 1024, rng)
    start = time.process_time()
    rank(models, config.features, query, keep=[64], sub_batch=256)
    assert time.process_time() - start < 1.0
