"""Lines are those of the memory image; macros go where the accesses are."""

import numpy as np
import pytest

from rpaccel.image import table_layout, table_lines
from sw_model.line_layout import Layout, StageTables
from sw_model.lookups import Visit


@pytest.mark.parametrize("line_bytes", [16, 64, 128])
def test_rows_lie_where_the_image_has_them(rng, line_bytes):
    sizes = (4, 32, 3, 64, 100, 512, 1)
    counts = tuple(int(n) for n in rng.integers(5, 70, len(sizes)))
    layout = Layout([StageTables((9,), (4,)), StageTables(counts, sizes)], line_bytes)
    rows = np.stack([rng.integers(0, n, 20) for n in counts], axis=1)
    lines = layout.lines(Visit(0, 1, np.arange(20), rows)).reshape(20, -1)
    assert lines.shape[1] == layout.accesses_per_item(1)
    column = 0
    for t, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        # Each row's bytes are its number, and are looked for in the image's lines.
        log2_rows, per_row = table_layout(size, line_bytes)
        image = table_lines(
            np.repeat(np.arange(1, count + 1, dtype=np.int8)[:, None], size, axis=1), line_bytes
        )
        first = layout.first[layout.tables.index((1, t))]
        assert len(image) == layout.first[layout.tables.index((1, t)) + 1] - first
        for part in range(per_row):
            got = image[lines[:, column + part] - first]
            assert (got == rows[:, t : t + 1] + 1).any(axis=1).all()
        assert column + per_row <= lines.shape[1]
        assert per_row == 1 or log2_rows == 0
        column += per_row
    assert column == lines.shape[1]


def test_heat_and_what_is_held():
    layout = Layout([StageTables((5, 3), (64, 64)), StageTables((4,), (32,))], 64)
    assert layout.first.tolist() == [0, 5, 8, 10]
    lines = np.array([0, 0, 1, 2, 4, 5, 7, 7, 8, 9])
    heat = layout.heat(lines, 2)
    assert [h.tolist() for h in heat] == [[3, 1, 1], [1, 2], [2]]
    held = layout.held(lines, np.array([1, 2, 0]), 2)
    assert lines[held].tolist() == [0, 0, 1, 5, 7, 7]
