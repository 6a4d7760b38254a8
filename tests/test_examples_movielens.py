"""RecPipe's NeuMFs for MovieLens 1M and 20M."""

from pathlib import Path

import pytest

from rpaccel.config import load
from sw_model.datasets import open_dataset
from sw_model.movielens import Split

EXAMPLES = Path(__file__).parents[1] / "examples"

PAPER = {
    "movielens-1m": (
        1000,
        {
            "small": (128, [64, 32, 1]),
            "med": (16, [800, 512, 256, 128, 64, 32, 1]),
            "large": (128, [1024, 512, 256, 128, 1]),
        },
    ),
    "movielens-20m": (
        4000,
        {
            "small": (1, [32, 1]),
            "med": (16, [16, 512, 256, 128, 64, 32, 1]),
            "large": (64, [64, 2048, 512, 256, 128, 64, 1]),
        },
    ),
}
"""Items of a query; of each model the elements of the product, and the widths of the MLP."""


@pytest.mark.parametrize("name", PAPER)
def test_models_are_the_papers(name):
    config = load(EXAMPLES / f"{name}.toml")
    items, models = PAPER[name]
    assert config.funnel.items == items
    assert config.funnel.keep[-1] == 64
    found = {}
    for model in config.models:
        product, mlp = ("user_mf", "movie_mf"), ("user", "movie")
        assert tuple(model.product) == product
        assert [model.row_elements(t) for t in product] == [model.factors] * 2
        layers = list(model.layers(config.features).values())
        # the last layer has the product beside the MLP
        assert (
            layers[-1][1] == (layers[-2][0] if layers[1:] else joined(model, mlp)) + model.factors
        )
        found[model.name] = (model.factors, [joined(model, mlp), *(out for out, _ in layers)])
    assert found == models


def joined(model, tables):
    """Width that the MLP begins with."""
    return sum(model.row_elements(t) for t in tables)


def test_the_published_1m_fits(data_folder, monkeypatch):
    config = load(EXAMPLES / "movielens-1m.toml")
    monkeypatch.chdir(data_folder)
    dataset = open_dataset(config)
    (query,) = dataset.candidates(Split.TEST, items=config.funnel.items, count=1)
    inputs = dataset.candidate_inputs(query)
    assert inputs.dense.shape == (1000, 0)
    assert {name: rows.shape for name, rows in inputs.indices.items()} == dict.fromkeys(
        ("user", "user_mf", "movie", "movie_mf"), (1000, 1)
    )
