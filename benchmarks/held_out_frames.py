"""Compare what frames left out say of two bundles with the truth, which movies of users lack.

    python benchmarks/held_out_frames.py DATA BUNDLE OTHER --output FILE [--only MOVIE ...]

The movies of peers.py (200 frames of NAOMi's, 120 of the others, the middle 96 x 96 pixels). Every sixth frame is left
out, and the mean of the outputs before and after it is compared with it, and with its truth. Prints a line a movie and
writes FILE after each: gain of OTHER over BUNDLE as measured, its standard error and the true one, in variances of the
noise; and in dB from the truth.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _provenance import write_results
from peers import MOVIES, NAOMI, Subject, moves

from denoscope.runtime import Bundle
from denoscope.train.evaluation.held_out import compare_held_out, outputs_beside


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("bundles", nargs=2, metavar="BUNDLE")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MOVIES, default=MOVIES)
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundles = [Bundle.load(each) for each in options.bundles]
    rows: list[dict[str, Any]] = []
    for name in options.only:
        subject = Subject(name, 200 if name in NAOMI else 120, 96, options.data)
        rows.append({"movie": name, "moves": moves(name), **compared(subject, bundles, options.backend)})
        print(name, {key: rows[-1][key] for key in ("gain", "error", "true_gain", "true_db")}, flush=True)
        right = [row for row in rows if row["told"] and (row["gain"] > 0) == (row["true_gain"] > 0)]
        told = [row for row in rows if row["told"]]
        away = [(row["gain"] - row["true_gain"]) / row["error"] for row in rows]
        report = {
            "rows": rows,
            "told_apart": len(told),
            "rightly": len(right),
            "rms_standard_errors_off": math.sqrt(np.mean(np.square(away))),
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(options.output, report, bundles)


def compared(subject: Subject, bundles: list[Bundle], backend: str) -> dict[str, Any]:
    """Return what frames left out say, and what the truth does."""
    (found,) = compare_held_out(subject.noisy, bundles, backend=backend)
    one, other = (outputs_beside(subject.noisy, each, backend=backend) for each in bundles)
    truth = subject.truth.astype(np.float64)
    errors = [np.mean([np.square(outs[n] - truth[n]).mean() for n in outs]) for outs in (one, other)]
    noise = np.mean([np.square(subject.noisy[n] - one[n].astype(np.float64)).mean() for n in one])
    return {
        "gain": found.gain,
        "error": found.error,
        "frames": found.frames,
        "told": found.truer is not None,
        "true_gain": float((errors[0] - errors[1]) / noise),
        "true_db": float(10 * np.log10(errors[0] / errors[1])),
    }


if __name__ == "__main__":
    main()
