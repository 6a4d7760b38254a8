"""The compiler against an interpreter of its images."""

from dataclasses import replace
from pathlib import Path

import pytest

from rpaccel.compiler import compile_image
from rpaccel.config import load
from rpaccel.errors import ConfigError
from rpaccel.explain import explain
from rpaccel.features import pack
from rpaccel.image import Image
from rpaccel.image_layout import PASS, Target
from sw_model.funnel import score_items
from sw_model.quantised import QuantisedLayer
from sw_model.random_models import random_models, random_query
from tests.image_check import check_image
from tests.image_interpreter import LoadedImage, StageRun
from tests.random_machines import random_dots, random_hardware, random_settings, random_workload
from tests.workloads import workload

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


def test_explain_a_shape_for_each_layer(rng):
    """9 items, tiles of 4 rows: a pass takes 9 cycles in one part, 4 (its loading) in three."""
    config = workload(items=9, keep=[4, 2], sub_batches=1)
    image = compile_image(config, random_models(config, rng))
    (program,) = image.stages[0].programs
    one, three, large = (
        replace(program.options[0], parts=parts, layers=layers, fits=fits, cycles=cycles)
        for parts, layers, fits, cycles in (
            (1, (2, 5, 3), True, 90),
            (3, (4, 20, 4), True, 112),
            (9, (1, 1, 1), False, 12),
        )
    )
    for options, saved in (
        ((one, large), 0),
        ((one, three, large), 18 - 16 + 27 - 16),
        ((three, one), 112 - 16 - 45 - 16),
    ):
        stage = replace(image.stages[0], programs=(replace(program, shape=0, options=options),))
        text = explain(replace(image, stages=(stage,)))
        assert f"a shape for each layer would save {saved} cycles of passes" in text


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
