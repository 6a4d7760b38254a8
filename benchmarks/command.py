"""Command lines of benchmarks that print tables and keep their figures in a file."""

import argparse
import json
import sys
from pathlib import Path

from rpaccel.errors import RPAccelError


def figures_parser(doc):
    """Parser of a benchmark, described by the first line of its docstring; has ``--json FILE``."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    return parser


def keep(figures, file):
    """Write figures to the file that was asked for, if one was."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2) + "\n")


def run(main):
    """Run a benchmark; what the user did wrong ends it with one line and an exit code."""
    try:
        main()
    except RPAccelError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
