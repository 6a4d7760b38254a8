"""Structures that RPAccel could have: what they are, and what is composed of their parts."""

import numpy as np
import pytest

from benchmarks import area_structures
from benchmarks.area_structures import (
    PAIRS,
    STRUCTURES,
    epilogue_columns,
    measure,
    narrowed,
    selected_bits,
    structure,
    table,
)
from rpaccel.compiler import compile_image
from rpaccel.silicon.machine import Logic, Place, Store
from rpaccel.silicon.sram import Memory, sram
from sw_model.random_models import random_models


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_have_as_many_multipliers(name):
    assert structure(name).hardware.macs == 128 * 128
    assert structure(name).name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_sub_batches_fit(name):
    config = structure(name)
    image = compile_image(config, random_models(config, np.random.default_rng(1)))
    for stage in image.stages:
        assert stage.items <= stage.max_items


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("baseline", 128),
        ("table3", 64 * 16),
        ("32x16 at least, lean", 32 * 16),
        ("sub-arrays of 32x32", 16 * 32),
        ("sub-arrays of 64x64", 4 * 64),
    ],
)
def test_columns_with_an_epilogue(name, columns):
    assert epilogue_columns(structure(name).hardware) == columns


def test_selectors():
    """Two stages of 26 lanes: 64 bytes of 128 macros each, or 4 and 32 of what macros select."""
    hardware = structure("table3").hardware
    assert selected_bits(hardware, narrow=False) == 128 * 52 * (512 + 11)
    assert selected_bits(hardware, narrow=True) == 128 * (
        26 * (32 + 11) + 26 * (256 + 11) + 512 + 256
    )


MEMORY = Memory(512, 2048)


def _places():
    store = Store(MEMORY, sram(MEMORY), 1)
    macros = Store(MEMORY, sram(MEMORY), 3)
    return [
        Place(("registers",), Logic(1e6)),
        Place(("array", "group0", "cells", "cell_0_0", "buffer_0"), Logic(2e6), store),
        Place(("array", "group0", "cells", "weights"), Logic(), store),
        Place(("static", "macros"), Logic(4e6), macros),
    ]


def test_narrow_selectors_change_the_crossbar_alone():
    hardware = structure("table3").hardware
    ratio = selected_bits(hardware, narrow=True) / selected_bits(hardware, narrow=False)
    before, after = _places(), narrowed(_places(), hardware)
    assert [place.logic.um2 for place in after] == pytest.approx([1e6, 2e6, 0, ratio * 4e6])
    assert [place.store for place in after] == [place.store for place in before]


def test_rows_and_table(monkeypatch):
    monkeypatch.setattr(area_structures, "instances", lambda config, progress: _places())
    monkeypatch.setattr(area_structures, "compiled", lambda config: None)
    monkeypatch.setattr(area_structures, "array_cycles", lambda config, image: 1000.0)
    monkeypatch.setattr(
        area_structures,
        "back_to_back",
        lambda config, image: 9000.0 if config.name.startswith("baseline") else 1200.0,
    )
    rows = measure()
    assert [(r["structure"], r["narrow"]) for r in rows] == [
        (name, narrow) for name, _ in PAIRS for narrow in (False, True)
    ]
    wide, narrow = rows[:2]
    assert wide["logic_mm2"] == pytest.approx(7)
    assert wide["sram_mm2"] == pytest.approx(5e-6 * sram(MEMORY).um2)
    assert wide["sram_mb"] == pytest.approx(5 * MEMORY.bits / 8e6)
    assert wide["over"] == {"baseline": pytest.approx(0), "equal": pytest.approx(0)}
    # Two stages of long words gain more by narrow selectors than one.
    assert narrow["over"]["baseline"] < 0
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert "| table3 | wide | 1,024 |" in lines[2]
    assert "| x 7.50 |" in lines[2]
