"""The GPU as a platform; what needs one is skipped where PyTorch finds none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rpaccel.config import load
from rpaccel.schedule import cpu, gpu
from rpaccel.schedule.profiles import Profile
from rpaccel.train_network import Network
from rpaccel.workflow import Workflow

torch = pytest.importorskip("torch", reason="platform gpu needs PyTorch")

ROOT = Path(__file__).parents[1]
# Scores on a GPU can be compared on a GPU only; CI has none. What needs none is tested without.
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")


def test_gpu_is_measured_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(ROOT / "examples/demo.toml")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.gpu_profile(config, [64], tmp_path) == Profile.load("t4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(gpu, "GpuScorer", lambda *each, graphs: cpu.scorer(*each))
    made = gpu.gpu_profile(config, [64], tmp_path)
    assert (made.name, made.kind, made.units) == ("gpu", "measured", 1)
    assert made.machine.startswith("a card, ")
    assert {(p.model, p.items) for p in made.points} == {(m.name, 64) for m in config.models}
    monkeypatch.setattr(gpu, "measure_gpu", None)  # a second measurement would fail
    assert gpu.gpu_profile(config, [64], tmp_path) == made


@needs_gpu
@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", ["demo", "criteo-like"])
def test_gpu_scores_as_the_cpu_does(name: str, graphs: bool) -> None:
    config = load(ROOT / f"examples/{name}.toml")
    for model in config.models:
        there = gpu.GpuScorer(config, model, 3, graphs=graphs)
        here = cpu.scorer(config, model, 3)
        for count in (config.funnel.items, 64, 33) * 2:  # the second time nothing is recorded
            want = here(count)
            torch.testing.assert_close(there(count), want, rtol=0, atol=1e-5)
            assert want.std() > 1e-3


@needs_gpu
def test_trained_models_score_as_in_numpy() -> None:
    work = Workflow(load(ROOT / "examples/demo.toml"))
    inputs = [work.dataset.candidate_inputs(query) for query in work.candidates[:4]]
    for model, weights in zip(work.config.models, work.float_models, strict=True):
        network = Network(torch, work.config, model, "cuda")
        network.load_weights(weights)
        for each in inputs:
            dense = network.tensor(each.dense)
            bags = {
                t.name: network.tensor(np.minimum(each.indices[t.name], t.rows))
                for t in work.config.features.tables
            }
            want = torch.from_numpy(weights(each))
            got = network.forward(dense, bags, {}).detach().cpu()
            torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
            assert want.abs().max() > 1
