"""The compiler against an interpreter of its images, and what it refuses."""

import dataclasses
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import load, parse
from rpaccel.errors import ConfigError
from rpaccel.explain import explain
from rpaccel.features import pack
from rpaccel.image import Image, table_layout
from rpaccel.image_layout import PASS, Target
from sw_model.funnel import score_items
from sw_model.generated_rows import GeneratedRows
from sw_model.quantised import QuantisedLayer
from sw_model.random_models import random_models, random_query
from tests.image_interpreter import LoadedImage, StageRun
from tests.random_machines import random_dots, random_hardware, random_settings, random_workload
from tests.workloads import workload


def check_image(config, models, image, rng, *, items=3, stages=None):
    """Run items through an image's bytes and compare with the golden model."""
    memory = bytes(image.address) + image.data
    loaded = LoadedImage(config.hardware, memory, image.address, image.generated)
    assert loaded.header["image_id"] == image.image_id != 0
    features = config.features
    for stage, model in enumerate(models):
        entry = loaded.stage(stage)
        assert entry["query_bytes"] == features.query_bytes
        assert entry["item_bytes"] == features.item_bytes
        assert entry["max_items"] == image.stages[stage].max_items
        count = min(items, entry["max_items"])
        query = random_query(features, count, rng)
        data = pack(features, query)
        start = features.query_bytes
        records = [
            data[start + i * features.item_bytes : start + (i + 1) * features.item_bytes]
            for i in range(count)
        ]
        golden = score_items(model, features, query).logits
        macs = sum(layer.weights.size for layer in [*model.bottom, *model.top])
        macs += len(model.product.mantissa) if model.product else 0
        for program in image.stages[stage].programs:
            run = StageRun(loaded, stage, program.group, count, rng)
            run.gather(data[:start], records)
            assert run.run().tolist() == golden.tolist()
            assert run.useful == macs, "rows x cols of the passes are not the model's MACs"
            predicted = loaded.entry(stage, program.group)["cycles"]
            assert predicted == min(program.cycles, 65535)


EXAMPLES = Path(__file__).parent.parent / "examples"
SHAPES = {
    "square": ((4, 4), [{"rows": 2, "cols": 2, "stages": [0, 1]}]),
    "4x6": ((4, 6), [{"stages": [0, 1]}]),
    "6x4 of 1x2": ((6, 4), [{"cols": 2, "stages": [1]}, {"rows": 2, "stages": [0]}]),
    "12x5": ((12, 5), [{"stages": [0]}, {"rows": 2, "cols": 3, "stages": [1]}]),
    "5x12": ((5, 12), [{"stages": [0, 1]}]),
    "large": ((64, 64), [{"stages": [0, 1]}]),
    "tiny": ((2, 3), [{"stages": [0, 1]}]),
    "two groups": ((4, 4), [{"stages": [1, 0]}, {"stages": [0, 1]}]),
    "unlike groups": (
        (5, 4),
        [{"stages": [0]}, {"rows": 3, "stages": [0, 1]}, {"rows": 2, "cols": 3, "stages": [1]}],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dense", [(2, 3), (0, 0)])
def test_shapes(rng, shape, dense):
    tile, groups = SHAPES[shape]
    config = workload(tile=tile, groups=groups, dense=dense)
    models = random_models(config, rng)
    check_image(config, models, compile_image(config, models), rng)


DOTS = [
    {"stage": 0, "vectors": 4, "dimension": 3, "macs": 5},
    {"stage": 1, "vectors": 7, "dimension": 16, "macs": 300},
]


def with_dot(**values):
    """Both models with dot interaction, of four vectors, or of three without dense inputs."""
    dense = values.pop("dense", (2, 3))
    bottom = [5, 3] if sum(dense) else []
    models = [
        {"name": "front", "dimensions": 3, "bottom": bottom, "top": [6, 1], "interaction": "dot"},
        {
            "name": "back",
            "dimensions": 9,
            "bottom": [4, 9] if bottom else [],
            "top": [13, 10, 1],
            "interaction": "dot",
        },
    ]
    hardware = {"dot": DOTS} | values.pop("hardware", {})
    return workload(models=models, dense=dense, hardware=hardware, **values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dense", [(2, 3), (0, 0)])
def test_dot(rng, shape, dense):
    tile, groups = SHAPES[shape]
    config = with_dot(tile=tile, groups=groups, dense=dense)
    models = random_models(config, rng)
    check_image(config, models, compile_image(config, models), rng)


@pytest.mark.parametrize(
    ("dot", "message"),
    [
        ([], 'interaction = "dot", but stage 0 has no unit for it: hardware.dot has units for'),
        ([{**DOTS[0], "vectors": 3}, DOTS[1]], "has vectors = 4 .* takes at most 3"),
        ([DOTS[0], {**DOTS[1], "dimension": 8}], "has dimension = 9 .* takes at most 8"),
    ],
)
def test_dot_that_does_not_fit(rng, dot, message):
    config = with_dot(hardware={"dot": dot})
    with pytest.raises(ConfigError, match=message):
        compile_image(config, random_models(config, rng))


def test_dot_unit_limits_sub_batches(rng):
    config = with_dot(hardware={"dot": [{**DOTS[0], "items": 16}, DOTS[1]]})
    image = compile_image(config, random_models(config, rng))
    assert image.stages[0].max_items == 16
    text = explain(image)
    assert "at most 16 items, because of the items of its dot interaction unit" in text
    assert "dot interaction: 6 products of 4 vectors" in text


@pytest.mark.parametrize("number", range(12))
def test_random_machines(rng, number):
    hardware = random_hardware(rng)
    if number % 4 > 1:
        hardware = random_settings(rng, hardware)
    if number % 2:
        hardware = random_dots(rng, hardware)
    config = random_workload(rng, hardware)
    models = random_models(config, rng)
    image = compile_image(config, models, address=4096 * number)
    check_image(config, models, image, rng, items=2)


@pytest.mark.parametrize("rows", [20, 40, 64, 100, 200])
def test_largest_sub_batches_fit(rng, rows):
    """Little activation memory: places are reused, and a full token stays inside."""
    config = workload(
        tile=(5, 3),
        models=[
            {"name": "m", "dimensions": 3, "bottom": [20, 9, 4], "top": [14, 19, 16, 12, 1]},
        ],
        groups=[{"stages": [0]}],
        hardware={"activation_rows": rows, "accumulator_depth": 6},
        items=6,
        keep=[3],
    )
    models = random_models(config, rng)
    image = compile_image(config, models)
    assert image.stages[0].max_items == min(6, rows // image.stages[0].narrowest.words_per_item)
    check_image(config, models, image, rng, items=6)


def test_reuse_needs_fewer_rows(rng):
    kinds = []
    for rows in (4096, 200):
        config = workload(hardware={"activation_rows": rows})
        kinds.append(compile_image(config, random_models(config, rng)).stages[1].narrowest)
    assert kinds[1].words_per_item < kinds[0].words_per_item
    assert kinds[0].limit == "accumulator_depth"
    assert kinds[1].limit == "activation_rows"


def test_extreme_weights_and_channels(rng):
    """All weights and activations at their ends, sums as large as they get."""
    config = workload(dense=(0, 5))
    models = random_models(config, rng)
    for model in models:
        for layer in [*model.bottom, *model.top]:
            layer.weights[:] = rng.choice([-127, 127], layer.weights.shape)
    check_image(config, models, compile_image(config, models), rng)


def test_image_is_deterministic(rng):
    config = workload()
    models = random_models(config, rng)
    first, second = compile_image(config, models), compile_image(config, models)
    assert first == second
    other = compile_image(config, random_models(config, rng))
    assert other.image_id != first.image_id
    assert first.digest == config.hardware.digest()


def test_image_file(rng, tmp_path):
    config = workload()
    image = compile_image(config, random_models(config, rng))
    path = tmp_path / "image.bin"
    image.save(path)
    assert Image.load(path) == image
    assert path.read_bytes().startswith(image.data)


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


def test_explain_settings(rng, tmp_path):
    """For each setting, what its groups take, one by one and all together."""
    groups = [{"at": [0, 0], "cols": 2, "stages": [0, 1]}]
    groups += [{"at": [0, col], "stages": [0, 1]} for col in range(2)]
    config = workload(groups=groups, hardware={"settings": [[0], [1, 2]]})
    image = compile_image(config, random_models(config, rng))
    image.save(tmp_path / "image")
    whole, *halves = [program.cycles for program in image.stages[1].programs]
    assert halves[0] == halves[1] != whole
    lines = [line.split() for line in explain(Image.load(tmp_path / "image")).splitlines()]
    assert ["0", "back", "1", str(whole), str(whole)] in lines
    assert ["1", "back", "2", str(halves[0]), f"{halves[0] / 2:.0f}"] in lines


def test_explain(rng):
    config = workload()
    text = explain(compile_image(config, random_models(config, rng)))
    for part in ("front.bottom.0", "back.top.2", "utilisation", "weight_rows", "static rows"):
        assert part in text
    assert "nan" not in text.lower()
    too_large = workload(sub_batches=1)
    text = explain(compile_image(too_large, random_models(too_large, rng)))
    assert "sub-batches of 40 items are too large" in text


@pytest.mark.parametrize(
    "hardware, message",
    [
        ({"weight_rows": 100}, r"hardware.groups.0: weight_rows takes \d+ of 100"),
        ({"param_rows": 4}, r"hardware.groups.0: param_rows takes \d+ of 4"),
        ({"program_depth": 20}, r"hardware.groups.0: program_depth takes \d+ of 20"),
        ({"activation_rows": 16, "tile_cols": 2}, "activation words an item"),
        (
            {"gather": [{"cache_lines": 4, "max_dimension": 8}] * 2},
            "back.user: dimension 9, but hardware.gather.1.max_dimension = 8",
        ),
        (
            {"gather": [{"cache_lines": 4, "max_fields": 2}] * 2},
            "there are 3 tables, but hardware.gather.0 has lanes = 1 of max_fields = 2",
        ),
    ],
)
def test_machines_too_small(rng, hardware, message):
    small = {"tile_rows": 2, "tile_cols": 2, "groups": [{"stages": [0, 1]}]}
    config = workload(hardware=small | hardware)
    with pytest.raises(ConfigError, match=message):
        compile_image(config, random_models(config, rng))


def test_device_memory_too_small(rng):
    tables = [{"name": "item", "rows": 8000}]
    memory = {"address_bits": 16, "line_bytes": 16, "bus_bytes": 8, "channels": 2}
    config = workload(tables=tables, hardware={"memory": memory})
    with pytest.raises(ConfigError, match=r"takes \d+ bytes of device memory .* has 131072"):
        compile_image(config, random_models(config, rng))


def replaced(models, part, number, **changes):
    """Models with one layer of the second changed."""
    layers = list(getattr(models[1], part))
    layers[number] = dataclasses.replace(layers[number], **changes)
    return [models[0], dataclasses.replace(models[1], **{part: layers})]


def test_overflow_is_refused(rng):
    config = workload()
    models = random_models(config, rng)
    layer = models[1].top[1]
    room = (1 << 31) - 1 - 128 * int(np.abs(layer.weights[4].astype(int)).sum())
    bias = layer.bias.copy()
    bias[4] = -room
    compile_image(config, replaced(models, "top", 1, bias=bias))
    bias[4] -= 1
    with pytest.raises(ConfigError, match=r"layer back.top.1, channel 4: .* 2147483648, more"):
        compile_image(config, replaced(models, "top", 1, bias=bias))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("mantissa", 65536, r"back.bottom.0, channel 2: mantissa 65536 is outside 0..65535"),
        ("shift", 48, r"back.bottom.0, channel 2: shift 48 is outside 0..47"),
        ("shift", -1, r"back.bottom.0, channel 2: shift -1"),
    ],
)
def test_parameters_out_of_range(rng, name, value, message):
    config = workload()
    models = random_models(config, rng)
    values = getattr(models[1].bottom[0], name).copy()
    values[2] = value
    with pytest.raises(ConfigError, match=message):
        compile_image(config, replaced(models, "bottom", 0, **{name: values}))


def test_wrong_models(rng):
    config = workload()
    models = random_models(config, rng)
    with pytest.raises(ConfigError, match="2 stages, but 1 models"):
        compile_image(config, models[:1])
    with pytest.raises(ConfigError, match=r"back.user: rows must be \(30, 9\), not \(30, 3\)"):
        compile_image(config, [models[0], dataclasses.replace(models[0], name="back")])
    with pytest.raises(ConfigError, match="has tables"):
        compile_image(config, [models[0], dataclasses.replace(models[1], tables=[])])
    with pytest.raises(ConfigError, match=r"back.top: layers must be 3, not 2"):
        compile_image(config, [models[0], dataclasses.replace(models[1], top=models[1].top[:2])])
    with pytest.raises(ConfigError, match=r"back.top.2: logit must be True"):
        compile_image(config, replaced(models, "top", 2, logit=False))
    bias = models[1].top[0].bias[:3]
    with pytest.raises(ConfigError, match=r"back.top.0: bias must be \(13,\), not \(3,\)"):
        compile_image(config, replaced(models, "top", 0, bias=bias))
    tables = [dataclasses.replace(models[1].tables[0], shift=16), *models[1].tables[1:]]
    with pytest.raises(ConfigError, match=r"back.user: shift 16 is outside 0..15"):
        compile_image(config, [models[0], dataclasses.replace(models[1], tables=tables)])


def test_wrong_arguments(rng):
    config = workload()
    models = random_models(config, rng)
    with pytest.raises(ConfigError, match="multiple of line_bytes = 16, not 0x8"):
        compile_image(config, models, address=8)
    heat = {"user": np.ones(30), "item": np.ones(300)}
    with pytest.raises(ConfigError, match=r"hotness is not given for front.tags"):
        compile_image(config, models, hotness=[heat, heat])
    heat["tags"] = np.ones(21)
    with pytest.raises(ConfigError, match=r"hotness of front.tags: shape must be \(20,\) or less"):
        compile_image(config, models, hotness=[heat, heat])


def test_interpreter_sees_a_dropped_tile(rng):
    """The check of this file has teeth: a program without one of its passes is noticed."""
    config = workload()
    models = random_models(config, rng)
    image = compile_image(config, models)
    loaded = LoadedImage(config.hardware, image.data)
    program = loaded.words(Target.PROGRAM, 0)
    dropped = next(
        i
        for i, word in enumerate(program)
        if not PASS.unpack(word)["first"] and not PASS.unpack(word)["final"]
    )
    del program[dropped]
    query = random_query(config.features, 8, rng)
    data = pack(config.features, query)
    start, size = config.features.query_bytes, config.features.item_bytes
    wrong = 0
    for stage in range(2):
        run = StageRun(loaded, stage, 0, 8, rng)
        if loaded.entry(stage, 0)["program"] > dropped:
            continue
        run.gather(data[:start], [data[start + i * size :][:size] for i in range(8)])
        wrong += (
            run.run().tolist() != score_items(models[stage], config.features, query).logits.tolist()
        )
    assert wrong == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_fit_their_machines(rng, path):
    config = load(path)
    image = compile_image(config, random_models(config, rng))
    for stage in image.stages:
        assert stage.max_items >= stage.items, f"sub-batches of {stage.model} are too large"


def test_layers_are_named_in_order(rng):
    config = workload()
    models = random_models(config, rng)
    image = compile_image(config, models)
    items = image.stages[1].items
    (back,) = image.stages[1].programs
    assert [layer.name for layer in back.layers] == [
        "back.bottom.0",
        "back.bottom.1",
        "back.top.0",
        "back.top.1",
        "back.top.2",
    ]
    assert [layer.inputs for layer in back.layers] == [5, 11, 34, 13, 10]
    assert all(isinstance(q, QuantisedLayer) for q in models[1].top)
    assert back.cycles >= sum(layer.passes for layer in back.layers) * max(items, 4)


@pytest.mark.parametrize("items", [12, 120])
def test_the_fastest_shape_is_chosen(rng, items):
    """Many items are shared out, few meet a fused array; what is chosen computes the same."""
    shapes = [[1, 1], [2, 1], [2, 2], [4, 4]]
    config = workload(
        tile=(4, 4),
        groups=[{"rows": 4, "cols": 4, "shapes": shapes, "stages": [0, 1]}],
        items=items,
        keep=[items // 2, 2],
        sub_batches=1,
        hardware={"accumulator_depth": 128},
    )
    models = random_models(config, rng)
    image = compile_image(config, models)
    for stage in image.stages:
        (program,) = stage.programs
        assert [[o.rows, o.cols] for o in program.options] == shapes
        assert program.cycles == min(o.cycles for o in program.options if o.fits)
    assert len({o.cycles for o in image.stages[0].programs[0].options}) > 1
    assert "chosen" in explain(image)
    check_image(config, models, image, rng, items=12)
