"""What the planted truth of the Criteo-like clicks amounts to, and how its counts fit a log.

    python -m benchmarks.planted [FILE] [--rows N] [--json]

Of N rows (200,000 by default) of seed 0: the share of clicks, mean and standard deviation of the
three parts of the logit (which ``sw_model.planted`` has frozen as CENTRES and SPREADS), and AUC and
log loss of the truth with all its factors, and with the first 15, 3 and 0 of them. With FILE,
Criteo Kaggle's ``train.txt`` or its first rows, also zeros, mean and standard deviation of
log(x + 1) of the counts, in the file and in as many rows of the generator.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from rpaccel.errors import RPAccelError
from sw_model.criteo import DENSE, read
from sw_model.metrics import auc, log_loss
from sw_model.planted import FACTORS, clicks, parts, truth

KNOWN = (FACTORS, 15, 3, 0)


def figures(rows):
    """The truth's figures: of each number of factors AUC and log loss."""
    blocks = list(clicks(range(rows), seed=0))
    labels = np.concatenate([b.labels for b in blocks])
    found = np.concatenate([parts(b.ranks, b.dense) for b in blocks])
    known = {}
    for factors in KNOWN:
        logits = np.concatenate([truth(b.ranks, b.dense, factors=factors) for b in blocks])
        known[factors] = {
            "auc": float(auc(logits, labels)), "log_loss": float(log_loss(logits, labels)),
        }  # fmt: skip
    return {
        "rows": rows, "clicks": float(labels.mean()),
        "centres": found.mean(axis=0).tolist(), "spreads": found.std(axis=0).tolist(),
        "factors": known,
    }  # fmt: skip


def counts(dense):
    """Zeros, mean and standard deviation of the others, of each column."""
    found = []
    for column in dense.T:
        others = column[column > 0] if column.any() else np.zeros(1)
        found.append((float((column == 0).mean()), float(others.mean()), float(others.std())))
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    report = figures(options.rows)
    if options.file:
        try:
            dense = np.concatenate([block.dense for block in read(options.file)])
        except RPAccelError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        drawn = np.concatenate([b.dense for b in clicks(range(len(dense)), seed=0)])
        report["dense"] = dict(zip(DENSE, zip(counts(dense), counts(drawn)), strict=True))
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"{report['rows']} rows, {report['clicks']:.3f} of them clicks")
    for name in ("centres", "spreads"):
        print(f"{name}: {', '.join(f'{x:.3f}' for x in report[name])}")
    for factors, each in report["factors"].items():
        print(f"{factors:2} factors: AUC {each['auc']:.4f}, log loss {each['log_loss']:.4f}")
    for name, pair in report.get("dense", {}).items():
        file, drawn = (f"{zero:.3f} {mean:.2f} {spread:.2f}" for zero, mean, spread in pair)
        print(f"{name:3}  file {file}  generator {drawn}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
