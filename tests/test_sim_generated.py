"""Generated Verilog is kept, and never stale."""

import pytest

import rtl_gen
from rpaccel.hardware import HardwareConfig
from sim import generated as generated_module
from sim.generated import generated


def machine(bins=16):
    gather = {"cache_lines": 4}
    return HardwareConfig(groups=[{"stages": [0]}], topk_depth=[8], gather=[gather], bins=bins)


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Machines that the generator was asked for, with a cache of its own."""
    monkeypatch.setenv("RPACCEL_CACHE", str(tmp_path))
    asked = []

    def verilog(hardware):
        asked.append(hardware.bins)
        return {"rpaccel.v": f"module rpaccel{len(asked)};", "rpaccel_sram.v": "π"}

    monkeypatch.setattr(generated_module, "verilog", verilog)
    generated_module._generator.cache_clear()
    yield asked
    generated_module._generator.cache_clear()


def test_each_machine_is_generated_once(made):
    first = generated(machine())
    assert first == {"rpaccel.v": "module rpaccel1;", "rpaccel_sram.v": "π"}
    assert generated(machine()) == first
    assert generated(machine(bins=8)) != first
    assert made == [16, 8]


def test_another_generator_is_another_entry(made, monkeypatch, tmp_path):
    before = generated(machine())
    sources = tmp_path / "rtl_gen"
    sources.mkdir()
    file = sources / "top.py"
    for number, text in enumerate(("a = 1", "a = 2")):
        file.write_text(text)
        monkeypatch.setattr(rtl_gen, "__path__", [str(sources)])
        generated_module._generator.cache_clear()
        assert generated(machine()) != before
        assert len(made) == number + 2


def test_an_interrupted_generation_leaves_no_entry(made, monkeypatch):
    def interrupted(hardware):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generated_module, "verilog", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generated(machine())
    assert generated(machine())["rpaccel.v"] == "module rpaccel1;"
    assert made == [16]
