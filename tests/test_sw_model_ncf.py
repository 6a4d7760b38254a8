import gzip

import numpy as np
import pytest

from rpaccel.errors import DataError
from sw_model.ncf import load_leave_one_out

RATING = "0\t25\t5\t978824351\n1\t3\t3\t978300174\n"
NEGATIVE = "(0,25)\t7\t25\t9\n(1,3)\t4\t6\t25\n"


def write(folder, rating=RATING, negative=NEGATIVE):
    (folder / "ml-1m.test.rating").write_text(rating)
    (folder / "ml-1m.test.negative.gz").write_bytes(gzip.compress(negative.encode()))
    return folder


def test_split(tmp_path):
    split = load_leave_one_out(write(tmp_path))
    assert split.users.tolist() == [0, 1]
    assert split.items.tolist() == [[7, 25, 9, 25], [4, 6, 25, 3]]
    # the held-out item is not ranked against itself
    assert split.used.tolist() == [[True, False, True, True], [True] * 4]
    assert split.relevant.tolist() == [[False, False, False, True]] * 2
    assert split.items.dtype == np.int64


@pytest.mark.parametrize(
    "change, text",
    [
        ({"rating": "0\t25\n1\n"}, r"test.rating, line 2: needs at least 2 fields .* not 1"),
        ({"rating": RATING.replace("3\t3", "x\t3")}, r"test.rating, line 2: 'x' is no id"),
        ({"rating": RATING + "2\t3\n"}, "has 2 lines, .*test.rating has 3"),
        ({"rating": "", "negative": ""}, "has 0 lines"),
        ({"negative": NEGATIVE.replace("(1,3)", "1,3")}, r"negative.gz, line 2: must begin with"),
        ({"negative": NEGATIVE.replace("(1,3)", "(1,4)")}, r"line 2: \(1,4\) is not user and item"),
        ({"negative": NEGATIVE + "(2,5)\t1\t2\t3\n"}, r"line 3: \(2,5\) is not user and item"),
        ({"negative": NEGATIVE.replace("\t25\n", "\n")}, "line 2: has 2 items .* line 1 has 3"),
        ({"negative": NEGATIVE.replace("\t6\t", "\t-6\t")}, "line 2: '-6' is no id"),
    ],
)
def test_bad_lines(tmp_path, change, text):
    with pytest.raises(DataError, match=text):
        load_leave_one_out(write(tmp_path, **change))


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"test.rating: missing, and so is ml-1m.test.rating.gz"):
        load_leave_one_out(tmp_path)
    path = write(tmp_path) / "ml-1m.test.negative.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="negative.gz: cannot be read"):
        load_leave_one_out(tmp_path)
