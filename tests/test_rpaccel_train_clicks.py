"""Training on a click log."""

import numpy as np
import pytest

from benchmarks.click_models import main, measure, pairs, summarise, table
from rpaccel.config import load, parse, with_stages
from rpaccel.errors import ConfigError
from rpaccel.quality import KINDS
from rpaccel.train import train
from rpaccel.train_clicks import ClickRecipe, ClickTrainer
from rpaccel.workflow import Workflow
from sw_model.datasets import open_dataset
from sw_model.dlrm import FloatModel, tensor_shapes
from sw_model.metrics import auc
from sw_model.movielens import Split
from tests.workloads import criteo_like as config

EXAMPLE = "examples/criteo-like.toml"


def random_weights(settings, folder, rng):
    for model in settings.models:
        shapes = tensor_shapes(model, settings.features)
        tensors = {n: rng.normal(0, 0.2, s).astype(np.float32) for n, s in shapes.items()}
        made = FloatModel.of_tensors(tensors, model, settings.features, origin="test")
        made.save(folder / f"{model.name}.safetensors")


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="training needs the extra 'train'")
    threads = module.get_num_threads()
    module.set_num_threads(1)  # several wait for each other longer than they work
    yield module
    module.set_num_threads(threads)


def test_training_learns_the_truth(torch, tmp_path):
    settings = config(tmp_path)
    paths = train(settings, tmp_path)
    assert [path.name for path in paths] == ["front.safetensors", "back.safetensors"]
    first = paths[1].read_bytes()
    assert train(settings, tmp_path)[1].read_bytes() == first
    data = open_dataset(settings)
    recipe = ClickRecipe(epochs=2, batch=128, learning_rate=0.005)
    model = ClickTrainer(torch, settings, settings.models[1], data, recipe).run()
    queries = data.candidates(Split.TEST, items=128)
    logits = np.concatenate([model(q.inputs) for q in queries])
    assert auc(logits, np.concatenate([q.relevant for q in queries])) > 0.62


def test_float_model_is_what_was_trained(torch, tmp_path):
    settings = config(tmp_path)
    data = open_dataset(settings)
    trainer = ClickTrainer(torch, settings, settings.models[0], data, ClickRecipe(epochs=1))
    inputs = data.candidates(Split.TEST, items=128)[0].inputs
    bags = {name: torch.from_numpy(ids) for name, ids in inputs.indices.items()}
    expected = trainer.forward(torch.from_numpy(inputs.dense), bags, {}).detach().numpy()
    np.testing.assert_allclose(trainer.snapshot()(inputs), expected, rtol=1e-4, atol=1e-5)


def test_errors_of_models(tmp_path, rng, capsys):
    settings = config(tmp_path)
    random_weights(settings, tmp_path, rng)
    values = measure(settings)
    queries = open_dataset(settings).candidates(Split.TEST, items=128)
    model = FloatModel.load(tmp_path / "back.safetensors", settings.models[1], settings.features)
    wrong = [np.mean((model(q.inputs) > 0) != q.relevant) for q in queries]
    np.testing.assert_allclose(values["back"]["error"], wrong)
    report = summarise(values, pairs(settings.models))
    assert report["queries"] == len(queries) == 20
    (gap,) = report["differences"]
    assert (gap["of"], gap["against"]) == ("back", "front")
    means = [report["models"][name]["auc"]["mean"] for name in ("back", "front")]
    assert gap["auc"]["mean"] == pytest.approx(means[0] - means[1])
    assert f"{means[0]:.4f} (" in table(report).splitlines()[3]


def test_queries_of_clicks_only_have_no_error(tmp_path, rng):
    """They have no AUC; there are some among short queries."""
    values = config(tmp_path).model_dump()
    values["funnel"] |= {"items": 3, "keep": [2, 1], "sub_batches": 1}
    settings = parse(values)
    random_weights(settings, tmp_path, rng)
    queries = open_dataset(settings).candidates(Split.TEST, items=3)
    mixed = [query for query in queries if not query.relevant.all()]
    assert 0 < len(mixed) < len(queries)
    found = measure(settings)
    assert len(found["front"]["auc"]) == len(mixed)


def test_quality_of_a_dot_interaction(tmp_path, rng):
    """No machine is needed for the quality of a funnel; its back end may be any model."""
    settings = config(tmp_path)
    values = settings.model_dump()
    values["models"].append(
        {"name": "dot", "interaction": "dot", "dimensions": 4, "bottom": [9, 4], "top": [8, 1]}
    )
    settings = with_stages(parse(values), ["front", "dot"])
    random_weights(settings, tmp_path, rng)
    found = Workflow(settings).quality()
    assert list(found["quality"]) == [
        f"{name}, {kind}" for name in ("dot alone", "front alone", "funnel") for kind in KINDS
    ]
    for gap in found["quality_differences"]:
        if gap["against"] == "dot alone, float" and "int8" in gap["of"]:
            assert abs(gap["mean"]) < 0.02
            break
    else:
        raise AssertionError(found["quality_differences"])


def test_bad_arguments(tmp_path, capsys):
    assert main(["examples/demo.toml"]) == 2
    assert "'movielens-latest-small' is no click log" in capsys.readouterr().err
    assert main(["--model", "huge"]) == 2
    assert "there is no model 'huge'; there are ['small', 'med'" in capsys.readouterr().err
    assert main(["--queries", "0"]) == 2
    assert "test queries must be 1 or more, not 0" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"data.weights must name the folder"):
        measure(config(tmp_path, weights=None))


def test_example_is_the_papers_models():
    example = load(EXAMPLE)
    macs = {model.name: model.macs(example.features) for model in example.models}
    assert macs == {
        "small": 8064, "med": 29_568, "large": 263_776,
        "small-dot": 25_276, "med-dot": 31_024, "large-dot": 228_832,
    }  # fmt: skip
    inputs = [m.layers(example.features)["top.0"][1] for m in example.models]
    assert inputs == [108, 432, 864, 355, 367, 383]
    assert pairs(example.models) == [
        ("small", "med"), ("small", "large"), ("small", "small-dot"), ("med", "large"),
        ("med", "med-dot"), ("large", "large-dot"), ("small-dot", "med-dot"),
        ("small-dot", "large-dot"), ("med-dot", "large-dot"),
    ]  # fmt: skip
