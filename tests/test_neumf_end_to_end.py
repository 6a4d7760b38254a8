"""NeuMF with published weights on MovieLens 1M: a funnel of two stages, on RTL, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ncf import CONFIG, WEIGHTS
from benchmarks.ncf_training import training_pairs
from rpaccel.compiler import compile_image
from rpaccel.config import Config, load, parse
from rpaccel.driver import Device
from rpaccel.importer import import_model
from rpaccel.verify import compare
from sim.transport import SimulatedTransport
from sw_model.dlrm import FloatLayer, FloatModel, Inputs
from sw_model.funnel import rank, score_items
from sw_model.ncf import load_leave_one_out
from sw_model.quantise import quantise
from sw_model.query import Query

USERS, ITEMS, KEEP, SUB_BATCH = 8, 1000, [128, 10], 250
OUTSTANDING = 2


def settings() -> Config:
    """GMF before a NeuMF that has its product, and a small machine for them."""
    values = load(CONFIG).model_dump()
    neumf = {
        "name": "neumf", "kind": "neumf", "factors": 8, "product": ["user", "item"],
        "dimensions": 32, "top": [32, 16, 8, 1],
    }  # fmt: skip
    values["models"] = [*values["models"][:2], neumf]
    values["funnel"] = {"stages": ["gmf", "neumf"], "items": ITEMS, "keep": KEEP, "sub_batches": 4}
    gather = {"cache_lines": 64, "max_fields": 2}
    values["hardware"] |= {
        "groups": [{"stages": [0]}, {"stages": [1]}],
        "accumulator_depth": 256,
        "activation_rows": 4096,
        "topk_depth": KEEP,
        "feature_bytes": 4096,
        "filter": ["exact", "exact"],
        "gather": [gather | {"max_dimension": 8}, gather | {"max_dimension": 64}],
    }
    return parse(values)


def published(config: Config, folder: Path) -> list[FloatModel]:
    """GMF, and GMF and MLP in one NeuMF, whose logit is the mean of both (He et al., 3.4.1)."""
    gmf, mlp = (import_model(config, name, folder / file) for name, file in WEIGHTS.items())
    (product,), (*hidden, last) = gmf.top, mlp.top
    both = FloatLayer(
        np.concatenate([product.weight, last.weight], axis=1) / 2, (product.bias + last.bias) / 2
    )
    return [gmf, FloatModel("neumf", mlp.tables, [], [*hidden, both], gmf.factors)]


def candidates(folder: Path, rng: np.random.Generator) -> list[Query]:
    """Of some users, the held-out item among items that they did not rate."""
    split = load_leave_one_out(folder / "ncf")
    users, items, _ = training_pairs(folder / "ml-1m", folder / "ncf")
    queries = []
    for at in rng.choice(len(split.users), USERS, replace=False).tolist():
        user, held = int(split.users[at]), int(split.items[at, -1])
        rated = np.append(items[users == user], held)
        others = rng.choice(np.setdiff1d(np.arange(3706), rated), ITEMS - 1, replace=False)
        ranked = rng.permutation(np.append(others, held))
        indices = {"user": np.array([user]), "item": ranked[:, None]}
        queries.append(Query(np.zeros(0, np.int8), np.zeros((ITEMS, 0), np.int8), indices, ITEMS))
    return queries


@pytest.mark.slow
def test_neumf_on_rtl(rng, data_folder):
    config = settings()
    real = published(config, data_folder / "ncf")
    drawn = {t.name: rng.integers(t.rows, size=(20_000, 1)) for t in config.features.tables}
    calibration = Inputs(np.zeros((20_000, 0), np.float32), drawn)
    models = [quantise(model, calibration, dense_scale=1.0) for model in real]
    queries = candidates(data_folder, rng)
    for query in queries:
        pairs = {
            "user": np.broadcast_to(query.indices["user"], (ITEMS, 1)),
            "item": query.indices["item"],
        }
        expected = np.clip(real[1](Inputs(np.zeros((ITEMS, 0), np.float32), pairs)), -16, 16)
        logits = score_items(models[1], config.features, query).logits / 2048
        assert np.corrcoef(logits, expected)[0, 1] > 0.995
    image = compile_image(config, models)
    transport = SimulatedTransport(config, image.data)
    with Device(transport, config, image) as device:
        handles = device.run(queries, outstanding=OUTSTANDING)
        results = [handle.result() for handle in handles]
    for number, (query, got) in enumerate(zip(queries, results, strict=True)):
        golden = rank(models, config.features, query, keep=KEEP, sub_batch=SUB_BATCH)
        compare(number, golden, got)
        assert len(got.positions) == KEEP[-1]
    # popular items are served to many, but not the same to all
    served = [frozenset(q.indices["item"][r.positions, 0].tolist())
              for q, r in zip(queries, results, strict=True)]  # fmt: skip
    assert len(set(served)) == USERS
