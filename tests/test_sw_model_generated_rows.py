"""Generated rows against the page that defines them, in plain integers."""

import zlib

import numpy as np
import pytest

from sw_model.generated_rows import GeneratedRows, table_key
from sw_model.quantised import QuantisedModel, QuantisedTable

MASK = 2**32 - 1


def element(key, row, number):
    v = key + row * 0x9E3779B1 + number // 4 * 0x85EBCA77 & MASK
    v = (v ^ v >> 16) * 0x7FEB352D & MASK
    v = (v ^ v >> 15) * 0x846CA68B & MASK
    v = v ^ v >> 16
    byte = v >> 8 * (number % 4) & 255
    return byte - 256 if byte > 127 else byte


@pytest.mark.parametrize("dimension", [1, 3, 4, 32, 65])
def test_elements(rng, dimension):
    key, rows = table_key("front", "user"), 33_762_577
    assert key == zlib.crc32(b"front.user")
    table = GeneratedRows(key, (rows, dimension))
    numbers = rng.integers(0, rows, size=(3, 4))
    numbers[0, :2] = 0, rows - 1
    made = table[numbers]
    assert made.dtype == np.int8
    expected = [[[element(key, int(n), e) for e in range(dimension)] for n in r] for r in numbers]
    assert made.tolist() == expected
    assert table[5].tolist() == [element(key, 5, e) for e in range(dimension)]
    assert (table[rows - 3 :] == table[np.arange(rows - 3, rows)]).all()


def test_rows_are_as_if_drawn():
    """All values, none too often, and nothing in common with the next row or another table."""
    rows = GeneratedRows(1, (4000, 16))[:]
    assert len(np.unique(rows)) == 256
    assert abs(rows.mean()) < 2
    other = GeneratedRows(2, (4000, 16))[:]
    for a, b in (rows[1:], rows[:-1]), (rows, other):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("wrong", [-1, 10, [3, 10]])
def test_no_such_row(wrong):
    with pytest.raises(IndexError, match=r"rows must be 0\.\.9"):
        GeneratedRows(1, (10, 4))[wrong]


def test_models_with_generated_tables_are_kept(tmp_path):
    tables = [QuantisedTable("a", GeneratedRows(7, (10**7, 4)), 2)]
    tables.append(QuantisedTable("b", np.ones((3, 4), np.int8)))
    QuantisedModel("m", tables, [], []).save(tmp_path / "m.npz")
    assert (tmp_path / "m.npz").stat().st_size < 10_000
    first, second = QuantisedModel.load(tmp_path / "m.npz").tables
    assert first == tables[0]
    assert second.rows.tolist() == tables[1].rows.tolist()
