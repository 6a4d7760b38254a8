"""Where the compiler puts tables: lines of device memory, and the static region."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import parse
from rpaccel.errors import ConfigError
from rpaccel.image import Image, table_layout
from sw_model.generated_rows import GeneratedRows
from sw_model.random_models import random_models
from tests.image_check import check_image
from tests.workloads import workload


def test_hot_rows_follow_accesses(rng):
    config = workload(hardware={"memory": {"line_bytes": 32, "bus_bytes": 8}})
    models = random_models(config, rng)
    heat = {
        "user": np.zeros(30),
        "item": np.linspace(10, 0, 300),
        "tags": np.full(20, 4.0),
    }
    back = {name: 3.5 * values for name, values in heat.items()}
    image = compile_image(config, models, hotness=[heat, back])
    assert [stage.macros for stage in image.stages] == [(1,), (1,)]
    front = {t.name: t for t in image.stages[0].tables}  # dimension 3: 8 rows a line
    # 6 lines: item lines hold 80, 78, ... accesses, tag lines 32 and 32 (the last one half full)
    assert front["item"].static_lines == 6
    assert front["item"].hot_rows == 48
    assert front["user"].hot_rows == front["tags"].hot_rows == 0
    check_image(config, models, image, rng, items=20)
    heat["tags"] += 100
    again = compile_image(config, models, hotness=[heat, back])
    front = {t.name: t for t in again.stages[0].tables}
    assert front["tags"].hot_rows == 20  # all of it
    assert front["item"].static_lines == 3


def test_macros_go_to_the_stage_that_gains_most(rng):
    """The split is the image's: other accesses, another split on the same machine."""
    hardware = {"memory": {"line_bytes": 32, "bus_bytes": 8}, "static_macros": 7}
    config = workload(hardware=hardware)
    models = random_models(config, rng)
    some = {"user": np.full(30, 1.0), "item": np.full(300, 1.0), "tags": np.full(20, 1.0)}
    none = {name: 0 * values for name, values in some.items()}
    splits = []
    for heat in [some, none], [none, some], [some, {n: v / 8 for n, v in some.items()}]:
        image = compile_image(config, models, hotness=heat)
        check_image(config, models, image, rng, items=20)
        splits.append([stage.macros[0] for stage in image.stages])
    # The front end's tables, 4 + 38 + 3 lines of 8 rows, fill 8 macros; the back end's more.
    assert splits == [[7, 0], [0, 7], [7, 0]]
    evenly = compile_image(config, models)
    assert [stage.macros for stage in evenly.stages] == [(3,), (4,)]
    check_image(config, models, evenly, rng, items=20)


def test_generated_tables_are_not_in_the_image(rng, tmp_path):
    """They follow it; what is made there by the page that defines them is what lanes look up."""
    tables = [
        {"name": "user", "rows": 30, "scope": "query"},
        {"name": "item", "rows": 300, "index_bits": 24, "generated": True},
        {"name": "tags", "rows": 20, "lookups": 3},
        {"name": "wide", "rows": 9, "generated": True},
    ]
    config = workload(tables=tables, hardware={"memory": {"line_bytes": 32, "bus_bytes": 8}})
    models = random_models(config, rng)
    image = compile_image(config, models, address=64)
    path = tmp_path / "image.bin"
    image.save(path)
    assert Image.load(path) == image
    stored = [t for stage in image.stages for t in stage.tables if t.name in ("user", "tags")]
    assert len(image.data) % 32 == 0
    line = 2 + len(image.data) // 32
    made = [t for model in models for t in model.tables if isinstance(t.rows, GeneratedRows)]
    for region, table in zip(image.generated, made, strict=True):
        assert (region.line, region.key, region.rows) == (line, table.rows.key, len(table.rows))
        layout = table_layout(table.rows.shape[1], 32)
        assert (region.log2_rows, region.lines_per_row) == layout
        line += region.lines
    assert sum(t.lines for t in stored) > 0
    check_image(config, models, image, rng, items=20)
    # Another key is another image.
    other = replace(models[0].tables[1].rows, key=5)
    models[0].tables[1] = replace(models[0].tables[1], rows=other)
    assert compile_image(config, models, address=64).image_id != image.image_id


def test_tables_of_millions_of_rows(rng):
    """Neither rows nor lines of a generated table are ever there as a whole."""
    tables = [{"name": "t", "rows": 10_131_227, "index_bits": 24, "generated": True}]
    config = workload(tables=tables)
    models = random_models(config, rng)
    heat = {"t": np.array([3.0, 2, 1])}  # nobody has looked at more than three rows
    tracemalloc.start()
    image = compile_image(config, models, hotness=[heat, heat])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert len(image.data) < 100_000
    assert [t.lines for t in image.generated] == [-(-10_131_227 // 4), 10_131_227]
    assert [t.hot_rows for stage in image.stages for t in stage.tables] == [4, 3]
    with pytest.raises(ConfigError, match=r"takes \d{9} bytes of device memory .* has 16777216"):
        compile_image(workload(tables=tables, hardware={"memory": {"address_bits": 24}}), models)


def test_generated_tables_need_random_models():
    values = workload(tables=[{"name": "u", "rows": 9, "generated": True}]).model_dump()
    with pytest.raises(ConfigError, match=r"tables \['u'\] are generated, but .*movielens-latest"):
        parse(values | {"data": {"source": "movielens-latest-small"}})


def test_static_region_is_shared_evenly(rng):
    config = workload(
        hardware={
            "gather": [{"cache_lines": 8, "max_dimension": 512}] * 2,
            "macro_lines": 61,
        }
    )
    image = compile_image(config, random_models(config, rng))
    tables = image.stages[1].tables  # dimension 9: a row a line
    assert [t.lines for t in tables] == [30, 300, 20]
    assert [t.static_lines for t in tables] == [20, 21, 20]
    tables = image.stages[0].tables  # dimension 3: 4 rows a line
    assert [t.lines for t in tables] == [8, 75, 5]
    assert [t.hot_rows for t in tables] == [30, 48 * 4, 20]


def test_rows_over_several_lines(rng):
    config = workload(
        models=[
            {
                "name": "m",
                "dimensions": {"user": 1, "item": 45, "tags": 512},
                "bottom": [3],
                "top": [1],
            }
        ],
        keep=[5],
        hardware={"gather": [{"cache_lines": 8, "max_dimension": 512}], "macro_lines": 40},
    )
    models = random_models(config, rng)
    image = compile_image(config, models)
    user, item, tags = image.stages[0].tables
    assert (user.lines, item.lines, tags.lines) == (2, 900, 640)
    assert tags.static_lines % 32 == 0
    assert item.static_lines % 3 == 0
    check_image(config, models, image, rng, items=5)


def test_rows_too_large_for_the_static_region(rng):
    gather = {"cache_lines": 8, "max_dimension": 64}
    config = workload(
        models=[{"name": "m", "dimensions": 33, "bottom": [3], "top": [1]}],
        keep=[5],
        hardware={"gather": [gather], "macro_lines": 2},
    )
    models = random_models(config, rng)
    image = compile_image(config, models)
    assert not any(t.hot_rows for t in image.stages[0].tables)
    check_image(config, models, image, rng)
