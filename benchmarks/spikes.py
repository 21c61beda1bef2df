"""Share of a one-frame spike that the bundles keep, on a simulated voltage-imaging movie.

    python benchmarks/spikes.py --output benchmarks/results/spikes.json

A cell of 49 pixels brightens for one frame in twelve; ten photons a pixel on average. Kept is the rise of the cell's
mean in the frame of the spike over the frames two and three before and after it, in shares of the true rise; the
same in the raw frames is the check. SNR is the rise of the cell's mean over its noise in one raw frame.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("tests", "runtime", "acquisition", "benchmarks")]

from _provenance import write_results  # noqa: E402

from denoscope.runtime import FrameMeta, Stream  # noqa: E402
from support.field_inputs import active_cells, counts  # noqa: E402

EVERY, FIRST, LENGTH = 12, 20, 200
NAMES = ("live-fast", "live", "live-hq")
RISES = (0.25, 0.5, 1.0, 2.0)  # of the cell's light


def movie(rise: float, seed: int) -> tuple[Any, Any, float]:
    """Return (noisy movie, the cell's pixels, true rise in counts)."""
    still = active_cells(LENGTH, 64, 64, seed=7, photons=10)[0].mean(axis=0)
    y, x = np.mgrid[:64, :64]
    cell = (y - 30) ** 2 + (x - 34) ** 2 < 16
    clean = np.repeat(still[None], LENGTH, axis=0)
    up = rise * (clean[0][cell].mean() - 100)
    clean[FIRST::EVERY, cell] += up
    random = np.random.default_rng(seed)
    return (
        counts(random.poisson((clean - 100) / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape)),
        cell,
        up,
    )


def kept(trace: Any, up: float) -> float:
    """Return the mean rise of the spikes' frames over their neighbours, in shares of the true one."""
    at = np.arange(FIRST, LENGTH - 3, EVERY)
    around = np.mean([trace[at + k] for k in (-3, -2, 2, 3)], axis=0)
    return float(np.mean(trace[at] - around) / up)


def main() -> None:
    """Measure all bundles and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    for name in NAMES:
        for rise in RISES:
            shares, raw, snr = [], [], []
            for seed in range(1, asked.seeds + 1):
                noisy, cell, up = movie(rise, seed)
                trace = noisy[:, cell].mean(axis=1)
                quiet = np.delete(trace, np.s_[FIRST::EVERY])
                snr.append(up / float(np.std(quiet)))
                raw.append(kept(trace, up))
                with Stream(name, start_within_s=None) as stream:
                    outputs = [o for t, f in enumerate(noisy) for o in stream.push(f, FrameMeta(t, 0.0))]
                    outputs += stream.flush()
                shares.append(kept(np.stack([o.frame[cell].mean() for o in outputs]), up))
            rows.append(
                {
                    "bundle": name,
                    "rise": f"{rise:.0%}",
                    "snr": np.mean(snr),
                    "kept": np.mean(shares),
                    "kept_in_raw": np.mean(raw),
                }
            )
            print(
                f"{name:9} SNR {np.mean(snr):5.1f}  kept {np.mean(shares):.1%}  raw {np.mean(raw):.0%}",
                flush=True,
            )
    if asked.output:
        write_results(asked.output, rows, NAMES)


if __name__ == "__main__":
    main()
