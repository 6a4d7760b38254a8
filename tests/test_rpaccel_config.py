"""What the configuration says of filters and groups that do not fit each other."""

import pytest

from rpaccel.board import BoardConfig
from rpaccel.compiler import compile_image
from rpaccel.config import parse
from rpaccel.errors import ConfigError
from rpaccel.registers import REGISTERS, Control
from sw_model.device import GoldenTransport
from sw_model.random_models import random_models
from sw_model.topk import filters_of
from tests.workloads import workload

BINS = {"filter": ["bins", "exact"]}


@pytest.mark.parametrize(
    "hardware, threshold, message",
    [
        ({"filter": ["bins"]}, [], "filter must give a kind for each of the 2 stages"),
        ({"filter": ["exact", "bins"]}, [], "the filter of the last stage must be exact or none"),
        (
            {"filter": ["best", "exact"]},
            [],
            r"hardware\.filter\.0: .*'exact', 'bins' or 'none'.*'best'",
        ),
        ({"filter": ["none", "exact"]}, [], r"filter\.0 must be exact or bins, not none"),
        ({"filter": ["exact", "none"]}, [], r"the filter of stage 1 is none, so it keeps all"),
        ({"bins": 12}, [], "bins must be a power of two, not 12"),
        ({"bins": 1}, [], r"hardware\.bins: .*greater than or equal to 2"),
        (BINS, [0.5], "threshold must give a CTR for each of the 2 stages"),
        (BINS, [1.5, 0], r"funnel\.threshold\.0: .*less than or equal to 1"),
        (BINS, [0, 0.5], "stage 1 has threshold 0.5, but its filter is exact"),
        ({}, [0.5, 0], "stage 0 has threshold 0.5, but its filter is exact"),
    ],
)
def test_filters_refused(hardware, threshold, message):
    with pytest.raises(ConfigError, match=message):
        workload(hardware=hardware, threshold=threshold)


@pytest.mark.parametrize(
    "funnel, groups, message",
    [
        ({"groups": [[0]]}, None, "groups must give a list for each of the 2 stages"),
        (
            {"groups": [[0], [1]]},
            None,
            r"funnel.groups: the groups of stage 1 must be some of \[0\]",
        ),
        ({"groups": [[0], []]}, None, r"funnel\.groups\.1: .*at least 1 item"),
        ({"global_release": [1]}, None, r"names inner stages, 0\.\.0, not 1"),
        ({}, [{"stages": [0]}], r"served by a group, but the groups serve \[0\]"),
        ({}, [{"stages": [0, 0, 1]}], r"groups\.0 must name each of its stages once"),
        ({}, [{"stages": [0, 1]}] * 65, "at most 64 items"),
    ],
)
def test_groups_refused(funnel, groups, message):
    values = workload().model_dump()
    values["funnel"] |= funnel
    values["hardware"]["groups"] = groups or values["hardware"]["groups"]
    with pytest.raises(ConfigError, match=message):
        parse(values)


WHOLE, LEFT, RIGHT = (
    {"at": [0, col], "cols": cols, "stages": [0, 1]} for col, cols in ((0, 2), (0, 1), (1, 1))
)
HALVES = [WHOLE, LEFT, RIGHT]


@pytest.mark.parametrize(
    "groups, settings, setting, message",
    [
        (
            HALVES,
            [],
            0,
            r"groups\.0 must have a place `at` .* and none in one without, not",
        ),
        ([WHOLE, {"stages": [0]}], [[0], [1]], 0, r"groups\.1 must have a place `at` .*, not None"),
        (HALVES, [[0], [1, 3]], 0, r"settings\.1 must name groups 0\.\.2, each at most once, not"),
        (HALVES, [[0], [1, 1]], 0, r"settings\.1 must name groups .* not \[1, 1\]"),
        (
            HALVES,
            [[0, 2], [1]],
            0,
            r"settings\.0 must not name groups that share .* 0 and 2 do",
        ),
        (HALVES, [[0], [1]], 0, r"each group must be in some of settings, but \[2\] are not"),
        (
            [WHOLE, {**LEFT, "stages": [1]}],
            [[0], [1]],
            0,
            r"the groups of settings\.1 must serve all 2 stages, not only \[1\]",
        ),
        (
            HALVES,
            [[0], [1, 2]],
            2,
            r"funnel\.setting: .* must be one of 0\.\.1, .*, not 2",
        ),
    ],
)
def test_settings_refused(groups, settings, setting, message):
    values = workload().model_dump()
    values["funnel"]["setting"] = setting
    values["hardware"] |= {"groups": groups, "settings": settings}
    with pytest.raises(ConfigError, match=message):
        parse(values)


def test_a_setting_must_have_a_group_of_the_funnel_s():
    values = workload().model_dump()
    values["hardware"] |= {"groups": HALVES, "settings": [[0], [1, 2]]}
    values["funnel"] |= {"setting": 1, "groups": [[1], [2]]}
    parse(values)
    values["funnel"]["setting"] = 0
    with pytest.raises(ConfigError, match=r"0, \[1\], none is on in setting 0, which has \[0\]"):
        parse(values)


def test_the_array_is_counted_once():
    values = workload().model_dump()
    values["hardware"] |= {"groups": HALVES, "settings": [[0], [1, 2]]}
    hardware = parse(values).hardware
    assert hardware.macs == 2 * 4 * 4
    assert [hardware.overlapping(group) for group in range(3)] == [[1, 2], [0], [0]]


@pytest.mark.parametrize(
    "dot, message",
    [
        ([{"stage": 2}], r"dot must name stages 0\.\.1, each at most once, not \[2\]"),
        ([{"stage": 1}, {"stage": 1}], r"each at most once, not \[1, 1\]"),
        ([{"macs": 6}], "macs must be at least 7 for vectors = 6, not 6"),
        ([{"vectors": 1}], r"dot\.0\.vectors: .*greater than or equal to 2"),
        ([{"dimension": 129}], r"dot\.0\.dimension: .*less than or equal to 128"),
    ],
)
def test_dot_units_refused(dot, message):
    values = workload().model_dump()
    unit = {"stage": 0, "vectors": 6, "dimension": 8, "macs": 7}
    values["hardware"]["dot"] = [unit | changes for changes in dot]
    with pytest.raises(ConfigError, match=message):
        parse(values)


def test_a_funnel_does_not_end_at_bins():
    values = workload(hardware=BINS).model_dump()
    values["funnel"] |= {"stages": ["front"], "keep": [20]}
    with pytest.raises(ConfigError, match="the funnel ends at stage 0, whose filter in the"):
        parse(values)


@pytest.mark.parametrize("threshold", [0, 0.0001, 0.37, 0.5, 1])
def test_the_image_carries_the_threshold(rng, threshold):
    """Compiler and golden model make the same entry of the CTR table of it."""
    config = workload(hardware=BINS, threshold=[threshold, 0])
    image = compile_image(config, random_models(config, rng))
    device = GoldenTransport(config, [], image.data)
    address = REGISTERS["CONTROL"].address
    device.write32(address, 1 << Control.LOAD)
    assert [s["threshold"] for s in device._stages] == [filters_of(config)[0].threshold, 0]


@pytest.mark.parametrize("board", [{"baud": 7_000_000}, {"clock_hz": 1_000_000, "baud": 300_000}])
def test_a_speed_that_the_clock_does_not_give(board):
    with pytest.raises(ValueError, match=f"baud = {board['baud']} cannot be made of clock_hz"):
        BoardConfig(**board)


def test_an_sdram_has_a_chip_s_size():
    with pytest.raises(ValueError, match="one of 16777216, 33554432, 67108864 .*, not 131072"):
        BoardConfig(memory="sdram")
    with pytest.raises(ValueError, match="clock_hz must be at most 50000000 with an SDRAM"):
        BoardConfig(memory="sdram", memory_bytes=2**25, clock_hz=120_000_000)


def test_a_speed_that_the_clock_gives():
    assert BoardConfig().divisor == 25
    assert BoardConfig(clock_hz=48_000_000, baud=115_200).divisor == 417
