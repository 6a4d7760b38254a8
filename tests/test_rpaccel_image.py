"""Image files and layouts."""

import numpy as np
import pytest

from rpaccel.compiler import compile_image
from rpaccel.errors import DataError
from rpaccel.image import Image, channel_data, table_layout, table_lines
from sw_model.random_models import random_models
from tests.workloads import workload


@pytest.mark.parametrize("line_bytes", [16, 64, 128])
@pytest.mark.parametrize("dimension", [1, 3, 8, 9, 16, 33, 100, 512])
def test_table_lines(rng, line_bytes, dimension):
    rows = rng.integers(-128, 128, (13, dimension)).astype(np.int8)
    lines = table_lines(rows, line_bytes)
    log2_rows, per_row = table_layout(dimension, line_bytes)
    assert lines.shape[1] == line_bytes
    flat = lines.tobytes()
    stride = line_bytes >> log2_rows if per_row == 1 else per_row * line_bytes
    assert dimension <= stride
    assert per_row > 1 or stride < 2 * dimension, "a row takes more than the next power of two"
    assert len(lines) == -(-13 * stride // line_bytes)
    for i, row in enumerate(rows):
        assert flat[i * stride : i * stride + dimension] == row.tobytes()


@pytest.fixture
def image(rng):
    config = workload()
    return compile_image(config, random_models(config, rng))


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "text"])
def test_broken_files(image, tmp_path, damage):
    path = tmp_path / "image.bin"
    image.save(path)
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "flipped":
        data[len(image.data) // 2] ^= 4
        path.write_bytes(data)
    else:
        path.write_text("hello")
    with pytest.raises(DataError, match=r"image\.bin: "):
        Image.load(path)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels(channels, rng):
    memory = {"channels": channels, "line_bytes": 32, "bus_bytes": 8}
    hardware = workload(hardware={"memory": memory}).hardware
    content = rng.integers(0, 256, 32 * 7 + 5, np.uint8).tobytes()
    parts = channel_data(hardware, content)
    assert len(parts) == channels
    assert len({len(p) for p in parts}) == 1
    for line in range(8):
        at = line // channels * 32
        expected = content[32 * line : 32 * line + 32].ljust(32, b"\0")
        assert parts[line % channels][at : at + 32] == expected
