"""The demo's data, weights and int8 models, on some of its held-out users."""

from pathlib import Path

import numpy as np
import pytest

from rpaccel.config import load
from rpaccel.errors import ConfigError
from rpaccel.features import validate
from rpaccel.workflow import Workflow
from sw_model.dlrm import FloatModel
from sw_model.funnel import rank_scores, score_items
from sw_model.metrics import ndcg
from sw_model.movielens import WEIGHTS

DEMO = Path(__file__).parents[1] / "examples" / "demo.toml"
USERS = 40


@pytest.fixture(scope="module")
def work() -> Workflow:
    return Workflow(load(DEMO))


def test_quality(work):
    funnel = work.config.funnel
    served: dict[str, list] = {"front": [], "back": [], "funnel": [], "funnel int8": []}
    for candidates in work.candidates[:USERS]:
        inputs = work.dataset.candidate_inputs(candidates)
        query = work.dataset.query(candidates)
        real = [model(inputs) for model in work.float_models]
        int8 = [score_items(m, work.config.features, query).logits for m in work.quantised]
        for scores, got in zip(real, int8, strict=True):
            assert np.corrcoef(scores, got)[0, 1] > 0.99
        rankings = {
            "front": rank_scores(real[:1], [64], query.items),
            "back": rank_scores(real[1:], [64], query.items),
            "funnel": rank_scores(real, funnel.keep, funnel.sub_batch_items),
            "funnel int8": rank_scores(int8, funnel.keep, funnel.sub_batch_items),
        }
        for name, positions in rankings.items():
            served[name].append(candidates.relevant[positions])
    relevant = np.array([c.relevant.sum() for c in work.candidates[:USERS]])
    quality = {name: ndcg(np.array(hits), relevant).mean() for name, hits in served.items()}
    assert quality["back"] > 1.03 * quality["front"], quality
    assert quality["funnel"] > 0.99 * quality["back"], quality
    assert quality["funnel int8"] > 0.99 * quality["funnel"], quality


def test_queries_are_valid(work):
    assert len(work.queries) >= 16
    for query in work.queries:
        validate(work.config.features, query)


def test_no_more_queries_than_the_test_split_has(work):
    data = work.config.data.model_copy(update={"queries": 700})
    with pytest.raises(ConfigError, match="data.queries: 700; the test split has 659"):
        _ = Workflow(work.config.model_copy(update={"data": data})).queries


def test_shipped_files_are_small(work):
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) < 3_000_000


@pytest.mark.slow
def test_retrained_models_are_as_good_as_the_shipped_ones(work, tmp_path):
    """`rpaccel train examples/demo.toml` makes what comes with the package."""
    pytest.importorskip("torch", reason="training needs the extra 'train'")
    from rpaccel.train import train

    config = work.config
    qualities: dict[str, list[float]] = {model.name: [] for model in config.models}
    for folder in WEIGHTS, tmp_path:
        if folder == tmp_path:
            train(config, tmp_path)
        for shape in config.models:
            model = FloatModel.load(folder / f"{shape.name}.safetensors", shape, config.features)
            served = [
                c.relevant[rank_scores([model(work.dataset.candidate_inputs(c))], [64], 1024)]
                for c in work.candidates
            ]
            relevant = np.array([c.relevant.sum() for c in work.candidates])
            qualities[shape.name].append(float(ndcg(np.array(served), relevant).mean()))
    for name, (shipped, retrained) in qualities.items():
        assert retrained == pytest.approx(shipped, rel=0.02), (name, qualities)
