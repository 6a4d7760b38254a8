"""Reading click logs, and vocabularies by popularity."""

import gzip

import numpy as np
import pytest

from rpaccel.errors import DataError
from sw_model.criteo import MISSING, build_vocabulary, read


def row(label="0", counts=("1",) * 13, ids=("0000000a",) * 26):
    return "\t".join([label, *counts, *ids])


def write(path, rows):
    text = "".join(line + "\n" for line in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz"])
@pytest.mark.parametrize("end", ["", "\r"])
def test_values(tmp_path, name, end):
    counts = ("", "-2", "0", "1", "999999", *["7"] * 8)
    ids = ("", "ffffffff", "68fd1e64", "A", *["0"] * 22)
    path = write(tmp_path / name, [row("1", counts, ids) + end, row() + end])
    (block,) = read(path)
    assert block.labels.dtype == np.int8
    assert block.labels.tolist() == [1, 0]
    assert block.dense.dtype == np.float32
    expected = np.log([1, 1, 1, 2, 1_000_000, *[8] * 8])
    np.testing.assert_allclose(block.dense[0], expected, rtol=1e-7)
    assert block.categories.dtype == np.int64
    assert block.categories[0, :5].tolist() == [MISSING, 0xFFFFFFFF, 0x68FD1E64, 10, 0]
    assert (block.categories[1] == 10).all()


def test_blocks(tmp_path, rng):
    ids = rng.integers(0, 2**32, (10, 26))
    path = write(tmp_path / "log.tsv", [row(ids=[f"{x:08x}" for x in line]) for line in ids])
    blocks = [block.categories for block in read(path, rows=4)]
    assert [len(block) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), ids)


def replaced(column, text):
    fields = row().split("\t")
    fields[column - 1] = text
    return "\t".join(fields)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row().rpartition("\t")[0], "line 6: 40 columns expected, not 39"),
        (row() + "\t0", "line 6: 40 columns expected, not 41"),
        ("", "line 6: 40 columns expected, not 1"),
        (replaced(1, "2"), r"line 6, column 1 \(label\): must be 0 or 1, not '2'"),
        (replaced(1, ""), r"line 6, column 1 \(label\)"),
        (replaced(2, "1.5"), r"line 6, column 2 \(I1\): must be an integer .* not '1.5'"),
        (replaced(14, "1_0"), r"line 6, column 14 \(I13\)"),
        (replaced(15, "xyz"), r"line 6, column 15 \(C1\): must be .*hexadecimal.* not 'xyz'"),
        (replaced(40, "123456789"), r"line 6, column 40 \(C26\)"),
        (replaced(40, "0x1f"), r"line 6, column 40 \(C26\)"),
        (replaced(20, "\u00e9"), r"line 6, column 20 \(C6\).*\\\\xc3"),
    ],
)
def test_broken_line(tmp_path, line, message):
    path = write(tmp_path / "log.tsv", [*[row()] * 5, line, row()])
    blocks = read(path, rows=2)
    assert len(next(blocks).labels) == len(next(blocks).labels) == 2
    with pytest.raises(DataError, match=rf"log\.tsv, {message}"):
        next(blocks)


def test_truncated_gzip(tmp_path, rng):
    path = tmp_path / "log.tsv.gz"
    ids = rng.integers(0, 2**32, (2000, 26))
    write(path, [row(ids=[f"{x:08x}" for x in line]) for line in ids])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"after line 1\d{3}: the compressed file is damaged"):
        list(read(path, rows=100))


def test_not_gzip(tmp_path):
    path = tmp_path / "log.tsv.gz"
    path.write_text(row())
    with pytest.raises(DataError, match=r"after line 0: the compressed file is damaged"):
        list(read(path))


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match=r"none\.tsv: cannot be read"):
        list(read(tmp_path / "none.tsv"))
    with pytest.raises(DataError, match="line 1: there are no rows"):
        list(read(write(tmp_path / "log.tsv", [])))
    with pytest.raises(ValueError, match="rows must be a positive integer, not 0"):
        next(read(tmp_path / "log.tsv", rows=0))
    with pytest.raises(DataError, match="needs rows"):
        build_vocabulary([])


def test_ranks_are_popularity():
    column = np.array([5, 9, MISSING, 9, 7, MISSING, 9, 3])
    blocks = [column[:3, None], column[3:, None]]
    vocabulary = build_vocabulary(blocks)
    assert vocabulary.ids[0].tolist() == [9, MISSING, 5, 7, 3]
    assert vocabulary.counts[0].tolist() == [3, 2, 1, 1, 1]
    assert vocabulary.rows == (6,)
    raw = np.array([[9], [MISSING], [3], [4], [2**32]])
    assert vocabulary.ranks(raw)[:, 0].tolist() == [0, 1, 4, 5, 5]


def test_rare_ids_share_the_last_rank():
    column = np.array([5, 9, MISSING, 9, 7, MISSING, 9, 3])[:, None]
    vocabulary = build_vocabulary([column], threshold=2)
    assert vocabulary.rows == (3,)
    assert vocabulary.ranks(column)[:, 0].tolist() == [2, 0, 1, 0, 2, 1, 0, 2]


def test_hashed_ids():
    column = np.array([12, 22, MISSING, 3])[:, None]
    vocabulary = build_vocabulary([column], hash_size=10)
    assert vocabulary.ids[0].tolist() == [2, MISSING, 3]
    assert vocabulary.ranks(np.array([[32], [13], [MISSING], [4]]))[:, 0].tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("bad", [{"threshold": 0}, {"hash_size": -1}])
def test_bad_parameters(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        build_vocabulary([np.zeros((1, 1), dtype=np.int64)], **bad)
