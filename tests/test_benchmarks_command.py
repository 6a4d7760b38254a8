"""What benchmarks' command lines have in common."""

import json

import pytest

from benchmarks.command import figures_parser, keep, run
from rpaccel.errors import BuildError


def test_figures_are_kept_where_asked_for(tmp_path):
    file = tmp_path / "new" / "figures.json"
    keep({"a": 1}, figures_parser("A benchmark.\n\nMore.").parse_args(["--json", str(file)]).json)
    assert json.loads(file.read_text()) == {"a": 1}
    keep({"a": 1}, figures_parser("A benchmark.").parse_args([]).json)
    assert sorted(tmp_path.rglob("*")) == [file.parent, file]


def test_errors_end_with_a_line_and_a_code(capsys):
    def main():
        raise BuildError("no cells")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == BuildError.exit_code == 5
    assert capsys.readouterr().err == "error: no cells\n"
